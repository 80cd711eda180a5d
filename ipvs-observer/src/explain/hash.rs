//! Schedulers that go by a hash: whose bucket a client's is.
//!
//! Their tables are not read from the kernel but filled here as the kernel fills them, from the same
//! destinations in the same order: it does so anew at every change of the service.

use super::usable;
use crate::model::{Address, DestinationState, Family, Packet};

/// Where a packet comes to in a scheduler's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// What of the packet the hash goes by, in words.
    pub by: &'static str,
    /// Its bucket.
    pub bucket: u32,
    /// How many there are.
    pub size: u32,
    /// Whose it is, by the place in the list.
    pub owner: usize,
    /// Who takes the packet, if anybody does.
    pub taken: Option<usize>,
}

/// `IP_VS_SVC_F_SCHED1`: where a bucket's destination takes none, another bucket is tried.
const FALLBACK: u32 = 8;
/// `IP_VS_SVC_F_SCHED2`: the client's port counts.
const PORT: u32 = 0x10;

/// What the port adds to the hash; none where it counts and is not known.
fn port(packet: &Packet) -> Option<u32> {
    if packet.service_flags & PORT == 0 {
        Some(0)
    } else {
        packet.client_port.map(u32::from)
    }
}

/// Source hashing (`sh`), with a table of `size` buckets, a power of two.
pub fn source(list: &[DestinationState], packet: &Packet, size: u32) -> Option<Hashed> {
    let bits = size.checked_ilog2()?;
    let port = port(packet)?;
    let hash = |offset: u32| {
        let key = fold(&packet.client).wrapping_add(port);
        offset.wrapping_add(hash_32(key, bits)) & (size - 1)
    };
    // Each destination has as many buckets in a row as its weight, and one if that is 0.
    let mut owners = list
        .iter()
        .enumerate()
        .flat_map(|(place, state)| (0..state.weight.max(1)).map(move |_| place))
        .cycle();
    let table: Vec<_> = owners.by_ref().take(size as usize).collect();
    Table::of_client(table, packet).look_up(list, hash)
}

/// Destination hashing (`dh`), with a table of `size` buckets, a power of two.
pub fn destination(list: &[DestinationState], packet: &Packet, size: u32) -> Option<Hashed> {
    let bits = size.checked_ilog2()?;
    let table: Vec<_> = (0..list.len()).cycle().take(size as usize).collect();
    let table = Table {
        owners: table,
        by: "the packet's destination",
        falls_back: false,
    };
    table.look_up(list, |_| hash_32(fold(&packet.target), bits))
}

/// Maglev hashing (`mh`), with a table of `size` buckets, a prime. `last_weights` are the destinations' last
/// weights that were not 0: drained ones keep their buckets.
pub fn maglev(list: &[DestinationState], last_weights: &[u32], packet: &Packet, size: u32) -> Option<Hashed> {
    let port = port(packet)?;
    let table = maglev_table(list, last_weights, packet.client.family(), size)?;
    Table::of_client(table, packet).look_up(list, |offset| {
        maglev_hash(fold(&packet.client), port.wrapping_add(offset), FIRST) % size
    })
}

/// A scheduler's table.
struct Table {
    /// Whose each bucket is, by the place in the list.
    owners: Vec<usize>,
    /// What of the packet the hash goes by.
    by: &'static str,
    /// Whether another bucket is tried where an owner takes none.
    falls_back: bool,
}

impl Table {
    fn of_client(owners: Vec<usize>, packet: &Packet) -> Self {
        Self {
            owners,
            by: if packet.service_flags & PORT == 0 {
                "the client's address"
            } else {
                "the client's address and port"
            },
            falls_back: packet.service_flags & FALLBACK != 0,
        }
    }

    /// `hash` gives the bucket that is so far from the first choice.
    fn look_up(&self, list: &[DestinationState], hash: impl Fn(u32) -> u32) -> Option<Hashed> {
        let size = self.owners.len() as u32;
        let bucket = hash(0);
        let owner = *self.owners.get(bucket as usize)?;
        let takes = |place: usize| list.get(place).is_some_and(usable);
        let another = || {
            (0..size)
                .map(|offset| hash(offset.wrapping_add(bucket) % size))
                .filter_map(|bucket| self.owners.get(bucket as usize).copied())
                .find(|&place| takes(place))
        };
        let taken = if takes(owner) {
            Some(owner)
        } else if self.falls_back {
            another()
        } else {
            None
        };
        Some(Hashed {
            by: self.by,
            bucket,
            size,
            owner,
            taken,
        })
    }
}

/// An address as one number: IPv6 by its four words, one over the other.
fn fold(address: &Address) -> u32 {
    let bytes = address.bytes();
    let words = bytes
        .chunks_exact(4)
        .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    let words = words.take(if address.family() == Family::INET6 { 4 } else { 1 });
    words.fold(0, |folded, word| folded ^ word)
}

/// The kernel's `hash_32`: a multiplication by the golden ratio, of which the upper bits are taken.
fn hash_32(value: u32, bits: u32) -> u32 {
    const GOLDEN_RATIO: u32 = 0x61c8_8647;
    value
        .wrapping_mul(GOLDEN_RATIO)
        .checked_shr(32 - bits)
        .unwrap_or(0)
}

const FIRST: u64 = 2_654_435_761;
const SECOND: u64 = 2_654_446_892;

fn maglev_hash(folded: u32, offset: u32, key: u64) -> u32 {
    half_sip_hash(folded.wrapping_add(offset), key)
}

/// Each destination prefers the buckets in an order of its own; they take turns, by weight, each the next that
/// is free in its order.
fn maglev_table(
    list: &[DestinationState],
    last_weights: &[u32],
    family: Family,
    size: u32,
) -> Option<Vec<usize>> {
    let divisor = last_weights
        .iter()
        .copied()
        .filter(|&weight| weight > 0)
        .reduce(greatest_divisor)?;
    let greatest = last_weights.iter().max()? / divisor;
    // Weights are made small enough for the table.
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(table_bits(size)?);
    let mut turns: Vec<Turn> = list
        .iter()
        .zip(last_weights)
        .map(|(state, &weight)| {
            // Folded as an address of the service's family, whatever the destination's own is.
            let folded = fold(&Address::new(family, state.key.address.bytes()));
            let port = u32::from(state.key.port);
            Turn {
                next: maglev_hash(folded, port, FIRST) % size,
                skip: maglev_hash(folded, port, SECOND) % (size - 1) + 1,
                buckets: match (weight / divisor) >> shift {
                    0 => u32::from(weight != 0),
                    buckets => buckets,
                },
            }
        })
        .collect();
    let mut table = vec![None; size as usize];
    let mut free = size;
    while free > 0 {
        for (place, turn) in turns.iter_mut().enumerate() {
            for _ in 0..turn.buckets.min(free) {
                while table[turn.next as usize].is_some() {
                    turn.next = (turn.next + turn.skip) % size;
                }
                table[turn.next as usize] = Some(place);
                free -= 1;
            }
        }
    }
    table.into_iter().collect()
}

struct Turn {
    /// The bucket that it likes best of those that it has not tried.
    next: u32,
    /// From one to the next.
    skip: u32,
    /// Buckets that it takes at a time.
    buckets: u32,
}

/// `IP_VS_MH_TAB_BITS` of a table's size: the kernel's configuration names both by one index.
fn table_bits(size: u32) -> Option<u32> {
    let sizes = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071];
    let index = sizes.iter().position(|&known| known == size)? as u32 + 8;
    Some(index / 2)
}

fn greatest_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The kernel's `hsiphash` of one word on a machine of 64 bits: `SipHash` with one and three rounds, the two
/// halves of the key being the same here, and the lower half of the result.
fn half_sip_hash(word: u32, key: u64) -> u32 {
    let round = |[mut v0, mut v1, mut v2, mut v3]: [u64; 4]| {
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        [v0, v1, v2, v3]
    };
    let block = 4 << 56 | u64::from(word);
    let mut state = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key,
    ];
    state[3] ^= block;
    state = round(state);
    state[0] ^= block;
    state[2] ^= 0xff;
    for _ in 0..3 {
        state = round(state);
    }
    let [v0, v1, v2, v3] = state;
    (v0 ^ v1 ^ v2 ^ v3) as u32
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::DestinationKey;

    fn state(n: u8, weight: u32) -> DestinationState {
        DestinationState {
            key: DestinationKey {
                address: Address::from(IpAddr::from([10, 8, 0, n])),
                port: 80,
            },
            weight,
            active: 0,
            inactive: 0,
            overloaded: false,
        }
    }

    fn from(client: [u8; 4]) -> Packet {
        Packet {
            client: Address::from(IpAddr::from(client)),
            client_port: Some(1234),
            target: Address::from(IpAddr::from([10, 9, 0, 1])),
            service_flags: 0,
        }
    }

    #[test]
    fn a_bucket_whose_destination_takes_none_gives_none_unless_the_service_falls_back() {
        let list = [state(1, 0), state(2, 5)];
        let packet = (0..=255)
            .map(|last| from([10, 7, 0, last]))
            .find(|packet| source(&list, packet, 256).is_some_and(|hashed| hashed.owner == 0))
            .expect("a drained destination keeps a bucket");
        assert_eq!(source(&list, &packet, 256).and_then(|hashed| hashed.taken), None);
        let falling_back = Packet {
            service_flags: FALLBACK,
            ..packet
        };
        assert_eq!(
            source(&list, &falling_back, 256).and_then(|hashed| hashed.taken),
            Some(1)
        );
    }

    #[test]
    fn the_clients_port_counts_only_where_the_service_says_so() {
        let list = [state(1, 1), state(2, 1), state(3, 1)];
        let owners = |flags| {
            let packet = |client_port| Packet {
                client_port: Some(client_port),
                service_flags: flags,
                ..from([10, 7, 0, 2])
            };
            let mut owners: Vec<_> = (1000..1100)
                .filter_map(|port| source(&list, &packet(port), 256).map(|hashed| hashed.owner))
                .collect();
            owners.sort_unstable();
            owners.dedup();
            owners.len()
        };
        assert_eq!((owners(0), owners(PORT)), (1, 3));
    }

    #[test]
    fn without_the_port_a_bucket_is_named_only_where_the_port_does_not_count() {
        let list = [state(1, 1), state(2, 1)];
        for (flags, known) in [(0, true), (PORT, false)] {
            let packet = Packet {
                client_port: None,
                service_flags: flags,
                ..from([10, 7, 0, 2])
            };
            assert_eq!(source(&list, &packet, 256).is_some(), known);
            assert_eq!(maglev(&list, &[1, 1], &packet, 4093).is_some(), known);
            assert!(destination(&list, &packet, 256).is_some());
        }
    }

    #[test]
    fn weights_share_the_buckets_of_source_hashing_in_rows() {
        let list = [state(1, 1), state(2, 3)];
        let mut counts = [0; 2];
        for last in 0..=255 {
            if let Some(hashed) = source(&list, &from([10, 7, 0, last]), 256) {
                counts[hashed.owner] += 1;
            }
        }
        assert!(counts[1] > 2 * counts[0], "{counts:?}");
    }

    #[test]
    fn destination_hashing_does_not_go_by_the_client() {
        let list = [state(1, 1), state(2, 1)];
        let of = |client| destination(&list, &from(client), 256).map(|hashed| hashed.bucket);
        assert_eq!(of([1, 2, 3, 4]), of([4, 3, 2, 1]));
    }

    #[test]
    fn every_bucket_of_maglev_is_somebodys_and_weights_share_them() {
        let list = [state(1, 1), state(2, 3), state(3, 0)];
        let table = maglev_table(&list, &[1, 3, 0], Family::INET, 4093).expect("a table");
        let count = |place| table.iter().filter(|&&owner| owner == place).count();
        assert_eq!(count(0) + count(1), 4093);
        assert!(count(0).abs_diff(1023) <= 1, "{}", count(0));
    }

    #[test]
    fn without_destinations_there_is_nothing_to_hash_to() {
        assert!(source(&[], &from([1, 2, 3, 4]), 256).is_none());
        assert!(destination(&[], &from([1, 2, 3, 4]), 256).is_none());
        assert!(maglev(&[], &[], &from([1, 2, 3, 4]), 4093).is_none());
        assert!(maglev(&[state(1, 0)], &[0], &from([1, 2, 3, 4]), 4093).is_none());
    }
}
