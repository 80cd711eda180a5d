//! Configuration changes, from the programs' words to the model's.

mod changed;
mod left;

use changed::Set;
use ipvs_observer_common::event::{self, Change as Header, DestinationChange, ServiceChange};

use super::{
    clock::{Clock, ticks_per_second},
    convert,
    events::KernelChange,
};
use crate::model::{Action, Change, Changed, Name, Remaining};

/// A change; none of a kind that this program does not know.
pub(super) fn change(told: &KernelChange, clock: Clock) -> Option<Change> {
    match told {
        KernelChange::Service(told) => of_service(told, clock),
        KernelChange::Destination(told) => of_destination(told, clock),
    }
}

fn of_service(told: &ServiceChange, clock: Clock) -> Option<Change> {
    let mut change = header(&told.change, clock)?;
    let ticks = ticks_per_second();
    let settings = |settings| changed::of_service(change.service, settings, ticks);
    change.changed = what_changed(&told.change, || settings(&told.before), || settings(&told.after));
    Some(change)
}

fn of_destination(told: &DestinationChange, clock: Clock) -> Option<Change> {
    let mut change = header(&told.change, clock)?;
    let Header { key, flags, .. } = told.change;
    change.destination = Some(convert::destination(key.family, key.address, key.port));
    let [before, after] = [told.weight_before, told.weight_after].map(|weight| u32::try_from(weight).ok());
    (change.weight_before, change.weight_after) = (before, after);
    change.changed = what_changed(
        &told.change,
        || changed::of_destination(before, &told.before),
        || changed::of_destination(after, &told.after),
    );
    if flags & event::REMAINING != 0 {
        let event::Remaining {
            active,
            other,
            templates,
        } = told.remaining;
        let remaining = Remaining {
            active,
            inactive: convert::inactive(active, other, flags & event::TOTAL_CONNECTIONS != 0),
            templates,
        };
        change.left = left::left(told, remaining);
        change.remaining = Some(remaining);
    }
    Some(change)
}

/// What an edit changed, or what was added; none where that is not known or is no matter of the action.
fn what_changed(
    told: &Header,
    before: impl Fn() -> Vec<Set>,
    after: impl Fn() -> Vec<Set>,
) -> Option<Vec<Changed>> {
    if told.flags & event::AFTER == 0 {
        return None;
    }
    match told.action {
        event::ACTION_ADD_SERVICE | event::ACTION_ADD_DESTINATION => Some(changed::changed(None, after())),
        event::ACTION_EDIT_SERVICE | event::ACTION_EDIT_DESTINATION if told.flags & event::BEFORE != 0 => {
            Some(changed::changed(Some(&before()), after()))
        }
        _ => None,
    }
}

/// What every change has; none of a kind that this program does not know.
fn header(told: &Header, clock: Clock) -> Option<Change> {
    let action = match told.action {
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
    let (netns, service) = convert::service(&told.key.service);
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
        time: clock.real(told.time),
        netns,
        action,
        service,
        destination: None,
        weight_before: None,
        weight_after: None,
        changed: None,
        remaining: None,
        left: String::new(),
        comm: named(&told.comm),
        pid: if by_nobody { 0 } else { told.pid },
        parent_comm: named(&told.parent_comm),
        parent_pid: if by_nobody { 0 } else { told.parent_pid },
    })
}

#[cfg(test)]
mod tests;
