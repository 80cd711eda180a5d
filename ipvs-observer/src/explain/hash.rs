//! Schedulers that go by a hash: whose bucket a client's is. That of Maglev has a file of its own.
//!
//! Their tables are not read from the kernel but filled here as the kernel fills them, from the same
//! destinations in the same order: it does so anew at every change of the service.

use super::{Rule, name, unknown, usable};
use crate::model::{Address, Before, DestinationState, Family, Packet};

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
pub(super) const PORT: u32 = 0x10;

/// What the port adds to the hash; none where it counts and is not known.
pub(super) fn port(packet: &Packet) -> Option<u32> {
    if packet.service_flags & PORT == 0 {
        Some(0)
    } else {
        packet.client_port.map(u32::from)
    }
}

/// What a scheduler by a hash does with this packet, where that is known.
pub(super) fn hashed(before: &Before, hashed: Option<Hashed>) -> Rule {
    let Some(Hashed {
        by,
        bucket,
        size,
        owner,
        taken,
    }) = hashed
    else {
        return unknown(
            before,
            "a hash of the packet names a bucket; whose that is is not known",
        );
    };
    let owned = name(before, owner);
    let default = if before.scheduler.as_str() == "mh" {
        " (the size by default, which the choice does not contradict)"
    } else {
        ""
    };
    let otherwise = match taken {
        Some(taken) if taken == owner => "",
        Some(_) => "; that takes none, and the service falls back to another bucket",
        None => "; that takes none, and the service does not fall back",
    };
    Rule {
        costs: vec![None; before.list.len()],
        computed: taken,
        words: format!(
            "a hash of {by} names bucket {bucket} of {size}{default}, which is of {owned}{otherwise}"
        ),
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

/// A scheduler's table.
pub(super) struct Table {
    /// Whose each bucket is, by the place in the list.
    owners: Vec<usize>,
    /// What of the packet the hash goes by.
    by: &'static str,
    /// Whether another bucket is tried where an owner takes none.
    falls_back: bool,
}

impl Table {
    pub(super) fn of_client(owners: Vec<usize>, packet: &Packet) -> Self {
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
    pub(super) fn look_up(&self, list: &[DestinationState], hash: impl Fn(u32) -> u32) -> Option<Hashed> {
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
pub(super) fn fold(address: &Address) -> u32 {
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

#[cfg(test)]
mod tests {
    use super::{
        super::given::{from, server},
        *,
    };

    #[test]
    fn a_bucket_whose_destination_takes_none_gives_none_unless_the_service_falls_back() {
        let list = [server(1, 0), server(2, 5)];
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
        let list = [server(1, 1), server(2, 1), server(3, 1)];
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
        let list = [server(1, 1), server(2, 1)];
        for (flags, known) in [(0, true), (PORT, false)] {
            let packet = Packet {
                client_port: None,
                service_flags: flags,
                ..from([10, 7, 0, 2])
            };
            assert_eq!(source(&list, &packet, 256).is_some(), known);
            assert!(destination(&list, &packet, 256).is_some());
        }
    }

    #[test]
    fn weights_share_the_buckets_of_source_hashing_in_rows() {
        let list = [server(1, 1), server(2, 3)];
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
        let list = [server(1, 1), server(2, 1)];
        let of = |client| destination(&list, &from(client), 256).map(|hashed| hashed.bucket);
        assert_eq!(of([1, 2, 3, 4]), of([4, 3, 2, 1]));
    }

    #[test]
    fn without_destinations_there_is_nothing_to_hash_to() {
        assert!(source(&[], &from([1, 2, 3, 4]), 256).is_none());
        assert!(destination(&[], &from([1, 2, 3, 4]), 256).is_none());
    }
}
