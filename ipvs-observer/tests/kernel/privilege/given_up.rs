//! What root gives up, and that what it needs later is still there.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixListener,
    process::Command,
    time::Duration,
};

use super::{NET_ADMIN, SYS_ADMIN, USER, assert_reduced, gathering, shell, soon, threads};
use crate::{
    netns::Collect,
    observer::{self, Running, only},
};

fn as_root(args: &[&str]) -> Collect {
    Collect::of(observer::command(
        &[&["collect", "--trigger", "stdin"], args].concat(),
    ))
}

#[test]
fn root_keeps_what_the_work_needs_or_all_where_it_is_told_to() {
    shell("modprobe ip_vs");
    for mode in ["reattach", "attached"] {
        let mut collect = as_root(&["--probes", "off", "--privileges", mode]);
        collect.gather(1);
        assert_reduced(collect.child.id(), NET_ADMIN, 0);
        collect.end();
    }
    let mut collect = as_root(&["--probes", "off", "--privileges", "keep"]);
    collect.gather(1);
    let own = threads(std::process::id()).remove(0);
    for thread in threads(collect.child.id()) {
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(thread.set(set), own.set(set), "{set}");
        }
        assert_eq!(
            (thread.0["NoNewPrivs"].as_str(), thread.0["Seccomp"].as_str()),
            ("0", "0")
        );
    }
    collect.end();
}

#[test]
fn a_namespace_that_comes_again_is_entered_again() {
    shell("modprobe ip_vs; ip netns add again");
    let mut collect = gathering(
        &["net_admin", "sys_admin"],
        &["--probes", "off", "--netns", "again"],
    );
    let status = |collect: &mut Collect| {
        let lines = collect.gather(1);
        only(&lines, "ipvs_observer").text("status").to_owned()
    };
    assert_eq!(status(&mut collect), "ok");
    assert_reduced(collect.child.id(), NET_ADMIN | SYS_ADMIN, NET_ADMIN | SYS_ADMIN);
    shell("ip netns del again");
    assert_eq!(status(&mut collect), "unavailable");
    shell("ip netns add again");
    assert_eq!(status(&mut collect), "ok");
    collect.end();
    shell("ip netns del again");
}

#[test]
fn the_namespace_of_another_users_process_is_entered_by_way_of_it() {
    shell("modprobe ip_vs; ip netns add others");
    let mut process = Command::new("ip")
        .args(["netns", "exec", "others", "setpriv", "--clear-groups"])
        .args([format!("--reuid={USER}"), format!("--regid={USER}")])
        .args(["sleep", "60"])
        .spawn()
        .expect("ip");
    let path = format!("/proc/{}/ns/net", process.id());
    let own = fs::read_link("/proc/self/ns/net").expect("a namespace");
    assert!(soon(|| fs::read_link(&path).is_ok_and(|netns| netns != own)));
    // As those do who want `ip netns` to know a container.
    shell(&format!("ln -s {path} /run/netns/linked"));
    let mut collect = as_root(&["--probes", "off", "--netns", &path, "--netns", "linked"]);
    for line in collect.gather(2) {
        if line.measurement == "ipvs_observer" {
            assert_eq!(line.text("reason"), "");
        }
    }
    collect.end();
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    shell("rm /run/netns/linked; ip netns del others");
}

#[test]
fn an_output_in_another_users_folder_is_reached_again_when_it_comes_back() {
    shell("modprobe ip_vs");
    let folder = "/tmp/others";
    let socket = format!("{folder}/socket");
    let listen = || {
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket");
        shell(&format!(
            "chown -R {USER}:{USER} {folder}; chmod 700 {folder} {socket}"
        ));
        listener
    };
    fs::create_dir_all(folder).expect("a folder");
    let read = |listener: &UnixListener| {
        let (stream, _) = listener.accept().expect("it connects");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a line");
        assert!(line.ends_with('\n'), "{line:?}");
    };
    let listener = listen();
    let running = Running::start(&[
        "collect",
        "--probes",
        "off",
        "--interval",
        "100ms",
        "--output",
        &format!("unix://{socket}"),
    ]);
    read(&listener);
    drop(listener);
    let listener = listen();
    read(&listener);
    let (output, took) = running.stop("-TERM");
    assert!(output.status.success(), "{output:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    fs::remove_dir_all(folder).expect("it is there");
}
