#!/bin/bash
# What probes cost on the path of a new connection. Runs in the lab's basic topology, as root: see
# docs/performance.md. `cargo xtask bench` runs it.
#
#   measure.sh [ROUNDS [CONNECTIONS]]
#
# Two kinds of connection. The shortest: the kernel's own packet generator sends datagrams to a one-packet service
# (wlc, eight real servers behind a dummy link, direct routing); each is received, scheduled and sent on, and as
# little else as there can be. A whole one: the client of the topology opens a TCP connection, sends 64 bytes,
# receives 512, and sees the end of it (wlc, two real servers, masquerading). Prints tables in Markdown, and a line
# of JSON for each case.
set -eu

rounds=${1:-1}
connections=${2:-1000}
bursts=5
here=$(cd "$(dirname "$0")" && pwd)
results=$(mktemp)
PATH=$PATH:$here

table() {
    # Else the links send packets of their own.
    sysctl -qw net.ipv6.conf.default.disable_ipv6=1
    modprobe pktgen
    modprobe ip_vs_wlc
    ip link add source type veth peer name director
    ip link add servers type dummy
    for link in source director servers; do
        ip link set "$link" up
    done
    ip addr add 10.9.0.1/32 dev lo
    ip addr add 10.8.0.254/24 dev servers
    ip route add 172.16.0.0/12 dev director
    ipvsadm -A -u 10.9.0.1:53 -s wlc -o
    for server in 1 2 3 4 5 6 7 8; do
        ipvsadm -a -u 10.9.0.1:53 -r "10.8.0.$server:53" -g
    done
    ipvsadm -A -t 10.0.0.1:8080 -s wlc
    for server in 1 2; do
        ipvsadm -a -t 10.0.0.1:8080 -r "10.2.$server.2:8080" -m
        ip netns exec rs$server "$here/bench" serve 0.0.0.0:8080 &
    done
    mkfifo "$results.go" "$results.took"
    ip netns exec client "$here/bench" connect 10.0.0.1:8080 $((connections / 5)) <"$results.go" >"$results.took" &
    exec 7>"$results.go" 8<"$results.took"
    echo "add_device source" >/proc/net/pktgen/kpktgend_0
    for order in "count $connections" "delay 0" "pkt_size 60" "clone_skb 0" \
        "dst 10.9.0.1" "dst_mac $(cat /sys/class/net/director/address)" \
        "src_min 172.16.0.1" "src_max 172.31.255.254" "flag IPSRC_RND" \
        "udp_dst_min 53" "udp_dst_max 53" "udp_src_min 1024" "udp_src_max 65000" "flag UDPSRC_RND"; do
        echo "$order" >/proc/net/pktgen/source
    done
}

# IPVS alone sends anything there; its own counters are up to two seconds old.
scheduled() {
    cat /sys/class/net/servers/statistics/tx_packets
}

# One burst of whole connections; prints the nanoseconds of one.
whole() {
    local ns
    echo >&7
    read -r ns <&8
    echo "$ns"
}

# One burst of the shortest; likewise. Fails unless every datagram was scheduled.
shortest() {
    local before after tries=0
    before=$(scheduled)
    echo start >/proc/net/pktgen/pgctrl
    after=$(scheduled)
    # The last ones may have been left to a thread of the kernel.
    while [ $((after - before)) -lt "$connections" ] && [ $tries -lt 50 ]; do
        tries=$((tries + 1))
        usleep 20000
        after=$(scheduled)
    done
    if [ $((after - before)) -ne "$connections" ]; then
        echo "sent $connections, scheduled $((after - before))" >&2
        exit 1
    fi
    awk -v n="$connections" '/Result: OK/ { sub(/\(.*/, "", $3); print $3 * 1000 / n }' /proc/net/pktgen/source
}

probes() {
    wc -l </sys/kernel/debug/kprobes/list
}

pid=
# Starts a program and waits until its probes hold: their number has not changed for a second.
start() {
    local before=-1 now=0 quiet=0
    "$@" >/dev/null 2>"$results.log" &
    pid=$!
    while [ $quiet -lt 5 ]; do
        usleep 200000
        now=$(probes)
        if [ "$now" -eq "$before" ] && { [ "$now" -gt 0 ] || [ "$probing" = no ]; }; then
            quiet=$((quiet + 1))
        else
            quiet=0
        fi
        before=$now
        if ! kill -0 $pid 2>/dev/null; then
            cat "$results.log" >&2
            exit 1
        fi
    done
}

stop() {
    local tries=0
    kill -INT $pid
    kill -CONT $pid
    wait $pid || true
    # The kernel may take the last ones away behind the back of a process that is gone.
    while [ "$(probes)" -ne 0 ]; do
        tries=$((tries + 1))
        if [ $tries -gt 100 ]; then
            echo "probes are left: $(cat /sys/kernel/debug/kprobes/list)" >&2
            exit 1
        fi
        usleep 100000
    done
    [ $tries -eq 0 ] || echo "the last probe went $((tries * 100)) ms after the program" >&2
}

# field STRUCT FIELD: its offset in bytes.
field() {
    awk -v name="'$1'" -v field="'$2'" '
        /^\[/ { inside = $2 == "STRUCT" && $3 == name }
        inside && $1 == field { split($3, bits, "="); print bits[2] / 8; exit }' "$btf"
}

offsets() {
    btf=$results.btf
    bpftool btf dump file /sys/kernel/btf/vmlinux >"$btf"
    bpftool btf dump file /sys/kernel/btf/ip_vs -B /sys/kernel/btf/vmlinux >>"$btf"
    # The first of a name is the kernel's own.
    inum=$(($(field net ns) + $(field ns_common inum)))
    offsets="$(field ip_vs_conn dest) $(field ip_vs_service af) $(field ip_vs_service protocol)
        $(field ip_vs_service port) $(field ip_vs_service addr) $(field ip_vs_service ipvs)
        $(field netns_ipvs net) $inum
        $(field ip_vs_dest af) $(field ip_vs_dest port) $(field ip_vs_dest addr)"
    rm "$btf"
}

cases="off collect trace trace-held explain-held empty pointer address"
words() {
    case $1 in
        none) echo "nothing" ;;
        off) echo "\`collect --probes off\`, running" ;;
        collect) echo "\`collect\`" ;;
        trace) echo "\`trace --format json\`" ;;
        trace-held) echo "\`trace\`, its process halted during the burst" ;;
        explain-held) echo "\`trace --explain\`, its process halted during the burst" ;;
        empty) echo "bpftrace, the same functions, doing nothing" ;;
        pointer) echo "bpftrace, counting by pointer" ;;
        address) echo "bpftrace, counting by address" ;;
    esac
}

run() {
    local ring=64MiB
    probing=yes
    case $1 in
        off) probing=no; start ipvs-observer collect --probes off --interval 1s ;;
        collect) start ipvs-observer collect --interval 1s ;;
        trace | trace-held) start ipvs-observer trace --format json --ring $ring ;;
        explain-held) start ipvs-observer trace --format json --explain --ring $ring ;;
        empty) start bpftrace "$here/empty.bt" ;;
        # shellcheck disable=SC2086
        pointer) start bpftrace "$here/by-pointer.bt" ${offsets%% *} ;;
        # shellcheck disable=SC2086
        address) start bpftrace "$here/by-address.bt" $offsets ;;
    esac
    # Halted, the program takes nothing from the connections but what its probes do: the ring has room for all.
    case $1 in
        *-held) kill -STOP $pid ;;
    esac
}

# The median of numbers, one a line.
median() {
    sort -n | awk '{ all[NR] = $1 } END { print NR % 2 ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2 }'
}

# The medians of so many bursts: of the shortest connection and of a whole one.
measure() {
    local n ns kind
    for kind in shortest whole; do
        for ((n = 0; n < bursts; n++)); do
            ns=$($kind)
            echo "$ns"
        done | median
    done | paste -s -d ' '
}

# column CASE EXPRESSION: of its rounds, median, lowest and highest of an expression of the times before it, with it
# and after it: $2, $4, $6 of the shortest connection, $3, $5, $7 of a whole one.
column() {
    awk -v name="$1" '$1 == name { print '"$2"' }' "$results" | sort -n | awk '
        { all[NR] = $1 }
        END {
            printf "%.3f", NR % 2 ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2
            if (NR > 1) printf " (%.3f to %.3f)", all[1], all[NR]
        }'
}

table
offsets
sysctl -qw kernel.bpf_stats_enabled=0
measure >/dev/null
for ((round = 1; round <= rounds; round++)); do
    before=$(measure)
    for case in $cases; do
        run "$case"
        with=$(measure)
        stop
        after=$(measure)
        echo "$case $before $with $after" | tee -a "$results" >&2
        before=$after
    done
    echo "round $round of $rounds done after $SECONDS s" >&2
done

# What the case added in each round, beside what bpftrace by address added in that round.
awk '
    { seen[$1]++; added[$1, seen[$1]] = $4 - ($2 + $6) / 2; rounds = seen[$1] }
    END { for (key in seen) for (r = 1; r <= rounds; r++) print key, added[key, r] / added["address", r] }
' "$results" >"$results.added"

echo "kernel $(uname -r), $(nproc) processors; $rounds rounds, $bursts bursts each, of $connections of the shortest" \
    "connections and $((connections / 5)) whole ones; nothing attached: $(awk 'NR == 1 { print $2 " and " $3 }' "$results") ns"
echo
echo "| attached | whole connections a second | time of the shortest | added to it, bpftrace by address = 1 | nothing attached afterwards |"
echo "|---|---|---|---|---|"
for case in $cases; do
    added=$(awk -v name="$case" '$1 == name { print $2 }' "$results.added" | median | xargs printf %.2f)
    echo "| $(words "$case") | $(column "$case" '($3 + $7) / 2 / $5') | $(column "$case" '$4 / (($2 + $6) / 2)') |" \
        "$added | $(column "$case" '$6 / $2') |"
    awk -v name="$case" -v added="$added" '$1 == name {
        printf "{\"attached\":\"%s\",\"whole_ns\":[%s,%s,%s],\"shortest_ns\":[%s,%s,%s],\"added_beside_bpftrace\":%s}\n",
            name, $3, $5, $7, $2, $4, $6, added }' "$results"
done
echo
echo "| programs of | runs a connection | ns in them | bpftrace by address = 1 |"
echo "|---|---|---|---|"
sysctl -qw kernel.bpf_stats_enabled=1
for case in address pointer empty collect trace-held explain-held; do
    run "$case"
    for ((n = 0; n < bursts; n++)); do
        shortest >/dev/null
    done
    bpftool prog | awk '/ run_time_ns / && $2 == "kprobe" {
        for (i = 1; i < NF; i++) value[$i] = $(i + 1)
        print value["name"], value["run_time_ns"], value["run_cnt"]
    }' >"$results.programs"
    stop
    sed "s/^/$case: /" "$results.programs" >&2
    ns=$(awk '{ ns += $2 } END { print ns }' "$results.programs")
    [ "$case" = address ] && all=$ns
    awk -v words="$(words "$case")" -v all="$all" -v n=$((connections * bursts)) '
        { ns += $2; runs += $3 }
        END {
            printf "| %s | %.2f | %.0f | %.2f |\n", words, runs / n, ns / n, ns / all
            printf "{\"programs_of\":\"%s\",\"runs\":%.2f,\"ns\":%.1f}\n", words, runs / n, ns / n
        }' "$results.programs"
done
sysctl -qw kernel.bpf_stats_enabled=0
