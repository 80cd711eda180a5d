//! The ring buffer: what leaves the kernel, record by record, as the programs wrote it.

use std::{io, mem::size_of, time::Duration};

use aya::{
    Pod,
    maps::{MapData, RingBuf},
};
use ipvs_observer_common::event::{
    self, CandidatesHeader, ConnectionEvent, Decision, DestinationChange, DestinationState, MOST_CANDIDATES,
    ServiceChange,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Records read at a time.
const MOST: usize = 1 << 14;

/// The reading end of the ring buffer.
pub(super) struct Events {
    ring: RingBuf<MapData>,
}

/// Something that left the kernel.
pub(super) enum Event {
    /// A configuration change.
    Change(KernelChange),
    /// What befell a connection beside the scheduler.
    Connection(ConnectionEvent),
    /// A scheduling decision.
    Decision(Box<Decision>),
    /// What the scheduler had before it, ahead of the decision.
    Candidates(Box<CandidatesHeader>, Vec<DestinationState>),
}

/// A configuration change as the programs tell it.
pub(super) enum KernelChange {
    /// Of a service.
    Service(Box<ServiceChange>),
    /// Of a destination.
    Destination(Box<DestinationChange>),
}

impl Events {
    /// The reading end; there is one.
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Gives what is there to `each`, and returns how many records that were; what comes faster than it is read
    /// waits for the next time.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Event)) -> usize {
        for read in 0..MOST {
            let Some(record) = self.ring.next() else {
                return read;
            };
            if let Some(event) = decode(&record) {
                each(event);
            }
        }
        MOST
    }

    /// Waits until something is there; false if nothing came in time.
    pub(super) fn wait(&self, longest: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.ring, PollFlags::IN)];
        let timeout = Timespec::try_from(longest).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A record by its kind; none if it is of another build of the programs.
pub(super) fn decode(record: &[u8]) -> Option<Event> {
    match whole::<u32>(record)? {
        event::SERVICE_CHANGE => {
            whole(record).map(|change| Event::Change(KernelChange::Service(Box::new(change))))
        }
        event::DESTINATION_CHANGE => {
            whole(record).map(|change| Event::Change(KernelChange::Destination(Box::new(change))))
        }
        event::DROP | event::END | event::ELSEWHERE | event::REUSED => whole(record).map(Event::Connection),
        event::DECISION => whole(record).map(|decision| Event::Decision(Box::new(decision))),
        event::CANDIDATES => {
            let header: CandidatesHeader = whole(record)?;
            let list = record.get(size_of::<CandidatesHeader>()..)?;
            let candidates: Vec<DestinationState> = list
                .chunks_exact(size_of::<DestinationState>())
                .take((header.count as usize).min(MOST_CANDIDATES))
                .filter_map(whole)
                .collect();
            Some(Event::Candidates(Box::new(header), candidates))
        }
        _ => None,
    }
}

/// A value at the beginning of some bytes; none if they are fewer.
fn whole<T: Pod>(bytes: &[u8]) -> Option<T> {
    (bytes.len() >= size_of::<T>()).then(|| {
        // SAFETY: `Pod` promises that every pattern of bytes is a value, and there are enough of them.
        unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
    })
}

#[cfg(test)]
mod tests {
    use ipvs_observer_common::event::{self, CandidatesHeader, DestinationState};

    use super::{Event, decode};

    #[test]
    fn a_record_that_is_cut_short_or_of_another_kind_is_none() {
        assert!(decode(&[]).is_none());
        assert!(decode(&event::DECISION.to_ne_bytes()).is_none());
        assert!(decode(&[0xff; 400]).is_none());
    }

    #[test]
    fn candidates_are_as_many_as_there_are_whatever_is_said() {
        let mut record = vec![0; size_of::<CandidatesHeader>() + 2 * size_of::<DestinationState>() + 7];
        record[..4].copy_from_slice(&event::CANDIDATES.to_ne_bytes());
        for (said, are) in [(0_u32, 0), (1, 1), (2, 2), (9, 2), (u32::MAX, 2)] {
            record[4..8].copy_from_slice(&said.to_ne_bytes());
            let Some(Event::Candidates(_, list)) = decode(&record) else {
                panic!("candidates");
            };
            assert_eq!(list.len(), are, "{said}");
        }
    }
}
