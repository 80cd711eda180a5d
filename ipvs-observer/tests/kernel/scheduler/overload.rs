//! Who is full.

use std::{net::TcpStream, thread, time::Duration};

use super::{Watch, client};
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
