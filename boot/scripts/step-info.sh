#!/bin/busybox sh
# Reports the host: its kernel, what its KVM says of itself, CPUs online, memory.
mode=$(dmesg | sed -n 's/.*kvm \[[0-9]*\]: \(.*\) mode initialized successfully.*/\1/p')
echo "@corevisor {\"event\":\"host\",\"kernel\":\"$(uname -r)\",\"kvmMode\":\"${mode:-none}\",\"cpus\":$(grep -c ^processor /proc/cpuinfo),\"memoryKiB\":$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)}"
