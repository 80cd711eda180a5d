# The life of the Debian package on a Debian with systemd, from installation to purge. Runs as root in the lab;
# each sentence is printed when it has been seen to hold. Arguments: the package, the static program.
set -eu
deb=$1
static=$2
unit=ipvs-observer.service
socket=/run/ipvs-observer/telegraf.sock
lines=/root/lines
export DEBIAN_FRONTEND=noninteractive

holds() {
    echo "ok: $1"
}

fails() {
    echo "FAILED: $1"
    systemctl status --no-pager --lines=0 "$unit" || true
    journalctl --no-pager -o cat -u "$unit" | tail -n 30
    exit 1
}

# until SECONDS WHAT COMMAND…: as soon as it succeeds.
until_so() {
    local left=$(($1 * 10)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || fails "$what"
        sleep 0.1
    done
    holds "$what"
}

property() {
    systemctl show --value -p "$1" "$unit"
}

# What is on the disk beside logs, caches and what dpkg knows of packages; and who is known.
everything() {
    find / -xdev \( -path /run -o -path /tmp -o -path /proc -o -path /sys -o -path /dev -o -path /root -o -path /lab \
        -o -path /var/log -o -path /var/lib/dpkg -o -path /var/cache -o -path /var/lib/systemd/timers \) -prune -o -print | sort
    cat /etc/passwd /etc/group
    ls -A /run
}

systemctl is-system-running --wait >/dev/null || fails "the machine is not in order before anything was installed"
modprobe ip_vs
ipvsadm -R <<RULES
-A -t 127.0.0.2:80 -s rr
-a -t 127.0.0.2:80 -r 127.0.0.1:8080 -m
-a -t 127.0.0.2:80 -r 127.0.0.1:8081 -m
RULES
ip link set lo up
everything >/root/before

echo "== installation"
dpkg -i "$deb" >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fails "the package cannot be installed"; }
[ "$(systemctl is-enabled "$unit")" = enabled ] || fails "the unit is enabled"
until_so 20 "the unit is enabled and runs after the installation" systemctl --quiet is-active "$unit"
said=$(systemd-analyze verify --man=no /usr/lib/systemd/system/"$unit" 2>&1) || fails "systemd-analyze verify: $said"
[ -z "$said" ] || fails "systemd-analyze verify says: $said"
holds "systemd finds nothing wrong with the unit"
exposure=$(systemd-analyze security --no-pager "$unit" | tail -n 1)
case "$exposure" in
*OK*) holds "its exposure: ${exposure#→ }" ;;
*) fails "its exposure: $exposure" ;;
esac
pid=$(property MainPID)
user=$(id -u ipvs-observer)
[ "$user" != 0 ] && [ "$(ps -o uid= -p "$pid" | tr -d ' ')" = "$user" ] || fails "it runs as a user of its own"
holds "it runs as user ipvs-observer, $user"
status() {
    sed -n "s/^$1:[[:space:]]*//p" "/proc/$(property MainPID)/status"
}
# NET_ADMIN 12, PERFMON 38, BPF 39.
[ "$(status CapBnd)" = 000000c000001000 ] || fails "bounded by $(status CapBnd)"
# Of each thread: the main thread has none, the one that gathers has them.
effective=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/"$pid"/task/*/status)
gathers=0
for set in $effective; do
    [ $((0x$set & ~0xc000001000)) = 0 ] || fails "capabilities in effect: $(echo $effective)"
    [ $((0x$set & 0x1000)) = 0 ] || gathers=$((gathers + 1))
done
[ "$gathers" != 0 ] || fails "capabilities in effect: $(echo $effective)"
[ "$(status NoNewPrivs)" = 1 ] && [ "$(status Seccomp)" = 2 ] || fails "it may gain privileges, or call anything"
holds "it has no capability but NET_ADMIN, BPF and PERFMON, can gain none, and its system calls are filtered"
until_so 20 "that nobody listens is in the journal" sh -c "journalctl -o cat -u $unit | grep -F $socket"


echo "== lines"
# As Telegraf: its own user, in the folder's group, the socket made anew at each start.
useradd --system telegraf
install -o telegraf -m 600 /dev/null "$lines"
listen() {
    systemd-run --quiet --unit=listener --property=User=telegraf --property=SupplementaryGroups=ipvs-observer \
        socat -u "UNIX-LISTEN:$socket,fork,mode=660,unlink-early" "OPEN:$lines,append"
}
has() {
    grep -E -q "$1" "$lines"
}
sed -i 's/^#\(IPVS_OBSERVER_INTERVAL\)=.*/\1=1s/' /etc/default/ipvs-observer
listen
until_so 30 "lines arrive at a listener that came later, as another user of the group" has '^ipvs_real_server,address=127.0.0.1,'
[ "$(stat -c %U:%G:%a "$socket")" = telegraf:ipvs-observer:660 ] || fails "the socket is for the group alone"
runuser -u nobody -- test -x /run/ipvs-observer && fails "anybody may go to the socket"
holds "nobody else comes near the socket"
paranoid=$(cat /proc/sys/kernel/perf_event_paranoid)
if [ "$paranoid" -gt 2 ]; then
    journalctl -o cat -u "$unit" | grep -q perf_event_paranoid || fails "the journal names the setting"
    has '^ipvs_observer status="degraded"' || fails "it says what the kernel's setting of $paranoid keeps from it"
    holds "at perf_event_paranoid=$paranoid it goes on without probes and says so"
fi
cp /usr/share/doc/ipvs-observer/docs/deploy/systemd/perf-event-paranoid.conf /etc/sysctl.d/
sysctl --quiet --system
rm /etc/sysctl.d/perf-event-paranoid.conf
systemctl restart "$unit"
: >"$lines"
until_so 60 "with the setting that the package's example makes, everything works with three capabilities" \
    has '^ipvs_observer status="ok"'
for _ in 1 2 3 4 5 6 7 8 9 10; do
    (exec 3<>/dev/tcp/127.0.0.2/80) 2>/dev/null || true
done
made() {
    # The kernel adds up every other second.
    ipvsadm -Ln --stats --exact | awk '$1 == "TCP" { print $3 }'
}
enough() {
    [ "$(made)" -ge 10 ]
}
until_so 20 "connections are made" enough
made=$(made)
until_so 20 "the unit's probes have counted the $made connections that the kernel has" \
    has "^ipvs_virtual_server,.*schedule_picks=${made}i"

echo "== restart and stop"
for _ in 1 2 3; do
    : >/root/mark
    before=$(property MainPID)
    systemctl restart "$unit"
    [ "$(property MainPID)" != "$before" ] || fails "a restart is a new process"
    seen=$(wc -l <"$lines")
    newer() {
        [ "$(wc -l <"$lines")" -gt "$seen" ]
    }
    until_so 20 "after a restart lines arrive again" newer
done
torn=$(grep -E -v '^ipvs[a-z_]*[, ].* [0-9]{19}$' "$lines" || true)
[ -z "$torn" ] || fails "lines are torn: $torn"
twice=$(sort "$lines" | uniq -d)
[ -z "$twice" ] || fails "lines came twice: $twice"
holds "$(wc -l <"$lines") lines over three restarts, each whole and none twice"
# Both clocks count from the boot, in microseconds and in seconds.
begin=$(awk '{ printf "%d", $1 * 1000 }' /proc/uptime)
systemctl stop "$unit"
whole=$(($(awk '{ printf "%d", $1 * 1000 }' /proc/uptime) - begin))
took=$(($(property ExecMainExitTimestampMonotonic) / 1000 - begin))
[ "$took" -lt 1000 ] || fails "the program takes $took ms to end"
[ "$(property Result)" = success ] && [ "$(property ExecMainStatus)" = 0 ] || fails "it ends with 0"
gone() {
    ! pgrep -u ipvs-observer && ! grep -q ip_vs /sys/kernel/debug/kprobes/list
}
gone >/dev/null || fails "stopped, and something of it is left"
holds "stopped, the program ends in $took ms and with 0; after $whole ms nothing of it is left in the kernel"
journalctl -o cat -u "$unit" | grep -E 'left-over|remains running|Killing' && fails "systemd finds fault with how it ends"
holds "systemd finds no fault with how it ends"
systemctl start "$unit"
kill -KILL "$(property MainPID)"
until_so 30 "killed, it is started again" sh -c "[ \"\$(systemctl show --value -p NRestarts $unit)\" = 1 ] && systemctl is-active $unit"
sed -i 's/^IPVS_OBSERVER_INTERVAL=.*/IPVS_OBSERVER_INTERVAL=soon/' /etc/default/ipvs-observer
systemctl restart "$unit" 2>/dev/null || true
until_so 10 "a wrong setting fails it" systemctl is-failed "$unit"
sleep 6
[ "$(property NRestarts)" = 0 ] && systemctl --quiet is-failed "$unit" || fails "it is not started over and over with a wrong setting"
journalctl --no-pager -o cat -u "$unit" | grep -q "invalid value 'soon'" || fails "the journal says which setting is wrong"
holds "a wrong setting is in the journal, and is not tried again"
sed -i 's/^IPVS_OBSERVER_INTERVAL=.*/IPVS_OBSERVER_INTERVAL=2s/' /etc/default/ipvs-observer
systemctl restart "$unit"

echo "== upgrade"
dpkg-deb -R "$deb" /root/next
version=$(sed -n 's/^Version: //p' /root/next/DEBIAN/control)
sed -i "s/^Version: .*/Version: $version+next/" /root/next/DEBIAN/control
dpkg-deb -Znone --build /root/next /root/next.deb >/dev/null
before=$(property MainPID)
dpkg -i /root/next.deb >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fails "the package cannot be upgraded"; }
systemctl --quiet is-active "$unit" && [ "$(property MainPID)" != "$before" ] || fails "an upgrade restarts the unit"
grep -q '^IPVS_OBSERVER_INTERVAL=2s$' /etc/default/ipvs-observer || fails "an upgrade leaves settings alone"
holds "an upgrade restarts the unit and leaves settings alone"
systemctl --quiet disable --now "$unit" 2>/dev/null
dpkg -i "$deb" >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fails "the package cannot be installed over a newer one"; }
! systemctl --quiet is-enabled "$unit" && ! systemctl --quiet is-active "$unit" || fails "disabled stays disabled"
holds "a unit that was disabled stays so"
systemctl --quiet enable --now "$unit" 2>/dev/null
dpkg --verify ipvs-observer | grep -v ' c /etc/default/ipvs-observer$' && fails "the files are not those of the package"
holds "the files are those of the package, but for the settings"

echo "== removal"
systemctl stop listener
userdel telegraf
rm -f "$socket"
dpkg -r ipvs-observer >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fails "the package cannot be removed"; }
gone >/dev/null || fails "with the removal it has stopped"
everything >/root/removed
left=$(diff /root/before /root/removed | grep '^[<>]' | grep -E -v '(passwd|group|shadow)-$|^. ipvs-observer:x:' || true)
wanted="> /etc/default/ipvs-observer
> /etc/systemd/system/multi-user.target.wants/ipvs-observer.service
> /var/lib/systemd/deb-systemd-helper-enabled/ipvs-observer.service.dsh-also
> /var/lib/systemd/deb-systemd-helper-enabled/multi-user.target.wants
> /var/lib/systemd/deb-systemd-helper-enabled/multi-user.target.wants/ipvs-observer.service"
[ "$left" = "$wanted" ] || fails "a removal leaves: $left"
holds "a removal leaves the settings, the user, and whether the unit was enabled"
dpkg -P ipvs-observer >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; fails "the package cannot be purged"; }
everything >/root/purged
left=$(diff /root/before /root/purged | grep '^[<>]' | grep -E -v '(passwd|group|shadow)-$' || true)
[ -z "$left" ] || fails "a purge leaves: $left"
holds "a purge leaves nothing"

echo "== tarball"
"$static" collect --once >/root/once || fails "the static program does not run"
grep -q '^ipvs_virtual_server,address=127.0.0.2,' /root/once || fails "the static program reads no table"
holds "the tarball's program reads the table"
mkdir -p /root/alone/usr/bin
cp "$static" /root/alone/usr/bin/ipvs-observer
systemd-run --quiet -p Type=oneshot -p StandardOutput=file:/root/check -p RootDirectory=/root/alone -p MountAPIVFS=yes \
    -p ProtectSystem=strict -p CapabilityBoundingSet='CAP_NET_ADMIN CAP_BPF CAP_PERFMON' -p NoNewPrivileges=yes \
    /usr/bin/ipvs-observer check || {
    cat /root/check
    fails "alone in a root of its own, uid 0 with three capabilities, it lacks something"
}
holds "alone in a root of its own, as uid 0 with three capabilities, it lacks nothing: as in the container"
