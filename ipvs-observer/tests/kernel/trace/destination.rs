//! What befalls one real server.

use std::net::TcpStream;

use super::{Trace, decisions, noting_server, untraceable};
use crate::{ipvsadm, traffic};

#[test]
fn the_end_of_a_real_server_that_its_service_takes_along_is_seen_by_who_asks_for_it() {
    if untraceable() {
        return;
    }
    traffic::addresses();
    let add = "-A -t 10.9.0.1:7006 -s rr
         -a -t 10.9.0.1:7006 -r 10.8.0.1:7106 -m -w 1
         -a -t 10.9.0.1:7006 -r 10.8.0.2:7106 -m -w 2\n";
    ipvsadm::restore(add);
    let seen = std::sync::Arc::default();
    noting_server("10.8.0.1:7106", &seen);
    noting_server("10.8.0.2:7106", &seen);
    let trace = Trace::start(&["--format", "json", "--destination", "10.8.0.2:7106"]);
    trace.wait_until_attached(|| drop(TcpStream::connect("10.9.0.1:7006").expect("a connection")));
    ipvsadm::run(&["-D", "-t", "10.9.0.1:7006"]);
    ipvsadm::restore(add);
    ipvsadm::run(&["-C"]);
    let (objects, messages) = trace.stop();
    assert_eq!(decisions(&objects).count(), 0, "{objects:?}");
    let told: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] == "change")
        .map(|change| {
            assert_eq!(change["destination"]["address"], "10.8.0.2", "{change}");
            assert!(
                change["destination"]["active"].is_u64() && change["templates"] == 0,
                "{change}"
            );
            (
                change["action"].as_str().expect("text"),
                change["weight_before"].as_u64(),
            )
        })
        .collect();
    let expected = [
        ("delete_destination", Some(2)),
        ("add_destination", None),
        ("delete_destination", Some(2)),
    ];
    assert_eq!(told, expected, "{messages}");
}
