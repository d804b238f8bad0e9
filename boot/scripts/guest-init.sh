#!/bin/busybox sh
# The stock guest's /init: says that user space is up, does the tasks that the kernel command line names, powers off.
#
# corevisor.tasks=TASK,...   disk: SHA-256 of /dev/vda; net: a ping to QEMU's user network; console: a line through hvc0
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
for device in /sys/bus/virtio/devices/*/modalias; do
  [ -e "$device" ] && modprobe -q "$(cat "$device")"
done

event() { echo "@guest $1"; }

event "{\"event\":\"booted\",\"kernel\":\"$(uname -r)\",\"online\":$(grep -c ^processor /proc/cpuinfo),\"uptime\":$(cut -d' ' -f1 /proc/uptime)}"
tasks=
for word in $(cat /proc/cmdline); do
  case $word in corevisor.tasks=*) tasks=${word#*=} ;; esac
done
for task in $(echo "$tasks" | tr , ' '); do
  case $task in
    disk) event "{\"event\":\"disk\",\"sha256\":\"$(sha256sum /dev/vda | cut -d' ' -f1)\"}" ;;
    net)
      ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
      if ping -c 3 -q 10.0.2.2; then reached=true; else reached=false; fi
      event "{\"event\":\"net\",\"reached\":$reached}"
      ;;
    console)
      echo "through the console" > /dev/hvc0
      event "{\"event\":\"console\",\"its\":$(awk '/ITS-/ { for (n = 2; n <= NF && $n ~ /^[0-9]+$/; n++) sum += $n } END { print sum + 0 }' /proc/interrupts)}"
      ;;
    *) event "{\"event\":\"unknown-task\",\"task\":\"$task\"}" ;;
  esac
done
event '{"event":"poweroff"}'
poweroff -f
