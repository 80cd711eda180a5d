//! A table of any size, told as a recorded kernel tells it: its messages, with other addresses. Nothing is allocated
//! while it answers.

use std::{io, sync::Arc, time::Duration};

use ipvs_observer::netlink::{Channel, Kernel, Recording};

/// So many services with so many destinations each, which have the service's number in their address.
#[derive(Clone)]
pub struct Table {
    services: usize,
    destinations: usize,
    messages: Arc<Messages>,
}

struct Messages {
    service: Vec<u8>,
    destination: Vec<u8>,
}

const HEADER: usize = 20;
/// Where the addresses of both begin, behind the headers of the message and of the attributes before them.
const SERVICE_ADDRESS: usize = HEADER + 4 + 8 + 8 + 4;
const DESTINATION_ADDRESS: usize = HEADER + 4 + 4;
/// As many as the kernel puts into a datagram.
const AT_ONCE: usize = 80;

const FAMILY: u16 = 30;
const CONTROL: u16 = 16;
const DONE: u16 = 3;
const GET_SERVICE: u8 = 4;
const GET_DESTINATION: u8 = 8;

impl Table {
    /// Out of the recording of a kernel.
    pub fn new(recording: &str, services: usize, destinations: usize) -> Self {
        // An IPv4 service by address, and an IPv4 destination.
        let service = message(recording, 1, &[6, 0, 1, 0, 2, 0]);
        let destination = message(recording, 5, &[6, 0, 11, 0, 2, 0]);
        Self {
            services,
            destinations,
            messages: Arc::new(Messages { service, destination }),
        }
    }
}

/// The first message with a command's number that has an attribute in it.
fn message(recording: &str, command: u8, attribute: &[u8]) -> Vec<u8> {
    for bytes in Recording::datagrams(recording) {
        let length = Recording::messages(&bytes).next().expect("a message").end;
        let is_ours = u16::from_ne_bytes([bytes[4], bytes[5]]) > CONTROL;
        if is_ours
            && bytes[16] == command
            && bytes[..length]
                .windows(attribute.len())
                .any(|part| part == attribute)
            && (command != 1 || bytes[SERVICE_ADDRESS - 4..SERVICE_ADDRESS] == [20, 0, 3, 0])
        {
            return bytes[..length].to_vec();
        }
    }
    panic!("the recording has no message {command} as it is wanted");
}

impl Kernel for Table {
    fn exists(&mut self, _path: &str) -> bool {
        true
    }

    fn read(&mut self, _path: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn open(&mut self, _timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(Answering {
            table: self.clone(),
            sequence: [0; 4],
            asked: Asked::Nothing,
            service: 0,
            told: 0,
        }))
    }
}

#[derive(Clone, Copy)]
enum Asked {
    Nothing,
    Family,
    Record,
    Services,
    Destinations,
    EmptyDump,
}

struct Answering {
    table: Table,
    sequence: [u8; 4],
    asked: Asked,
    /// Which service's destinations.
    service: u32,
    told: usize,
}

impl Channel for Answering {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.sequence = *request[8..].first_chunk().expect("a sequence number");
        self.told = 0;
        let dump = request[7] == 3;
        // The address of a service is where its messages have it.
        if let Some([_, number @ ..]) = request
            .get(SERVICE_ADDRESS..)
            .and_then(|rest| rest.first_chunk::<4>())
        {
            self.service = u32::from_be_bytes([0, number[0], number[1], number[2]]);
        }
        self.asked = match (u16::from_ne_bytes([request[4], request[5]]), dump, request[16]) {
            (CONTROL, ..) => Asked::Family,
            (_, false, _) => Asked::Record,
            (_, true, GET_SERVICE) => Asked::Services,
            (_, true, GET_DESTINATION) => Asked::Destinations,
            _ => Asked::EmptyDump,
        };
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Table {
            services,
            destinations,
            messages,
        } = &self.table;
        let (all, message, address) = match self.asked {
            Asked::Nothing => return Err(io::ErrorKind::WouldBlock.into()),
            // The family's number, or a number that means nothing to anybody.
            Asked::Family | Asked::Record => {
                let length = HEADER + 8;
                header(buffer, length, FAMILY, self.sequence);
                buffer[HEADER..length].copy_from_slice(&[6, 0, 1, 0, FAMILY as u8, 0, 0, 0]);
                self.asked = Asked::Nothing;
                return Ok(length);
            }
            Asked::Services => (*services, &messages.service, SERVICE_ADDRESS),
            Asked::Destinations => (*destinations, &messages.destination, DESTINATION_ADDRESS),
            Asked::EmptyDump => (0, &messages.service, SERVICE_ADDRESS),
        };
        if self.told == all {
            header(buffer, HEADER, DONE, self.sequence);
            self.asked = Asked::Nothing;
            return Ok(HEADER);
        }
        let mut length = 0;
        for number in self.told..all.min(self.told + AT_ONCE) {
            let place = &mut buffer[length..length + message.len()];
            place.copy_from_slice(message);
            place[4..6].copy_from_slice(&FAMILY.to_ne_bytes());
            place[8..12].copy_from_slice(&self.sequence);
            let number = match self.asked {
                Asked::Destinations => self.service * *destinations as u32 + number as u32,
                _ => number as u32,
            };
            place[address] = 10;
            place[address + 1..address + 4].copy_from_slice(&number.to_be_bytes()[1..]);
            length += message.len();
        }
        self.told = all.min(self.told + AT_ONCE);
        Ok(length)
    }
}

fn header(buffer: &mut [u8], length: usize, kind: u16, sequence: [u8; 4]) {
    buffer[..HEADER].fill(0);
    buffer[..4].copy_from_slice(&(length as u32).to_ne_bytes());
    buffer[4..6].copy_from_slice(&kind.to_ne_bytes());
    buffer[8..12].copy_from_slice(&sequence);
}
