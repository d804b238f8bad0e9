#!/bin/busybox sh
# Micro-benchmark: what each kind of VM exit costs, in instructions. For a machine whose clock counts instructions (QEMU's
# `-icount shift=0,sleep=off`), where a tick of the 62.5 MHz counter is 16 of them. One `bench` event a kind.
if [ -e /sys/kernel/mm/transparent_hugepage/enabled ]; then
  echo never > /sys/kernel/mm/transparent_hugepage/enabled
fi

tell() { # Turns `bench NAME TICKS_TIMES_1000 OPERATIONS` into events; the argument comes before the name.
  sed -n "s/^bench \([a-z0-9-]*\) \([0-9]*\) \([0-9]*\).*/\1 \2 \3/p" | while read -r name ticks operations; do
    echo "@corevisor {\"event\":\"bench\",\"exit\":\"$1$name\",\"instructions\":$(((ticks * 16 + 500) / 1000)),\"operations\":$operations}"
  done
}

timeout 300 vm -c 2 -m 64 /corevisor/bare/bench.bin > /tmp/bench.log || cat /tmp/bench.log
tell "" < /tmp/bench.log
# The same guest under QEMU: what an MMIO access costs there includes QEMU's own work.
timeout 300 qemu-system-aarch64 -machine virt,gic-version=3 -cpu host -enable-kvm -smp 2 -m 128 -nodefaults -display none \
  -monitor none -serial file:/tmp/bench-qemu.log -no-reboot -kernel /corevisor/bare/bench.elf
grep "bench mmio-user" /tmp/bench-qemu.log | tell qemu-
grep -q "bench ipi" /tmp/bench.log && grep -q "bench ipi" /tmp/bench-qemu.log
