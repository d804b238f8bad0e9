#!/bin/busybox sh
# attack [VCPUS]: every attack of a hostile user space, on the core and on a VM with so many vCPUs. One `attack` event each.
vcpus=${1:-2}
status=0
timeout 100 attack-core || status=1
timeout 100 attack-vmm || status=1
timeout 250 attack-vm "$vcpus" 2> /tmp/attack-vm.log || status=1
[ $status -eq 0 ] || cat /tmp/attack-vm.log
exit $status
