#!/bin/busybox sh
# cycles [COUNT]: starts and ends a VM again and again, and reports how free memory changed from the tenth on.
#
# QEMU without a kernel runs the guest into an exception at once; it is killed after it has mapped its first pages.
count=${1:-20}
free() { # in KiB, once the last VM is torn down
  sleep 1
  echo 3 > /proc/sys/vm/drop_caches
  sed -n 's/^MemFree: *\([0-9]*\).*/\1/p' /proc/meminfo
}
first=0
for cycle in $(seq "$count"); do
  qemu-system-aarch64 -machine virt,gic-version=3 -cpu host -enable-kvm -smp 2 -m 64 -nodefaults -display none \
    -monitor none -serial null -kernel /corevisor/guest/Image 2>/tmp/cycle.log &
  pid=$!
  usleep 1500000
  kill -9 $pid 2>/dev/null || { cat /tmp/cycle.log; exit 1; }
  wait $pid 2>/dev/null
  [ "$cycle" -eq 10 ] && first=$(free)
done
last=$(free)
echo "@corevisor {\"event\":\"cycles\",\"count\":$count,\"freeBeforeKiB\":$first,\"freeAfterKiB\":$last}"
