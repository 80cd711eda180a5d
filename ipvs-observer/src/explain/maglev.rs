//! Maglev hashing (`mh`): how its table is filled, and whose bucket a client's is.

use super::hash::{Hashed, Table, fold, port};
use crate::model::{Address, DestinationState, Family, Packet};

/// Maglev hashing (`mh`), with a table of `size` buckets, a prime. `last_weights` are the destinations' last
/// weights that were not 0: drained ones keep their buckets.
pub(super) fn maglev(
    list: &[DestinationState],
    last_weights: &[u32],
    packet: &Packet,
    size: u32,
) -> Option<Hashed> {
    let port = port(packet)?;
    let table = table(list, last_weights, packet.client.family(), size)?;
    Table::of_client(table, packet).look_up(list, |offset| {
        hash(fold(&packet.client), port.wrapping_add(offset), FIRST) % size
    })
}

const FIRST: u64 = 2_654_435_761;
const SECOND: u64 = 2_654_446_892;

fn hash(folded: u32, offset: u32, key: u64) -> u32 {
    half_sip_hash(folded.wrapping_add(offset), key)
}

/// Each destination prefers the buckets in an order of its own; they take turns, by weight, each the next that
/// is free in its order.
fn table(list: &[DestinationState], last_weights: &[u32], family: Family, size: u32) -> Option<Vec<usize>> {
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
                next: hash(folded, port, FIRST) % size,
                skip: hash(folded, port, SECOND) % (size - 1) + 1,
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
    use super::{
        super::given::{from, server},
        super::hash::PORT,
        *,
    };

    #[test]
    fn every_bucket_of_maglev_is_somebodys_and_weights_share_them() {
        let list = [server(1, 1), server(2, 3), server(3, 0)];
        let table = table(&list, &[1, 3, 0], Family::INET, 4093).expect("a table");
        let count = |place| table.iter().filter(|&&owner| owner == place).count();
        assert_eq!(count(0) + count(1), 4093);
        assert!(count(0).abs_diff(1023) <= 1, "{}", count(0));
    }

    #[test]
    fn without_the_port_a_bucket_is_named_only_where_the_port_does_not_count() {
        let list = [server(1, 1), server(2, 1)];
        for (service_flags, known) in [(0, true), (PORT, false)] {
            let packet = Packet {
                client_port: None,
                service_flags,
                ..from([10, 7, 0, 2])
            };
            assert_eq!(maglev(&list, &[1, 1], &packet, 4093).is_some(), known);
        }
    }

    #[test]
    fn without_a_weight_there_is_no_table() {
        assert!(maglev(&[], &[], &from([1, 2, 3, 4]), 4093).is_none());
        assert!(maglev(&[server(1, 0)], &[0], &from([1, 2, 3, 4]), 4093).is_none());
    }
}
