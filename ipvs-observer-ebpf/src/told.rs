//! What is told of a configuration change.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task};
use ipvs_observer_common::{
    control,
    event::{
        self, Change, DestinationChange, DestinationSettings, Remaining, ServiceChange, ServiceSettings,
    },
    key::DestinationKey,
    layout,
};

use crate::{
    call::now,
    configured,
    filter::{self, Room},
    maps::{EVENTS, health, observed, wanted},
    read::{bytes, has, layout, number},
};

/// What is told of a change.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Told {
    /// The service, and the destination if it is one that is changed.
    pub key: DestinationKey,
    /// The weight before, or -1.
    pub weight_before: i32,
    /// The weight after, or -1.
    pub weight_after: i32,
    /// Those of the event.
    pub flags: u32,
    /// What the destination was set to.
    pub before: DestinationSettings,
    /// What the destination has.
    pub remaining: Remaining,
}

/// `-1`: there is no weight.
pub const NO_WEIGHT: i32 = -1;

impl Told {
    /// Nothing of it is known.
    #[inline(always)]
    pub fn of(key: DestinationKey) -> Self {
        Self {
            key,
            weight_before: NO_WEIGHT,
            weight_after: NO_WEIGHT,
            flags: 0,
            before: DestinationSettings::default(),
            remaining: Remaining::default(),
        }
    }
}

/// Whether anybody is to know of a change.
#[inline(always)]
fn asked(key: &DestinationKey) -> bool {
    wanted(control::CHANGES, layout::CHANGES)
        && observed(key.service.netns)
        && filter::asks_change(&key.service)
        && filter::asks_destination(Room::Probe, key.family, &key.address, key.port)
}

/// Tells of a change of a destination. `after`: what it is set to now, if the flags say that it is known.
#[inline(always)]
pub fn tell(action: u32, told: &Told, after: DestinationSettings) {
    if !asked(&told.key) {
        return;
    }
    let Some(mut room) = EVENTS.reserve::<DestinationChange>(0) else {
        health(|health| health.changes_lost += 1);
        return;
    };
    room.write(DestinationChange {
        change: change(event::DESTINATION_CHANGE, action, &told.key, told.flags),
        weight_before: told.weight_before,
        weight_after: told.weight_after,
        before: told.before,
        after,
        remaining: told.remaining,
        reserved: 0,
    });
    room.submit(0);
    health(|health| health.changes += 1);
}

/// Tells of a change of a service, which the kernel has at `place` if it still has it.
#[inline(always)]
pub fn tell_service(action: u32, key: &DestinationKey, flags: u32, before: &ServiceSettings, place: u64) {
    if !asked(key) {
        return;
    }
    let Some(mut room) = EVENTS.reserve::<ServiceChange>(0) else {
        health(|health| health.changes_lost += 1);
        return;
    };
    let told = room.write(ServiceChange {
        change: change(event::SERVICE_CHANGE, action, key, flags),
        before: *before,
        after: ServiceSettings::default(),
    });
    if place != 0 && has(layout::CONFIGURED) {
        configured::service(&mut told.after, place);
        told.change.flags |= event::AFTER;
    }
    room.submit(0);
    health(|health| health.changes += 1);
}

/// What every change has: what was done, when, to what, and by whom.
#[inline(always)]
fn change(kind: u32, action: u32, key: &DestinationKey, flags: u32) -> Change {
    // SAFETY: the helper only tells where the current task is.
    let task = unsafe { bpf_get_current_task() };
    let parent = number(task, layout!(task.real_parent));
    Change {
        kind,
        action,
        time: now(),
        key: *key,
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        parent_pid: number(parent, layout!(task.tgid)) as u32,
        comm: bpf_get_current_comm().unwrap_or_default(),
        parent_comm: bytes(parent + u64::from(layout!(task.comm).offset)),
        flags,
        reserved: 0,
    }
}
