#!/bin/busybox sh
# cycles [COUNT]: starts and ends a VM again and again, and reports how free memory changed from the tenth on.
#
# The guest is killed while it boots, wherever it is.
count=${1:-20}
free() { # in KiB, once the last VM is torn down: with the pages that wait on each CPU's own list, which MemFree leaves out
  sleep 1
  echo 3 > /proc/sys/vm/drop_caches
  awk '/^MemFree:/ { free += $2 } / count:/ { free += 4 * $2 } END { print free }' /proc/meminfo /proc/zoneinfo
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
