# The session: ports, topology, the command, and what became of it. Read by whatever is the first process, or, where
# that is a real one, by its unit.

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

fail() {
    echo "lab: $1"
    [ -n "$interactive" ] || echo "failed $1" >&9
    sync
    poweroff -f
}

count() {
    sed -n 's/^\([0-9]*\) bytes\{0,1\}.*copied.*/\1/p' "$1" | tail -n 1
}

session() {
    exec 9>"$(port lab.control)"
    sh -eu /lab/topology 9>&- || fail "the topology could not be set up"
    cd /root || fail "no /root"

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

    echo "done $status $(count /run/lab.out.count) $(count /run/lab.err.count)" >&9
    # The host ends the machine.
    sleep 60
    poweroff -f
}
