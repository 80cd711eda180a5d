//! What holds of any text and of any counters: all short ones, and long ones at random.
//!
//! A failure names its seed; `IPVS_OBSERVER_SEED` takes it again.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

mod support;

use std::{collections::HashMap, env, net::IpAddr, time::SystemTime};

use ipvs_observer::{
    correlate::Correlator,
    line::Encoder,
    model::{
        Activity, Address, Destination, DestinationActivity, DestinationKey, Family, Forward, Listing, Name,
        Netns, Service, ServiceFlags, ServiceKey, Snapshot, Stats,
    },
};
use support::lines::{self, Value};

/// Numbers as good as random, from a seed that is told.
struct Random(u64);

impl Random {
    fn new(purpose: &str) -> Self {
        let seed = env::var("IPVS_OBSERVER_SEED").map_or_else(
            |_| {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                now.expect("a clock after 1970").as_nanos() as u64
            },
            |seed| seed.parse().expect("IPVS_OBSERVER_SEED is a number"),
        );
        println!("{purpose}: IPVS_OBSERVER_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Small, of any size, or close to the greatest.
    fn counter(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(5),
            1 => u64::MAX - self.below(5),
            _ => {
                let size = self.below(64);
                self.next() >> size
            }
        }
    }
}

/// What some reader of lines could stumble over, and a letter and two that are more than a byte.
const LETTERS: [char; 11] = ['a', ',', '=', ' ', '\\', '"', '\n', '\0', '\r', 'ä', '😀'];

/// Writes texts as tags and as strings, and reads them again.
fn both_ways(texts: &[String]) {
    let mut encoder = Encoder::new(false);
    for (time, text) in (1..).zip(texts) {
        let mut line = encoder.line("m");
        line.tag("k", text).tag("l", "x");
        line.string("s", text).unsigned("n", 1);
        line.end(time);
    }
    let written = String::from_utf8(encoder.take().to_vec()).expect("text");
    let read = lines::parse(&written);
    assert_eq!(read.len(), texts.len(), "a line each");
    for (line, text) in read.iter().zip(texts) {
        assert_eq!(line.tag("k"), lines::as_tag(text), "{text:?}");
        assert_eq!(line.tag("l"), "x", "{text:?}");
        assert_eq!(line.fields["s"], Value::Text(lines::as_text(text)), "{text:?}");
        assert_eq!(line.fields["n"], Value::Signed(1), "{text:?}");
    }
}

#[test]
fn every_short_text_is_read_as_it_was_written() {
    let mut texts = vec![String::new()];
    let mut longest = texts.clone();
    for _ in 0..4 {
        let longer = |text: &String| LETTERS.map(|letter| format!("{text}{letter}"));
        longest = longest.iter().flat_map(longer).collect();
        texts.extend_from_slice(&longest);
    }
    assert_eq!(texts.len(), 1 + 11 + 121 + 1331 + 14641);
    both_ways(&texts);
}

#[test]
fn long_texts_are_read_as_they_were_written() {
    let mut random = Random::new("texts");
    let texts: Vec<String> = (0..300)
        .map(|_| {
            // Beyond the room in which the encoder collects short pieces.
            let length = random.below(6000);
            let letters = (0..length).map(|_| match random.below(3) {
                0 => char::from_u32(random.below(0x11_0000) as u32).unwrap_or('x'),
                _ => LETTERS[random.below(11) as usize],
            });
            letters.collect()
        })
        .collect();
    both_ways(&texts);
}

#[test]
fn a_text_without_anything_special_is_read_as_it_is() {
    for text in ["wlc", "ä€😀", "a\\b", "{}", "#", "'"] {
        assert_eq!(
            (lines::as_tag(text), lines::as_text(text)),
            (text.to_owned(), text.to_owned())
        );
    }
}

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

fn snapshot(weights: &[(u8, u32)]) -> Snapshot {
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
    for &(last, weight) in weights {
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

fn is_share(share: Option<f64>) -> bool {
    share.is_none_or(|share| (0.0..=1.0).contains(&share))
}

fn is_whole(shares: &[f64]) -> bool {
    shares.is_empty() || (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9
}

#[test]
fn counters_may_go_on_begin_anew_or_wrap_and_shares_are_parts_of_a_whole() {
    let mut random = Random::new("counters");
    let mut resets = 0;
    for _ in 0..500 {
        let correlator = Correlator::new(NETNS);
        let mut activity = Activity::default();
        let mut counters: HashMap<u8, u64> = HashMap::new();
        for _ in 0..8 {
            let weights: Vec<_> = (1..=6)
                .map(|last| (last, random.counter() as u32, random.below(4) > 0))
                .filter(|(_, _, there)| *there)
                .map(|(last, weight, _)| (last, weight))
                .collect();
            let before = counters.clone();
            for last in 1..=6 {
                let counter = counters.entry(last).or_default();
                *counter = match random.below(5) {
                    // It wraps, goes on, begins anew, stands still, or is gone.
                    0 => counter.wrapping_add(random.counter()),
                    1 => counter.saturating_add(random.below(1000)),
                    2 => random.below(3),
                    3 => *counter,
                    _ => 0,
                };
                let picks = *counter;
                if picks > 0 {
                    let counters = DestinationActivity {
                        picks,
                        ..DestinationActivity::default()
                    };
                    let name = (NETNS, SERVICE, destination(last));
                    activity
                        .destinations
                        .update(last.into(), 1, counters, || Some(name));
                } else {
                    activity.destinations.remove(last.into());
                }
            }
            let snapshot = snapshot(&weights);
            let server = &snapshot.virtual_servers()[0];
            let mut observed = Vec::new();
            let destinations = snapshot.destinations(server);
            correlator.observe(&activity, &SERVICE, destinations, &mut observed);
            assert_eq!(observed.len(), weights.len());
            let (mut picks, mut shares) = (Vec::new(), Vec::new());
            let mut new = 0_u128;
            for (&(last, _), seen) in weights.iter().zip(&observed) {
                assert!(
                    is_share(seen.pick_share) && is_share(seen.weight_share),
                    "{seen:?}"
                );
                picks.extend(seen.pick_share);
                shares.extend(seen.weight_share);
                let (then, now) = (before.get(&last).copied().unwrap_or_default(), counters[&last]);
                resets += u32::from(now < then);
                // What is new since then; all of it where the counter began anew.
                let part = if now < then { now } else { now - then };
                new += u128::from(part);
                assert_eq!(
                    seen.pick_share == Some(0.0),
                    part == 0 && !picks.is_empty(),
                    "{seen:?}"
                );
            }
            assert!(is_whole(&picks) && is_whole(&shares), "{picks:?} {shares:?}");
            assert_eq!(picks.is_empty(), new == 0);
            assert_eq!(shares.is_empty(), weights.iter().all(|&(_, weight)| weight == 0));
        }
    }
    assert!(resets > 100, "{resets}");
}
