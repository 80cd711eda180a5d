//! The winner that `--explain` computes, held against whom the kernel chose.

use std::{
    net::{TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use ipvs_observer::{
    model::{Candidates, Decision},
    probe::Tell,
};

use super::{
    client, modprobe, rules,
    trace::{ROOM, telling, told},
};
use crate::{ipvsadm, support::child::shell};

fn explained<'a>(decision: &'a Decision, context: &str) -> (&'a Candidates, Option<usize>) {
    let candidates = decision.candidates.as_ref().expect("they were asked for");
    let chosen = candidates.list.iter().position(|candidate| candidate.chosen);
    assert_eq!(candidates.computed, chosen, "{context}: {candidates:#?}");
    (candidates, chosen)
}

#[test]
fn the_computed_winner_is_the_chosen_one_for_a_hundred_decisions_of_each_scheduler() {
    let Some(mut probes) = telling(Tell::DECISIONS | Tell::CANDIDATES, ROOM) else {
        return;
    };
    for (port, scheduler) in (7110..).zip([
        "wlc", "lc", "sed", "nq", "rr", "wrr", "fo", "ovf", "sh", "mh", "dh",
    ]) {
        assert!(modprobe(&format!("ip_vs_{scheduler}")));
        probes.refresh();
        // The overflow scheduler is full where connections are more than weights.
        let last = if scheduler == "ovf" { 700 } else { 7 };
        ipvsadm::restore(&rules(&format!("-t 10.9.0.1:{port}"), scheduler, [2, 3, last]));
        told(&mut probes);
        let address = format!("10.9.0.1:{port}");
        let mut held: Vec<TcpStream> = Vec::new();
        for turn in 0..100 {
            held.extend(client::connect(&address, 1));
            match turn {
                // Live connections end here and there, a weight changes, and a destination is drained.
                20 => held.truncate(10),
                40 => {
                    ipvsadm::run(&["-e", "-t", &address, "-r", "10.8.0.2:7000", "-m", "-w", "9"]);
                }
                60 => {
                    ipvsadm::run(&["-e", "-t", &address, "-r", "10.8.0.1:7000", "-m", "-w", "0"]);
                    // A hash that names who is drained gives nobody.
                    if ["sh", "dh", "mh"].contains(&scheduler) {
                        ipvsadm::run(&["-e", "-t", &address, "-r", "10.8.0.1:7000", "-m", "-w", "2"]);
                    }
                }
                _ => {}
            }
        }
        let (decisions, lost) = told(&mut probes);
        assert!(lost.is_nothing(), "{lost:?}");
        assert_eq!(decisions.len(), 100, "{scheduler}");
        for (index, decision) in decisions.iter().enumerate() {
            let context = format!("{scheduler}, {index}");
            let (candidates, chosen) = explained(decision, &context);
            assert_eq!((candidates.list.len(), candidates.more), (3, 0));
            assert!(chosen.is_some(), "{context}");
        }
        drop(held);
    }
}

#[test]
fn the_computed_winner_is_the_chosen_one_where_a_load_times_a_weight_is_beyond_32_bits() {
    let Some(mut probes) = telling(Tell::DECISIONS | Tell::CANDIDATES, ROOM) else {
        return;
    };
    assert!(modprobe("ip_vs_wlc"));
    probes.refresh();
    ipvsadm::restore(&rules("-t 10.9.0.1:7128", "wlc", [65535, 65534, 0]));
    told(&mut probes);
    // Both ends are of this process, which may open 1024 files.
    let held = client::connect("10.9.0.1:7128", 280);
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    assert_eq!(decisions.len(), 280);
    let mut greatest = 0;
    for decision in &decisions {
        let (candidates, _) = explained(decision, "wlc");
        let loads = candidates.list.iter().map(|candidate| {
            let state = &candidate.state;
            (u64::from(state.active) * 256 + u64::from(state.inactive)) * u64::from(state.weight)
        });
        greatest = greatest.max(loads.max().unwrap_or_default());
    }
    assert!(greatest > 1 << 31, "{greatest}");
    drop(held);
}

#[test]
fn hashes_are_computed_for_many_clients_ports_and_with_fallback_and_for_ipv6() {
    let Some(mut probes) = telling(Tell::DECISIONS | Tell::CANDIDATES, ROOM) else {
        return;
    };
    client::run(|| {
        shell(
            "for n in $(seq 1 40); do
                 ip addr replace 10.7.1.$n/16 dev client0
                 ip -6 addr replace fd00:7::1:$n/64 dev client0 nodad
             done",
        );
    });
    let mut port = 7130;
    for scheduler in ["sh", "mh", "dh"] {
        assert!(modprobe(&format!("ip_vs_{scheduler}")));
        probes.refresh();
        for flags in ["", " -b FALLBACK", " -b PORT", " -b FALLBACK,PORT"] {
            if scheduler == "dh" && !flags.is_empty() {
                continue;
            }
            for (six, address) in [(false, "10.9.0.1"), (true, "[fd00:9::1]")] {
                port += 1;
                let flags = flags
                    .replace("FALLBACK", &format!("{scheduler}-fallback"))
                    .replace("PORT", &format!("{scheduler}-port"));
                let service = format!("-u {address}:{port}");
                // One is drained only after the table was filled with its weight. The weights are small because `sh` then gives
                // it as much as a weight of 1: of forty clients, some are to come to it.
                ipvsadm::restore(&rules(&service, scheduler, [1, 3, 2]).replacen(
                    &format!("-s {scheduler}"),
                    &format!("-s {scheduler}{flags}"),
                    1,
                ));
                let drained = if six { "[fd00:8::2]:7000" } else { "10.8.0.2:7000" };
                ipvsadm::run(&[
                    "-e",
                    "-u",
                    &format!("{address}:{port}"),
                    "-r",
                    drained,
                    "-m",
                    "-w",
                    "0",
                ]);
                told(&mut probes);
                let to = format!("{address}:{port}");
                client::run(move || {
                    for n in 1..=40 {
                        // Ports in uneven steps: with addresses in even ones, sums may all be the same.
                        let skipped = n * n % 11;
                        let port = (0..skipped).fold(client::next_port(), |_, _| client::next_port());
                        let from = if six {
                            format!("[fd00:7::1:{n}]:{port}")
                        } else {
                            format!("10.7.1.{n}:{port}")
                        };
                        let socket = UdpSocket::bind(&from).unwrap_or_else(|error| panic!("{from}: {error}"));
                        socket.send_to(b"anybody?", &to).expect("sending");
                    }
                });
                thread::sleep(Duration::from_millis(200));
                let (decisions, _) = told(&mut probes);
                let context = format!("{scheduler}{flags}, {address}");
                assert_eq!(decisions.len(), 40, "{context}");
                let mut taken = 0;
                for decision in &decisions {
                    let (_, chosen) = explained(decision, &context);
                    taken += usize::from(chosen.is_some());
                }
                if flags.contains("fallback") {
                    assert_eq!(taken, 40, "{context}");
                } else if scheduler != "dh" {
                    assert!((1..40).contains(&taken), "{context}: {taken}");
                }
            }
        }
    }
}
