//! Snapshot and activity, joined: how the scheduler's picks compare with the weights.
//!
//! Owns: what follows from what the probes counted and what netlink told. Refuses to know: where either came from. The
//! two meet on values, within one network namespace; what happens in another does not reach these numbers.

use crate::model::{Activity, Destination, DestinationActivity, Netns, ServiceActivity, ServiceKey};

/// What the probes saw of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DestinationObservation {
    /// Its counters.
    pub activity: DestinationActivity,
    /// Its part of the service's picks since the last reading, from 0 to 1; none if there were none.
    pub pick_share: Option<f64>,
    /// Its part of the service's weights, from 0 to 1; none if all are 0.
    pub weight_share: Option<f64>,
}

/// Joins one namespace's snapshots with the probes' activity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Correlator {
    netns: Netns,
}

impl Correlator {
    /// For the namespace `netns`.
    pub fn new(netns: Netns) -> Self {
        Self { netns }
    }

    /// The namespace.
    pub fn netns(&self) -> Netns {
        self.netns
    }

    /// What was seen of a service, and in `observed` what was seen of its `destinations`, in their order.
    pub fn observe(
        &self,
        activity: &Activity,
        service: &ServiceKey,
        destinations: &[Destination],
        observed: &mut Vec<DestinationObservation>,
    ) -> ServiceActivity {
        let (mut picks, mut weights) = (0_u128, 0_u128);
        observed.clear();
        observed.extend(destinations.iter().map(|destination| {
            let by_scheduling = activity.overload_by_scheduling;
            let mut activity = activity.destination(self.netns, service, &destination.key);
            if by_scheduling && activity.overloaded == Some(true) && recovered(destination) {
                activity.overloaded = Some(false);
            }
            picks += u128::from(activity.picks_since);
            weights += u128::from(destination.weight);
            DestinationObservation {
                activity,
                pick_share: None,
                weight_share: None,
            }
        }));
        for (seen, destination) in observed.iter_mut().zip(destinations) {
            seen.pick_share = share(seen.activity.picks_since, picks);
            seen.weight_share = share(destination.weight.into(), weights);
        }
        activity.service(self.netns, service)
    }
}

/// Whether the kernel took back, when the last connection ended, that a destination is overloaded: below the lower
/// threshold, or below three quarters of the upper one where there is no lower one. With no upper threshold it never
/// is. Nothing follows the other way: a threshold that was lowered to below the connections that are there makes a
/// destination overloaded only with its next connection.
fn recovered(destination: &Destination) -> bool {
    let total = u64::from(destination.active) + u64::from(destination.inactive);
    let (upper, lower) = (
        u64::from(destination.upper_threshold),
        u64::from(destination.lower_threshold),
    );
    match (upper, lower) {
        (0, _) => true,
        (_, 0) => total * 4 < upper * 3,
        _ => total < lower,
    }
}

fn share(part: u64, whole: u128) -> Option<f64> {
    (whole != 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{
        Address, DestinationKey, Family, Forward, Listing, Name, Service, ServiceFlags, Snapshot, Stats,
    };

    const NETNS: Netns = Netns(7);
    const SERVICE: ServiceKey = ServiceKey::Fwmark {
        family: Family::INET,
        mark: 1,
    };

    fn destination(last: u8) -> DestinationKey {
        DestinationKey {
            address: Address::from(IpAddr::from([10, 0, 0, last])),
            port: 80,
        }
    }

    fn snapshot(weights: &[u32]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.push_service(Service {
            key: SERVICE,
            scheduler: Name::from("wrr"),
            flags: ServiceFlags(0),
            timeout: 0,
            netmask: 0,
            persistence_engine: Name::default(),
            stats: Stats::default(),
        });
        let (servers, parts) = snapshot.to_list(1);
        let mut listing = Listing::begin(&mut servers[0], &mut parts[0]);
        for (last, &weight) in (1..).zip(weights) {
            listing.push(Destination {
                key: destination(last),
                forward: Forward::Masquerade,
                tunnel: None,
                weight,
                upper_threshold: 0,
                lower_threshold: 0,
                active: 0,
                inactive: 0,
                persistent: 0,
                stats: Stats::default(),
            });
        }
        listing.finish();
        snapshot
    }

    /// Reads what was picked of each, first and then, into one activity.
    fn activity(readings: &[&[(Netns, u8, u64)]]) -> Activity {
        let mut activity = Activity::default();
        for picks in readings {
            for (place, &(netns, last, picks)) in (0..).zip(*picks) {
                let counters = DestinationActivity {
                    picks,
                    ..DestinationActivity::default()
                };
                let name = (netns, SERVICE, destination(last));
                activity.destinations.update(place, 1, counters, || Some(name));
            }
        }
        activity
    }

    /// Pick shares and weight shares of all destinations.
    fn shares(
        correlator: Correlator,
        activity: &Activity,
        snapshot: &Snapshot,
    ) -> Vec<(Option<f64>, Option<f64>)> {
        let destinations = snapshot.destinations(&snapshot.virtual_servers()[0]);
        let mut observed = Vec::new();
        correlator.observe(activity, &SERVICE, destinations, &mut observed);
        observed
            .iter()
            .map(|seen| (seen.pick_share, seen.weight_share))
            .collect()
    }

    #[test]
    fn shares_are_of_the_picks_since_the_last_reading_and_of_the_weights() {
        let first = [(NETNS, 1, 10), (NETNS, 2, 10)];
        let activity = activity(&[&first, &[(NETNS, 1, 11), (NETNS, 2, 13)]]);
        assert_eq!(
            shares(Correlator::new(NETNS), &activity, &snapshot(&[1, 3])),
            [(Some(0.25), Some(0.25)), (Some(0.75), Some(0.75))]
        );
    }

    #[test]
    fn without_picks_or_weights_there_is_no_share() {
        let idle = [(NETNS, 1, 5)];
        let activity = activity(&[&idle, &idle]);
        assert_eq!(
            shares(Correlator::new(NETNS), &activity, &snapshot(&[0, 0])),
            [(None, None), (None, None)]
        );
    }

    #[test]
    fn picks_in_another_namespace_do_not_count() {
        let activity = activity(&[&[(NETNS, 1, 5), (Netns(8), 2, 1000)]]);
        assert_eq!(
            shares(Correlator::new(NETNS), &activity, &snapshot(&[1, 1])),
            [(Some(1.0), Some(0.5)), (Some(0.0), Some(0.5))]
        );
    }

    #[test]
    fn a_destination_that_came_anew_begins_at_nothing() {
        let first = [(NETNS, 1, 100), (NETNS, 2, 100)];
        let activity = activity(&[&first, &[(NETNS, 1, 3), (NETNS, 2, 101)]]);
        let shares = shares(Correlator::new(NETNS), &activity, &snapshot(&[1, 1]));
        assert_eq!(shares[0].0, Some(0.75));
    }

    /// What is reported of a destination that scheduling last saw overloaded or not.
    fn overloaded(
        by_scheduling: bool,
        seen: Option<bool>,
        [upper, lower]: [u32; 2],
        total: u32,
    ) -> Option<bool> {
        let mut activity = Activity {
            overload_by_scheduling: by_scheduling,
            ..Activity::default()
        };
        let counters = DestinationActivity {
            overloaded: seen,
            ..DestinationActivity::default()
        };
        let name = (NETNS, SERVICE, destination(1));
        activity.destinations.update(0, 1, counters, || Some(name));
        let snapshot = snapshot(&[1]);
        let mut found = snapshot.destinations(&snapshot.virtual_servers()[0])[0];
        (found.upper_threshold, found.lower_threshold) = (upper, lower);
        (found.active, found.inactive) = (total / 2, total - total / 2);
        let mut observed = Vec::new();
        Correlator::new(NETNS).observe(&activity, &SERVICE, &[found], &mut observed);
        observed[0].activity.overloaded
    }

    #[test]
    fn an_overload_seen_by_scheduling_ends_where_the_kernel_ends_it() {
        for (thresholds, total, expected) in [
            ([1, 0], 1, true),
            ([1, 0], 0, false),
            ([4, 0], 3, true),
            ([4, 0], 2, false),
            ([10, 5], 5, true),
            ([10, 5], 4, false),
            ([0, 0], 9, false),
            ([u32::MAX, 0], u32::MAX, true),
        ] {
            assert_eq!(
                overloaded(true, Some(true), thresholds, total),
                Some(expected),
                "{thresholds:?} {total}"
            );
        }
    }

    #[test]
    fn an_overload_that_the_kernel_itself_tells_of_and_one_never_seen_stay_as_they_are() {
        assert_eq!(overloaded(false, Some(true), [1, 0], 0), Some(true));
        assert_eq!(overloaded(true, None, [1, 0], 0), None);
        assert_eq!(
            overloaded(true, Some(false), [1, 0], 1),
            Some(false),
            "a lowered threshold does nothing yet"
        );
    }
}
