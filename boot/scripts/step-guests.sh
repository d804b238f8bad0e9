#!/bin/busybox sh
# guests [COUNT [VCPUS]]: boots several stock VMs at once.
count=${1:-3}
vcpus=${2:-1}
running=
for number in $(seq "$count"); do
  /corevisor/steps/guest "$vcpus" "stock-$number" &
  running="$running $!"
done
status=0
for pid in $running; do
  wait "$pid" || status=1
done
exit $status
