#!/bin/busybox sh
# guest [VCPUS [KIND]]: boots the stock kernel as a VM under stock QEMU with KVM, and reports how far it came.
#
# A guest of the kind `devices` also has a disk, a network card and a console of virtio's, whose interrupts come through the
# ITS, and checks them: the disk's SHA-256, a ping to QEMU's user network, a line through the console.
vcpus=${1:-2}
kind=${2:-stock}
log=/tmp/guest-$kind.log
port=/tmp/guest-$kind.port
disk=/tmp/guest-$kind.disk
set --
tasks=
if [ "$kind" = devices ]; then
  tasks=corevisor.tasks=disk,net,console
  dd if=/dev/urandom of="$disk" bs=1M count=64 2>/dev/null
  set -- -drive "file=$disk,if=none,id=disk,format=raw,cache=unsafe" -device virtio-blk-pci,drive=disk \
    -netdev user,id=net -device virtio-net-pci,netdev=net \
    -device virtio-serial-pci -chardev "file,id=port,path=$port" -device virtconsole,chardev=port
fi
timeout 300 qemu-system-aarch64 -machine virt,gic-version=3 -cpu host -enable-kvm -smp "$vcpus" -m 256 \
  -nodefaults -display none -monitor none -serial "file:$log" -no-reboot "$@" \
  -kernel /corevisor/guest/Image -initrd /corevisor/guest/initrd.cpio \
  -append "console=ttyAMA0 quiet panic=-1 $tasks"
status=$?
said() { grep -q "@guest {\"event\":\"$1\"$2" "$log"; }
said booted && booted=true || booted=false
said poweroff && [ $status -eq 0 ] && off=true || off=false
online=$(sed -n 's/.*"online":\([0-9]*\).*/\1/p' "$log")
more=
good=$off
if [ "$kind" = devices ]; then
  said disk ",\"sha256\":\"$(sha256sum "$disk" | cut -d' ' -f1)\"" && disks=true || disks=false
  said net ',"reached":true' && nets=true || nets=false
  grep -q 'through the console' "$port" && consoles=true || consoles=false
  its=$(sed -n 's/.*"its":\([0-9]*\).*/\1/p' "$log")
  more=",\"disk\":$disks,\"net\":$nets,\"console\":$consoles,\"itsInterrupts\":${its:-0}"
  [ $disks$nets$consoles = truetruetrue ] && [ "${its:-0}" -gt 0 ] || good=false
  rm -f "$disk" "$port"
fi
echo "@corevisor {\"event\":\"guest\",\"kind\":\"$kind\",\"vcpus\":$vcpus,\"online\":${online:-0},\"booted\":$booted,\"poweredOff\":$off$more}"
$booted && $good && exit 0
echo "guest $kind ended with QEMU status $status; its console said:"
tail -n 40 "$log"
exit 1
