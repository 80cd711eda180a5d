//! Who is full.

use std::{net::TcpStream, thread, time::Duration};

use ipvs_observer::{model::Outcome, probe::Tell};

use super::{
    Watch, client, modprobe, packets,
    trace::{ROOM, telling, told},
};
use crate::ipvsadm;

#[test]
fn an_upper_threshold_that_is_reached_is_counted_and_a_full_service_refuses() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::restore(
        "-A -t 10.9.0.1:7050 -s rr
         -a -t 10.9.0.1:7050 -r 10.8.0.1:7000 -m -x 2
         -a -t 10.9.0.1:7050 -r 10.8.0.2:7000 -m -x 3\n",
    );
    watch.read();
    let held = client::connect("10.9.0.1:7050", 5);
    client::run(|| TcpStream::connect("10.9.0.1:7050").expect_err("both are full"));
    watch.read();
    let service = "TCP 10.9.0.1:7050";
    let activity = watch.service(service);
    assert_eq!((activity.picks, activity.calls), (5, 5 + activity.none));
    assert!(activity.none > 0 && activity.none == activity.refused);
    for (destination, found) in watch.destinations(service) {
        assert_eq!(
            (found.overloads, found.overloaded),
            (1, Some(true)),
            "{destination}"
        );
    }
    drop(held);
    // The threshold is lifted: full no longer.
    ipvsadm::run(&[
        "-e",
        "-t",
        "10.9.0.1:7050",
        "-r",
        "10.8.0.1:7000",
        "-m",
        "-x",
        "0",
    ]);
    thread::sleep(Duration::from_millis(100));
    watch.read();
    let found = watch.destinations(service)["10.8.0.1:7000"];
    assert_eq!((found.overloads, found.overloaded), (1, Some(false)));
}

#[test]
fn connections_by_template_fill_a_real_server_and_the_one_that_does_is_not_told_as_beyond_it() {
    let Some(mut probes) = telling(Tell::Decisions, ROOM) else {
        return;
    };
    let Some(mut watch) = Watch::whole() else { return };
    assert!(modprobe("ip_vs_rr"));
    probes.refresh();
    ipvsadm::restore("-A -u 10.9.0.1:7052 -s rr -p 60\n-a -u 10.9.0.1:7052 -r 10.8.0.1:7000 -m -x 3\n");
    watch.read();
    told(&mut probes);
    client::send("10.9.0.1:7052", 5);
    // Another client, which has no template.
    packets::from_many(1, 3000, "10.9.0.1:7052");
    watch.read();
    let service = "UDP 10.9.0.1:7052";
    let counted = watch.service(service);
    assert_eq!(
        (
            counted.picks,
            counted.template_hits,
            counted.none,
            counted.refused
        ),
        (1, 4, 1, 1)
    );
    let found = watch.destinations(service)["10.8.0.1:7000"];
    assert_eq!((found.overloads, found.overloaded), (1, Some(true)));
    let (decisions, lost) = told(&mut probes);
    assert!(lost.is_nothing(), "{lost:?}");
    let reasons: Vec<_> = decisions
        .iter()
        .map(|decision| (decision.outcome, decision.reason.as_str()))
        .collect();
    let beyond = "although it is overloaded";
    assert_eq!(
        reasons,
        [
            (Outcome::Scheduled, ""),
            (Outcome::Template, ""),
            (Outcome::Template, ""),
            (Outcome::Template, beyond),
            (Outcome::Template, beyond),
            (Outcome::Overloaded, "1 of 1 real servers are overloaded"),
        ]
    );
}
