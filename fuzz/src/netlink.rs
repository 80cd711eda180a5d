//! Generic netlink: attributes, the records that they make, and a whole reading of whatever a kernel sends; and the
//! connection table.

mod connections;

use std::{
    cell::Cell,
    collections::{HashSet, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use ipvs_observer::{
    line::Encoder,
    model::{Entries, Family, Service, Snapshot},
    netlink::{
        Channel, Kernel, Reader, Recording,
        attributes::{Attributes, Writer},
        decode,
    },
    points::{Points, Schema},
};

use crate::{fixture, frame, frames, reader as lines};

/// Recordings of real kernels, below `tests/recordings`.
const RECORDINGS: [&str; 6] = ["5.10", "6.1", "6.12", "6.18", "7", "daemon"];
/// A top-level attribute that holds a destination.
const DESTINATION: u16 = 2;
const MESSAGE_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
/// In the first byte: what the kernel sends.
const CONVERSATION: u8 = 1;
/// And that answers do not carry the number of the request, unless they happen to.
const UNNUMBERED: u8 = 2;
/// And that it is written in the other schema.
const TELEGRAF: u8 = 4;
/// The only first byte of a connection table.
const CONNECTIONS: u8 = 8;
const TIME: u64 = 1_700_000_000_000_000_000;

/// The first byte says what the others are: the attributes of one record, a connection table, or what a kernel sends, a
/// stretch for each datagram.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((0, rest)) => record(rest),
        Some((&CONNECTIONS, rest)) => connections::run(rest),
        Some((mode, rest)) => conversation(*mode, rest),
        None => {}
    }
}

fn record(bytes: &[u8]) {
    walk(Attributes::new(bytes), 8);
    let _ = decode::service(Attributes::new(bytes));
    let _ = decode::info(Attributes::new(bytes));
    let _ = decode::timeouts(Attributes::new(bytes));
    let _ = decode::daemon(Attributes::new(bytes));
    let _ = decode::destination(Attributes::new(bytes), Family::INET);
    destination_either_way(bytes);
    for attribute in Attributes::new(bytes).flatten() {
        destination_either_way(attribute.bytes());
    }
}

fn walk(attributes: Attributes<'_>, depth: usize) {
    let bytes = attributes.bytes().len();
    let mut seen = 0;
    for attribute in attributes.flatten() {
        seen += 4 + attribute.bytes().len();
        assert!(seen <= bytes, "more than there is");
        let _ = (attribute.u8(), attribute.u16(), attribute.be16(), attribute.u32());
        let _ = (attribute.u64(), attribute.address());
        if depth > 0 {
            walk(attribute.nested(), depth - 1);
        }
    }
}

/// A destination written as usual is read in one step, any other attribute by attribute, and an attribute that
/// nobody knows makes the one the other: both must say the same.
fn destination_either_way(bytes: &[u8]) {
    const UNKNOWN: u16 = 0x3ffe;
    if bytes.len() > 1 << 12 {
        return;
    }
    let (mut plain, mut other) = (Vec::new(), Vec::new());
    Writer(&mut plain).nest(DESTINATION, |inner| inner.0.extend(bytes));
    Writer(&mut other).nest(DESTINATION, |inner| {
        inner.put(UNKNOWN, &[0; 4]);
        inner.0.extend(bytes);
    });
    let [plain, other] =
        [&plain, &other].map(|reply| decode::destination(Attributes::new(reply), Family::INET6));
    assert_eq!(plain, other);
}

fn conversation(mode: u8, bytes: &[u8]) {
    let mut datagrams: VecDeque<Datagram> = frames(bytes)
        .into_iter()
        .map(|(length, datagram)| Datagram {
            length,
            bytes: datagram.to_vec(),
        })
        .collect();
    let totals = datagrams.pop_front();
    let told = Told {
        totals: totals.map_or_else(String::new, |text| {
            String::from_utf8_lossy(&text.bytes).into_owned()
        }),
        datagrams: Arc::new(Mutex::new(datagrams)),
        sequence: (mode & UNNUMBERED == 0).then_some([0; 4]),
    };
    let schema = if mode & TELEGRAF == 0 {
        Schema::Full
    } else {
        Schema::Telegraf
    };
    let mut reader = Reader::new(Box::new(told));
    let mut snapshot = Snapshot::default();
    // A gather goes on with what the one before left behind.
    for _ in 0..2 {
        let whole = reader.read(&mut snapshot, &|_| true).is_ok();
        let servers = snapshot.virtual_servers();
        let keys: HashSet<_> = servers.iter().map(|server| server.service.key).collect();
        assert_eq!(keys.len(), servers.len(), "a service twice");
        assert!(!whole || servers.iter().all(|server| server.listed));
        reader.read_surroundings(&mut snapshot);
        written(&snapshot, None, schema);
    }
}

/// Whatever the kernel said, what is written of it is line protocol.
fn written(snapshot: &Snapshot, entries: Option<&Entries>, schema: Schema) {
    let mut encoder = Encoder::new(schema == Schema::Full);
    Points::new(schema, None).snapshot(&mut encoder, snapshot, None, entries, false, TIME);
    let lines = encoder.lines();
    let text = String::from_utf8(encoder.take().to_vec()).expect("text");
    assert_eq!(lines::parse(&text).len() as u64, lines);
}

struct Datagram {
    /// As announced: the highest ones stand for what is no datagram.
    length: u16,
    bytes: Vec<u8>,
}

/// A kernel that sends what it likes.
#[derive(Clone)]
struct Told {
    totals: String,
    datagrams: Arc<Mutex<VecDeque<Datagram>>>,
    /// The number of the request, where answers carry it.
    sequence: Option<[u8; 4]>,
}

impl Kernel for Told {
    fn exists(&mut self, _path: &str) -> bool {
        true
    }

    fn read(&mut self, _path: &str) -> io::Result<String> {
        Ok(self.totals.clone())
    }

    fn open(&mut self, _timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(self.clone()))
    }

    fn open_routes(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        self.open(timeout)
    }
}

impl Channel for Told {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        if let Some(sequence) = &mut self.sequence {
            sequence.copy_from_slice(&request[8..12]);
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let next = self.datagrams.lock().expect("one thread").pop_front();
        let mut datagram = next.ok_or(io::ErrorKind::WouldBlock)?;
        match datagram.length {
            0xffff => return Err(io::ErrorKind::Interrupted.into()),
            0xfffe => return Err(io::ErrorKind::WouldBlock.into()),
            0xfffd => return Err(io::Error::from_raw_os_error(105)),
            0xfffc => return Ok(buffer.len() + 1 + datagram.bytes.len()),
            _ => {}
        }
        if let Some(sequence) = &self.sequence {
            for at in messages(&datagram.bytes) {
                datagram.bytes[at + 8..at + 12].copy_from_slice(sequence);
            }
        }
        buffer[..datagram.bytes.len()].copy_from_slice(&datagram.bytes);
        Ok(datagram.bytes.len())
    }
}

/// Where the messages of a datagram begin, as far as they have whole headers.
fn messages(datagram: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = datagram.get(at..at + MESSAGE_HEADER) {
        found.push(at);
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        at += length.max(MESSAGE_HEADER).next_multiple_of(4);
    }
    found
}

/// What real kernels said: record by record, for one service at a time, and once for all.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for name in RECORDINGS {
        let text = String::from_utf8(fixture(&format!("recordings/{name}.txt"))).expect("text");
        let kernel = Recording::parse(&text).expect("a recording");
        let (whole, records) = said(&kernel, None);
        seeds.extend(records);
        for place in [0, 3, 6, 9, 12] {
            seeds.push(said(&kernel, Some(place)).0);
        }
        if matches!(name, "6.12" | "daemon") {
            let mut telegraf = whole.clone();
            telegraf[0] |= TELEGRAF;
            seeds.extend([whole, telegraf]);
        }
    }
    seeds.push([&[CONNECTIONS], connections::TABLE.as_bytes()].concat());
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

/// A conversation about all services, or about the one at a place, and the records in it.
fn said(kernel: &Recording, place: Option<usize>) -> (Vec<u8>, Vec<Vec<u8>>) {
    let said = Said {
        kernel: kernel.clone(),
        datagrams: Arc::default(),
        totals: Arc::default(),
    };
    let counted = Cell::new(0);
    let wanted = |_: &Service| place.is_none_or(|place| place == counted.replace(counted.get() + 1));
    let mut snapshot = Snapshot::default();
    let mut reader = Reader::new(Box::new(said.clone()));
    reader.read(&mut snapshot, &wanted).expect("a whole recording");
    reader.read_surroundings(&mut snapshot);
    let (mut conversation, mut records) = (vec![CONVERSATION], Vec::new());
    frame(
        &mut conversation,
        said.totals.lock().expect("one thread").as_bytes(),
    );
    for datagram in said.datagrams.lock().expect("one thread").iter() {
        frame(&mut conversation, datagram);
        for at in messages(datagram) {
            let length = u32::from_ne_bytes(datagram[at..at + 4].try_into().expect("four")) as usize;
            let record = &datagram[at + MESSAGE_HEADER + GENERIC_HEADER..at + length];
            records.push([&[0], record].concat());
        }
    }
    (conversation, records)
}

/// A recording whose answers are noted in the order in which they are asked for.
#[derive(Clone)]
struct Said {
    kernel: Recording,
    datagrams: Arc<Mutex<Vec<Vec<u8>>>>,
    totals: Arc<Mutex<String>>,
}

impl Kernel for Said {
    fn exists(&mut self, path: &str) -> bool {
        self.kernel.exists(path)
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        let text = self.kernel.read(path);
        if let Ok(text) = &text
            && path.ends_with("ip_vs_stats")
        {
            self.totals.lock().expect("one thread").clone_from(text);
        }
        text
    }

    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(SaidChannel {
            channel: self.kernel.open(timeout)?,
            datagrams: Arc::clone(&self.datagrams),
        }))
    }

    fn open_routes(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(SaidChannel {
            channel: self.kernel.open_routes(timeout)?,
            datagrams: Arc::clone(&self.datagrams),
        }))
    }
}

struct SaidChannel {
    channel: Box<dyn Channel>,
    datagrams: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Channel for SaidChannel {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.channel.send(request)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.channel.receive(buffer)?;
        self.datagrams
            .lock()
            .expect("one thread")
            .push(buffer[..length].to_vec());
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn a_seed_is_understood_to_its_end() {
        let conversations: Vec<_> = seeds()
            .into_iter()
            .filter(|seed| seed[0] & CONVERSATION != 0)
            .collect();
        let mut destinations = 0;
        for seed in &conversations {
            let frames = frames(&seed[1..]);
            let datagrams: VecDeque<_> = frames[1..]
                .iter()
                .map(|&(length, bytes)| Datagram {
                    length,
                    bytes: bytes.to_vec(),
                })
                .collect();
            let told = Told {
                totals: String::from_utf8_lossy(frames[0].1).into_owned(),
                datagrams: Arc::new(Mutex::new(datagrams)),
                sequence: Some([0; 4]),
            };
            let mut snapshot = Snapshot::default();
            // The destinations of one service are told, and those of the next are not to be had.
            let _ = Reader::new(Box::new(told)).read(&mut snapshot, &|_| true);
            assert!(snapshot.totals.is_some() && !snapshot.virtual_servers().is_empty());
            destinations += snapshot.all_destinations();
        }
        assert!(conversations.len() > 20 && destinations > 60, "{destinations}");
    }
}
