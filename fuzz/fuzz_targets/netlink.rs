#![no_main]
//! [`ipvs_observer_fuzz::netlink`] under libFuzzer.

libfuzzer_sys::fuzz_target!(init: ipvs_observer_fuzz::seeds_if_asked("netlink"), |data: &[u8]| ipvs_observer_fuzz::netlink::run(data));
