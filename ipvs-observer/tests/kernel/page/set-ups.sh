# What the blocks of docs/scheduler-debugging.md are run with, in the topology `basic`: NAME_before sets up, NAME_during
# is run once the probes are attached. Read by mod.rs beside this file.
V=10.0.0.1

# An empty table of a module that was just loaded, with its usual settings.
anew() {
    for pid in $(ip netns pids client); do kill "$pid" || :; done
    ip -n client route replace default via 10.1.0.1
    ip netns exec client sysctl -qw net.ipv4.ip_local_port_range='32768 60999'
    ip addr replace $V/32 dev lo
    ipvsadm -C
    for turn in 1 2 3; do
        for module in $(sed -n 's/^\(ip_vs_[a-z_]*\) .*/\1/p' /proc/modules) ip_vs; do
            rmmod "$module" 2>/dev/null || :
        done
    done
    modprobe ip_vs
}

clear_topology() {
    for name in client rs1 rs2; do
        [ -e "/run/netns/$name" ] || continue
        for pid in $(ip netns pids "$name"); do kill "$pid" || :; done
        ip link del "$name" 2>/dev/null || :
        ip netns del "$name"
    done
    ip addr del $V/32 dev lo 2>/dev/null || :
    ip addr del fd00::1/128 dev lo 2>/dev/null || :
}

setting() {
    echo "$2" >"/proc/sys/net/ipv4/vs/$1"
}

# service PORT SCHEDULER [OPTIONS…]
service() {
    local port=$1 scheduler=$2
    shift 2
    ipvsadm -A -t $V:"$port" -s "$scheduler" "$@"
}

# server PORT ADDRESS [OPTIONS…]
server() {
    local port=$1 address=$2
    shift 2
    ipvsadm -a -t $V:"$port" -r "$address:80" -m "$@"
}

# get PORT [TIMES [CLIENT]]: one request after another.
get() {
    local times=${2:-1}
    if [ -n "${3:-}" ]; then
        ip -n client addr replace "10.1.0.$3/24" dev eth0
        ip -n client route replace default via 10.1.0.1 src "10.1.0.$3"
    fi
    while [ "$times" -gt 0 ]; do
        ip netns exec client timeout 10 wget -q -O /dev/null "http://$V:$1/" 2>/dev/null || :
        times=$((times - 1))
        sleep 0.05
    done
}

# hold PORT SECONDS: a connection that stays open.
hold() {
    (sleep "$2" | ip netns exec client nc $V "$1" >/dev/null 2>&1) &
    sleep 0.2
}

# The client has this one port, and takes it again a second after a connection.
from_one_port() {
    ip netns exec client sysctl -qw net.ipv4.ip_local_port_range='40000 40000' net.ipv4.tcp_tw_reuse=1
}

# The client's machine crashes, and comes again.
crash() {
    ip link del client
    for pid in $(ip netns pids client); do kill "$pid" || :; done
    ip netns del client
    eval "$(sed -n '/^side()/,/^}/p' /tmp/topology.sh)"
    side client 10.1.0 fd00:1
}

check_before() {
    service 80 rr
    server 80 10.2.1.2
    server 80 10.2.2.2
}
check_during() { :; }

split_before() {
    service 8081 wrr -p 300
    server 8081 10.2.1.2 -w 1
    server 8081 10.2.2.2 -w 3
}
split_during() {
    get 8081 8
    sleep 3
}

turns_before() {
    service 8080 wrr
    server 8080 10.2.1.2 -w 1
    server 8080 10.2.2.2 -w 3
}
turns_during() {
    get 8080 4
}

one_backend_before() {
    service 8082 sh
    server 8082 10.2.1.2
    server 8082 10.2.2.2
}
one_backend_during() {
    get 8082 2 2
    get 8082 1 3
    get 8082 1 4
    get 8082 1 5
}

drained_before() {
    service 8083 rr -p 300
    server 8083 10.2.1.2
    server 8083 10.2.2.2
    get 8083
    ipvsadm -e -t $V:8083 -r 10.2.2.2:80 -m -w 0
}
drained_during() {
    get 8083 2
    get 8083 1 3
    get 8083 1 4
}

revived_before() {
    service 8089 rr
    server 8089 10.2.1.2
    server 8089 10.2.2.2
}
revived_during() {
    get 8089 4
    ipvsadm -d -t $V:8089 -r 10.2.1.2:80
    server 8089 10.2.1.2
    get 8089 2
    sleep 3
}

one_second_before() {
    setting conntrack 1
    setting conn_reuse_mode 0
    setting expire_nodest_conn 1
    # A masquerading service on this port asks for connection tracking.
    service 21 rr
    ipvsadm -a -t $V:21 -r 10.2.1.2:21 -m
    service 8094 rr
    server 8094 10.2.1.2
    from_one_port
}
one_second_during() {
    hold 8094 30
    crash
    from_one_port
    server 8094 10.2.2.2
    ipvsadm -e -t $V:8094 -r 10.2.1.2:80 -m -w 0
    get 8094
}

reused_before() {
    service 80 rr
    server 80 10.2.1.2
    server 80 10.2.2.2
    from_one_port
}
reused_during() {
    get 80
    sleep 1.2
    get 80
}

refused_before() {
    service 8085 rr
    server 8085 10.2.1.2 -w 0
    server 8085 10.2.2.2 -w 0
    service 8086 rr
}
refused_during() {
    get 8085
    get 8086
}

unsent_before() {
    service 8092 rr
    server 8092 10.9.9.9
}
unsent_during() {
    get 8092
}

silent_before() {
    service 8093 rr
    server 8093 10.2.1.99
}
silent_during() {
    get 8093 &
    get 8093 &
    wait
}

removed_before() {
    setting expire_nodest_conn 0
    service 8096 rr
    server 8096 10.2.1.2
}
removed_during() {
    ( (
        sleep 2
        echo GET
        sleep 8
    ) | ip netns exec client nc $V 8096 >/dev/null 2>&1) &
    sleep 1
    ipvsadm -d -t $V:8096 -r 10.2.1.2:80
    sleep 3
}

idle_before() {
    service 8097 rr
    server 8097 10.2.1.2
    ipvsadm --set 3 3 3
}
idle_during() {
    hold 8097 8
}

nothing_before() {
    setting conn_reuse_mode 0
    service 8095 rr
    server 8095 10.2.1.2
    from_one_port
    get 8095
    server 8095 10.2.2.2
}
nothing_during() {
    get 8095
    sleep 1.2
    get 8095
}

empty_before() {
    service 8098 rr
    server 8098 10.2.1.2
    ip addr del $V/32 dev lo
}
empty_during() {
    get 8098
}

flapping_before() {
    service 8087 rr
    server 8087 10.2.1.2 -x 2
    ipvsadm --set 3 3 3
}
flapping_during() {
    hold 8087 4
    hold 8087 4
    hold 8087 1
    sleep 9
    hold 8087 4
    hold 8087 4
    sleep 1
}

stampede_before() {
    service 8088 wlc
    server 8088 10.2.1.2
    get 8088 5
}
stampede_during() {
    server 8088 10.2.2.2
    get 8088 7
}

slow_before() {
    service 8090 wlc
    server 8090 10.2.1.2
    server 8090 10.2.2.2
    service 8091 wlc
    # All but one are drained, and looked at all the same.
    {
        echo "-a -t $V:8091 -r 10.2.1.2:80 -m"
        for third in 1 2; do
            for fourth in $(seq 1 200); do
                echo "-a -t $V:8091 -r 10.3.$third.$fourth:80 -m -w 0"
            done
        done
    } | ipvsadm -R
}
slow_during() {
    get 8090 15
    get 8091 15
}

fatal_before() {
    service 80 rr
    server 80 10.2.1.2
    server 80 10.2.2.2
    setting conn_max 10
    get 80 5
}
fatal_during() {
    get 80 8
}

changed_before() {
    service 80 rr
    server 80 10.2.1.2
    server 80 10.2.2.2
}
changed_during() {
    cat >/tmp/drain.sh <<END
#!/bin/sh
ipvsadm -e -t $V:80 -r 10.2.1.2:80 -m -w 0
ipvsadm -E -t $V:80 -s wlc
ipvsadm -d -t $V:80 -r 10.2.1.2:80
END
    chmod +x /tmp/drain.sh
    /tmp/drain.sh
}
