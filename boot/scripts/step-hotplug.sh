#!/bin/busybox sh
# hotplug: takes every CPU but the first off and on again, and checks that a program runs on each.
for cpu in /sys/devices/system/cpu/cpu[1-9]*; do
  [ -e "$cpu" ] || continue # There is only one CPU.
  number=${cpu##*cpu}
  echo 0 > "$cpu/online" && [ "$(cat "$cpu/online")" = 0 ] || exit 1
  echo 1 > "$cpu/online" && [ "$(cat "$cpu/online")" = 1 ] || exit 1
  taskset -c "$number" true || exit 1
done
echo "@corevisor {\"event\":\"hotplug\",\"cpus\":$(grep -c ^processor /proc/cpuinfo)}"
