//! Why a decision was made.

use std::{net::TcpStream, process::Command, sync::Arc, time::Duration};

use ipvs_observer::{
    explain::Explainer,
    model::{Decision, Outcome, Traced},
    probe::{ProbeSettings, Probes, Tell},
};

use super::{noting_server, untraceable};
use crate::{ipvsadm, traffic};

/// Decisions traced in this process, with what the scheduler had before it.
struct Explained {
    probes: Probes,
    explainer: Explainer,
}

impl Explained {
    fn attach() -> Self {
        let settings = ProbeSettings {
            tell: Tell::Candidates,
            ..ProbeSettings::default()
        };
        Self {
            probes: Probes::attach(&settings),
            explainer: Explainer::default(),
        }
    }

    /// The decisions of what is made meanwhile.
    fn during(&mut self, make: impl FnOnce()) -> Vec<Decision> {
        let mut decisions = Vec::new();
        self.probes.refresh();
        self.probes.events(|_, _| {});
        make();
        while self
            .probes
            .wait(Duration::from_millis(300))
            .expect("the kernel waits")
        {
            self.probes.events(|event, before| {
                if let Traced::Decision(decision) = self.explainer.explain(event, before) {
                    decisions.push(*decision);
                }
            });
        }
        decisions
    }
}

#[test]
fn the_computed_winner_is_the_chosen_one_for_every_rule_that_can_be_computed() {
    if untraceable() {
        return;
    }
    traffic::addresses();
    let seen = Arc::default();
    for host in 1..=4 {
        noting_server(&format!("10.8.0.{host}:7103"), &seen);
    }
    let mut explained = Explained::attach();
    for scheduler in ["wlc", "lc", "rr", "wrr", "sed", "nq", "fo", "ovf"] {
        if !Command::new("modprobe")
            .arg(format!("ip_vs_{scheduler}"))
            .status()
            .expect("modprobe")
            .success()
        {
            panic!("{scheduler} is in every kernel of the matrix");
        }
        ipvsadm::restore(&format!(
            "-A -t 10.9.0.1:7003 -s {scheduler}
             -a -t 10.9.0.1:7003 -r 10.8.0.1:7103 -m -w 3
             -a -t 10.9.0.1:7003 -r 10.8.0.2:7103 -m -w 7
             -a -t 10.9.0.1:7003 -r 10.8.0.3:7103 -m -w 0
             -a -t 10.9.0.1:7003 -r 10.8.0.4:7103 -m -w 40\n",
        ));
        let mut held = Vec::new();
        let decisions = explained.during(|| {
            for turn in 0..100 {
                let stream = TcpStream::connect("10.9.0.1:7003").expect("a connection");
                // Some stay and some go, so that active and inactive connections mix.
                if turn % 3 > 0 {
                    held.push(stream);
                }
                if turn % 7 == 0 {
                    held.pop();
                }
                if turn == 50 {
                    ipvsadm::run(&[
                        "-e",
                        "-t",
                        "10.9.0.1:7003",
                        "-r",
                        "10.8.0.1:7103",
                        "-m",
                        "-w",
                        "9",
                    ]);
                }
            }
        });
        assert_eq!(decisions.len(), 100, "{scheduler}");
        for (turn, decision) in decisions.iter().enumerate() {
            let candidates = decision
                .candidates
                .as_ref()
                .expect("what the scheduler had before it");
            assert_eq!(candidates.list.len(), 4);
            let chosen = candidates.list.iter().position(|candidate| candidate.chosen);
            assert!(
                chosen.is_some() && decision.outcome == Outcome::Scheduled,
                "{decision:?}"
            );
            assert_eq!(
                candidates.computed, chosen,
                "{scheduler}, decision {turn}: {decision:?}"
            );
        }
    }
}

#[test]
fn persistence_and_an_empty_choice_are_said_in_words() {
    if untraceable() {
        return;
    }
    traffic::addresses();
    ipvsadm::restore("-A -t 10.9.0.1:7004 -s rr -p 100\n-a -t 10.9.0.1:7004 -r 10.8.0.1:7104 -m -w 1\n");
    let seen = Arc::default();
    noting_server("10.8.0.1:7104", &seen);
    let mut explained = Explained::attach();
    let connect = || {
        TcpStream::connect_timeout(
            &"10.9.0.1:7004".parse().expect("an address"),
            Duration::from_secs(2),
        )
    };
    let decisions = explained.during(|| {
        for _ in 0..3 {
            connect().expect("a connection");
        }
    });
    let outcomes: Vec<_> = decisions.iter().map(|decision| decision.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Scheduled, Outcome::Template, Outcome::Template]
    );

    let reasons = |explained: &mut Explained, rules: &str| {
        ipvsadm::restore(rules);
        let decisions = explained.during(|| assert!(connect().is_err(), "there is nobody to connect to"));
        assert!(!decisions.is_empty(), "{rules}");
        (decisions[0].outcome, decisions[0].reason.clone())
    };
    let drained = reasons(
        &mut explained,
        "-A -t 10.9.0.1:7004 -s wlc\n-a -t 10.9.0.1:7004 -r 10.8.0.1:7104 -m -w 0\n",
    );
    assert_eq!(drained, (Outcome::None, "all weights are 0".to_owned()));
    let empty = reasons(&mut explained, "-A -t 10.9.0.1:7004 -s wlc\n");
    assert_eq!(
        empty,
        (Outcome::None, "the service has no real servers".to_owned())
    );

    ipvsadm::restore("-A -t 10.9.0.1:7004 -s wlc\n-a -t 10.9.0.1:7004 -r 10.8.0.2:7104 -m -w 1 -x 2 -y 1\n");
    noting_server("10.8.0.2:7104", &seen);
    let held: Vec<_> = (0..2).map(|_| connect().expect("below the threshold")).collect();
    let decisions = explained.during(|| assert!(connect().is_err(), "above the threshold"));
    assert_eq!(decisions[0].outcome, Outcome::Overloaded, "{decisions:?}");
    assert_eq!(decisions[0].reason, "1 of 1 real servers are overloaded");
    drop(held);
}
