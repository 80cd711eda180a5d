//! Real connections through the table, all within the machine: a client on the director itself goes through
//! IPVS like any other.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::support::child::shell;

/// Gives the machine the addresses of `table.rules`: virtual ones on `lo`, the real servers' on a dummy link.
pub fn addresses() {
    let script = "
        ip link show dummy9 >/dev/null 2>&1 || ip link add dummy9 type dummy
        ip link set dummy9 up
        for n in 1 2 3 4; do
            ip addr replace 10.9.0.$n/32 dev lo
            ip addr replace 10.8.0.$n/24 dev dummy9
            ip -6 addr replace fd00:9::$n/128 dev lo nodad
            ip -6 addr replace fd00:8::$n/64 dev dummy9 nodad
        done";
    shell(script);
}

/// Real servers on `address`, echoing until the process ends.
pub fn serve_tcp(address: &str) {
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = [0; 512];
                while let Ok(length) = stream.read(&mut buffer) {
                    if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// Real server on `address`, echoing until the process ends.
pub fn serve_udp(address: &str) {
    let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    });
}

/// One connection with a few bytes there and back; stays open as long as it is held.
pub fn connect(service: &str) -> TcpStream {
    echoed(TcpStream::connect(service).unwrap_or_else(|error| panic!("{service}: {error}")))
}

/// The same from a port.
pub fn connect_from(port: u16, service: &str) -> TcpStream {
    let address: SocketAddr = service.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket
        .bind(&any(address, port).into())
        .expect("a port of its own");
    let connected = socket.connect(&address.into());
    connected.unwrap_or_else(|error| panic!("{service}: {error}"));
    echoed(socket.into())
}

/// Any of this machine's addresses by which another is reached, with a port.
pub fn any(other: SocketAddr, port: u16) -> SocketAddr {
    match other {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

fn echoed(mut stream: TcpStream) -> TcpStream {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    stream.write_all(b"there and back").expect("sending");
    let mut buffer = [0; 14];
    stream.read_exact(&mut buffer).expect("an echo");
    stream
}

/// One datagram there and back.
pub fn ask(service: &str) {
    let socket = UdpSocket::bind(if service.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    })
    .expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    socket.send_to(b"there and back", service).expect("sending");
    socket.recv(&mut [0; 64]).expect("an echo");
}
