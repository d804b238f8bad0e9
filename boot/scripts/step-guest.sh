#!/bin/busybox sh
# guest [VCPUS [KIND]]: boots the stock kernel as a VM under stock QEMU with KVM, and reports how far it came.
vcpus=${1:-2}
kind=${2:-stock}
log=/tmp/guest-$kind.log
timeout 300 qemu-system-aarch64 -machine virt,gic-version=3 -cpu host -enable-kvm -smp "$vcpus" -m 256 \
  -nodefaults -display none -monitor none -serial "file:$log" -no-reboot \
  -kernel /corevisor/guest/Image -initrd /corevisor/guest/initrd.cpio \
  -append "console=ttyAMA0 quiet panic=-1"
status=$?
said() { grep -q "@guest {\"event\":\"$1\"" "$log" && echo true || echo false; }
booted=$(said booted)
off=$(said poweroff)
[ $status -eq 0 ] || off=false
echo "@corevisor {\"event\":\"guest\",\"kind\":\"$kind\",\"vcpus\":$vcpus,\"online\":$(sed -n 's/.*"online":\([0-9]*\).*/\1/p' "$log" | grep . || echo 0),\"booted\":$booted,\"poweredOff\":$off}"
$booted && $off && exit 0
echo "guest $kind ended with QEMU status $status; its console said:"
tail -n 40 "$log"
exit 1
