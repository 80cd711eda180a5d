//! The order and lengths in which kernels have written a destination's attributes since 5.3, read in one step.
//!
//! A table has a hundred thousand destinations with three dozen attributes each. Where every header is the one that
//! is usual at its place, each number has a place of its own; anything else is left to the reader that takes
//! whatever comes, and both say the same.

use super::forwarding;
use crate::{
    model::{Address, Destination, DestinationKey, Family, Stats, TunnelKind},
    netlink::wire::destination as kind,
};

const HEADER: usize = 4;
/// Statistics of 64 bits: ten attributes of twelve bytes.
const WIDE: usize = 10 * 12;
/// The same of 32 bits but for bytes.
const NARROW: usize = 8 * 8 + 2 * 12;

/// Where an attribute is, with its header: its length without padding and its type.
struct Place {
    at: usize,
    length: u16,
    kind: u16,
}

/// An attribute behind another.
const fn after(before: &Place, payload: usize, kind: u16) -> Place {
    Place {
        at: before.at + ((before.length as usize + 3) & !3),
        length: (HEADER + payload) as u16,
        kind,
    }
}

const NOTHING: Place = Place {
    at: 0,
    length: 0,
    kind: 0,
};
const ADDRESS: Place = after(&NOTHING, 16, kind::ADDRESS);
const PORT: Place = after(&ADDRESS, 2, kind::PORT);
const FORWARD: Place = after(&PORT, 4, kind::FORWARD);
const WEIGHT: Place = after(&FORWARD, 4, kind::WEIGHT);
const TUNNEL_KIND: Place = after(&WEIGHT, 1, kind::TUNNEL_KIND);
const TUNNEL_PORT: Place = after(&TUNNEL_KIND, 2, kind::TUNNEL_PORT);
const TUNNEL_FLAGS: Place = after(&TUNNEL_PORT, 2, kind::TUNNEL_FLAGS);
const UPPER: Place = after(&TUNNEL_FLAGS, 4, kind::UPPER_THRESHOLD);
const LOWER: Place = after(&UPPER, 4, kind::LOWER_THRESHOLD);
const ACTIVE: Place = after(&LOWER, 4, kind::ACTIVE);
const INACTIVE: Place = after(&ACTIVE, 4, kind::INACTIVE);
const PERSISTENT: Place = after(&INACTIVE, 4, kind::PERSISTENT);
const FAMILY: Place = after(&PERSISTENT, 2, kind::FAMILY);
const STATS: Place = after(&FAMILY, NARROW, kind::STATS);
const STATS64: Place = after(&STATS, WIDE, kind::STATS64);
const ALL: [Place; 15] = [
    ADDRESS,
    PORT,
    FORWARD,
    WEIGHT,
    TUNNEL_KIND,
    TUNNEL_PORT,
    TUNNEL_FLAGS,
    UPPER,
    LOWER,
    ACTIVE,
    INACTIVE,
    PERSISTENT,
    FAMILY,
    STATS,
    STATS64,
];
const LENGTH: usize = STATS64.at + STATS64.length as usize;

/// The headers at their places, and nothing between them.
const HEADERS: [u8; LENGTH] = {
    let mut headers = [0; LENGTH];
    let mut place = 0;
    while place < ALL.len() {
        put(&mut headers, &ALL[place], ALL[place].length, ALL[place].kind);
        place += 1;
    }
    let mut number = 0;
    while number < 10 {
        put(&mut headers, &statistic(number), 12, number as u16 + 1);
        number += 1;
    }
    headers
};
/// What of the bytes is headers.
const MASK: [u8; LENGTH] = {
    let mut mask = [0; LENGTH];
    let mut place = 0;
    while place < ALL.len() {
        put(&mut mask, &ALL[place], u16::MAX, u16::MAX);
        place += 1;
    }
    let mut number = 0;
    while number < 10 {
        put(&mut mask, &statistic(number), u16::MAX, u16::MAX);
        number += 1;
    }
    mask
};

const fn put(bytes: &mut [u8; LENGTH], place: &Place, length: u16, kind: u16) {
    let ([l0, l1], [k0, k1]) = (length.to_ne_bytes(), kind.to_ne_bytes());
    bytes[place.at] = l0;
    bytes[place.at + 1] = l1;
    bytes[place.at + 2] = k0;
    bytes[place.at + 3] = k1;
}

/// One of the statistics of 64 bits, within them.
const fn statistic(number: usize) -> Place {
    Place {
        at: STATS64.at + HEADER + number * 12,
        length: 12,
        kind: number as u16 + 1,
    }
}

/// A destination, if it is written as usual.
pub(super) fn destination(bytes: &[u8]) -> Option<Destination> {
    let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
    // Which header is another does not matter, so that all are looked at sixteen bytes at a time.
    let mut different = 0;
    for at in 0..LENGTH {
        different |= (bytes[at] ^ HEADERS[at]) & MASK[at];
    }
    if different != 0 {
        return None;
    }
    let kind = TunnelKind::from_kernel(bytes[TUNNEL_KIND.at + HEADER]);
    let (forward, tunnel) = forwarding(
        u32::from_ne_bytes(payload(bytes, &FORWARD)),
        Some(kind),
        u16::from_be_bytes(payload(bytes, &TUNNEL_PORT)),
        u16::from_ne_bytes(payload(bytes, &TUNNEL_FLAGS)),
    );
    let family = Family(u16::from_ne_bytes(payload(bytes, &FAMILY)));
    Some(Destination {
        key: DestinationKey {
            address: Address::new(family, payload(bytes, &ADDRESS)),
            port: u16::from_be_bytes(payload(bytes, &PORT)),
        },
        forward,
        tunnel,
        weight: u32::from_ne_bytes(payload(bytes, &WEIGHT)),
        upper_threshold: u32::from_ne_bytes(payload(bytes, &UPPER)),
        lower_threshold: u32::from_ne_bytes(payload(bytes, &LOWER)),
        active: u32::from_ne_bytes(payload(bytes, &ACTIVE)),
        inactive: u32::from_ne_bytes(payload(bytes, &INACTIVE)),
        persistent: u32::from_ne_bytes(payload(bytes, &PERSISTENT)),
        stats: statistics(|number| u64::from_ne_bytes(payload(bytes, &statistic(number)))),
    })
}

/// The places are within the bytes, which the compiler sees.
#[inline]
fn payload<const N: usize>(bytes: &[u8; LENGTH], place: &Place) -> [u8; N] {
    let mut payload = [0; N];
    payload.copy_from_slice(&bytes[place.at + HEADER..place.at + HEADER + N]);
    payload
}

/// The wide statistics, if they are written as usual: in the order of their types.
pub(super) fn stats(block: &[u8]) -> Option<Stats> {
    let block: &[u8; WIDE] = block.try_into().ok()?;
    let mut values = [0; 10];
    let mut usual = true;
    for ((value, kind), attribute) in values.iter_mut().zip(1_u16..).zip(block.chunks_exact(12)) {
        let &[l0, l1, k0, k1, ref number @ ..] = attribute.first_chunk::<12>()?;
        usual &= (u16::from_ne_bytes([l0, l1]), u16::from_ne_bytes([k0, k1])) == (12, kind);
        *value = u64::from_ne_bytes(*number);
    }
    usual.then(|| statistics(|number| values[number]))
}

/// The statistics, in the order of their types.
#[inline]
fn statistics(value: impl Fn(usize) -> u64) -> Stats {
    Stats {
        connections: value(0),
        pkts_in: value(1),
        pkts_out: value(2),
        bytes_in: value(3),
        bytes_out: value(4),
        cps: value(5),
        pps_in: value(6),
        pps_out: value(7),
        bps_in: value(8),
        bps_out: value(9),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::any_destination, destination};
    use crate::{
        model::Family,
        netlink::{
            Recording,
            attributes::{Attributes, aligned},
        },
    };

    /// What is nested in the destinations of a recording.
    fn recorded(text: &str) -> Vec<Vec<u8>> {
        const NEW_DESTINATION: u8 = 5;
        let mut found = Vec::new();
        for datagram in Recording::datagrams(text) {
            for message in Recording::messages(&datagram).map(|range| &datagram[range]) {
                if u16::from_ne_bytes([message[4], message[5]]) > 16 && message[16] == NEW_DESTINATION {
                    let nest = Attributes::new(&message[20..]).next().unwrap().unwrap();
                    found.push(nest.bytes().to_vec());
                }
            }
        }
        found
    }

    #[test]
    fn every_kernel_of_the_matrix_writes_as_usual_and_both_readers_say_the_same() {
        for recording in [
            include_str!("../../../tests/recordings/5.10.txt"),
            include_str!("../../../tests/recordings/6.1.txt"),
            include_str!("../../../tests/recordings/6.12.txt"),
            include_str!("../../../tests/recordings/6.18.txt"),
            include_str!("../../../tests/recordings/7.txt"),
        ] {
            let destinations = recorded(recording);
            assert!(!destinations.is_empty());
            for bytes in destinations {
                let any = any_destination(Attributes::new(&bytes), Family::INET).unwrap();
                assert_eq!(destination(&bytes), Some(any));
            }
        }
    }

    #[test]
    fn one_unusual_header_leaves_it_all_to_the_other_reader() {
        let bytes = recorded(include_str!("../../../tests/recordings/6.12.txt")).remove(0);
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + 4) {
            for changed in 0..4 {
                let mut bytes = bytes.clone();
                bytes[at + changed] ^= 0x20;
                assert_eq!(destination(&bytes), None, "byte {changed} of the header at {at}");
            }
            at += aligned(usize::from(u16::from_ne_bytes([header[0], header[1]])));
        }
    }
}
