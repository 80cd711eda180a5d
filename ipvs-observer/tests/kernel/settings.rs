//! The settings that decide, and whose the virtual addresses are: as the kernel has them, also when they change.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use serde_json::Value;

use crate::{
    ipvsadm,
    netns::Collect,
    observer::{self, endpoint, of, only, service},
    privilege::{self, THREE},
    support::{
        child::{printed, shell},
        lines::Line,
    },
    traffic,
};

const SETTINGS: &str = "/proc/sys/net/ipv4/vs";
const INTS: [&str; 6] = [
    "conn_reuse_mode",
    "drop_entry",
    "drop_packet",
    "secure_tcp",
    "am_droprate",
    "conn_max",
];
const BOOLS: [&str; 7] = [
    "expire_nodest_conn",
    "expire_quiescent_template",
    "sloppy_tcp",
    "sloppy_sctp",
    "conntrack",
    "cache_bypass",
    "schedule_icmp",
];

/// A setting at another value, for as long as it is held.
struct Set(String, String);

impl Set {
    fn at(path: &str, value: &str) -> Self {
        let before = fs::read_to_string(path).expect("the setting");
        fs::write(path, value).expect("root may");
        Self(path.to_owned(), before)
    }

    fn of_ipvs(name: &str, value: &str) -> Self {
        Self::at(&format!("{SETTINGS}/{name}"), value)
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        fs::write(&self.0, &self.1).expect("root may");
    }
}

/// What the kernel shows of a setting, if it has it.
fn shown(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("{SETTINGS}/{name}")).ok()?;
    Some(text.trim().parse().expect("a number"))
}

/// Holds that a gather has each setting as the kernel shows it, and none that it lacks.
fn assert_as_shown(line: &Line) {
    for name in INTS {
        let field = line.fields.contains_key(name).then(|| line.number(name));
        assert_eq!(field, shown(name), "{name}");
    }
    for name in BOOLS {
        let field = line.fields.contains_key(name).then(|| line.boolean(name));
        assert_eq!(field, shown(name).map(|value| value != 0), "{name}");
    }
    let at_work = |name| shown(name).is_some_and(|mode| mode >= 2);
    let active = at_work("drop_entry") || at_work("drop_packet");
    assert_eq!(line.boolean("defence_active"), active);
}

#[test]
fn each_setting_is_as_the_kernel_shows_it_and_a_change_is_in_the_next_gather() {
    shell("modprobe ip_vs");
    ipvsadm::restore("-A -t 10.9.0.1:80 -s rr\n");
    let mut collect = Collect::of(privilege::as_user(
        &THREE,
        &["collect", "--trigger", "stdin", "--probes", "off"],
    ));
    let mut gathered = || {
        let lines = collect.gather(1);
        assert_as_shown(only(&lines, "ipvs"));
    };
    gathered();
    let mut found = 0;
    for name in INTS.into_iter().chain(BOOLS) {
        let Some(value) = shown(name) else { continue };
        let other = match name {
            "drop_entry" | "drop_packet" | "secure_tcp" => 3,
            "conn_max" => value - 1,
            _ => value ^ 1,
        };
        let _set = Set::of_ipvs(name, &other.to_string());
        assert_eq!(shown(name), Some(other), "{name}");
        gathered();
        found += 1;
    }
    gathered();
    assert!(found >= 12, "{found} settings are in this kernel");
    let lines = observer::gather(&["--schema", "telegraf", "--probes", "off"]);
    assert_eq!(of(&lines, "ipvs").count(), 0);
    assert!(
        lines
            .iter()
            .all(|line| !line.fields.contains_key("address_local"))
    );
}

#[test]
fn another_namespace_has_settings_and_addresses_of_its_own() {
    shell(
        "modprobe ip_vs
         ip netns add settings
         ip netns exec settings ip link set lo up
         ip netns exec settings ip addr add 10.77.0.1/32 dev lo
         ip netns exec settings ipvsadm -A -t 10.77.0.1:80 -s rr
         ip netns exec settings sh -c 'echo 0 >/proc/sys/net/ipv4/vs/conn_reuse_mode'",
    );
    ipvsadm::restore("-A -t 10.77.0.1:80 -s rr\n");
    let there = observer::gather(&["--netns", "settings", "--probes", "off"]);
    let here = observer::gather(&["--probes", "off"]);
    shell("ip netns del settings");
    let mode = |lines| only(lines, "ipvs").number("conn_reuse_mode");
    assert_eq!((mode(&there), mode(&here)), (0, 1));
    let local = |lines| only(lines, "ipvs_virtual_server").boolean("address_local");
    assert_eq!((local(&there), local(&here)), (true, false));
}

#[test]
fn scheduler_flags_are_those_that_ipvsadm_saves() {
    traffic::addresses();
    let mut rules = String::new();
    for (place, (scheduler, flags)) in [
        ("sh", "sh-port"),
        ("sh", "sh-fallback,sh-port"),
        ("mh", "mh-fallback"),
        ("mh", "flag-1,flag-2,flag-3"),
        ("rr", "flag-1,flag-3"),
        ("wlc", "flag-2"),
    ]
    .into_iter()
    .enumerate()
    {
        writeln!(rules, "-A -t 10.9.0.1:{} -s {scheduler} -b {flags}", 9100 + place).expect("a string grows");
    }
    ipvsadm::restore(&(rules + "-A -t 10.9.0.1:9199 -s sh\n"));
    let (lines, saved) = (observer::gather(&["--probes", "off"]), ipvsadm::saved());
    let mut flagged = 0;
    for line in of(&lines, "ipvs_virtual_server") {
        let name = service(line, "");
        let field = line.fields.contains_key("scheduler_flags");
        let field = field.then(|| line.text("scheduler_flags"));
        assert_eq!(field, saved[&name].get("-b").map(String::as_str), "{name}");
        flagged += usize::from(field.is_some());
    }
    assert_eq!(flagged, 6);
}

/// Whether `ip` finds that the route to an address ends here.
fn routed_here(address: &str) -> bool {
    let six = if address.contains(':') { "-6" } else { "-4" };
    printed(&format!("ip {six} route get {address} 2>/dev/null || :")).starts_with("local ")
}

#[test]
fn an_address_is_local_where_its_route_ends_here_and_a_change_is_in_the_next_gather() {
    traffic::addresses();
    // A block that is local as a whole, one that is routed on, one that is refused, and addresses without a route.
    shell(
        "ip route replace local 10.76.0.0/24 dev lo
         ip route replace 10.67.0.0/24 via 10.8.0.200 dev dummy9
         ip route replace unreachable 10.68.0.0/24
         ip -6 route replace local fd00:66::/64 dev lo",
    );
    let mut rules = String::from("-A -f 66 -s rr\n");
    for address in [
        "10.9.0.2",
        "10.76.0.9",
        "10.67.0.9",
        "10.68.0.9",
        "10.69.0.9",
        "fd00:9::2",
        "fd00:66::9",
        "fd00:67::9",
    ] {
        writeln!(rules, "-A -t {} -s rr", endpoint(address, "9200")).expect("a string grows");
    }
    ipvsadm::restore(&rules);
    let mut collect = Collect::of(observer::command(&[
        "collect",
        "--trigger",
        "stdin",
        "--probes",
        "off",
    ]));
    let mut local = || -> BTreeSet<String> {
        let lines = collect.gather(1);
        let servers = of(&lines, "ipvs_virtual_server").filter(|line| {
            let mark = !line.tag("fwmark").is_empty();
            assert_eq!(line.fields.contains_key("address_local"), !mark, "{line:?}");
            !mark
        });
        let mut found = BTreeSet::new();
        for line in servers {
            let address = line.tag("address");
            assert_eq!(line.boolean("address_local"), routed_here(address), "{address}");
            if line.boolean("address_local") {
                found.insert(address.to_owned());
            }
        }
        found
    };
    let set = |texts: &[&str]| -> BTreeSet<String> { texts.iter().map(|&text| text.to_owned()).collect() };
    assert_eq!(
        local(),
        set(&["10.76.0.9", "10.9.0.2", "fd00:66::9", "fd00:9::2"])
    );
    shell(
        "ip addr add 10.69.0.9/32 dev lo
         ip route del local 10.76.0.0/24 dev lo
         ip -6 addr add fd00:67::9/128 dev lo nodad",
    );
    let after = local();
    shell(
        "ip addr del 10.69.0.9/32 dev lo
         ip -6 addr del fd00:67::9/128 dev lo
         ip -6 route del local fd00:66::/64 dev lo
         ip route del 10.67.0.0/24
         ip route del unreachable 10.68.0.0/24",
    );
    assert_eq!(
        after,
        set(&["10.69.0.9", "10.9.0.2", "fd00:66::9", "fd00:67::9", "fd00:9::2"])
    );
}

/// Rows of `check` that warn, by their needs, and its exit status.
fn checked() -> (Vec<(String, String)>, Option<i32>) {
    let output = observer::run(&["check", "--format", "json"]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |row: &Value, name: &str| row[name].as_str().expect("text").to_owned();
    let warnings = rows.iter().filter(|row| row["state"] == "warning").map(|row| {
        assert!(text(row, "remedy").contains("price"), "{row}");
        assert!(!text(row, "consequence").is_empty(), "{row}");
        (text(row, "need"), text(row, "detail"))
    });
    (warnings.collect(), output.status.code())
}

#[test]
fn check_warns_of_what_may_hurt_and_does_not_fail_by_it() {
    traffic::addresses();
    let _forwarding = Set::at("/proc/sys/net/ipv4/ip_forward", "1");
    let _removed = Set::of_ipvs("expire_nodest_conn", "1");
    ipvsadm::restore("-A -t 10.9.0.1:9300 -s rr\n-a -t 10.9.0.1:9300 -r 10.8.0.1:9300 -m -w 1\n");
    let (warnings, usual) = checked();
    assert_eq!(warnings, []);
    // Several at once: each check attaches all probes, which takes long where the processor is emulated.
    let hurts = |expected: &[(&str, &str)]| {
        let (warnings, status) = checked();
        assert_eq!(status, usual, "{warnings:?}");
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (need, detail) in expected {
            let found = warnings.iter().find(|(found, _)| found == need);
            let (_, found) = found.unwrap_or_else(|| panic!("no {need}: {warnings:?}"));
            assert!(found.contains(detail), "{found}");
        }
    };
    {
        let _tracked = Set::of_ipvs("conntrack", "1");
        let _drops = Set::of_ipvs("drop_packet", "3");
        ipvsadm::run(&["-A", "-t", "10.99.0.9:9300", "-s", "rr"]);
        hurts(&[
            ("setting: conntrack", "conntrack=1 conn_reuse_mode=1"),
            ("setting: defence", "drop_packet=3"),
            ("virtual addresses", "not local: 10.99.0.9"),
        ]);
        ipvsadm::run(&["-D", "-t", "10.99.0.9:9300"]);
    }
    {
        let _reuse = Set::of_ipvs("conn_reuse_mode", "0");
        let _removed = Set::of_ipvs("expire_nodest_conn", "0");
        let _forwarding = Set::at("/proc/sys/net/ipv4/ip_forward", "0");
        hurts(&[
            ("setting: port reuse", "conn_reuse_mode=0"),
            ("setting: removed servers", "expire_nodest_conn=0"),
            ("forwarding", "net.ipv4.ip_forward=0"),
        ]);
    }
    assert_eq!(checked().0, []);
}
