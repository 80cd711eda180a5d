//! What befell each destination, from one reading of the probes' counters to the next.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::{DestinationActivity, DestinationKey, Ends, Netns, ServiceKey};

/// A destination of all that there are, in whatever namespace.
pub type DestinationName = (Netns, ServiceKey, DestinationKey);

/// Destinations, each in a place that it keeps while it is counted. A reading looks at places, where nothing has to be
/// looked up, and whoever wants one asks by name.
#[derive(Debug, Default)]
pub struct Destinations {
    /// By name, which the place has: a map with the names in it would be as large as the rest.
    places: HashTable<u32>,
    kept: Vec<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    generation: u64,
    name: DestinationName,
    /// Since the reading before; nobody is picked four billion times in one interval.
    picks_since: u32,
    picks: u64,
    rare: Halves,
    overloaded: Option<bool>,
}

/// Counters of which few exceed 32 bits: the lower half of each, and the upper halves where one does. A large table has
/// a hundred thousand of these.
#[derive(Debug)]
struct Halves {
    lower: [u32; RARE],
    upper: Option<Box<[u32; RARE]>>,
}

/// How many counters of a destination are kept as [`Halves`].
const RARE: usize = 7;

impl Halves {
    fn of(counters: [u64; RARE]) -> Self {
        let upper = counters.map(|counter| (counter >> 32) as u32);
        Self {
            lower: counters.map(|counter| counter as u32),
            upper: (upper != [0; RARE]).then(|| Box::new(upper)),
        }
    }

    fn counters(&self) -> [u64; RARE] {
        let mut counters = self.lower.map(u64::from);
        for (counter, upper) in counters
            .iter_mut()
            .zip(self.upper.iter().flat_map(|upper| **upper))
        {
            *counter |= u64::from(upper) << 32;
        }
        counters
    }
}

impl Kept {
    fn of(generation: u64, name: DestinationName, activity: &DestinationActivity) -> Self {
        let DestinationActivity {
            picks,
            picks_since,
            overloads,
            overloaded,
            ends:
                Ends {
                    closed,
                    reset,
                    half_open,
                    idle,
                    expired,
                    other,
                },
        } = *activity;
        Self {
            generation,
            name,
            picks_since: u32::try_from(picks_since).unwrap_or(u32::MAX),
            picks,
            rare: Halves::of([overloads, closed, reset, half_open, idle, expired, other]),
            overloaded,
        }
    }

    fn activity(&self) -> DestinationActivity {
        let [overloads, closed, reset, half_open, idle, expired, other] = self.rare.counters();
        DestinationActivity {
            picks: self.picks,
            picks_since: self.picks_since.into(),
            overloads,
            overloaded: self.overloaded,
            ends: Ends {
                closed,
                reset,
                half_open,
                idle,
                expired,
                other,
            },
        }
    }
}

impl Destinations {
    /// What was read of a place: `name` is whose it is, asked for where it is of another `generation` than it was;
    /// none: nobody's.
    ///
    /// The picks of `now` since the reading before follow from what that found here. A counter that went back began
    /// anew, and all of it is new, as is all that is new here.
    pub fn update(
        &mut self,
        place: u32,
        generation: u64,
        mut now: DestinationActivity,
        name: impl FnOnce() -> Option<DestinationName>,
    ) {
        let index = place as usize;
        if self.kept.len() <= index {
            self.kept.resize_with(index + 1, || None);
        }
        if let Some(kept) = self.kept[index]
            .as_mut()
            .filter(|kept| kept.generation == generation)
        {
            now.picks_since = now.picks.checked_sub(kept.picks).unwrap_or(now.picks);
            *kept = Kept::of(generation, kept.name, &now);
            return;
        }
        self.remove(place);
        now.picks_since = now.picks;
        let Some(name) = name() else { return };
        let hash = hash(&name);
        if let Some(other) = find(&self.places, &self.kept, hash, &name) {
            // Who was deleted and came again has the new place, and the old one is nobody's.
            self.remove(other);
        }
        let Self { places, kept } = self;
        kept[index] = Some(Kept::of(generation, name, &now));
        places.insert_unique(hash, place, |&place| hash_at(kept, place));
    }

    /// Nobody has the place any more.
    pub fn remove(&mut self, place: u32) {
        if let Some(kept) = self.kept.get_mut(place as usize).and_then(Option::take)
            && let Ok(entry) = self.places.find_entry(hash(&kept.name), |&other| other == place)
        {
            entry.remove();
        }
    }

    /// Nobody has the places from `first` on, and those before it are about to be read.
    pub fn truncate(&mut self, first: u32) {
        for place in first..self.kept.len() as u32 {
            self.remove(place);
        }
        self.kept.truncate(first as usize);
        // Not by doubling, which leaves as much behind: there can be a hundred thousand.
        let missing = (first as usize).saturating_sub(self.kept.len());
        self.kept.reserve_exact(missing);
    }

    /// What befell a destination; none if nothing did.
    pub fn get(&self, name: &DestinationName) -> Option<DestinationActivity> {
        let place = find(&self.places, &self.kept, hash(name), name)?;
        let kept = self.kept.get(place as usize)?.as_ref()?;
        Some(kept.activity())
    }

    /// All of them, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&DestinationName, DestinationActivity)> {
        self.kept
            .iter()
            .flatten()
            .map(|kept| (&kept.name, kept.activity()))
    }

    /// Whether nothing befell any.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Forgets all of them: what is read next is all new.
    pub fn clear(&mut self) {
        self.places.clear();
        self.kept.clear();
    }
}

/// By the kernel's configuration, which root chooses: as with [`KeyMap`](super::KeyMap).
fn hash(name: &DestinationName) -> u64 {
    FxBuildHasher.hash_one(name)
}

fn hash_at(kept: &[Option<Kept>], place: u32) -> u64 {
    let kept = kept.get(place as usize).and_then(Option::as_ref);
    kept.map_or(0, |kept| hash(&kept.name))
}

#[inline]
fn find(places: &HashTable<u32>, kept: &[Option<Kept>], hash: u64, name: &DestinationName) -> Option<u32> {
    let named = |&place: &u32| {
        let kept = kept.get(place as usize).and_then(Option::as_ref);
        kept.is_some_and(|kept| kept.name == *name)
    };
    places.find(hash, named).copied()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{Address, Family};

    fn name(last: u8) -> DestinationName {
        let service = ServiceKey::Fwmark {
            family: Family::INET,
            mark: 1,
        };
        let address = Address::from(IpAddr::from([10, 0, 0, last]));
        (Netns(7), service, DestinationKey { address, port: 80 })
    }

    fn picks(picks: u64) -> DestinationActivity {
        DestinationActivity {
            picks,
            ..DestinationActivity::default()
        }
    }

    fn since(destinations: &Destinations, last: u8) -> Option<u64> {
        destinations.get(&name(last)).map(|activity| activity.picks_since)
    }

    #[test]
    fn picks_since_the_last_reading_are_those_that_it_did_not_find() {
        let mut destinations = Destinations::default();
        for (now, new) in [(10, 10), (13, 3), (13, 0), (4, 4)] {
            destinations.update(5, 1, picks(now), || Some(name(1)));
            assert_eq!(since(&destinations, 1), Some(new), "{now}");
        }
    }

    #[test]
    fn counters_come_back_as_they_were_whatever_their_size() {
        let mut destinations = Destinations::default();
        for large in [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let seen = DestinationActivity {
                picks: large,
                overloads: large,
                overloaded: Some(true),
                ends: Ends {
                    closed: 1,
                    reset: 2,
                    half_open: 3,
                    idle: 4,
                    expired: 5,
                    other: large,
                },
                ..DestinationActivity::default()
            };
            destinations.update(1, 1, seen, || Some(name(1)));
            let mut found = destinations.get(&name(1)).expect("it is there");
            found.picks_since = 0;
            assert_eq!(found, seen);
        }
        assert!(size_of::<Kept>() <= 112, "{}", size_of::<Kept>());
    }

    #[test]
    fn a_place_that_is_given_to_another_says_nothing_of_the_one_before() {
        let mut destinations = Destinations::default();
        destinations.update(0, 1, picks(10), || Some(name(1)));
        destinations.update(0, 2, picks(12), || Some(name(2)));
        assert_eq!(
            (since(&destinations, 1), since(&destinations, 2)),
            (None, Some(12))
        );
        assert_eq!((destinations.len(), destinations.iter().count()), (1, 1));
    }

    #[test]
    fn who_came_again_in_another_place_is_not_lost_with_the_old_one() {
        let mut destinations = Destinations::default();
        destinations.update(3, 1, picks(10), || Some(name(1)));
        destinations.update(0, 2, picks(1), || Some(name(1)));
        destinations.truncate(2);
        destinations.remove(7);
        assert_eq!(since(&destinations, 1), Some(1));
        destinations.clear();
        assert!(destinations.is_empty());
    }
}
