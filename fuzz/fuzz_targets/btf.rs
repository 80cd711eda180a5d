#![no_main]
//! [`ipvs_observer_fuzz::btf`] under libFuzzer.

libfuzzer_sys::fuzz_target!(init: ipvs_observer_fuzz::seeds_if_asked("btf"), |data: &[u8]| ipvs_observer_fuzz::btf::run(data));
