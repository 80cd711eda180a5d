//! The running kernel, and what stands for it.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
    thread,
    time::Duration,
};

use neli::{
    consts::socket::{Msg, NlFamily},
    socket::NlSocket,
    utils::Groups,
};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// Where IPVS is asked: the running kernel, or a recording of what one said.
pub trait Kernel: Send {
    /// Whether a file is there.
    fn exists(&mut self, path: &str) -> bool;
    /// A file's text.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read(&mut self, path: &str) -> io::Result<String>;
    /// Opens a channel that waits for no reply longer than `timeout`.
    ///
    /// # Errors
    /// The system gives no socket.
    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>>;
    /// Opens a channel to the routes. A kernel that is asked for its tables alone has none.
    ///
    /// # Errors
    /// The system gives no socket.
    fn open_routes(&mut self, _timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Over how many channels dumps are worth being made side by side; 1 where they would wait for each other.
    fn side_by_side(&mut self) -> usize {
        1
    }
}

/// Datagrams to and from netlink.
pub trait Channel: Send {
    /// Sends one.
    ///
    /// # Errors
    /// The system refuses it.
    fn send(&mut self, request: &[u8]) -> io::Result<()>;
    /// Receives one and returns its length, which is more than the buffer's where its end was cut off.
    ///
    /// # Errors
    /// None came in time (`WouldBlock`), or the system refuses.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// The running kernel, seen from the network namespace of the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Running;

impl Kernel for Running {
    fn exists(&mut self, path: &str) -> bool {
        Path::new(path).exists()
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        open(NlFamily::Generic, timeout)
    }

    fn open_routes(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        open(NlFamily::Route, timeout)
    }

    fn side_by_side(&mut self) -> usize {
        // As many as were measured. Each keeps a processor for as long as a dump takes.
        const MOST: usize = 2;
        if self.exists(DUMPS_IN_PARALLEL) {
            thread::available_parallelism().map_or(1, |processors| processors.get().min(MOST))
        } else {
            1
        }
    }
}

fn open(family: NlFamily, timeout: Duration) -> io::Result<Box<dyn Channel>> {
    let socket = NlSocket::connect(family, None, Groups::empty())?;
    // SAFETY: the descriptor is open as long as `socket`, which outlives the borrow.
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    set_socket_timeout(descriptor, Timeout::Recv, Some(timeout))?;
    Ok(Box::new(Netlink(socket)))
}

/// Came with Linux 7.1, as did a table for each namespace that dumps read under RCU. Before, a dump holds a lock of all
/// generic netlink and one of all tables of IPVS, and a second one would wait for it and have others wait.
const DUMPS_IN_PARALLEL: &str = "/proc/thread-self/net/ip_vs_status";

struct Netlink(NlSocket);

impl Channel for Netlink {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        // Netlink takes a datagram whole or not at all.
        self.0.send(request, Msg::empty()).map(|_| ())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // With MSG_TRUNC the length is what the kernel had, not what there was room for.
        self.0.recv(buffer, Msg::TRUNC).map(|(length, _)| length)
    }
}
