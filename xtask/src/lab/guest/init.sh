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

# The device of a port, once the host has named it.
port() {
    tries=0
    while [ $tries -lt 200 ]; do
        for device in /sys/class/virtio-ports/*; do
            if [ "$(cat "$device/name" 2>/dev/null)" = "$1" ]; then
                echo "/dev/${device##*/}"
                return
            fi
        done
        tries=$((tries + 1))
        usleep 50000
    done
    echo "lab: the host gave no port $1" >/dev/console
}

interactive=
[ -f /lab/command ] || interactive=yes

if [ -z "$interactive" ]; then
    exec 9>"$(port lab.control)"
fi

fail() {
    echo "lab: $1"
    [ -n "$interactive" ] || echo "failed $1" >&9
    sync
    poweroff -f
}

sh -eu /lab/topology 9>&- || fail "the topology could not be set up"
cd /root || fail "no /root"

if [ -n "$interactive" ]; then
    echo
    echo "The lab, kernel $(uname -r). ^D ends it."
    setsid cttyhack bash -l
    poweroff -f
fi

# Pipes, so that the command meets what it meets elsewhere, and not devices that only one may open.
# dd says how much it has copied, which the host must know: what a port has taken may still be on its way.
mkfifo /run/lab.in /run/lab.out /run/lab.err
cat "$(port lab.stdin)" >/run/lab.in 9>&- &
LC_ALL=C dd bs=64k </run/lab.out >"$(port lab.stdout)" 2>/run/lab.out.count 9>&- &
out=$!
LC_ALL=C dd bs=64k </run/lab.err >"$(port lab.stderr)" 2>/run/lab.err.count 9>&- &
err=$!
echo started >&9
(exec sh /lab/command) </run/lab.in >/run/lab.out 2>/run/lab.err 9>&-
status=$?

# Both end when they have read the end. What the command left running may hold the pipes open: then,
# after a while, they say how far they are.
tries=0
while [ $tries -lt 100 ] && { kill -0 $out || kill -0 $err; } 2>/dev/null; do
    tries=$((tries + 1))
    usleep 50000
done
kill -USR1 $out $err 2>/dev/null && usleep 200000

count() {
    sed -n 's/^\([0-9]*\) bytes\{0,1\}.*copied.*/\1/p' "$1" | tail -n 1
}
echo "done $status $(count /run/lab.out.count) $(count /run/lab.err.count)" >&9
# The host ends the machine.
sleep 60
poweroff -f
