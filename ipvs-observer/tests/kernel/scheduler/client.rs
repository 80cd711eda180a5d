//! A client on another machine, and a real server on a third: each a network namespace of its own behind a pair of
//! links, so that packets come in from outside and are scheduled in softirq.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU16, Ordering},
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};

use crate::{support::child::shell, traffic};

type Job = Box<dyn FnOnce() + Send>;

/// Does something as the client.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    static CLIENT: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    on(&CLIENT, "client0", 7, work)
}

/// Does something as the real server, which is 10.6.0.2.
pub fn run_server<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    static SERVER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    on(&SERVER, "server0", 6, work)
}

/// Does something on a machine with such a link and a network 10.`net`.0.0/16, which is set up at the first time.
fn on<T: Send + 'static>(
    machine: &OnceLock<Mutex<Sender<Job>>>,
    link: &'static str,
    net: u8,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let client = machine.get_or_init(|| Mutex::new(start(link, net)));
    let (sender, receiver) = mpsc::channel();
    let job: Job = Box::new(move || drop(sender.send(catch_unwind(AssertUnwindSafe(work)))));
    let client = client.lock().unwrap_or_else(PoisonError::into_inner);
    client.send(job).expect("a client");
    let outcome = receiver.recv().expect("the client goes on whatever it does");
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

fn start(link: &'static str, net: u8) -> Sender<Job> {
    let (jobs, inbox) = mpsc::channel::<Job>();
    let (here, there) = (mpsc::channel(), mpsc::channel());
    thread::spawn(move || {
        // SAFETY: the namespace of the network is no memory and no file descriptor of anybody.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root may");
        here.0.send(gettid()).expect("the test waits");
        there.1.recv().expect("the links are there");
        shell(&format!(
            "ip link set lo up; ip link set {link} up
             ip addr add 10.{net}.0.2/16 dev {link}; ip -6 addr add fd00:{net}::2/64 dev {link} nodad
             ip route add default via 10.{net}.0.1; ip -6 route add default via fd00:{net}::1",
        ));
        here.0.send(gettid()).expect("the test waits");
        for job in inbox {
            job();
        }
    });
    let thread = here.1.recv().expect("a thread").as_raw_nonzero();
    shell(&format!(
        "ip link del to-{link} 2>/dev/null || :
         ip link add to-{link} type veth peer name {link}
         ip link set {link} netns {thread}; ip link set to-{link} up
         ip addr add 10.{net}.0.1/16 dev to-{link}; ip -6 addr add fd00:{net}::1/64 dev to-{link} nodad
         echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
    ));
    there.0.send(()).expect("the client waits");
    here.1.recv().expect("the client is set up");
    jobs
}

/// Connections, one after the other, that stay open as long as they are held, each from a port that no other comes from:
/// a real server knows those of all virtual ports by that of the client alone, and has the client reset one that it still
/// has; the SYN that then comes again is scheduled again.
pub fn connect(address: &str, times: usize) -> Vec<TcpStream> {
    let address = address.to_owned();
    run(move || {
        (0..times)
            .map(|_| traffic::connect_from(next_port(), &address))
            .collect()
    })
}

/// Datagrams that nobody answers, each one packet: a connection that is refused while it is begun is tried twice
/// when both ends are on one machine.
pub fn send(address: &str, times: usize) {
    let address: SocketAddr = address.parse().expect("an address");
    run(move || {
        for _ in 0..times {
            let any = traffic::any(address, next_port());
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.send_to(b"anybody?", address).expect("sending");
        }
    });
    thread::sleep(Duration::from_millis(100));
}

/// Datagrams there and back, each from a port that no other comes from: IPVS takes datagrams between the same
/// ends for one connection, even of a service that is gone.
pub fn ask(address: &str, times: usize) {
    let address = address.to_owned();
    run(move || (0..times).for_each(|_| ask_from(&address, next_port())));
}

/// A port that nobody had, below those that the kernel gives.
pub fn next_port() -> u16 {
    static PORT: AtomicU16 = AtomicU16::new(11000);
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    assert!(port < 32768, "all ports were used");
    port
}

/// One datagram there and back, from where the thread is.
pub fn ask_from(address: &str, port: u16) {
    let address: SocketAddr = address.parse().expect("an address");
    let socket = UdpSocket::bind(traffic::any(address, port)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    socket.send_to(b"there and back", address).expect("sending");
    socket.recv(&mut [0; 64]).expect("an echo");
}
