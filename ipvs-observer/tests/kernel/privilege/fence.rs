//! The fence holds, and what the program does all the time passes it.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    net::TcpStream,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    process::Command,
    thread,
};

use ipvs_observer::{
    netlink,
    privilege::{self, Gates},
};
use rustix::net::{AddressFamily, SocketType, netlink as family, socket};

fn assert_refused<T>(what: &str, outcome: io::Result<T>) {
    match outcome {
        Ok(_) => panic!("{what} passed the fence"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}"),
    }
}

#[test]
fn behind_the_fence_nothing_is_opened_or_run_that_the_work_does_not_need() {
    let folder = "/tmp/fence";
    fs::create_dir_all(folder).expect("a folder");
    let (file, socket_path) = (format!("{folder}/file"), format!("{folder}/socket"));
    fs::write(&file, "text").expect("a file");
    let _ = fs::remove_file(&socket_path);
    let listener = UnixListener::bind(&socket_path).expect("a socket");
    let mounted = Command::new("mount")
        .args(["-t", "securityfs", "none", "/sys/kernel/security"])
        .output();
    // It may be there already.
    mounted.expect("mount");
    let has_landlock =
        fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| list.contains("landlock"));
    // Each is possible outside, as what follows is nothing else than the fence.
    let shut_out = |file: &str| {
        let mut outcomes = vec![
            ("reading a file", File::open(file).map(drop)),
            ("listing a folder", fs::read_dir("/etc").map(drop)),
            (
                "writing to a setting",
                File::options()
                    .write(true)
                    .open("/proc/sys/kernel/hostname")
                    .map(drop),
            ),
            ("making a file", File::create(format!("{file}.new")).map(drop)),
            ("removing a file", fs::remove_file(format!("{file}.old"))),
        ];
        outcomes.push((
            "connecting to the network",
            TcpStream::connect("127.0.0.1:1").map(drop),
        ));
        outcomes
    };
    let old = format!("{file}.old");
    fs::write(&old, "text").expect("a file");
    for (what, outcome) in shut_out(&file) {
        let reached = outcome.map_or_else(|error| error.kind() == ErrorKind::ConnectionRefused, |()| true);
        assert!(reached, "{what} is refused outside the fence");
    }
    fs::write(&old, "text").expect("a file");
    thread::spawn(move || {
        let fence = privilege::fence(&Gates::default());
        assert_eq!(fence.landlock.is_ok(), has_landlock, "{fence:?}");
        assert_eq!(fence.seccomp, Ok(()));
        for (what, outcome) in shut_out(&file) {
            if has_landlock || what == "connecting to the network" {
                assert_refused(what, outcome);
            }
        }
        assert_refused("running a program", Command::new("true").status());
        assert_refused(
            "changing a mode",
            fs::set_permissions(&file, Permissions::from_mode(0o600)),
        );
        assert_refused(
            "a socket of packets",
            socket(AddressFamily::PACKET, SocketType::DGRAM, None).map_err(io::Error::from),
        );
        assert_refused(
            "entering a namespace",
            netlink::enter("/proc/thread-self/ns/net").map_err(|failure| match failure {
                netlink::Failure::NamespaceNotPermitted(_) => io::ErrorKind::PermissionDenied.into(),
                other => io::Error::other(other),
            }),
        );

        fs::read_to_string("/proc/thread-self/status").expect("/proc is read");
        fs::read_dir("/sys/module").expect("/sys is read");
        UnixStream::connect(&socket_path).expect("an output is reached");
        socket(AddressFamily::NETLINK, SocketType::RAW, Some(family::GENERIC)).expect("the kernel is asked");
        // What a thread makes is behind the same fence.
        thread::spawn(|| assert_refused("running a program", Command::new("true").status()))
            .join()
            .expect("a thread");
    })
    .join()
    .expect("the fence holds");
    drop(listener);
    fs::remove_dir_all(folder).expect("it is there");
}
