//! A recording of a kernel with faults put in.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use ipvs_observer::{
    model::Snapshot,
    netlink::{Channel, Kernel, Reader, Recording},
};

pub const SERVICES: usize = 16;
pub const DESTINATIONS: usize = 23;

pub const SERVICE: u8 = 4;
pub const DESTINATION: u8 = 8;
pub const DUMP: [u8; 2] = [1, 3];

/// Sees each answer before the reader does: the request, and the datagram or the silence.
type Fault = Arc<Mutex<dyn FnMut(&[u8], io::Result<Vec<u8>>) -> io::Result<Vec<u8>> + Send>>;

struct Faulty {
    kernel: Recording,
    fault: Fault,
}

impl Kernel for Faulty {
    fn exists(&mut self, path: &str) -> bool {
        self.kernel.exists(path)
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        self.kernel.read(path)
    }

    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        let channel = self.kernel.open(timeout)?;
        Ok(Box::new(FaultyChannel {
            channel,
            fault: Arc::clone(&self.fault),
            request: Vec::new(),
            known: true,
        }))
    }
}

struct FaultyChannel {
    channel: Box<dyn Channel>,
    fault: Fault,
    request: Vec<u8>,
    known: bool,
}

impl Channel for FaultyChannel {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.request = request.to_vec();
        // What was not recorded is answered by the fault alone.
        self.known = self.channel.send(request).is_ok();
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut room = vec![0; 1 << 20];
        let answer = if self.known {
            self.channel
                .receive(&mut room)
                .map(|length| room[..length].to_vec())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        };
        let mut fault = self.fault.lock().expect("no test panics here");
        let answer = fault(&self.request, answer)?;
        let room = answer.len().min(buffer.len());
        buffer[..room].copy_from_slice(&answer[..room]);
        Ok(answer.len())
    }
}

pub fn reader(
    fault: impl FnMut(&[u8], io::Result<Vec<u8>>) -> io::Result<Vec<u8>> + Send + 'static,
) -> (Reader, Snapshot) {
    let kernel = Recording::parse(include_str!("../recordings/6.12.txt")).expect("a recording");
    let fault = Arc::new(Mutex::new(fault));
    (
        Reader::new(Box::new(Faulty { kernel, fault })),
        Snapshot::default(),
    )
}

/// Whether a request is a dump by this command.
pub fn dumps(request: &[u8], command: u8) -> bool {
    request[6..8] == DUMP && request[16] == command && request[4..6] != [0x10, 0]
}

/// Where the messages of a datagram are.
pub fn messages(datagram: &[u8]) -> Vec<std::ops::Range<usize>> {
    Recording::messages(datagram).collect()
}

/// A refusal of a request with an error number.
pub fn refusal(request: &[u8], number: i32) -> Vec<u8> {
    let mut message = 36u32.to_ne_bytes().to_vec();
    message.extend_from_slice(&2u16.to_ne_bytes());
    message.extend_from_slice(&[0; 2]);
    message.extend_from_slice(&request[8..12]);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&(-number).to_ne_bytes());
    message.extend_from_slice(&request[..16]);
    message
}

pub fn assert_whole(snapshot: &Snapshot) {
    assert_eq!(snapshot.services_in_namespace, Some(SERVICES));
    assert_eq!(snapshot.virtual_servers().len(), SERVICES);
    assert_eq!(snapshot.all_destinations(), DESTINATIONS);
    assert!(snapshot.virtual_servers().iter().all(|server| server.listed));
}
