//! The table as it was made: which services there are, and with what.

use std::{collections::BTreeMap, fmt::Write as _};

use super::random::Random;
use crate::ipvsadm;

/// What clients reach.
pub const ADDRESS: &str = "10.9.0.1";
/// Schedulers that find somebody whenever a real server has a weight.
const SURE: [&str; 4] = ["rr", "wrr", "wlc", "lc"];
/// A hash may name one without a weight, and gives nobody then.
const HASH: &str = "sh";
/// The one that is always in use.
pub const LASTING: &str = "rr";
/// The others, whose modules may go.
pub const PASSING: [&str; 4] = ["wrr", "wlc", "lc", HASH];
const SERVERS: u64 = 3;

/// A virtual server.
#[derive(Clone, Debug)]
pub struct Service {
    udp: bool,
    port: u16,
    pub scheduler: &'static str,
    extra: &'static str,
    /// Real servers by number, with their weights.
    weights: BTreeMap<u64, u64>,
}

impl Service {
    fn random(random: &mut Random, port: u16) -> Self {
        let udp = random.index(3) > 0;
        let scheduler = if udp && random.index(5) == 0 {
            HASH
        } else {
            *random.one_of(&SURE)
        };
        let extra = match random.index(6) {
            0 => " -p 60",
            1 if udp => " -o",
            _ => "",
        };
        let mut weights = BTreeMap::new();
        for number in 1..=random.between(1, SERVERS + 1) {
            weights.insert(number, random.between(1, 8));
        }
        Self {
            udp,
            port,
            scheduler,
            extra,
            weights,
        }
    }

    pub fn udp(&self) -> bool {
        self.udp
    }

    pub fn address(&self) -> String {
        format!("{ADDRESS}:{}", self.port)
    }

    /// As `ipvsadm` names it.
    pub fn name(&self) -> String {
        format!("{} {}", if self.udp { "UDP" } else { "TCP" }, self.address())
    }

    /// Somebody is found for each connection.
    pub fn sure(&self) -> bool {
        self.scheduler != HASH && self.weights.values().any(|weight| *weight > 0)
    }

    /// Each connection is a pick.
    pub fn picks_alone(&self) -> bool {
        self.extra != " -p 60"
    }

    fn flag(&self) -> String {
        format!("{} {}", if self.udp { "-u" } else { "-t" }, self.address())
    }

    fn with(&self, verb: &str, number: u64, weight: u64) -> String {
        format!("{verb} {} -r 10.8.0.{number}:7000 -m -w {weight}", self.flag())
    }

    fn rules(&self) -> String {
        let mut rules = format!("-A {} -s {}{}\n", self.flag(), self.scheduler, self.extra);
        for (number, weight) in &self.weights {
            writeln!(rules, "{}", self.with("-a", *number, *weight)).expect("memory");
        }
        rules
    }
}

/// The whole table.
pub struct Table {
    pub services: Vec<Service>,
    port: u16,
    /// Changes that were made: each service and real server that was added, changed or deleted.
    pub changes: u64,
    /// Real servers that there were at one time, at most.
    pub most: usize,
    /// Real servers that were removed for themselves: the kernel keeps them for some minutes.
    pub removed: u32,
}

fn run(command: &str) {
    ipvsadm::run(&command.split_whitespace().collect::<Vec<_>>());
}

impl Table {
    pub fn new() -> Self {
        Self {
            services: Vec::new(),
            port: 7200,
            changes: 0,
            most: 0,
            removed: 0,
        }
    }

    /// All services are about to go.
    pub fn goes(&mut self) {
        let there = ipvsadm::list(&[]);
        let servers = there.values().map(|entry| entry.destinations.len());
        self.changes += (there.len() + servers.sum::<usize>()) as u64;
    }

    fn run(&mut self, command: &str) {
        run(command);
        self.changes += 1;
    }

    fn look_for_most(&mut self) {
        let there = ipvsadm::list(&[]);
        let count = there.values().map(|entry| entry.destinations.len()).sum();
        self.most = self.most.max(count);
    }

    /// What was a port of a service is not one again for long.
    fn next_port(&mut self) -> u16 {
        self.port = if self.port == 9900 { 7200 } else { self.port + 1 };
        self.port
    }

    pub fn clear(&mut self) {
        self.goes();
        ipvsadm::run(&["-C"]);
        self.services.clear();
    }

    /// A new table in the place of the old.
    pub fn restore(&mut self, random: &mut Random) {
        self.services.clear();
        for _ in 0..random.between(4, 9) {
            let port = self.next_port();
            self.services.push(Service::random(random, port));
        }
        let rules: String = self.services.iter().map(Service::rules).collect();
        // Nobody connects to these: they make gathers long.
        let rules = rules + &ipvsadm::many("-t", 100, &format!("-s {LASTING}"), 20, 5);
        self.goes();
        ipvsadm::restore(&rules);
        self.changes += rules.lines().count() as u64;
        self.look_for_most();
    }

    /// One change.
    pub fn change(&mut self, random: &mut Random) {
        let what = random.index(6);
        if what == 0 || self.services.len() < 3 {
            let port = self.next_port();
            let service = Service::random(random, port);
            service.rules().lines().for_each(|rule| self.run(rule));
            self.services.push(service);
            return self.look_for_most();
        }
        let index = random.index(self.services.len());
        let number = random.between(1, SERVERS + 1);
        let weight = random.between(0, 8);
        self.changes += 1;
        let service = &mut self.services[index];
        let there = service.weights.contains_key(&number);
        match what {
            1 => {
                run(&format!("-D {}", service.flag()));
                self.changes += service.weights.len() as u64;
                self.services.remove(index);
            }
            2 if service.scheduler != HASH => {
                service.scheduler = *random.one_of(&SURE);
                run(&format!(
                    "-E {} -s {}{}",
                    service.flag(),
                    service.scheduler,
                    service.extra
                ));
            }
            3 if there => {
                run(&format!("-d {} -r 10.8.0.{number}:7000", service.flag()));
                service.weights.remove(&number);
                self.removed += 1;
            }
            _ => {
                let verb = if there { "-e" } else { "-a" };
                run(&service.with(verb, number, weight));
                service.weights.insert(number, weight);
            }
        }
        self.look_for_most();
    }

    /// Takes away every service of a scheduler, so that its module can go.
    pub fn without(&mut self, scheduler: &str) {
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.services)
            .into_iter()
            .partition(|service| service.scheduler == scheduler);
        self.services = stay;
        for service in gone {
            self.run(&format!("-D {}", service.flag()));
            self.changes += service.weights.len() as u64;
        }
    }
}
