#![no_main]
//! [`ipvs_observer_fuzz::lines`] under libFuzzer.

libfuzzer_sys::fuzz_target!(init: ipvs_observer_fuzz::seeds_if_asked("lines"), |data: &[u8]| ipvs_observer_fuzz::lines::run(data));
