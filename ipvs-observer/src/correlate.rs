//! Snapshot and activity, joined: how the scheduler's picks compare with the weights.
//!
//! Owns: what follows from two readings of the probes' counters. Refuses to know: where either came from. The
//! two meet on values, within one network namespace; what happens in another does not reach these numbers.

use crate::model::{
    Activity, Destination, DestinationActivity, DestinationKey, KeyMap, Netns, ServiceActivity, ServiceKey,
};

/// What the probes saw of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DestinationObservation {
    /// Its counters.
    pub activity: DestinationActivity,
    /// Its picks since the last reading.
    pub picks: u64,
    /// Its part of the service's picks since the last reading, from 0 to 1; none if there were none.
    pub pick_share: Option<f64>,
    /// Its part of the service's weights, from 0 to 1; none if all are 0.
    pub weight_share: Option<f64>,
}

/// A destination's counters as of a reading.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    activity: DestinationActivity,
    /// Picks since the reading before.
    picks: u64,
    reading: u64,
}

/// Joins one namespace's snapshots with the probes' activity, from one gather to the next.
#[derive(Debug, Default)]
pub struct Correlator {
    netns: Netns,
    known: KeyMap<(ServiceKey, DestinationKey), Known>,
    reading: u64,
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
        self.reading += 1;
        for ((netns, service, destination), counters) in &activity.destinations {
            if *netns != self.netns {
                continue;
            }
            let known = self.known.entry((*service, *destination)).or_default();
            // A counter that went back began anew, and all of it is new.
            let now = counters.picks;
            known.picks = now.checked_sub(known.activity.picks).unwrap_or(now);
            known.activity = *counters;
            known.reading = self.reading;
        }
        self.known.retain(|_, known| known.reading == self.reading);
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
            let known = self.known(service, destination);
            picks += u128::from(known.picks);
            weights += u128::from(destination.weight);
            DestinationObservation {
                activity: known.activity,
                picks: known.picks,
                pick_share: None,
                weight_share: None,
            }
        }));
        for (seen, destination) in observed.iter_mut().zip(destinations) {
            seen.pick_share = share(seen.picks, picks);
            seen.weight_share = share(destination.weight.into(), weights);
        }
        activity.service(self.netns, service)
    }

    fn known(&self, service: &ServiceKey, destination: &Destination) -> Known {
        self.known
            .get(&(*service, destination.key))
            .copied()
            .unwrap_or_default()
    }
}

fn share(part: u64, whole: u128) -> Option<f64> {
    (whole != 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{Address, Family, Forward, Name, Service, ServiceFlags, Snapshot, Stats};

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
