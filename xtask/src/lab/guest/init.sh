#!/bin/sh
# The guest's first process: mounts, ports, topology, the command, and what became of it.
# Whatever it prints itself goes to the serial console, which the host shows only when a run fails.
. /etc/profile

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp && chmod 1777 /tmp
mkdir -p /dev/pts /dev/shm /run/netns
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
hostname lab
ip link set lo up

# Built into some kernels, modules in others; the old ones need crc32c_generic before libcrc32c, which
# ip_vs is linked with, and cannot ask for it themselves.
for module in virtio_pci virtio_console virtio_rng crc32c_generic; do
    modprobe -q "$module"
done

interactive=
[ -f /lab/command ] || interactive=yes
. /lab/session

if [ -n "$interactive" ]; then
    sh -eu /lab/topology || fail "the topology could not be set up"
    cd /root || fail "no /root"
    echo
    echo "The lab, kernel $(uname -r). ^D ends it."
    setsid cttyhack bash -l
    poweroff -f
fi
session
