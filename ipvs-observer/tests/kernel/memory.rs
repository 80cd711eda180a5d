//! Kernel memory that the probes take, held against what `bpftool` reads of the same maps.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value as Json;

use crate::{
    observer::{self, only},
    support::child::shell,
    watched::Watched,
};

/// What each map of the kernel takes, by its id.
fn maps() -> BTreeMap<u64, u64> {
    let output = Command::new("bpftool").args(["-j", "map", "show"]).output();
    let listed: Json = serde_json::from_slice(&output.expect("bpftool").stdout).unwrap_or(Json::Null);
    let number = |map: &Json, field: &str| map[field].as_u64().expect("a number");
    let maps = listed.as_array().into_iter().flatten();
    maps.map(|map| (number(map, "id"), number(map, "bytes_memlock")))
        .collect()
}

#[test]
fn the_memory_of_the_maps_is_what_bpftool_sums_and_check_has_it_too() {
    shell("modprobe ip_vs");
    let others = maps();
    let watched = Watched::start(&["--interval", "200ms"]);
    let (gather, _) = watched.shown("the maps' memory", |gather| {
        only(gather, "ipvs_observer").fields.contains_key("map_bytes")
    });
    let bytes = only(&gather, "ipvs_observer").number("map_bytes");
    let own = maps().into_iter().filter(|(id, _)| !others.contains_key(id));
    assert_eq!(bytes, own.map(|(_, bytes)| bytes).sum::<u64>());
    assert!(bytes > 1 << 20, "{bytes}");
    watched.end();

    let output = observer::run(&["check", "--format", "json"]);
    let rows: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let row = rows
        .as_array()
        .expect("rows")
        .iter()
        .find(|row| row["need"] == "memory");
    let detail = row.expect("the row")["detail"].as_str().expect("text");
    let (resident, kernel) = detail.split_once(" MiB resident, ").expect(detail);
    let resident: f64 = resident.parse().expect(detail);
    assert!((2.0..64.0).contains(&resident), "{detail}");
    let expected = format!("{:.1} MiB ", bytes as f64 / f64::from(1 << 20));
    assert!(kernel.starts_with(&expected), "{detail}, {bytes} bytes");
}
