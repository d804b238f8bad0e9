#!/bin/busybox sh
# The host's /init: sets the machine up, runs the steps that the kernel command line names, and powers off.
#
# corevisor.steps=NAME[:ARGUMENT...],...   runs /corevisor/steps/NAME with its arguments, one after another (default: info)
# corevisor.then=poweroff|reboot|shell     what to do afterwards (default: poweroff; a shell powers off when it ends)
#
# What scripts may rely on goes to the console as one line each: `@corevisor {"event": ...}`.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
# Warnings still show; notices would tear the lines that scripts read.
dmesg -n 5
for device in /sys/bus/virtio/devices/*/modalias; do
  [ -e "$device" ] && modprobe -q "$(cat "$device")"
done
ifconfig lo up

argument() { # The value of a kernel command line parameter, or the default.
  value=$2
  for word in $(cat /proc/cmdline); do
    case $word in "$1"=*) value=${word#*=} ;; esac
  done
  echo "$value"
}

event() { echo "@corevisor $1"; }

event "{\"event\":\"up\",\"uptime\":$(cut -d' ' -f1 /proc/uptime)}"
for step in $(argument corevisor.steps info | tr , ' '); do
  name=${step%%:*}
  arguments=$(echo "$step" | tr : ' ')
  arguments=${arguments#"$name"}
  event "{\"event\":\"step\",\"name\":\"$name\"}"
  if [ -x "/corevisor/steps/$name" ]; then
    # shellcheck disable=SC2086 # one word an argument
    "/corevisor/steps/$name" $arguments
    status=$?
  else
    echo "no step named $name in /corevisor/steps"
    status=127
  fi
  event "{\"event\":\"step-ended\",\"name\":\"$name\",\"status\":$status,\"uptime\":$(cut -d' ' -f1 /proc/uptime)}"
done
then=$(argument corevisor.then poweroff)
[ "$then" = shell ] && setsid cttyhack sh
event '{"event":"done"}'
[ "$then" = reboot ] && reboot -f
poweroff -f
