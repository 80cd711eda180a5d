//! Snapshot and activity, joined: how the scheduler's picks compare with the weights.
//!
//! Owns: what follows from two readings of the probes' counters. Refuses to know: where either came from. The
//! two meet on values, within one network namespace; what happens in another does not reach these numbers.

use std::{collections::HashMap, mem};

use crate::model::{
    Activity, DestinationActivity, DestinationKey, Netns, ServiceActivity, ServiceKey, Snapshot,
    VirtualServer,
};

/// What the probes saw of a service, and what follows for its destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServiceObservation {
    /// The scheduler's counters.
    pub activity: ServiceActivity,
    /// Picks since the last reading, of all destinations that are there now.
    picks: u64,
    /// Weights of all destinations.
    weights: u64,
}

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

/// Picks by destination, as they stood.
type Picks = HashMap<(ServiceKey, DestinationKey), u64>;

/// Joins one namespace's snapshots with the probes' activity, from one gather to the next.
#[derive(Debug, Default)]
pub struct Correlator {
    netns: Netns,
    before: Picks,
    now: Picks,
}

impl Correlator {
    /// For the namespace `netns`.
    pub fn new(netns: Netns) -> Self {
        Self {
            netns,
            ..Self::default()
        }
    }

    /// The namespace.
    pub fn netns(&self) -> Netns {
        self.netns
    }

    /// Takes note of a new reading: what was new becomes old.
    pub fn advance(&mut self, activity: &Activity) {
        mem::swap(&mut self.before, &mut self.now);
        self.now.clear();
        for ((netns, service, destination), counters) in &activity.destinations {
            if *netns == self.netns && counters.picks > 0 {
                self.now.insert((*service, *destination), counters.picks);
            }
        }
    }

    /// What was seen of a service.
    pub fn service(
        &self,
        activity: &Activity,
        snapshot: &Snapshot,
        server: &VirtualServer,
    ) -> ServiceObservation {
        let key = &server.service.key;
        let destinations = snapshot.destinations(server);
        ServiceObservation {
            activity: activity.service(self.netns, key),
            picks: destinations
                .iter()
                .map(|destination| self.picks(key, &destination.key))
                .sum(),
            weights: destinations
                .iter()
                .map(|destination| u64::from(destination.weight))
                .sum(),
        }
    }

    /// What was seen of a destination of a service.
    pub fn destination(
        &self,
        activity: &Activity,
        (key, service): (&ServiceKey, &ServiceObservation),
        destination: &DestinationKey,
        weight: u32,
    ) -> DestinationObservation {
        DestinationObservation {
            activity: activity.destination(self.netns, key, destination),
            pick_share: share(self.picks(key, destination), service.picks),
            weight_share: share(weight.into(), service.weights),
        }
    }

    /// Picks since the last reading. A counter that went back began anew, and all of it is new.
    fn picks(&self, service: &ServiceKey, destination: &DestinationKey) -> u64 {
        let key = (*service, *destination);
        let now = self.now.get(&key).copied().unwrap_or_default();
        let before = self.before.get(&key).copied().unwrap_or_default();
        now.checked_sub(before).unwrap_or(now)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole != 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{Address, Destination, Family, Forward, Name, Service, ServiceFlags, Stats};

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
        let place = snapshot.push_service(Service {
            key: SERVICE,
            scheduler: Name::from("wrr"),
            flags: ServiceFlags(0),
            timeout: 0,
            netmask: 0,
            persistence_engine: Name::default(),
            stats: Stats::default(),
        });
        snapshot.begin_destinations(place);
        for (last, &weight) in (1..).zip(weights) {
            snapshot.push_destination(Destination {
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
        snapshot.finish_destinations(place, true);
        snapshot
    }

    fn activity(picks: &[(Netns, u8, u64)]) -> Activity {
        let mut activity = Activity::default();
        for &(netns, last, picks) in picks {
            let counters = DestinationActivity {
                picks,
                ..DestinationActivity::default()
            };
            activity
                .destinations
                .insert((netns, SERVICE, destination(last)), counters);
        }
        activity
    }

    /// Pick shares and weight shares of all destinations.
    fn shares(
        correlator: &Correlator,
        activity: &Activity,
        snapshot: &Snapshot,
    ) -> Vec<(Option<f64>, Option<f64>)> {
        let server = &snapshot.virtual_servers()[0];
        let service = correlator.service(activity, snapshot, server);
        let observe = |destination: &Destination| {
            let seen = correlator.destination(
                activity,
                (&SERVICE, &service),
                &destination.key,
                destination.weight,
            );
            (seen.pick_share, seen.weight_share)
        };
        snapshot.destinations(server).iter().map(observe).collect()
    }

    #[test]
    fn shares_are_of_the_picks_since_the_last_reading_and_of_the_weights() {
        let snapshot = snapshot(&[1, 3]);
        let mut correlator = Correlator::new(NETNS);
        correlator.advance(&activity(&[(NETNS, 1, 10), (NETNS, 2, 10)]));
        let second = activity(&[(NETNS, 1, 11), (NETNS, 2, 13)]);
        correlator.advance(&second);
        assert_eq!(
            shares(&correlator, &second, &snapshot),
            [(Some(0.25), Some(0.25)), (Some(0.75), Some(0.75))]
        );
    }

    #[test]
    fn without_picks_or_weights_there_is_no_share() {
        let snapshot = snapshot(&[0, 0]);
        let mut correlator = Correlator::new(NETNS);
        let idle = activity(&[(NETNS, 1, 5)]);
        correlator.advance(&idle);
        correlator.advance(&idle);
        assert_eq!(
            shares(&correlator, &idle, &snapshot),
            [(None, None), (None, None)]
        );
    }

    #[test]
    fn picks_in_another_namespace_do_not_count() {
        let snapshot = snapshot(&[1, 1]);
        let mut correlator = Correlator::new(NETNS);
        let seen = activity(&[(NETNS, 1, 5), (Netns(8), 2, 1000)]);
        correlator.advance(&seen);
        assert_eq!(
            shares(&correlator, &seen, &snapshot),
            [(Some(1.0), Some(0.5)), (Some(0.0), Some(0.5))]
        );
    }

    #[test]
    fn a_destination_that_came_anew_begins_at_nothing() {
        let snapshot = snapshot(&[1, 1]);
        let mut correlator = Correlator::new(NETNS);
        correlator.advance(&activity(&[(NETNS, 1, 100), (NETNS, 2, 100)]));
        let seen = activity(&[(NETNS, 1, 3), (NETNS, 2, 101)]);
        correlator.advance(&seen);
        assert_eq!(shares(&correlator, &seen, &snapshot)[0].0, Some(0.75));
    }
}
