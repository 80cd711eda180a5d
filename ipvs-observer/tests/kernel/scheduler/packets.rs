//! Packets that no socket of the system would send.

use std::{
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    process::Command,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// TCP's flags.
pub const ACK: u8 = 0x10;
pub const SYN: u8 = 0x02;

fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or_default(),
        ]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn send(protocol: Protocol, packet: &[u8], to: Ipv4Addr) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).expect("root may");
    let to = SockAddr::from(SocketAddrV4::new(to, 0));
    socket.send_to(packet, &to).expect("sending");
    // What comes back is nobody's.
    let _ = socket.set_nonblocking(true);
    let _ = socket.recv(&mut [MaybeUninit::uninit(); 64]);
}

/// A segment of TCP without data.
pub fn segment(from: SocketAddrV4, to: SocketAddrV4, flags: u8) {
    let mut segment = [0_u8; 20];
    segment[..2].copy_from_slice(&from.port().to_be_bytes());
    segment[2..4].copy_from_slice(&to.port().to_be_bytes());
    segment[4..8].copy_from_slice(&1000_u32.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = flags;
    segment[14..16].copy_from_slice(&1024_u16.to_be_bytes());
    let pseudo = [0, 6, 0, segment.len() as u8];
    let check = sum(&[&from.ip().octets(), &to.ip().octets(), &pseudo, &segment]);
    segment[16..18].copy_from_slice(&check.to_be_bytes());
    send(Protocol::TCP, &segment, *to.ip());
}

/// A router's word that a datagram from `server` to `client` could not go on.
pub fn unreachable(server: SocketAddrV4, client: SocketAddrV4) {
    let mut inner = [0_u8; 28];
    inner[0] = 0x45;
    inner[2..4].copy_from_slice(&28_u16.to_be_bytes());
    inner[8] = 64;
    inner[9] = 17;
    inner[12..16].copy_from_slice(&server.ip().octets());
    inner[16..20].copy_from_slice(&client.ip().octets());
    let check = sum(&[&inner[..20]]);
    inner[10..12].copy_from_slice(&check.to_be_bytes());
    inner[20..22].copy_from_slice(&server.port().to_be_bytes());
    inner[22..24].copy_from_slice(&client.port().to_be_bytes());
    inner[24..26].copy_from_slice(&8_u16.to_be_bytes());
    let mut message = [&[3, 1, 0, 0, 0, 0, 0, 0], &inner[..]].concat();
    let check = sum(&[&message]);
    message[2..4].copy_from_slice(&check.to_be_bytes());
    send(Protocol::ICMPV4, &message, *server.ip());
}

/// One datagram from each of so many addresses of `10.66.0.0/16`, which this machine or namespace has from then on.
pub fn from_many(clients: u16, port: u16, to: &str) {
    let added = Command::new("ip")
        .args(["route", "replace", "local", "10.66.0.0/16", "dev", "lo"])
        .status();
    assert!(added.expect("ip is in the lab").success());
    for client in 1..=clients {
        let [high, low] = client.to_be_bytes();
        let from = (Ipv4Addr::new(10, 66, high, low), port);
        // Some answers come back as an error of the next one.
        let _ = UdpSocket::bind(from)
            .expect("any address of it")
            .send_to(b"anybody?", to);
    }
}

/// A datagram from this machine that bears a mark.
pub fn marked(to: &str, mark: u32) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_mark(mark).expect("root may mark");
    let to: SocketAddrV4 = to.parse().expect("an address");
    socket.send_to(b"anybody?", &SockAddr::from(to)).expect("sending");
}
