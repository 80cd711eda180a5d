//! What the probes count, held against what the kernel counted itself: exactly.
//!
//! Each test has a virtual port of its own: a destination that is deleted and added again soon may bring its old
//! counters along in the kernel.

mod around;
mod budget;
mod changes;
pub mod client;
mod defence;
mod deleted;
mod ends;
mod fatal;
mod interval;
mod left;
mod lifetimes;
mod met;
mod namespaces;
mod overload;
pub mod packets;
mod picks;
mod refusals;
mod reused;
mod synchronised;
mod templates;
mod trace;
mod unsent;
mod winner;

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    process::Command,
    sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use ipvs_observer::{
    model::{Activity, DestinationActivity, DestinationKey, Netns, ServiceActivity, ServiceKey},
    probe::{ProbeSettings, Probes},
};

use crate::{abilities::lacking_btf, ipvsadm, traffic};

/// The probes that the tests share, and what they last said.
struct Watch {
    probes: Probes,
    activity: Activity,
}

impl Watch {
    /// The probes; none on a kernel without BTF of modules, which is said: there is nothing to hold.
    fn whole() -> Option<MutexGuard<'static, Self>> {
        static WATCH: OnceLock<Mutex<Watch>> = OnceLock::new();
        assert!(modprobe("ip_vs"));
        let watch = WATCH.get_or_init(|| {
            Mutex::new(Self {
                probes: Probes::attach(&ProbeSettings::default()),
                activity: Activity::default(),
            })
        });
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.probes.refresh();
        let availability = watch.probes.availability();
        if lacking_btf() {
            assert!(!availability.complete());
            return None;
        }
        assert!(availability.complete(), "{:?}", availability.first_missing());
        real_servers();
        watch.read();
        Some(watch)
    }

    fn read(&mut self) -> &Activity {
        self.probes.refresh();
        self.probes.read(&mut self.activity);
        assert_eq!(self.activity.diagnostics, Vec::<String>::new());
        let totals = self.activity.probes;
        assert_eq!((totals.unreadable, totals.turned_away), (0, 0), "{totals:?}");
        assert_eq!(totals.unpaired, 0, "{totals:?}");
        // Where packets are scheduled in processes and in interrupts at a time, a few lose theirs.
        assert!(totals.durations_lost * 20 <= totals.returns, "{totals:?}");
        &self.activity
    }

    fn service(&self, service: &str) -> ServiceActivity {
        let own = own_netns();
        let mut services = self.activity.services.iter();
        services
            .find(|((netns, key), _)| *netns == own && named(key) == service)
            .map(|(_, activity)| *activity)
            .unwrap_or_default()
    }

    fn destinations(&self, service: &str) -> BTreeMap<String, DestinationActivity> {
        let own = own_netns();
        self.activity
            .destinations
            .iter()
            .filter(|((netns, key, _), _)| *netns == own && named(key) == service)
            .map(|((_, _, key), activity)| (endpoint(key), activity))
            .collect()
    }

    /// Picks by destination, as `ipvsadm` names these.
    fn picks(&self, service: &str) -> BTreeMap<String, u64> {
        let destinations = self.destinations(service).into_iter();
        destinations
            .map(|(destination, activity)| (destination, activity.picks))
            .filter(|(_, picks)| *picks > 0)
            .collect()
    }
}

fn own_netns() -> Netns {
    let namespace = std::fs::metadata("/proc/self/ns/net").expect("a namespace");
    Netns(u32::try_from(namespace.ino()).expect("a number as the kernel has it"))
}

/// A service as `ipvsadm` names it.
fn named(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Endpoint {
            address,
            protocol,
            port,
        } => format!(
            "{} {}",
            protocol.to_string().to_uppercase(),
            SocketAddr::new(address.ip(), *port)
        ),
        ServiceKey::Fwmark { family, mark } => {
            let six = if family.to_string() == "inet6" {
                " IPv6"
            } else {
                ""
            };
            format!("FWM {mark}{six}")
        }
    }
}

pub fn endpoint(key: &DestinationKey) -> String {
    SocketAddr::new(key.address.ip(), key.port).to_string()
}

/// Connections by destination as the kernel counted them, once they add up to `expected`: until some version
/// the counters are copied every two seconds only.
fn kernel_connections(service: &str, expected: u64) -> BTreeMap<String, u64> {
    let begin = Instant::now();
    loop {
        let table = ipvsadm::list(&["--stats", "--exact"]);
        let counted: BTreeMap<String, u64> = table[service]
            .destinations
            .iter()
            .map(|(name, words)| (name.clone(), words[0].parse().expect("a number")))
            .filter(|(_, connections)| *connections > 0)
            .collect();
        if counted.values().sum::<u64>() == expected || begin.elapsed() > Duration::from_secs(6) {
            return counted;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

pub fn modprobe(module: &str) -> bool {
    Command::new("modprobe")
        .arg(module)
        .output()
        .is_ok_and(|output| output.status.success())
}

pub fn rmmod(module: &str) -> bool {
    Command::new("rmmod")
        .arg(module)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Three real servers that answer on port 7000.
pub fn real_servers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        traffic::addresses();
        for n in 1..=3 {
            for address in [format!("10.8.0.{n}:7000"), format!("[fd00:8::{n}]:7000")] {
                traffic::serve_tcp(&address);
                traffic::serve_udp(&address);
            }
        }
    });
}

/// The rules of a service on the three real servers, with these weights.
fn rules(service: &str, scheduler: &str, weights: [u32; 3]) -> String {
    let mut rules = format!("-A {service} -s {scheduler}\n");
    let service = service.split(" -p").next().unwrap_or(service);
    for (n, weight) in (1..).zip(weights) {
        let real_server = if service.contains('[') {
            format!("[fd00:8::{n}]:7000")
        } else {
            format!("10.8.0.{n}:7000")
        };
        writeln!(rules, "-a {service} -r {real_server} -m -w {weight}").expect("a string grows");
    }
    rules
}
