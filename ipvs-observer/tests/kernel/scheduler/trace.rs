//! What is told of each decision.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use ipvs_observer::{
    explain::Explainer,
    model::{Activity, Address, Decision, Lost, Outcome, Traced},
    probe::{ProbeSettings, Probes, Sizes, Tell},
};

use super::{Watch, client, endpoint, kernel_connections, modprobe, named, own_netns, rules};
use crate::ipvsadm;

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
