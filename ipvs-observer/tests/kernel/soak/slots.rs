//! Slots of counters: which are free, and how many were ever given. To be asked while nothing is scheduled.

use std::collections::BTreeSet;

use aya::maps::{Array, Map, MapData, MapError, Stack};
use ipvs_observer_common::{counter::Health, slot::Free};

use super::footprint::{Listed, listed};

/// Free slots of one map.
#[derive(Debug)]
pub struct Slots {
    pub slots: Vec<u32>,
    /// How many there are, free or not.
    pub size: u32,
}

/// The slots of the programs' stacks, but for `others`. For the moment that it takes to look there are none.
pub fn free(others: &BTreeSet<u64>) -> Vec<(String, Slots)> {
    let stacks = listed().into_iter().filter(|map| map.kind == "stack");
    stacks
        .filter(|map| !others.contains(&map.id))
        .map(|map| {
            let mut stack =
                Stack::<_, Free>::try_from(Map::Stack(open(&map))).expect("a stack of free slots");
            let mut runs = Vec::new();
            loop {
                match stack.pop(0) {
                    Ok(run) => runs.push(run),
                    Err(MapError::ElementNotFound) => break,
                    Err(error) => panic!("{}: {error}", map.name),
                }
            }
            // As they lay.
            for run in runs.iter().rev() {
                stack.push(run, 0).expect("there was room for it");
            }
            let slots = runs.iter().flat_map(|run| run.first..run.first + run.count);
            let slots = Slots {
                slots: slots.collect(),
                size: map.size,
            };
            (format!("{}[{}]", map.name, map.id), slots)
        })
        .collect()
}

/// Below which slots of services and of real servers all were that each of the programs ever gave.
pub fn given(others: &BTreeSet<u64>) -> Vec<[u32; 2]> {
    let healths = listed().into_iter().filter(|map| map.name == "HEALTH");
    healths
        .filter(|map| !others.contains(&map.id))
        .map(|map| {
            let blocks = Array::<_, Health>::try_from(Map::Array(open(&map))).expect("a block for each CPU");
            let mut sum = Health::default();
            for block in blocks.iter() {
                sum.add(&block.expect("it is there"));
            }
            [sum.services_given, sum.destinations_given]
        })
        .collect()
}

fn open(map: &Listed) -> MapData {
    MapData::from_id(map.id as u32).unwrap_or_else(|error| panic!("{}: {error}", map.name))
}
