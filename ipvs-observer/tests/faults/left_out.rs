//! What the kernel leaves out of a long listing, because entries before it were deleted meanwhile.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex},
};

use ipvs_observer::{
    model::Snapshot,
    netlink::{Failure, Reader},
};

use crate::faulty::{
    DESTINATION, DESTINATIONS, DUMP, SERVICE, SERVICES, assert_whole, dumps, messages, reader, refusal,
};

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
    let mut listings = HashMap::new();
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
