//! The floor of a gather: the dumps that it asks for, over one socket, one after the other, and nothing decoded.

use std::{
    io, mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipvs_observer::{
    model::Snapshot,
    netlink::{Channel, Kernel, Reader, Recording, Running},
};

const PATIENCE: Duration = Duration::from_secs(5);
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const DONE: u16 = 3;

/// The dumps, as the running kernel was asked for them.
pub struct Floor {
    channel: Box<dyn Channel>,
    requests: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Floor {
    pub fn new() -> io::Result<Self> {
        let heard = Overhearing::default();
        let mut reader = Reader::new(Box::new(heard.clone()));
        let mut read = || reader.read(&mut Snapshot::default(), &|_| true);
        // Of a first listing there is a second: the stride is what is heard after it.
        read().map_err(io::Error::other)?;
        heard.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        read().map_err(io::Error::other)?;
        let mut requests = mem::take(&mut *heard.0.lock().unwrap_or_else(PoisonError::into_inner));
        requests.retain(|request| request[6..8] == DUMP.to_ne_bytes());
        Ok(Self {
            channel: Running.open(PATIENCE)?,
            requests,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// How many dumps they are.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Makes all of them.
    pub fn dump(&mut self) -> io::Result<()> {
        for request in &self.requests {
            self.channel.send(request)?;
            loop {
                let length = self.channel.receive(&mut self.buffer)?;
                if ends(&self.buffer[..length]) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Whether a datagram ends a dump: the least that a reader must look at.
fn ends(datagram: &[u8]) -> bool {
    Recording::messages(datagram)
        .any(|message| datagram[message.start + 4..message.start + 6] == DONE.to_ne_bytes())
}

/// The running kernel, and what it is asked.
#[derive(Clone, Default)]
struct Overhearing(Arc<Mutex<Vec<Vec<u8>>>>);

struct Overheard(Box<dyn Channel>, Overhearing);

impl Kernel for Overhearing {
    fn exists(&mut self, path: &str) -> bool {
        Running.exists(path)
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        Running.read(path)
    }

    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(Overheard(Running.open(timeout)?, self.clone())))
    }
}

impl Channel for Overheard {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let mut heard = self.1.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(request.to_vec());
        self.0.send(request)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buffer)
    }
}
