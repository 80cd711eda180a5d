//! What a change changes: the settings of a service or a destination, as they were and as they are.

use ipvs_observer_common::event::{DestinationSettings, ServiceSettings};

use crate::model::{
    Changed, Forward, Name, Service, ServiceFlags, ServiceKey, Setting, Stats, Tunnel, TunnelKind, Value,
};

/// A setting and its value; none where a destination or a service has no such thing.
pub(super) type Set = (Setting, Option<Value>);

/// What differs; of what was added, what is not as by default.
pub(super) fn changed(before: Option<&[Set]>, after: Vec<Set>) -> Vec<Changed> {
    match before {
        Some(before) => before
            .iter()
            .zip(after)
            .filter(|((_, before), (_, after))| before != after)
            .map(|((what, before), (_, after))| Changed {
                what: *what,
                before: before.clone(),
                after,
            })
            .collect(),
        None => after
            .into_iter()
            .filter(|(what, value)| value.as_ref().is_some_and(|value| !is_default(*what, value)))
            .map(|(what, after)| Changed {
                what,
                before: None,
                after,
            })
            .collect(),
    }
}

/// Whether a value is what one gets without asking for it.
fn is_default(what: Setting, value: &Value) -> bool {
    match (what, value) {
        (Setting::Weight, _) => false,
        (Setting::Netmask, Value::Number(length)) => matches!(length, 32 | 128),
        (_, Value::Number(number)) => *number == 0,
        (_, Value::Text(text)) => text.is_empty(),
    }
}

/// The settings of a service. `ticks`: how many of the kernel's are a second.
pub(super) fn of_service(key: ServiceKey, settings: &ServiceSettings, ticks: u32) -> Vec<Set> {
    let named = |name: &[u8]| Name::from_bytes(name);
    let service = Service {
        key,
        scheduler: named(&settings.scheduler),
        flags: ServiceFlags(settings.flags),
        timeout: settings.timeout / ticks.max(1),
        netmask: settings.netmask,
        persistence_engine: named(&settings.engine),
        stats: Stats::default(),
    };
    let text = |name: Name| (!name.is_empty()).then(|| Value::Text(name.to_string()));
    let flags: Vec<_> = service
        .flags
        .one_packet()
        .then_some("ops")
        .into_iter()
        .chain(service.flags.of_scheduler(service.scheduler.as_str()))
        .collect();
    vec![
        (Setting::Scheduler, text(service.scheduler)),
        (Setting::Flags, Some(Value::Text(flags.join(",")))),
        (
            Setting::PersistenceTimeout,
            Some(Value::Number(service.persistence_timeout())),
        ),
        (Setting::Netmask, Some(Value::Number(service.prefix_length()))),
        (Setting::PersistenceEngine, text(service.persistence_engine)),
    ]
}

/// The settings of a destination.
pub(super) fn of_destination(weight: Option<u32>, settings: &DestinationSettings) -> Vec<Set> {
    let DestinationSettings {
        connection_flags,
        upper_threshold,
        lower_threshold,
        tunnel_kind,
        tunnel_port,
        tunnel_flags,
        reserved: _,
    } = *settings;
    let forward = Forward::from_kernel(connection_flags);
    let tunnel = (forward == Forward::Tunnel).then(|| {
        let tunnel = Tunnel {
            kind: TunnelKind::from_kernel(tunnel_kind as u8),
            port: tunnel_port,
            flags: tunnel_flags,
        };
        Value::Text(tunnel.to_string())
    });
    vec![
        (Setting::Weight, weight.map(Value::Number)),
        (Setting::Forward, Some(Value::Text(forward.name().to_owned()))),
        (Setting::Tunnel, tunnel),
        (Setting::UpperThreshold, Some(Value::Number(upper_threshold))),
        (Setting::LowerThreshold, Some(Value::Number(lower_threshold))),
    ]
}
