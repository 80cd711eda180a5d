//! What a scheduler remembers from one turn to the next, out of its own memory in the kernel.

use std::cell::OnceCell;

use ipvs_observer_common::{
    event::{CandidatesHeader, DestinationState},
    layout::Field,
};

use super::btf::{Source, WrrMark};
use crate::model::Memory;

/// What a scheduler had before it, as the programs tell it.
pub(super) struct Seen {
    pub(super) header: Box<CandidatesHeader>,
    pub(super) list: Vec<DestinationState>,
}

/// Where each scheduler keeps what it remembers; found out when it is first needed.
pub(super) struct Memories {
    source: Source,
    wrr: OnceCell<Option<WrrMark>>,
    source_table: OnceCell<Option<u32>>,
    destination_table: OnceCell<Option<u32>>,
}

impl Memories {
    /// Nothing is known yet.
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            wrr: OnceCell::new(),
            source_table: OnceCell::new(),
            destination_table: OnceCell::new(),
        }
    }

    /// What the scheduler remembered when it was asked.
    pub(super) fn of(&self, scheduler: &str, seen: &Seen) -> Memory {
        let buckets = |known: &OnceCell<Option<u32>>, module, path| {
            let size = *known.get_or_init(|| self.source.buckets(module, path));
            size.map_or(Memory::Unread, Memory::Buckets)
        };
        match scheduler {
            "rr" => last_turn(seen),
            "wrr" => {
                let mark = *self.wrr.get_or_init(|| self.source.wrr_mark());
                mark.map_or(Memory::Unread, |mark| weighted(seen, mark))
            }
            "sh" => buckets(&self.source_table, "ip_vs_sh", "ip_vs_sh_state.buckets"),
            "dh" => buckets(&self.destination_table, "ip_vs_dh", "ip_vs_dh_state.buckets"),
            "mh" => {
                let weights = seen.list.iter().map(|candidate| candidate.last_weight);
                Memory::LastWeights(weights.map(|weight| u32::try_from(weight).unwrap_or(0)).collect())
            }
            _ => Memory::Unread,
        }
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
