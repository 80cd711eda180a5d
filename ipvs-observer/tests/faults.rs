//! What a kernel may do to a dump, done to a recording of one.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use ipvs_observer::{
    model::Snapshot,
    netlink::{Channel, Failure, Kernel, Reader, Recording},
};

const SERVICES: usize = 14;
const DESTINATIONS: usize = 21;

const SERVICE: u8 = 4;
const DESTINATION: u8 = 8;
const DUMP: [u8; 2] = [1, 3];

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

fn reader(
    fault: impl FnMut(&[u8], io::Result<Vec<u8>>) -> io::Result<Vec<u8>> + Send + 'static,
) -> (Reader, Snapshot) {
    let kernel = Recording::parse(include_str!("recordings/6.12.txt")).expect("a recording");
    let fault = Arc::new(Mutex::new(fault));
    (
        Reader::new(Box::new(Faulty { kernel, fault })),
        Snapshot::default(),
    )
}

/// Whether a request is a dump by this command.
fn dumps(request: &[u8], command: u8) -> bool {
    request[6..8] == DUMP && request[16] == command && request[4..6] != [0x10, 0]
}

/// Where the messages of a datagram are.
fn messages(datagram: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 16 <= datagram.len() {
        let length = u32::from_ne_bytes(datagram[at..at + 4].try_into().expect("four bytes")) as usize;
        found.push(at..at + length);
        at += (length + 3) & !3;
    }
    found
}

/// A refusal of a request with an error number.
fn refusal(request: &[u8], number: i32) -> Vec<u8> {
    let mut message = 36u32.to_ne_bytes().to_vec();
    message.extend_from_slice(&2u16.to_ne_bytes());
    message.extend_from_slice(&[0; 2]);
    message.extend_from_slice(&request[8..12]);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&(-number).to_ne_bytes());
    message.extend_from_slice(&request[..16]);
    message
}

fn mark_inconsistent(mut datagram: Vec<u8>) -> Vec<u8> {
    for message in messages(&datagram) {
        datagram[message.start + 6] |= 0x10;
    }
    datagram
}

fn assert_whole(snapshot: &Snapshot) {
    assert_eq!(snapshot.services_in_namespace, Some(SERVICES));
    assert_eq!(snapshot.virtual_servers().len(), SERVICES);
    assert_eq!(snapshot.all_destinations(), DESTINATIONS);
    assert!(snapshot.virtual_servers().iter().all(|server| server.listed));
}

#[test]
fn a_listing_marked_as_inconsistent_is_read_again() {
    let mut marked = BTreeSet::new();
    let (mut reader, mut snapshot) = reader(move |request, answer| {
        // The first answer to every dump.
        let first = request[6..8] == DUMP && marked.insert(request[12..].to_vec());
        answer.map(|datagram| {
            if first {
                mark_inconsistent(datagram)
            } else {
                datagram
            }
        })
    });
    reader
        .read(&mut snapshot, &|_| true)
        .expect("whole at the second reading");
    assert_whole(&snapshot);
    assert_eq!(reader.counters().repeats, SERVICES as u64 + 1);
    assert_eq!(reader.counters().errors, 0);
}

#[test]
fn a_listing_that_is_never_consistent_is_reported_and_not_taken_for_whole() {
    let (mut reader, mut snapshot) = reader(|request, answer| {
        answer.map(|datagram| {
            if dumps(request, SERVICE) {
                mark_inconsistent(datagram)
            } else {
                datagram
            }
        })
    });
    let failure = reader
        .read(&mut snapshot, &|_| true)
        .expect_err("never consistent");
    assert!(matches!(failure, Failure::Interrupted), "{failure}");
    assert_eq!(snapshot.services_in_namespace, None);
    assert!(snapshot.totals.is_some(), "what could be had is there");
    assert_eq!((reader.counters().repeats, reader.counters().errors), (3, 1));
}

#[test]
fn a_datagram_larger_than_the_room_is_noticed_and_the_next_reading_has_room() {
    let (mut reader, mut snapshot) = reader(|request, answer| {
        answer.map(|mut datagram| {
            if dumps(request, SERVICE) && messages(&datagram).len() > 1 {
                // An attribute that no reader knows, beyond the usual 64 KiB.
                let message = messages(&datagram).pop().expect("messages");
                let mut extra = (70_000u32).to_ne_bytes().to_vec();
                extra.extend_from_slice(&datagram[message.start + 4..message.start + 16]);
                extra[4..6].copy_from_slice(&1u16.to_ne_bytes());
                extra.resize(70_000, 0);
                datagram.extend(extra);
            }
            datagram
        })
    });
    let failure = reader.read(&mut snapshot, &|_| true).expect_err("cut off");
    assert!(
        matches!(failure, Failure::Truncated { capacity: 65_536, .. }),
        "{failure}"
    );
    assert_eq!(snapshot.services_in_namespace, None);
    reader.read(&mut snapshot, &|_| true).expect("room now");
    assert_whole(&snapshot);
}

#[test]
fn silence_is_a_failure_of_this_gather_and_the_next_begins_anew() {
    let mut silent = true;
    let (mut reader, mut snapshot) = reader(move |request, answer| {
        if silent && dumps(request, DESTINATION) {
            silent = false;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        answer
    });
    let failure = reader.read(&mut snapshot, &|_| true).expect_err("no answer");
    assert!(matches!(failure, Failure::Timeout(_)), "{failure}");
    assert_eq!(
        snapshot.services_in_namespace,
        Some(SERVICES),
        "the services themselves were listed"
    );
    assert!(snapshot.virtual_servers().iter().all(|server| !server.listed));
    reader.read(&mut snapshot, &|_| true).expect("answers again");
    assert_whole(&snapshot);
}

#[test]
fn a_service_that_vanished_is_left_out_and_one_without_real_servers_is_not() {
    // The first service's destinations come as those of a service that is gone: an empty, successful dump.
    let mut gone = None;
    let (mut reader, mut snapshot) = reader(move |request, answer| {
        let first = gone.get_or_insert_with(|| request[16..].to_vec()).clone();
        if dumps(request, DESTINATION) && (first[0] != DESTINATION || first == request[16..]) {
            gone = Some(request[16..].to_vec());
            let mut datagram = answer?;
            let done = messages(&datagram).pop().expect("messages");
            if datagram[done.start + 4..done.start + 6] != 3u16.to_ne_bytes() {
                // The records; what remains of them is their end.
                datagram.truncate(20);
                datagram[..4].copy_from_slice(&20u32.to_ne_bytes());
                datagram[4..6].copy_from_slice(&3u16.to_ne_bytes());
                datagram[16..20].fill(0);
            }
            return Ok(datagram);
        }
        // Asked for by itself, it is not found; the services without real servers were recorded and are.
        if request[16] == SERVICE && request[6..8] != DUMP && answer.is_err() {
            return Ok(refusal(request, 3));
        }
        answer
    });
    reader
        .read(&mut snapshot, &|_| true)
        .expect("a service may vanish");
    assert_eq!(reader.counters().vanished, 1);
    assert_eq!(reader.counters().errors, 0);
    assert_eq!(snapshot.services_in_namespace, Some(SERVICES - 1));
    let empty = snapshot
        .virtual_servers()
        .iter()
        .filter(|server| snapshot.destinations(server).is_empty())
        .count();
    assert_eq!(empty, 2, "the services without real servers");
}

#[test]
fn an_entry_that_comes_twice_is_kept_once() {
    let (mut reader, mut snapshot) = reader(|request, answer| {
        answer.map(|mut datagram| {
            let first = messages(&datagram)[0].clone();
            let records = datagram[first.start + 4..first.start + 6] != 3u16.to_ne_bytes();
            if dumps(request, SERVICE) && records {
                let again = datagram[first].to_vec();
                datagram.extend(again);
            }
            datagram
        })
    });
    reader
        .read(&mut snapshot, &|_| true)
        .expect("a repeated entry is no failure");
    assert_whole(&snapshot);
    assert_eq!(reader.counters().duplicates, 1);
}

#[test]
fn a_refused_listing_costs_one_service_its_real_servers_and_no_other() {
    let mut refused = None;
    let (mut reader, mut snapshot) = reader(move |request, answer| {
        if dumps(request, DESTINATION)
            && *refused.get_or_insert_with(|| request[16..].to_vec()) == request[16..]
        {
            return Ok(refusal(request, 12));
        }
        answer
    });
    let failure = reader
        .read(&mut snapshot, &|_| true)
        .expect_err("one listing was refused");
    assert!(matches!(failure, Failure::Refused(_)), "{failure}");
    assert_eq!(snapshot.virtual_servers().len(), SERVICES);
    assert_eq!(
        snapshot
            .virtual_servers()
            .iter()
            .filter(|server| !server.listed)
            .count(),
        1
    );
    assert_eq!(reader.counters().errors, 1);
}

#[test]
fn a_record_that_cannot_be_decoded_is_left_out_and_counted() {
    let (mut reader, mut snapshot) = reader(|request, answer| {
        answer.map(|mut datagram| {
            let first = messages(&datagram)[0].clone();
            if dumps(request, SERVICE) && datagram[first.start + 4..first.start + 6] != 3u16.to_ne_bytes() {
                // The length of the first attribute: longer than its message.
                datagram[first.start + 20..first.start + 22].copy_from_slice(&60_000u16.to_ne_bytes());
            }
            datagram
        })
    });
    reader.read(&mut snapshot, &|_| true).expect("the rest is whole");
    assert_eq!(snapshot.virtual_servers().len(), SERVICES - 1);
    assert_eq!(reader.counters().errors, 1);
}

#[test]
fn without_the_privilege_the_totals_are_still_there() {
    let (mut reader, mut snapshot) = reader(|request, answer| {
        if request[4..6] == [0x10, 0] {
            answer
        } else {
            Ok(refusal(request, 1))
        }
    });
    let failure = reader.read(&mut snapshot, &|_| true).expect_err("refused");
    assert!(matches!(failure, Failure::NotPermitted), "{failure}");
    assert!(snapshot.totals.is_some());
    assert_eq!(reader.counters().errors, 0, "a state, not an error");
}

/// Tells listings in two datagrams, as the kernel does with long ones. `change` may take messages out of the second.
fn in_two(
    command: u8,
    mut change: impl FnMut(&[u8], &mut Vec<Vec<u8>>) + Send + 'static,
) -> impl FnMut(&[u8], io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut waiting = VecDeque::new();
    move |request, answer| {
        if !dumps(request, command) {
            return answer;
        }
        if let Ok(datagram) = answer {
            let all = messages(&datagram)
                .into_iter()
                .map(|range| datagram[range].to_vec());
            let (mut ends, mut records): (Vec<_>, Vec<_>) =
                all.partition(|message| message[4..6] == 3u16.to_ne_bytes());
            if records.len() > 1 {
                let mut second = records.split_off(records.len() / 2);
                change(request, &mut second);
                waiting.push_back(records.concat());
                waiting.push_back(second.concat());
            } else if !records.is_empty() {
                waiting.push_back(records.concat());
            }
            if let Some(end) = ends.pop() {
                waiting.push_back(end);
            }
        }
        // One that has nothing left in it is not sent.
        waiting.retain(|datagram| !datagram.is_empty());
        waiting
            .pop_front()
            .ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

#[test]
fn a_service_that_the_kernel_left_out_of_a_listing_is_asked_for_and_one_that_is_gone_is_not_there() {
    for gone in [false, true] {
        let (left_out, listings) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (put, count) = (Arc::clone(&left_out), Arc::clone(&listings));
        let mut two = in_two(SERVICE, move |_, second| {
            let mut count = count.lock().expect("no test panics here");
            *count += 1;
            // Of the first listing there is a second.
            if *count > 2 {
                *put.lock().expect("no test panics here") = second.remove(0);
            }
        });
        let (mut reader, mut snapshot) = reader(move |request, answer| {
            let message = left_out.lock().expect("no test panics here").clone();
            if request[16] == SERVICE && request[6..8] != DUMP && answer.is_err() {
                if gone {
                    return Ok(refusal(request, 3));
                }
                let mut message = message;
                message[8..12].copy_from_slice(&request[8..12]);
                return Ok(message);
            }
            two(request, answer)
        });
        reader.read(&mut snapshot, &|_| true).expect("a whole table");
        assert_whole(&snapshot);
        assert_eq!(*listings.lock().expect("no test panics here"), 2);
        reader.read(&mut snapshot, &|_| true).expect("a whole table");
        assert_eq!(*listings.lock().expect("no test panics here"), 3);
        assert_eq!(reader.counters().skipped, u64::from(!gone));
        assert_eq!((reader.counters().errors, reader.counters().repeats), (0, 0));
        if gone {
            assert_eq!(snapshot.virtual_servers().len(), SERVICES - 1);
        } else {
            assert_whole(&snapshot);
        }
    }
}

/// A reader of a kernel that from the third listing of each service's destinations on leaves out what `changed` takes
/// away, the number of listings since then and the second datagram's messages given.
fn leaving_out(changed: impl Fn(usize, &mut Vec<Vec<u8>>) + Send + 'static) -> (Reader, Snapshot) {
    let mut listings = std::collections::HashMap::new();
    let (mut reader, mut snapshot) = reader(in_two(DESTINATION, move |request, second| {
        let listing = listings.entry(request[16..].to_vec()).or_insert(0);
        *listing += 1;
        if *listing > 2 {
            changed(*listing - 3, second);
        }
    }));
    reader.read(&mut snapshot, &|_| true).expect("a whole table");
    assert_whole(&snapshot);
    assert_eq!(reader.counters().repeats, 0);
    (reader, snapshot)
}

#[test]
fn a_real_server_that_was_left_out_once_is_there_after_another_listing() {
    let (mut reader, mut snapshot) = leaving_out(|listing, second| {
        if listing == 0 {
            second.clear();
        }
    });
    reader.read(&mut snapshot, &|_| true).expect("a whole table");
    assert_whole(&snapshot);
    assert!(reader.counters().repeats > 0);
    let repeats = reader.counters().repeats;
    reader.read(&mut snapshot, &|_| true).expect("a whole table");
    assert_eq!(reader.counters().repeats, repeats);
}

#[test]
fn a_real_server_that_is_gone_is_not_there_after_another_listing_and_no_fault_is_told() {
    let (mut reader, mut snapshot) = leaving_out(|_, second| drop(second.pop()));
    reader.read(&mut snapshot, &|_| true).expect("what there is");
    let repeats = reader.counters().repeats;
    assert!(repeats > 0);
    assert_eq!(snapshot.all_destinations() as u64, DESTINATIONS as u64 - repeats);
    assert!(snapshot.virtual_servers().iter().all(|server| server.listed));
    reader.read(&mut snapshot, &|_| true).expect("what there is");
    assert_eq!(reader.counters().repeats, repeats);
}

#[test]
fn a_list_that_loses_somebody_each_time_is_kept_and_not_taken_for_whole() {
    let (mut reader, mut snapshot) = leaving_out(|listing, second| {
        if second.len() > 1 {
            second.remove(listing % 2);
        }
    });
    let failure = reader
        .read(&mut snapshot, &|_| true)
        .expect_err("it never settles");
    assert!(matches!(failure, Failure::Interrupted), "{failure}");
    assert!(snapshot.all_destinations() > DESTINATIONS / 2);
    assert_eq!(snapshot.virtual_servers().len(), SERVICES);
}
