//! What a kernel may do to a dump, done to a recording of one.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod faulty;
mod left_out;

use std::{collections::BTreeSet, io};

use ipvs_observer::netlink::Failure;

use faulty::{DESTINATION, DUMP, SERVICE, SERVICES, assert_whole, dumps, messages, reader, refusal};

fn mark_inconsistent(mut datagram: Vec<u8>) -> Vec<u8> {
    for message in messages(&datagram) {
        datagram[message.start + 6] |= 0x10;
    }
    datagram
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
    // The destinations of the first service that has some come as those of a service that is gone: an empty, successful
    // dump.
    let mut gone = None;
    let (mut reader, mut snapshot) = reader(move |request, answer| {
        let asked = request[16..].to_vec();
        if dumps(request, DESTINATION) && gone.as_ref().is_none_or(|gone| *gone == asked) {
            let mut datagram = answer?;
            if gone.is_none() && datagram[4..6] == 3u16.to_ne_bytes() {
                return Ok(datagram);
            }
            gone = Some(asked);
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
    assert!(matches!(failure, Failure::NotPermitted(_)), "{failure}");
    assert!(snapshot.totals.is_some());
    assert_eq!(reader.counters().errors, 0, "a state, not an error");
}
