# Runs in the lab, on the basic topology: lab/guest/basic.sh has its addresses.
say() {
    printf '\n# %s\n' "$1"
}
show() {
    printf '$ %s\n' "$*"
    "$@"
}

say "A director with two real servers, and these services: plain, weighted 1:3, persistent, one with a
# drained server, and one on IPv6."
ipvsadm -R <<'RULES'
-A -t 10.0.0.1:8080 -s wrr
-a -t 10.0.0.1:8080 -r 10.2.1.2:80 -m -w 1
-a -t 10.0.0.1:8080 -r 10.2.2.2:80 -m -w 3
-A -t 10.0.0.1:8081 -s wlc -p 300
-a -t 10.0.0.1:8081 -r 10.2.1.2:80 -m
-a -t 10.0.0.1:8081 -r 10.2.2.2:80 -m
-A -t 10.0.0.1:8082 -s rr
-a -t 10.0.0.1:8082 -r 10.2.1.2:80 -m -w 0
-a -t 10.0.0.1:8082 -r 10.2.2.2:80 -m
-A -t [fd00::1]:80 -s rr
-a -t [fd00::1]:80 -r [fd00:2:1::2]:80 -m
-a -t [fd00::1]:80 -r [fd00:2:2::2]:80 -m
RULES
show ipvsadm -Sn

say "A client asks, and goes on asking each service in turn."
show ip netns exec client wget -q -O - http://10.0.0.1:8080/
cat >/tmp/traffic.sh <<'TRAFFIC'
while :; do
    for service in 10.0.0.1:80 10.0.0.1:8080 10.0.0.1:8081 10.0.0.1:8082 '[fd00::1]:80'; do
        wget -q -O /dev/null "http://$service/"
    done
done
TRAFFIC
ip netns exec client sh /tmp/traffic.sh >/dev/null 2>&1 &
traffic=$!
# The first estimation that counts it comes within two seconds.
sleep 3

say "Three gathers, two seconds apart, as line protocol."
show ipvs-observer collect --count 3 --interval 2s

say "The same counters, as ipvsadm has them."
show ipvsadm -ln --stats

if ipvs-observer trace --help >/dev/null 2>&1; then
    say "Scheduling decisions as they happen, for five seconds."
    show ipvs-observer trace --duration 5s
fi
kill "$traffic"
