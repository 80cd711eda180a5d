//! What a scheduler remembers from one turn to the next, out of its own memory in the kernel.

use std::cell::{Cell, OnceCell};

use ipvs_observer_common::{
    event::{
        CandidatesHeader, Decision, DestinationState as KernelState, OUTCOME_NONE, OUTCOME_SCHEDULED,
        PORTS_UNKNOWN,
    },
    layout::Field,
};

use super::btf::{Source, WrrMark};
use crate::{
    explain::{
        Hashed, Memory,
        hash::{self, Packet},
    },
    model::{Address, DestinationState, Family},
};

/// Buckets of Maglev's table as kernels are built by default. No type says it.
const MAGLEV: u32 = 4093;

/// What a scheduler had before it.
pub(super) struct Seen {
    pub(super) header: Box<CandidatesHeader>,
    pub(super) list: Vec<KernelState>,
}

/// Where each scheduler keeps what it remembers; found out when it is first needed.
pub(super) struct Memories {
    source: Source,
    wrr: OnceCell<Option<WrrMark>>,
    source_table: OnceCell<Option<u32>>,
    destination_table: OnceCell<Option<u32>>,
    /// Whether a choice of `mh` was not that of a table of the default size.
    other_size: Cell<bool>,
}

impl Memories {
    /// Nothing is known yet.
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            wrr: OnceCell::new(),
            source_table: OnceCell::new(),
            destination_table: OnceCell::new(),
            other_size: Cell::new(false),
        }
    }

    /// What the scheduler remembered when it was asked.
    pub(super) fn of(
        &self,
        scheduler: &str,
        seen: &Seen,
        list: &[DestinationState],
        told: &Decision,
    ) -> Memory {
        let source = &self.source;
        let whole = seen.header.all == seen.header.count;
        let hashed = match scheduler {
            "rr" => return last_turn(seen),
            "wrr" => {
                let mark = *self.wrr.get_or_init(|| source.wrr_mark());
                return mark.map_or(Memory::Unread, |mark| weighted(seen, mark));
            }
            // A table cannot be filled from a part of the destinations.
            _ if !whole => None,
            "sh" => self
                .source_table
                .get_or_init(|| source.buckets("ip_vs_sh", "ip_vs_sh_state.buckets"))
                .and_then(|size| hash::source(list, &packet(seen, told), size)),
            "dh" => self
                .destination_table
                .get_or_init(|| source.buckets("ip_vs_dh", "ip_vs_dh_state.buckets"))
                .and_then(|size| hash::destination(list, &packet(seen, told), size)),
            "mh" => {
                let last_weights: Vec<_> = seen
                    .list
                    .iter()
                    .map(|candidate| u32::try_from(candidate.last_weight).unwrap_or(0))
                    .collect();
                let hashed = hash::maglev(list, &last_weights, &packet(seen, told), MAGLEV);
                match hashed.as_ref().and_then(|hashed| agrees(hashed, seen, told)) {
                    Some(true) if !self.other_size.get() => hashed,
                    // From now on no bucket is known: others may agree by chance.
                    Some(false) => {
                        self.other_size.set(true);
                        None
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        hashed.map_or(Memory::Unread, Memory::Hashed)
    }
}

/// Whether the kernel chose as a table of the default size would have it; none where that is not told. Where it did
/// not, the table may be of another size, and then no bucket of it is known.
fn agrees(hashed: &Hashed, seen: &Seen, told: &Decision) -> Option<bool> {
    let taken = hashed.taken.and_then(|place| seen.list.get(place));
    let pointer = taken.map(|taken| taken.pointer);
    match told.outcome {
        OUTCOME_SCHEDULED => Some(pointer == Some(told.destination.pointer)),
        OUTCOME_NONE => Some(pointer.is_none()),
        _ => None,
    }
}

fn packet(seen: &Seen, told: &Decision) -> Packet {
    let family = Family(told.service.family);
    Packet {
        client: Address::new(family, told.client),
        client_port: (told.flags & PORTS_UNKNOWN == 0).then_some(told.client_port),
        target: Address::new(family, seen.header.target),
        service_flags: seen.header.service_flags,
    }
}

/// The round robin remembers the place in the list, which is in a destination or is the list's own.
fn last_turn(seen: &Seen) -> Memory {
    let place = seen.header.scheduler_data;
    if place == seen.header.list {
        return Memory::Last(None);
    }
    of_node(seen, place).map_or(Memory::Unread, |last| Memory::Last(Some(last)))
}

fn weighted(seen: &Seen, mark: WrrMark) -> Memory {
    let state = &seen.header.scheduler_state;
    let number = |field: Field| {
        let bytes = state.get(usize::from(field.offset)..)?.first_chunk()?;
        Some(i32::from_ne_bytes(*bytes))
    };
    let pointer = || {
        let bytes = state.get(usize::from(mark.cl.offset)..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    let memory = || {
        // Here the list's own place is written as if it were in a destination.
        let node = pointer()?.wrapping_add(seen.header.list_offset.into());
        let last = if node == seen.header.list {
            None
        } else {
            Some(of_node(seen, node)?)
        };
        Some(Memory::Weighted {
            last,
            current: number(mark.cw)?,
            greatest: number(mark.mw)?,
            step: number(mark.di)?,
        })
    };
    memory().unwrap_or(Memory::Unread)
}

/// The place of the destination that a node of the list is in. One that was deleted meanwhile is nowhere.
fn of_node(seen: &Seen, node: u64) -> Option<usize> {
    let CandidatesHeader { list_offset, .. } = *seen.header;
    let destination = node.wrapping_sub(list_offset.into());
    seen.list
        .iter()
        .position(|candidate| candidate.pointer == destination)
}

#[cfg(test)]
mod tests {
    use ipvs_observer_common::event::{CandidatesHeader, DestinationState, SCHEDULER_STATE};

    use super::{Field, Memory, Seen, WrrMark, last_turn, weighted};

    const LIST: u64 = 0xffff_8880_0000_0050;

    fn seen(data: u64, state: &[u8]) -> Seen {
        let mut scheduler_state = [0; SCHEDULER_STATE];
        scheduler_state[..state.len()].copy_from_slice(state);
        let header = CandidatesHeader {
            kind: 0,
            count: 2,
            call: 0,
            all: 2,
            service_flags: 0,
            list: LIST,
            scheduler_data: data,
            scheduler_state,
            target: [0; 16],
            list_offset: 16,
            reserved: 0,
        };
        let candidate = |pointer| DestinationState {
            pointer,
            ..DestinationState::default()
        };
        Seen {
            header: Box::new(header),
            list: vec![candidate(0x1000), candidate(0x2000)],
        }
    }

    #[test]
    fn the_round_robin_remembers_a_destination_or_the_list_itself() {
        assert_eq!(last_turn(&seen(LIST, &[])), Memory::Last(None));
        assert_eq!(last_turn(&seen(0x2010, &[])), Memory::Last(Some(1)));
        assert_eq!(last_turn(&seen(0x3010, &[])), Memory::Unread, "it was deleted");
    }

    #[test]
    fn the_weighted_round_robin_remembers_its_round_too() {
        let field = |offset, size| Field { offset, size };
        let mark = WrrMark {
            cl: field(0, 8),
            cw: field(8, 4),
            mw: field(12, 4),
            di: field(16, 4),
        };
        let state = |last: u64| {
            let mut state = last.to_ne_bytes().to_vec();
            for number in [2_i32, 5, 1] {
                state.extend(number.to_ne_bytes());
            }
            state
        };
        let of = |last| weighted(&seen(0, &state(last)), mark);
        let expected = |last| Memory::Weighted {
            last,
            current: 2,
            greatest: 5,
            step: 1,
        };
        assert_eq!(of(0x1000), expected(Some(0)));
        assert_eq!(of(LIST - 16), expected(None));
    }
}
