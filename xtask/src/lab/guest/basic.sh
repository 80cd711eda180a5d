# The basic topology: this namespace is the director, with a client on one side and two real servers
# on the other, each a network namespace on a veth pair of its own.
#
#   client  10.1.0.2/24  fd00:1::2/64     veth "eth0"  director  "client"  10.1.0.1  fd00:1::1
#   rs1     10.2.1.2/24  fd00:2:1::2/64   veth "eth0"  director  "rs1"     10.2.1.1  fd00:2:1::1
#   rs2     10.2.2.2/24  fd00:2:2::2/64   veth "eth0"  director  "rs2"     10.2.2.1  fd00:2:2::1
#
# Virtual addresses 10.0.0.1 and fd00::1 on the director's loopback. One service, tcp 10.0.0.1:80,
# scheduler rr, masquerading to 10.2.1.2:80 and 10.2.2.2:80. Both real servers answer HTTP on port 80,
# IPv4 and IPv6, with their own name. Each namespace has its default route to the director.
# Connection tracking is on for IPVS.
modprobe ip_vs
modprobe ip_vs_rr
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
echo 1 >/proc/sys/net/ipv4/vs/conntrack

# In batches: under emulation starting a program is what takes time.
side() { # NAME IPV4-PREFIX IPV6-PREFIX
    ip -batch - <<BATCH
netns add $1
link add $1 type veth peer name eth0 netns $1
addr add $2.1/24 dev $1
addr add $3::1/64 dev $1 nodad
link set $1 up
BATCH
    ip -n "$1" -batch - <<BATCH
link set lo up
addr add $2.2/24 dev eth0
addr add $3::2/64 dev eth0 nodad
link set eth0 up
route add default via $2.1
route add default via $3::1
BATCH
}
side client 10.1.0 fd00:1
side rs1 10.2.1 fd00:2:1
side rs2 10.2.2 fd00:2:2

ip -batch - <<BATCH
addr add 10.0.0.1/32 dev lo
addr add fd00::1/128 dev lo nodad
BATCH

for server in rs1 rs2; do
    mkdir -p "/run/$server"
    echo "$server" >"/run/$server/index.html"
    # Every address of both families; it goes on in the background.
    ip netns exec "$server" httpd -p "[::]:80" -h "/run/$server"
done

ipvsadm -R <<RULES
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.2.1.2:80 -m
-a -t 10.0.0.1:80 -r 10.2.2.2:80 -m
RULES
