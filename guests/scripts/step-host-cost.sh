#!/bin/busybox sh
# What the host itself costs: how fast it starts programs. One `fork-exec` event. Many short batches, because the fastest one
# counts and other work of the machine must not hit all of them.
timeout 200 fork-exec 20 40
