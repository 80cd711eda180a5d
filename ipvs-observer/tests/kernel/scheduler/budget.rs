//! Refusals and drops as `collect` writes them: so many of each namespace and gather, and no more leave the kernel.

use std::{collections::BTreeSet, net::UdpSocket};

use ipvs_observer::{
    model::{Activity, Decision, Outcome, Refusal},
    probe::{ProbeSettings, Probes, Tell},
};

use super::{
    Watch, client, modprobe, named, own_netns, packets, rules,
    trace::{ROOM, telling, told},
};
use crate::{
    abilities::lacking_btf,
    ipvsadm,
    netns::{Collect, Named},
    observer::{self, of, service},
    support::lines::{self, Line},
};

/// `collect` that shows so many, and its lines of one gather.
pub struct Shown(Collect);

impl Shown {
    /// None on a kernel without BTF of modules.
    pub fn start(refusals: &str) -> Option<Self> {
        drop(Watch::whole()?);
        let mut shown = Self(Collect::start(&["--probes", "on", "--refusals", refusals]));
        shown.0.gather(1);
        Some(shown)
    }

    pub fn gather(&mut self) -> Vec<Line> {
        let lines = self.0.gather(1);
        for state in of(&lines, "ipvs_observer") {
            assert_eq!(state.number("events_lost"), 0, "{state:?}");
        }
        lines
    }

    /// The services of the refusals that are shown since the last call, in their order.
    fn services(&mut self) -> Vec<String> {
        let lines = self.gather();
        of(&lines, "ipvs_decision")
            .map(|line| service(line, ""))
            .collect()
    }
}

/// How many refusals of a service a gather has counted.
fn refused(lines: &[Line], named: &str) -> u64 {
    of(lines, "ipvs_virtual_server")
        .find(|line| service(line, "") == named)
        .map_or(0, |line| line.number("refused"))
}

#[test]
fn so_many_refusals_of_a_service_are_shown_as_were_asked_for_and_all_are_counted() {
    let Some(mut shown) = Shown::start("3") else {
        return;
    };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore(&rules("-u 10.9.0.1:7800", "rr", [0, 0, 0]));
    client::send("10.9.0.1:7800", 7);
    let lines = shown.gather();
    let decisions: Vec<_> = of(&lines, "ipvs_decision").collect();
    assert_eq!(decisions.len(), 3, "{decisions:?}");
    assert_eq!(refused(&lines, "UDP 10.9.0.1:7800"), 7);
    for line in &decisions {
        assert_eq!((line.tag("outcome"), line.tag("sched")), ("none", "rr"));
        assert_eq!(line.text("reason"), "all weights are 0");
        assert_eq!(line.text("client"), "10.7.0.2");
        assert!(line.number("ns") > 0);
        assert!(!line.fields.contains_key("destination"), "{line:?}");
    }
    let ports: Vec<_> = decisions.iter().map(|line| line.number("client_port")).collect();
    assert!(ports.is_sorted_by(|one, next| one + 1 == *next), "{ports:?}");
    assert_eq!(shown.services(), Vec::<String>::new());
    client::send("10.9.0.1:7800", 2);
    assert_eq!(shown.services().len(), 2, "another interval, another budget");
    shown.0.end();
}

#[test]
fn a_service_that_refuses_much_does_not_hide_another_that_refuses_once() {
    let Some(mut shown) = Shown::start("3") else {
        return;
    };
    assert!(modprobe("ip_vs_rr"));
    let each = ["-u 10.9.0.1:7801", "-u 10.9.0.1:7802"];
    ipvsadm::restore(&each.map(|service| rules(service, "rr", [0, 0, 0])).concat());
    client::send("10.9.0.1:7801", 50);
    client::send("10.9.0.1:7802", 1);
    let [much, once] = [7801, 7802].map(|port| format!("UDP 10.9.0.1:{port}"));
    assert_eq!(shown.services(), [much.clone(), much, once]);
    shown.0.end();
}

#[test]
fn none_is_shown_where_none_is_asked_for_and_none_under_the_other_schema() {
    let Some(mut shown) = Shown::start("0") else {
        return;
    };
    assert!(modprobe("ip_vs_rr"));
    ipvsadm::restore(&rules("-u 10.9.0.1:7803", "rr", [0, 0, 0]));
    client::send("10.9.0.1:7803", 5);
    let lines = shown.gather();
    assert_eq!(refused(&lines, "UDP 10.9.0.1:7803"), 5);
    assert_eq!(of(&lines, "ipvs_decision").count(), 0);
    shown.0.end();
    let mut command = observer::command(&["collect", "--count", "2", "--interval", "4s"]);
    command.args(["--probes", "on", "--schema", "telegraf", "--refusals", "5"]);
    let child = command.stdout(std::process::Stdio::piped()).spawn();
    let child = child.expect("ipvs-observer is in the lab's PATH");
    for _ in 0..40 {
        client::send("10.9.0.1:7803", 1);
    }
    let output = child.wait_with_output().expect("it ends");
    let lines = lines::parse(&String::from_utf8(output.stdout).expect("text"));
    let measurements: BTreeSet<_> = lines.iter().map(|line| line.measurement.as_str()).collect();
    let telegraf = BTreeSet::from(["ipvs_real_server", "ipvs_virtual_server"]);
    assert_eq!(measurements, telegraf);
}

#[test]
fn each_namespace_has_its_own_budget() {
    if lacking_btf() {
        return;
    }
    drop(Watch::whole());
    let names = ["blue", "green", "red"];
    let namespaces = names.map(Named::new);
    let mut collect = Collect::start(&["--probes", "on", "--refusals", "2", "--netns", &names.join(",")]);
    collect.gather(3);
    for (named, times) in namespaces.iter().zip([1, 2, 30]) {
        named.inside(|| {
            ipvsadm::run(&["-A", "-u", "10.9.0.2:7071", "-s", "rr"]);
            for _ in 0..times {
                let client = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                // What is refused on its way out of a socket is an error there.
                let _ = client.send_to(b"anybody?", "10.9.0.2:7071");
            }
        });
    }
    let lines = collect.gather(3);
    let shown = names.map(|name| {
        of(&lines, "ipvs_decision")
            .filter(|line| line.tag("netns") == name)
            .count()
    });
    assert_eq!(shown, [1, 2, 2], "{lines:?}");
    collect.end();
    namespaces.iter().for_each(Named::delete);
}

#[test]
fn a_flood_of_refusals_leaves_the_kernel_in_budgets() {
    const BUDGET: u32 = 10;
    const FLOOD: usize = 5000;
    let Some(watch) = Watch::whole() else { return };
    drop(watch);
    let mut probes = Probes::attach(&ProbeSettings {
        namespaces: vec![own_netns()],
        refusals: BUDGET,
        ..ProbeSettings::default()
    });
    assert!(modprobe("ip_vs_rr"));
    probes.refresh();
    ipvsadm::restore(&rules("-u 10.9.0.1:7804", "rr", [0, 0, 0]));
    let mut activity = Activity::default();
    probes.read(&mut activity);
    for gather in 1..=2 {
        let before = activity.probes.events;
        client::send("10.9.0.1:7804", FLOOD);
        probes.read(&mut activity);
        let (_, counted) = activity
            .services
            .iter()
            .find(|((_, key), _)| named(key) == "UDP 10.9.0.1:7804")
            .expect("it was counted");
        assert_eq!(
            (counted.refused, counted.none),
            (gather * FLOOD as u64, gather * FLOOD as u64)
        );
        // The first, and as many others.
        let left = u64::from(BUDGET) + 1;
        assert_eq!(
            (activity.probes.events - before, activity.probes.events_lost),
            (left, 0)
        );
        assert_eq!(activity.refusals.len() as u64, left);
        assert_eq!(
            Refusal::chosen(&activity.refusals, BUDGET as usize).len() as u32,
            BUDGET
        );
    }
}

/// What a refusal says of a packet, but for times.
fn of_trace(decision: &Decision) -> String {
    let asked = decision.r#virtual;
    format!(
        "{} {}:{} {}://{}:{} {} {} {}",
        named(&decision.service),
        decision.client,
        decision.client_port,
        asked.protocol,
        asked.address,
        asked.port,
        decision.outcome.name(),
        decision.ns.is_some(),
        decision.reason
    )
}

fn of_line(line: &Line) -> String {
    format!(
        "{} {}:{} {}://{}:{} {} {} {}",
        service(line, ""),
        line.text("client"),
        line.number("client_port"),
        line.text("virtual_protocol"),
        line.text("virtual_address"),
        line.number("virtual_port"),
        line.tag("outcome"),
        line.fields.contains_key("ns"),
        line.text("reason")
    )
}

#[test]
fn a_line_says_what_a_trace_says_of_the_same_packet() {
    let Some(mut probes) = telling(Tell::DECISIONS, ROOM) else {
        return;
    };
    for scheduler in ["rr", "sh", "fo"] {
        assert!(modprobe(&format!("ip_vs_{scheduler}")));
    }
    assert!(modprobe("ip_vs_pe_sip"));
    probes.refresh();
    let Some(mut shown) = Shown::start("100") else {
        return;
    };
    let by_scheduler = [
        ("-u 10.9.0.1:7810", "rr", [0, 0, 0]),
        // Whichever of its real servers the hash is of, two of these services refuse.
        ("-u 10.9.0.1:7811", "sh", [1, 0, 0]),
        ("-u 10.9.0.1:7818", "sh", [0, 1, 0]),
        ("-u 10.9.0.1:7819", "sh", [0, 0, 1]),
        ("-u 10.9.0.1:7812", "fo", [0, 0, 0]),
        ("-u [fd00:9::1]:7813", "rr", [0, 0, 0]),
    ]
    .map(|(service, scheduler, weights)| rules(service, scheduler, weights))
    .concat();
    let others = "-A -u 10.9.0.1:7814 -s rr
         -A -u 10.9.0.1:7815 -s rr -p 60 --pe sip -o\n-a -u 10.9.0.1:7815 -r 10.8.0.1:7000 -m
         -A -t 10.9.0.1:7816 -s rr
         -A -u 10.9.0.1:7817 -s rr\n-a -u 10.9.0.1:7817 -r 10.8.0.1:7000 -m\n";
    ipvsadm::restore(&(by_scheduler + others));
    ipvsadm::run(&["-E", "-u", "10.9.0.1:7817", "-s", "none"]);
    told(&mut probes);
    for port in [7810, 7811, 7812, 7814, 7815, 7817, 7818, 7819] {
        client::send(&format!("10.9.0.1:{port}"), 2);
    }
    client::send("[fd00:9::1]:7813", 2);
    client::run(|| {
        let from = "10.7.0.2:4010".parse().expect("an address");
        packets::segment(from, "10.9.0.1:7816".parse().expect("an address"), packets::SYN);
    });
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    let refusals = decisions
        .iter()
        .filter(|decision| !matches!(decision.outcome, Outcome::Scheduled | Outcome::Template));
    let of_trace: BTreeSet<String> = refusals.map(of_trace).collect();
    let lines = shown.gather();
    let of_lines: BTreeSet<String> = of(&lines, "ipvs_decision").map(of_line).collect();
    assert_eq!(of_lines, of_trace);
    assert_eq!(of_trace.len(), 17, "{of_trace:?}");
    for words in [" fatal ", "the scheduler says", "no scheduler", "no real servers"] {
        assert!(
            of_trace.iter().any(|told| told.contains(words)),
            "{words}: {of_trace:?}"
        );
    }
    shown.0.end();
}
