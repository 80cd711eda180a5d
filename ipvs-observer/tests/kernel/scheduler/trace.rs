//! What is told of each decision.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use ipvs_observer::{
    explain::Explainer,
    model::{Activity, Address, Candidates, Decision, Lost, Outcome, Traced},
    probe::{ProbeSettings, Probes, Sizes, Tell},
};

use super::{Watch, client, endpoint, kernel_connections, modprobe, named, own_netns, rules};
use crate::{ipvsadm, support::child::shell};

/// Probes that tell, on a kernel that tells of modules.
pub(super) fn telling(tell: Tell, events: u32) -> Option<Probes> {
    drop(Watch::whole()?);
    let probes = Probes::attach(&ProbeSettings {
        tell,
        namespaces: vec![own_netns()],
        sizes: Sizes {
            events,
            ..Sizes::default()
        },
        ..ProbeSettings::default()
    });
    let availability = probes.availability();
    assert!(availability.complete(), "{:?}", availability.first_missing());
    Some(probes)
}

pub(super) const ROOM: u32 = 4 << 20;

/// Every decision that was told since the last call, and what was lost in all.
pub(super) fn told(probes: &mut Probes) -> (Vec<Decision>, Lost) {
    let (mut decisions, mut activity) = (Vec::new(), Activity::default());
    let mut explainer = Explainer::default();
    while probes.events(|event, before| {
        if let Traced::Decision(decision) = explainer.explain(event, before) {
            decisions.push(*decision);
        }
    }) {}
    probes.health(&mut activity);
    assert_eq!(activity.diagnostics, Vec::<String>::new());
    (decisions, activity.probes.lost)
}

fn client_address() -> Address {
    Address::from(IpAddr::from([10, 7, 0, 2]))
}

#[test]
fn every_one_of_a_thousand_connections_is_told_once_with_its_client_and_destination() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    assert!(modprobe("ip_vs_wrr"));
    probes.refresh();
    ipvsadm::restore(&rules("-u 10.9.0.1:7100", "wrr", [1, 3, 100]));
    told(&mut probes);
    let first = client::next_port();
    for _ in 1..1000 {
        client::next_port();
    }
    client::run(move || (0..1000).for_each(|index| client::ask_from("10.9.0.1:7100", first + index)));
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    let mut ports: Vec<_> = decisions.iter().map(|decision| decision.client_port).collect();
    assert!(ports.is_sorted(), "in the order in which they were made");
    ports.dedup();
    assert_eq!(ports, (first..first + 1000).collect::<Vec<_>>());
    let mut picks = BTreeMap::new();
    for decision in &decisions {
        assert_eq!(decision.client, client_address());
        assert_eq!(decision.outcome, Outcome::Scheduled);
        assert_eq!(decision.scheduler.as_str(), "wrr");
        assert_eq!(named(&decision.service), "UDP 10.9.0.1:7100");
        assert!(decision.ns.is_some_and(|ns| ns > 0));
        let state = decision.destination.expect("somebody was chosen");
        let destination = endpoint(&state.key);
        let weight = BTreeMap::from([("10.8.0.1:7000", 1), ("10.8.0.2:7000", 3), ("10.8.0.3:7000", 100)]);
        assert_eq!(Some(&state.weight), weight.get(destination.as_str()));
        // As it was before: these connections stay, and are inactive once the first packet is through.
        let before = picks.entry(destination).or_insert(0);
        assert_eq!(state.active + state.inactive, *before);
        *before += 1;
    }
    let kernel = kernel_connections("UDP 10.9.0.1:7100", 1000);
    assert_eq!(
        picks
            .into_iter()
            .map(|(name, picks)| (name, picks.into()))
            .collect::<BTreeMap<_, u64>>(),
        kernel
    );
}

#[test]
fn what_is_seen_and_what_is_lost_is_what_was_made() {
    let Some(mut probes) = telling(Tell::DECISIONS | Tell::CANDIDATES, 4096) else {
        return;
    };
    assert!(modprobe("ip_vs_rr"));
    probes.refresh();
    ipvsadm::restore(&rules("-u 10.9.0.1:7101", "rr", [1, 1, 1]));
    told(&mut probes);
    client::ask("10.9.0.1:7101", 50);
    probes.fall_silent();
    client::ask("10.9.0.1:7101", 5);
    let (decisions, lost) = told(&mut probes);
    assert!(
        lost.decisions > 0 && !decisions.is_empty(),
        "{} seen, {lost:?}",
        decisions.len()
    );
    assert_eq!(decisions.len() as u64 + lost.decisions, 50);
}

#[test]
fn refusals_that_are_seen_and_those_that_are_lost_are_what_was_made() {
    let Some(mut probes) = telling(Tell::DECISIONS, 4096) else {
        return;
    };
    ipvsadm::restore("-A -u 10.9.0.1:7102 -s rr\n");
    told(&mut probes);
    client::send("10.9.0.1:7102", 100);
    let (decisions, lost) = told(&mut probes);
    assert!(
        lost.decisions > 0 && !decisions.is_empty(),
        "{} seen, {lost:?}",
        decisions.len()
    );
    assert_eq!(decisions.len() as u64 + lost.decisions, 100);
    assert!(decisions.iter().all(|decision| decision.outcome == Outcome::None));
}

/// What the scheduler had before it, and the place of the one that it chose: which is the one that was computed.
fn explained<'a>(decision: &'a Decision, context: &str) -> (&'a Candidates, Option<usize>) {
    let candidates = decision.candidates.as_ref().expect("they were asked for");
    let chosen = candidates.list.iter().position(|candidate| candidate.chosen);
    assert_eq!(candidates.computed, chosen, "{context}: {candidates:#?}");
    (candidates, chosen)
}

/// Holds that what is told is what the kernel counted: the connections that a client made, and a SYN that came again and
/// was scheduled again.
fn made(decisions: &[Decision], service: &str, connections: usize) {
    let told = decisions.len();
    let counted: u64 = kernel_connections(service, told as u64).values().sum();
    let mut by_port: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for decision in decisions {
        by_port.entry(decision.client_port).or_default().push(decision);
    }
    by_port.retain(|_, decisions| decisions.len() > 1);
    assert!(
        told as u64 == counted
            && told - by_port.values().map(|more| more.len() - 1).sum::<usize>() == connections,
        "{service}: {told} told, {counted} counted, {connections} made; from one port: {by_port:#?}"
    );
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
        made(&decisions, &format!("TCP {address}"), 100);
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
    made(&decisions, "TCP 10.9.0.1:7128", 280);
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
                // One is drained only after the table was filled with its weight.
                ipvsadm::restore(&rules(&service, scheduler, [2, 3, 7]).replacen(
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

#[test]
fn why_there_was_nobody_is_told_in_words() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    assert!(modprobe("ip_vs_rr") && modprobe("ip_vs_sh"));
    probes.refresh();
    let mut tell = |rules: &str, send: &dyn Fn()| {
        ipvsadm::restore(rules);
        told(&mut probes);
        send();
        let (decisions, lost) = told(&mut probes);
        assert!(lost.is_nothing(), "{lost:?}");
        let last = decisions.last().expect("a decision").clone();
        (last.outcome, last.reason)
    };
    let send = |port: u16| move || client::send(&format!("10.9.0.1:{port}"), 1);
    assert_eq!(
        tell(&rules("-u 10.9.0.1:7160", "rr", [0, 0, 0]), &send(7160)),
        (Outcome::None, "all weights are 0".to_owned())
    );
    assert_eq!(
        tell("-A -u 10.9.0.1:7161 -s rr\n", &send(7161)),
        (Outcome::None, "the service has no real servers".to_owned())
    );
    let full = "-A -u 10.9.0.1:7162 -s rr\n-a -u 10.9.0.1:7162 -r 10.8.0.1:7000 -m -x 1\n";
    assert_eq!(
        tell(full, &|| {
            client::ask("10.9.0.1:7162", 1);
            client::send("10.9.0.1:7162", 1);
        }),
        (
            Outcome::Overloaded,
            "1 of 1 real servers are overloaded".to_owned()
        )
    );
    let persistent = rules("-u 10.9.0.1:7163 -p 60", "rr", [1, 1, 1]);
    assert_eq!(
        tell(&persistent, &|| client::ask("10.9.0.1:7163", 2)),
        (Outcome::Template, String::new())
    );
    let drained = || {
        client::ask("10.9.0.1:7164", 1);
        for n in 1..=3 {
            let real_server = format!("10.8.0.{n}:7000");
            ipvsadm::run(&["-e", "-u", "10.9.0.1:7164", "-r", &real_server, "-m", "-w", "0"]);
        }
        client::ask("10.9.0.1:7164", 1);
    };
    let (outcome, words) = tell(&rules("-u 10.9.0.1:7164 -p 60", "rr", [1, 1, 1]), &drained);
    assert_eq!(outcome, Outcome::Template);
    assert!(words.starts_with("although the weight is 0"), "{words}");
    // Half of the buckets are somebody's who is drained.
    let (outcome, words) = tell(&rules("-u 10.9.0.1:7165", "sh", [0, 1, 0]), &send(7165));
    assert_eq!(outcome, Outcome::None);
    assert!(
        words.starts_with("the scheduler says \"no destination available"),
        "{words}"
    );
}

#[test]
fn of_a_service_larger_than_what_is_examined_the_words_say_how_many_were() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    assert!(modprobe("ip_vs_sh"));
    probes.refresh();
    // Ten could take connections, and none of them is among the first 128: the kernel puts what comes before what was
    // there. The hash names one of the others for most.
    let mut table = "-A -u 10.9.0.1:7166 -s sh -b sh-port\n".to_owned();
    for n in 1..=140 {
        let weight = u32::from(n <= 10);
        writeln!(table, "-a -u 10.9.0.1:7166 -r 10.8.1.{n}:7000 -m -w {weight}").expect("a string grows");
    }
    ipvsadm::restore(&table);
    told(&mut probes);
    client::send("10.9.0.1:7166", 40);
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    assert_eq!(decisions.len(), 40);
    let refused: Vec<_> = decisions
        .iter()
        .filter(|decision| decision.outcome == Outcome::None)
        .collect();
    assert!(refused.len() > 1, "{decisions:?}");
    for decision in refused {
        let words = &decision.reason;
        assert!(
            words.ends_with("though 0 of the first 128 of 140 real servers could take connections"),
            "{words}"
        );
    }
}
