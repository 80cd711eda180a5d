//! How long counters live: what is removed, deleted or unloaded, and what finds no room.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use ipvs_observer::{
    model::{Activity, ServiceActivity},
    probe::{ProbeSettings, Probes, Sizes},
};

use super::{Watch, client, kernel_connections, named, own_netns, rmmod, rules};
use crate::ipvsadm;

/// Probes of their own with room for so much; none on a kernel where there is nothing to hold.
fn with_room_for(services: u32, destinations: u32) -> Option<Probes> {
    drop(Watch::whole()?);
    Some(Probes::attach(&ProbeSettings {
        sizes: Sizes {
            services,
            destinations,
            ..Sizes::default()
        },
        ..ProbeSettings::default()
    }))
}

#[test]
fn a_real_server_that_is_removed_and_added_again_goes_on_with_its_counters_as_the_kernel_does() {
    let Some(mut watch) = Watch::whole() else { return };
    let service = "UDP 10.9.0.1:7013";
    ipvsadm::restore(&rules("-u 10.9.0.1:7013", "rr", [1, 1, 1]));
    let ask = |times| client::ask("10.9.0.1:7013", times);
    let real_server = |verb, more: &[&str]| {
        let words = [verb, "-u", "10.9.0.1:7013", "-r", "10.8.0.2:7000"];
        ipvsadm::run(&[&words, more].concat());
    };
    ask(6);
    for turn in 1..=3 {
        real_server("-d", &[]);
        ask(4);
        real_server("-a", &["-m"]);
        ask(3);
        watch.read();
        let picks = watch.picks(service);
        assert_eq!(picks, kernel_connections(service, 6 + 7 * turn), "turn {turn}");
        assert_eq!(picks.len(), 3);
    }
    // The kernel keeps it also where its service goes and comes, and lets it begin anew.
    real_server("-d", &[]);
    ipvsadm::restore(&rules("-u 10.9.0.1:7013", "rr", [1, 1, 1]));
    ask(6);
    watch.read();
    assert_eq!(watch.picks(service), kernel_connections(service, 6));
    assert_eq!(watch.service(service).picks, 6);
}

#[test]
fn a_deleted_service_takes_its_counters_along_and_those_of_its_real_servers() {
    let Some(mut watch) = Watch::whole() else { return };
    let service = "UDP 10.9.0.1:7004";
    let rules = rules("-u 10.9.0.1:7004", "rr", [1, 1, 1]);
    ipvsadm::restore(&rules);
    client::ask("10.9.0.1:7004", 6);
    watch.read();
    assert_eq!(watch.destinations(service).len(), 3);
    ipvsadm::run(&["-D", "-u", "10.9.0.1:7004"]);
    watch.read();
    assert!(watch.destinations(service).is_empty());
    assert_eq!(watch.service(service).picks, 0);
    ipvsadm::restore(&rules);
    client::ask("10.9.0.1:7004", 1);
    watch.read();
    assert_eq!(watch.service(service).picks, 1);
    ipvsadm::run(&["-C"]);
    watch.read();
    let own = own_netns();
    let services = watch.activity.services.keys();
    let left: Vec<_> = services
        .filter(|(netns, _)| *netns == own)
        .map(|(_, key)| named(key))
        .collect();
    assert!(
        left.is_empty(),
        "counted in an empty table: {left:?}, {:?}",
        watch.activity.probes
    );
    assert!(watch.destinations(service).is_empty());
}

#[test]
fn a_module_that_goes_and_comes_back_is_probed_again_and_never_held() {
    let Some(mut watch) = Watch::whole() else { return };
    for port in [7005, 7006] {
        ipvsadm::restore(&rules(&format!("-u 10.9.0.1:{port}"), "sed", [1, 1, 1]));
        watch.read();
        client::ask(&format!("10.9.0.1:{port}"), 6);
        watch.read();
        let activity = watch.service(&format!("UDP 10.9.0.1:{port}"));
        assert_eq!(activity.picks, 6);
        assert!(activity.durations.is_some());
        ipvsadm::run(&["-C"]);
        assert!(rmmod("ip_vs_sed"), "something holds it");
    }
    watch.read();
    let needs = watch.probes.availability().needs();
    assert!(!needs.iter().any(|need| need.name == "ip_vs_sed_schedule"));
}

#[test]
fn a_full_map_counts_what_it_turns_away_and_says_nothing_wrong() {
    let Some(mut probes) = with_room_for(1, 2) else {
        return;
    };
    let mut activity = Activity::default();
    let services = ["-u 10.9.0.1:7007", "-u 10.9.0.1:7008"];
    ipvsadm::restore(&services.map(|service| rules(service, "rr", [1, 1, 1])).concat());
    client::ask("10.9.0.1:7007", 6);
    client::ask("10.9.0.1:7008", 6);
    probes.read(&mut activity);
    assert_eq!(activity.services.len(), 1);
    assert_eq!(
        activity
            .services
            .values()
            .map(|service| service.picks)
            .sum::<u64>(),
        6
    );
    assert_eq!(activity.destinations.len(), 2);
    assert!(
        activity
            .destinations
            .iter()
            .map(|(_, activity)| activity)
            .all(|destination| destination.picks == 2)
    );
    // Six of the other service; two of the third destination, and six of the other service's.
    assert_eq!(activity.probes.turned_away, 6 + 2 + 6);
}

#[test]
fn the_room_of_what_is_deleted_is_there_for_what_comes() {
    /// More than there is room for, however it is rounded.
    const TURNS: u64 = 80;
    let Some(mut probes) = with_room_for(2, 2) else {
        return;
    };
    let mut activity = Activity::default();
    for turn in 1..=TURNS {
        ipvsadm::restore("-A -u 10.9.0.1:7014 -s rr -o\n-a -u 10.9.0.1:7014 -r 10.8.0.1:7000 -m -w 1\n");
        client::ask("10.9.0.1:7014", 3);
        probes.read(&mut activity);
        let picks: Vec<_> = activity.destinations.iter().map(|(_, seen)| seen.picks).collect();
        assert_eq!((picks, activity.services.len()), (vec![3], 1), "turn {turn}");
        ipvsadm::run(&["-C"]);
    }
    probes.read(&mut activity);
    assert!(activity.destinations.is_empty() && activity.services.is_empty());
    assert_eq!(activity.probes.turned_away, 0);
}

#[test]
fn nothing_is_left_behind_by_what_is_deleted_under_load() {
    let Some(mut watch) = Watch::whole() else { return };
    let rules = rules("-u 10.9.0.1:7012", "rr", [1, 1, 1]);
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let load = thread::spawn(move || {
        client::run(move || {
            let mut sent = 0_u32;
            while !told.load(Ordering::Relaxed) {
                let socket = UdpSocket::bind("10.7.0.2:0").expect("a socket");
                let _ = socket.send_to(b"anybody?", "10.9.0.1:7012");
                sent += 1;
            }
            sent
        })
    });
    for _ in 0..15 {
        ipvsadm::restore(&rules);
        ipvsadm::run(&["-d", "-u", "10.9.0.1:7012", "-r", "10.8.0.1:7000"]);
        ipvsadm::run(&["-d", "-u", "10.9.0.1:7012", "-r", "10.8.0.2:7000"]);
        ipvsadm::run(&["-D", "-u", "10.9.0.1:7012"]);
    }
    done.store(true, Ordering::Relaxed);
    assert!(load.join().expect("the load ends") > 0);
    watch.read();
    assert_eq!(watch.service("UDP 10.9.0.1:7012"), ServiceActivity::default());
    // The two that were removed for themselves stay until the kernel lets go of them; what comes begins anew.
    let left = watch.destinations("UDP 10.9.0.1:7012");
    assert!(!left.contains_key("10.8.0.3:7000"), "{left:?}");
    ipvsadm::restore(&rules);
    watch.read();
    assert_eq!(watch.picks("UDP 10.9.0.1:7012"), BTreeMap::new());
}
