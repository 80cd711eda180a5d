#![no_main]
//! [`ipvs_observer_fuzz::settings`] under libFuzzer.

libfuzzer_sys::fuzz_target!(init: ipvs_observer_fuzz::seeds_if_asked("settings"), |data: &[u8]| ipvs_observer_fuzz::settings::run(data));
