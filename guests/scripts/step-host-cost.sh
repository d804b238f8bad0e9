#!/bin/busybox sh
# What the host itself costs: how fast it starts programs. One `fork-exec` event.
timeout 200 fork-exec 300 3
