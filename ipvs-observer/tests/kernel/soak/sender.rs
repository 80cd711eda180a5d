//! The clients: connections of which no two are between the same ends for a million and a half.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::{scheduler::client, support::child::shell};

/// Where a connection comes from.
pub type Source = (Ipv4Addr, u16);

const ADDRESSES: u32 = 40;
const FIRST_PORT: u16 = 10_000;
const PORTS: u32 = 40_000;
/// Of the director itself.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

#[derive(Default)]
pub struct Sender {
    next: u32,
    held: Vec<TcpStream>,
}

impl Sender {
    pub fn new() -> Self {
        client::run(|| {
            shell("for n in $(seq 1 40); do ip addr replace 10.7.1.$n/16 dev client0; done");
        });
        Self::default()
    }

    /// As many sources, each in turn of another address.
    fn sources(&mut self, count: u64, own: bool) -> Vec<Source> {
        (0..count)
            .map(|_| {
                let (address, port) = (self.next % ADDRESSES, self.next / ADDRESSES % PORTS);
                self.next = (self.next + 1) % (ADDRESSES * PORTS);
                // Ports of the director's own come round later than its connections last.
                let port = if own { self.next % PORTS } else { port };
                let address = if own {
                    OWN
                } else {
                    Ipv4Addr::new(10, 7, 1, address as u8 + 1)
                };
                (address, FIRST_PORT + port as u16)
            })
            .collect()
    }

    /// A datagram from each source. Nobody needs to answer: what counts is that they are scheduled.
    pub fn datagrams(&mut self, address: &str, count: u64, own: bool, made: &mut HashSet<Source>) {
        let sources = self.sources(count, own);
        let to: SocketAddr = address.parse().expect("an address");
        made.extend(&sources);
        let send = move || {
            for (from, port) in sources {
                let socket =
                    UdpSocket::bind((from, port)).unwrap_or_else(|error| panic!("{from}:{port}: {error}"));
                socket.send_to(b"anybody?", to).expect("sending");
            }
        };
        if own { send() } else { client::run(send) }
    }

    /// Connections with a few bytes there and back; some stay open for a while.
    pub fn connections(&mut self, address: &str, count: u64, made: &mut HashSet<Source>) {
        let sources = self.sources(count, false);
        let to: SocketAddr = address.parse().expect("an address");
        made.extend(&sources);
        let streams = client::run(move || {
            let connect = |(from, port)| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                socket
                    .bind(&SocketAddr::V4(SocketAddrV4::new(from, port)).into())
                    .expect("a source");
                socket
                    .connect_timeout(&to.into(), Duration::from_secs(10))
                    .unwrap_or_else(|error| panic!("{from}:{port} to {to}: {error}"));
                let mut stream: TcpStream = socket.into();
                stream
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .expect("a timeout");
                stream.write_all(b"there and back").expect("sending");
                stream.read_exact(&mut [0; 14]).expect("an echo");
                stream
            };
            sources.into_iter().map(connect).collect::<Vec<_>>()
        });
        self.held.extend(streams.into_iter().step_by(2));
    }

    /// Ends what is open, while IPVS knows where it goes.
    pub fn let_go(&mut self) {
        if !self.held.is_empty() {
            self.held.clear();
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}
