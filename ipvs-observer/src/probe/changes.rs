//! Configuration changes, from the programs' words to the model's.

use ipvs_observer_common::event::{self, Change as KernelChange};

use super::{clock::Clock, convert};
use crate::model::{Action, Change, Name};

/// A change; none of a kind that this program does not know.
pub(super) fn change(change: &KernelChange, clock: Clock) -> Option<Change> {
    let action = match change.action {
        event::ACTION_ADD_SERVICE => Action::AddService,
        event::ACTION_EDIT_SERVICE => Action::EditService,
        event::ACTION_DELETE_SERVICE => Action::DeleteService,
        event::ACTION_ADD_DESTINATION => Action::AddDestination,
        event::ACTION_EDIT_DESTINATION => Action::EditDestination,
        event::ACTION_DELETE_DESTINATION => Action::DeleteDestination,
        event::ACTION_OVERLOAD => Action::Overload,
        event::ACTION_RECOVER => Action::Recover,
        _ => return None,
    };
    let (netns, service) = convert::service(&change.key.service);
    let on_service = matches!(
        action,
        Action::AddService | Action::EditService | Action::DeleteService
    );
    // The threshold is crossed by a packet or a timer, over whatever process was there.
    let by_nobody = matches!(action, Action::Overload | Action::Recover);
    let named = |name: &[u8]| {
        if by_nobody {
            Name::default()
        } else {
            Name::from_bytes(name)
        }
    };
    Some(Change {
        time: clock.real(change.time),
        netns,
        action,
        service,
        destination: (!on_service)
            .then(|| convert::destination(change.key.family, change.key.address, change.key.port)),
        weight_before: u32::try_from(change.weight_before).ok(),
        weight_after: u32::try_from(change.weight_after).ok(),
        comm: named(&change.comm),
        pid: if by_nobody { 0 } else { change.pid },
        parent_comm: named(&change.parent_comm),
        parent_pid: if by_nobody { 0 } else { change.parent_pid },
    })
}

#[cfg(test)]
mod tests {
    use ipvs_observer_common::event::{self, Change};

    use super::{Clock, change};
    use crate::model::Action;

    #[test]
    fn a_change_names_who_made_it_and_what_was_before() {
        let mut told = Change {
            kind: event::CHANGE,
            action: event::ACTION_EDIT_DESTINATION,
            time: 5,
            weight_before: 3,
            weight_after: 0,
            pid: 42,
            parent_pid: 41,
            ..Change::default()
        };
        told.comm[..7].copy_from_slice(b"ipvsadm");
        told.parent_comm[..8].copy_from_slice(b"drain.sh");
        let change = change(&told, Clock { ahead: 1000 }).expect("a known action");
        assert_eq!(change.action, Action::EditDestination);
        assert_eq!((change.weight_before, change.weight_after), (Some(3), Some(0)));
        assert_eq!((change.comm.as_str(), change.pid), ("ipvsadm", 42));
        assert_eq!((change.parent_comm.as_str(), change.parent_pid), ("drain.sh", 41));
        assert_eq!(change.time, 1005);
        assert!(change.destination.is_some());
    }

    #[test]
    fn nobody_is_named_for_an_overload_which_no_process_made() {
        let mut told = Change {
            action: event::ACTION_OVERLOAD,
            pid: 42,
            ..Change::default()
        };
        told.comm[..5].copy_from_slice(b"nginx");
        let change = change(&told, Clock { ahead: 0 }).expect("a known action");
        assert!(change.comm.is_empty() && change.pid == 0);
    }

    #[test]
    fn a_service_that_goes_has_no_destination_and_no_weight() {
        let told = Change {
            action: event::ACTION_DELETE_SERVICE,
            weight_before: -1,
            weight_after: -1,
            ..Change::default()
        };
        let change = change(&told, Clock { ahead: 0 }).expect("a known action");
        assert_eq!(
            (change.destination, change.weight_before, change.weight_after),
            (None, None, None)
        );
    }
}
