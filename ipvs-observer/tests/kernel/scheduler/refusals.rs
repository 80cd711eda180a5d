//! Who was turned away.

use super::{Watch, client, modprobe, rules};
use crate::ipvsadm;

#[test]
fn a_service_whose_weights_are_all_zero_refuses_and_both_are_counted() {
    let Some(mut watch) = Watch::whole() else { return };
    for (port, scheduler) in (7020..).zip([
        "rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "lblc", "lblcr", "fo", "ovf",
    ]) {
        assert!(modprobe(&format!("ip_vs_{scheduler}")));
        watch.read();
        ipvsadm::restore(&rules(&format!("-u 10.9.0.1:{port}"), scheduler, [0, 0, 0]));
        client::send(&format!("10.9.0.1:{port}"), 5);
        watch.read();
        let activity = watch.service(&format!("UDP 10.9.0.1:{port}"));
        assert_eq!(
            (activity.calls, activity.none, activity.refused),
            (5, 5, 5),
            "{scheduler}"
        );
        assert_eq!((activity.picks, activity.fatal), (0, 0), "{scheduler}");
        assert!(activity.durations.is_some(), "{scheduler}");
    }
}

#[test]
fn a_service_without_real_servers_refuses_also_with_persistence() {
    let Some(mut watch) = Watch::whole() else { return };
    ipvsadm::restore("-A -u 10.9.0.1:7040 -s rr -p 60\n-A -u [fd00:9::1]:7040 -s rr\n");
    client::send("10.9.0.1:7040", 3);
    client::send("[fd00:9::1]:7040", 4);
    watch.read();
    let persistent = watch.service("UDP 10.9.0.1:7040");
    assert_eq!(
        (persistent.none, persistent.refused, persistent.template_hits),
        (3, 3, 0)
    );
    let other = watch.service("UDP [fd00:9::1]:7040");
    assert_eq!((other.none, other.refused), (4, 4));
}
