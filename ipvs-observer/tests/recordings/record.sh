#!/bin/sh
# Runs in the lab: fills the table with every kind of service, sends a little through it, and writes the
# exchange with the kernel to standard output. README.md beside this file has the command.
set -eu
rules=$1
modprobe ip_vs
ip link add dummy9 type dummy
ip link set dummy9 up
# A virtual address that is not local is the fourth.
for n in 1 2 3 4; do
    [ "$n" = 4 ] || ip addr add "10.9.0.$n/32" dev lo
    ip addr add "10.8.0.$n/24" dev dummy9
    ip -6 addr add "fd00:9::$n/128" dev lo nodad
    ip -6 addr add "fd00:8::$n/64" dev dummy9 nodad
done
ipvsadm -R <"$rules"
ipvsadm --set 901 121 301
# A table whose families do not mix may have a daemon.
if ! grep -q -e '-r \[.*-i ' "$rules"; then
    ipvsadm --start-daemon master --mcast-interface dummy9 --syncid 7
fi
mkdir -p /tmp/www
echo hello >/tmp/www/index.html
for address in 10.8.0.1 10.8.0.2 '[fd00:8::1]'; do
    busybox httpd -p "$address:8080" -h /tmp/www
done
for turn in 1 2 3 4 5 6 7; do
    for service in 10.9.0.1:80 10.9.0.1:81 '[fd00:9::1]:80'; do
        busybox wget -q -O /dev/null "http://$service/" || true
    done
done
# Counters reach the table with the next estimation, every two seconds.
sleep 5
ipvs-observer record
