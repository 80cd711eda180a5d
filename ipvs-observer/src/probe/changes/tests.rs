use ipvs_observer_common::{
    event::{self, Change as Header, DestinationChange, DestinationSettings, ServiceChange, ServiceSettings},
    key::{DestinationKey, ServiceKey},
};

use super::{Clock, KernelChange, ticks_per_second};
use crate::model::{Action, Change, Changed, Setting, Value};

fn told(change: &KernelChange) -> Change {
    super::change(change, Clock { ahead: 1000 }).expect("a known action")
}

fn on_destination(change: DestinationChange) -> Change {
    told(&KernelChange::Destination(Box::new(change)))
}

fn header(action: u32, flags: u32) -> Header {
    Header {
        action,
        time: 5,
        key: DestinationKey {
            service: ServiceKey {
                family: 2,
                protocol: 6,
                ..ServiceKey::default()
            },
            ..DestinationKey::default()
        },
        pid: 42,
        parent_pid: 41,
        flags,
        ..Header::default()
    }
}

fn number(what: Setting, before: u32, after: u32) -> Changed {
    Changed {
        what,
        before: Some(Value::Number(before)),
        after: Some(Value::Number(after)),
    }
}

fn text(what: Setting, before: Option<&str>, after: Option<&str>) -> Changed {
    let [before, after] = [before, after].map(|text| text.map(|text| Value::Text(text.to_owned())));
    Changed { what, before, after }
}

#[test]
fn a_change_names_who_made_it_and_what_was_before() {
    let mut change = DestinationChange {
        change: header(event::ACTION_EDIT_DESTINATION, 0),
        weight_before: 3,
        weight_after: 0,
        ..DestinationChange::default()
    };
    change.change.comm[..7].copy_from_slice(b"ipvsadm");
    change.change.parent_comm[..8].copy_from_slice(b"drain.sh");
    let change = on_destination(change);
    assert_eq!(change.action, Action::EditDestination);
    assert_eq!((change.weight_before, change.weight_after), (Some(3), Some(0)));
    assert_eq!((change.comm.as_str(), change.pid), ("ipvsadm", 42));
    assert_eq!((change.parent_comm.as_str(), change.parent_pid), ("drain.sh", 41));
    assert_eq!(change.time, 1005);
    assert!(change.destination.is_some());
    assert_eq!((change.changed, change.remaining), (None, None), "not known");
}

#[test]
fn nobody_is_named_for_an_overload_which_no_process_made() {
    let mut change = DestinationChange {
        change: header(event::ACTION_OVERLOAD, 0),
        ..DestinationChange::default()
    };
    change.change.comm[..5].copy_from_slice(b"nginx");
    let change = on_destination(change);
    assert!(change.comm.is_empty() && change.pid == 0);
}

#[test]
fn a_service_that_goes_has_no_destination_and_no_weight() {
    let change = told(&KernelChange::Service(Box::new(ServiceChange {
        change: header(event::ACTION_DELETE_SERVICE, 0),
        ..ServiceChange::default()
    })));
    assert_eq!(
        (change.destination, change.weight_before, change.weight_after),
        (None, None, None)
    );
    assert_eq!(change.changed, None);
}

fn settings(scheduler: &str, engine: &str, flags: u32, seconds: u32, netmask: u32) -> ServiceSettings {
    let mut settings = ServiceSettings {
        flags,
        timeout: seconds * ticks_per_second(),
        netmask,
        ..ServiceSettings::default()
    };
    settings.scheduler[..scheduler.len()].copy_from_slice(scheduler.as_bytes());
    settings.engine[..engine.len()].copy_from_slice(engine.as_bytes());
    settings
}

fn service_changed(action: u32, before: ServiceSettings, after: ServiceSettings) -> Vec<Changed> {
    let change = told(&KernelChange::Service(Box::new(ServiceChange {
        change: header(action, event::BEFORE | event::AFTER),
        before,
        after,
    })));
    change.changed.expect("it is known")
}

#[test]
fn an_edit_of_a_service_says_what_was_and_what_is_and_nothing_else() {
    let edited = |before, after| service_changed(event::ACTION_EDIT_SERVICE, before, after);
    let plain = settings("rr", "", 2, 0, u32::MAX);
    assert_eq!(edited(plain, plain), []);
    assert_eq!(
        edited(plain, settings("sh", "", 0x1e, 0, u32::MAX)),
        [
            text(Setting::Scheduler, Some("rr"), Some("sh")),
            text(Setting::Flags, Some(""), Some("ops,sh-fallback,sh-port")),
        ]
    );
    assert_eq!(
        edited(plain, settings("rr", "sip", 3, 60, 0x00ff_ffff)),
        [
            number(Setting::PersistenceTimeout, 0, 60),
            number(Setting::Netmask, 32, 24),
            text(Setting::PersistenceEngine, None, Some("sip")),
        ]
    );
}

#[test]
fn what_is_added_says_what_it_is_apart_from_the_defaults() {
    let added = |after| service_changed(event::ACTION_ADD_SERVICE, ServiceSettings::default(), after);
    let scheduler = text(Setting::Scheduler, None, Some("rr"));
    let plain = added(settings("rr", "", 2, 0, u32::MAX));
    assert_eq!(plain, std::slice::from_ref(&scheduler));
    let timeout = Changed {
        before: None,
        ..number(Setting::PersistenceTimeout, 0, 60)
    };
    assert_eq!(added(settings("rr", "", 3, 60, u32::MAX)), [scheduler, timeout]);
}

#[test]
fn an_edit_of_a_destination_says_what_was_and_what_is() {
    let change = |before, after| {
        on_destination(DestinationChange {
            change: header(event::ACTION_EDIT_DESTINATION, event::BEFORE | event::AFTER),
            weight_before: 1,
            weight_after: 5,
            before,
            after,
            ..DestinationChange::default()
        })
    };
    let masq = DestinationSettings::default();
    let gue = DestinationSettings {
        connection_flags: 0x102,
        upper_threshold: 10,
        lower_threshold: 5,
        tunnel_kind: 1,
        tunnel_port: 6080,
        tunnel_flags: 1,
        ..DestinationSettings::default()
    };
    let change = change(masq, gue);
    assert_eq!(
        change.changed_words().as_deref(),
        Some(
            "weight 1 -> 5, forward masq -> tunnel, tunnel none -> gue port 6080 csum, upper threshold 0 -> 10, lower \
             threshold 0 -> 5"
        )
    );
}
