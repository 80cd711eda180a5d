use std::{
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use super::*;
use crate::{
    model::{Name, Protocol, Service, ServiceFlags, Stats},
    netlink::Channel,
};

/// A kernel in which addresses that begin with 10 are local, 11 elsewhere, and others nowhere. Notes what it is asked.
#[derive(Clone, Default)]
struct Routing {
    asked: Arc<Mutex<Vec<u8>>>,
    silent: Arc<Mutex<bool>>,
    answer: Vec<u8>,
}

impl Kernel for Routing {
    fn exists(&mut self, _path: &str) -> bool {
        true
    }

    fn read(&mut self, _path: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn open(&mut self, _timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open_routes(&mut self, _timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(self.clone()))
    }
}

impl Channel for Routing {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let address = &request[32..];
        self.asked.lock().expect("one thread").push(address[3]);
        let (kind, mut body) = match address[0] {
            10 | 11 => (24u16, vec![0; HEADER]),
            // No route: -ENETUNREACH.
            _ => (2, (-101i32).to_ne_bytes().to_vec()),
        };
        if kind == 24 {
            body[TYPE] = if address[0] == 10 { RTN_LOCAL } else { 1 };
        }
        self.answer = (16 + body.len() as u32).to_ne_bytes().to_vec();
        self.answer.extend(kind.to_ne_bytes());
        self.answer.extend([0; 2]);
        self.answer.extend(&request[8..12]);
        self.answer.extend([0; 4]);
        self.answer.extend(body);
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if *self.silent.lock().expect("one thread") {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..self.answer.len()].copy_from_slice(&self.answer);
        Ok(self.answer.len())
    }
}

fn snapshot(addresses: &[[u8; 4]]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for address in addresses {
        let address = Address::from(IpAddr::from(*address));
        for port in [80, 443] {
            snapshot.push_service(Service {
                key: ServiceKey::Endpoint {
                    address,
                    protocol: Protocol::TCP,
                    port,
                },
                scheduler: Name::from("rr"),
                flags: ServiceFlags::default(),
                timeout: 0,
                netmask: 0,
                persistence_engine: Name::default(),
                stats: Stats::default(),
            });
        }
    }
    snapshot
}

fn locals(snapshot: &Snapshot) -> Vec<Option<bool>> {
    snapshot
        .virtual_servers()
        .iter()
        .map(|server| server.local)
        .collect()
}

#[test]
fn an_address_is_local_if_its_route_is_and_is_looked_up_once_a_gather() {
    let (mut kernel, mut routes) = (Routing::default(), Routes::default());
    let mut snapshot = snapshot(&[[10, 0, 0, 1], [11, 0, 0, 2], [12, 0, 0, 3]]);
    for _ in 0..2 {
        let outcome = routes.locate(&mut kernel, Duration::ZERO, &mut snapshot);
        outcome.expect("the kernel answers");
        let expected = [
            Some(true),
            Some(true),
            Some(false),
            Some(false),
            Some(false),
            Some(false),
        ];
        assert_eq!(locals(&snapshot), expected);
    }
    let mut asked = kernel.asked.lock().expect("one thread").clone();
    asked.sort_unstable();
    assert_eq!(asked, [1, 1, 2, 2, 3, 3]);
}

#[test]
fn of_many_addresses_new_ones_are_looked_up_at_once_and_the_rest_in_turn() {
    let (mut kernel, mut routes) = (Routing::default(), Routes::default());
    let many: Vec<[u8; 4]> = (0..3000u16).map(|n| [10, (n >> 8) as u8, 0, n as u8]).collect();
    let mut lookups = Vec::new();
    for gather in 0..8 {
        let first = usize::from(gather == 7);
        let mut snapshot = snapshot(&many[first..]);
        routes
            .locate(&mut kernel, Duration::ZERO, &mut snapshot)
            .expect("the kernel answers");
        assert!(locals(&snapshot).iter().all(|local| *local == Some(true)));
        lookups.push(std::mem::take(&mut *kernel.asked.lock().expect("one thread")).len());
    }
    assert_eq!(lookups, [3000, 501, 501, 501, 501, 501, 501, 501]);
    assert_eq!(routes.known.len(), 2999, "what is gone is forgotten");
    assert!(
        routes.known.values().all(|known| known.looked_up > 1),
        "each was looked up again"
    );
}

#[test]
fn nothing_is_said_of_addresses_where_the_kernel_does_not_answer() {
    let (mut kernel, mut routes) = (Routing::default(), Routes::default());
    let mut snapshot = snapshot(&[[10, 0, 0, 1]]);
    routes
        .locate(&mut kernel, Duration::ZERO, &mut snapshot)
        .expect("the kernel answers");
    *kernel.silent.lock().expect("one thread") = true;
    let outcome = routes.locate(&mut kernel, Duration::ZERO, &mut snapshot);
    assert!(matches!(outcome, Err(Failure::Timeout(_))), "{outcome:?}");
    assert_eq!(locals(&snapshot), [None, None]);
    *kernel.silent.lock().expect("one thread") = false;
    routes
        .locate(&mut kernel, Duration::ZERO, &mut snapshot)
        .expect("it answers again");
    assert_eq!(locals(&snapshot), [Some(true), Some(true)]);
}
