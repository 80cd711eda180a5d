#![no_main]
//! [`ipvs_observer_fuzz::events`] under libFuzzer.

libfuzzer_sys::fuzz_target!(init: ipvs_observer_fuzz::seeds_if_asked("events"), |data: &[u8]| ipvs_observer_fuzz::events::run(data));
