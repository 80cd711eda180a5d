//! What happens, each by itself and some of it at random.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use ipvs_observer_common::slot;
use rustix::{
    process::Signal,
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{
    Soak,
    collected::{INTERVAL, Order},
    footprint, probed, slots,
    table::{ADDRESS, PASSING, Service},
};
use crate::{faults::remove, ipvsadm, observer::of, scheduler, support::child::shell, watched::PATIENCE};

/// What `ip_vs` is removed from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    AtRest,
    /// From a trace that has more before it than it could read.
    Flooded,
    /// From one that reads and looks at nothing until it is done.
    Unread,
}

impl Soak {
    /// Something at random.
    pub(super) fn act(&mut self) {
        self.sums.actions += 1;
        let what = self.random.between(0, 100);
        let seconds = Duration::from_millis(self.random.between(1000, 8000));
        match what {
            0..34 => self.datagrams(),
            34..46 => self.connections(),
            46..62 => {
                for _ in 0..self.random.between(1, 8) {
                    self.table.change(&mut self.random);
                }
            }
            62..66 => self.flood(),
            66..70 => self.collected.order(Order::Stall(seconds)),
            70..73 => self.collected.order(Order::Absent(seconds)),
            73..76 => self.collected.order(Order::Absent(Duration::ZERO)),
            76..79 => self.stop_for_a_while(),
            79..82 => self.namespace(),
            82..84 => self.ask(),
            84..88 => self.scheduler_goes(),
            88..92 => self.clear(),
            92..94 => {
                let removals = [Removal::AtRest, Removal::Flooded, Removal::Unread];
                let removal = *self.random.one_of(&removals);
                self.reload(removal);
            }
            _ => self.check(),
        }
        let pause = self.random.between(0, 500);
        thread::sleep(Duration::from_millis(pause));
    }

    fn one(&mut self, wanted: impl Fn(&Service) -> bool) -> Option<Service> {
        let some: Vec<_> = self
            .table
            .services
            .iter()
            .filter(|service| wanted(service))
            .collect();
        (!some.is_empty()).then(|| (*self.random.one_of(&some)).clone())
    }

    pub(super) fn datagrams(&mut self) {
        let own = self.random.index(4) == 0;
        let count = self.random.between(5, 120);
        // What is refused a process of this machine may try again.
        if let Some(service) = self.one(|service| service.udp() && (!own || service.sure())) {
            self.sender
                .datagrams(&service.address(), count, own, &mut self.made);
        }
    }

    pub(super) fn connections(&mut self) {
        let count = self.random.between(2, 12);
        if let Some(service) = self.one(|service| !service.udp() && service.sure()) {
            self.sender.connections(&service.address(), count, &mut self.made);
        }
    }

    /// More than the ring holds while the trace does not read.
    pub(super) fn flood(&mut self) {
        self.traced.process.signal(Signal::STOP);
        self.overrun();
        self.traced.process.signal(Signal::CONT);
    }

    fn overrun(&mut self) {
        for _ in 0..4 {
            self.datagrams();
        }
        if let Some(service) = self.one(|service| service.udp() && service.sure()) {
            self.sender
                .datagrams(&service.address(), 400, false, &mut self.made);
        }
    }

    pub(super) fn stop_for_a_while(&mut self) {
        self.collected.process.signal(Signal::STOP);
        for _ in 0..3 {
            self.datagrams();
            self.table.change(&mut self.random);
        }
        let pause = self.random.between(500, 3000);
        thread::sleep(Duration::from_millis(pause));
        self.collected.process.signal(Signal::CONT);
    }

    /// A gather, by a signal, of one that waits for it.
    pub(super) fn ask(&mut self) {
        self.sums.signals += 1;
        let which = (self.sums.signals % 2) as usize;
        self.asked[which].ask();
    }

    /// A network namespace with a table and traffic of its own, which nobody asked for.
    pub(super) fn namespace(&mut self) {
        self.sums.namespaces += 1;
        let inside = || {
            // SAFETY: the namespace of the network is no memory and no file descriptor of anybody.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root may");
            shell(&format!(
                "ip link set lo up; ip addr add {ADDRESS}/32 dev lo; ip addr add 10.8.0.1/32 dev lo"
            ));
            ipvsadm::restore(&format!(
                "-A -u {ADDRESS}:7200 -s rr\n-a -u {ADDRESS}:7200 -r 10.8.0.1:7000 -m\n"
            ));
            for _ in 0..20 {
                let socket = std::net::UdpSocket::bind((ADDRESS, 0)).expect("a socket");
                socket.send_to(b"elsewhere", (ADDRESS, 7200)).expect("sending");
            }
        };
        thread::spawn(inside).join().expect("it ends with its namespace");
    }

    pub(super) fn scheduler_goes(&mut self) {
        self.sums.schedulers += 1;
        let scheduler = *self.random.one_of(&PASSING);
        self.table.without(scheduler);
        let module = format!("ip_vs_{scheduler}");
        let begin = Instant::now();
        // While a probe is being attached it has a reference, and what was deleted has one for a moment.
        while !scheduler::rmmod(&module) {
            assert!(begin.elapsed() < PATIENCE, "something holds {module}");
            thread::sleep(Duration::from_millis(200));
        }
        let pause = self.random.between(0, 3000);
        thread::sleep(Duration::from_millis(pause));
        assert!(scheduler::modprobe(&module));
    }

    /// Nothing of an empty table is in the maps.
    pub(super) fn clear(&mut self) {
        self.sums.clearings += 1;
        self.sender.let_go();
        self.table.clear();
        let begin = Instant::now();
        loop {
            thread::sleep(INTERVAL);
            let entries = footprint::entries(&self.others);
            assert!(!entries.is_empty(), "the program has no such maps?");
            let left: Vec<_> = entries.iter().filter(|(_, count)| **count > 0).collect();
            // Of each program, what was removed for itself stays until the kernel lets go of it.
            let mut kept = left.iter().map(|(name, count)| (name.split('[').next(), **count));
            let removed = kept.clone().filter(|(name, _)| *name == Some("REMOVED"));
            let counted = kept.clone().filter(|(name, _)| *name == Some("DESTINATIONS"));
            if removed
                .map(|(_, count)| count)
                .eq(counted.map(|(_, count)| count))
                && kept.all(|(name, _)| matches!(name, Some("REMOVED" | "DESTINATIONS")))
            {
                break;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(15),
                "of an empty table: {left:?}"
            );
        }
        self.slots();
        self.table.restore(&mut self.random);
    }

    /// All slots of counters are given back, each once, but for real servers that were removed and that the kernel may
    /// still have; and no more were ever given than there were real servers.
    fn slots(&mut self) {
        let processors = thread::available_parallelism().expect("some").get();
        // Where processors take one at the same time, each takes of a run of its own.
        let most = slot::in_runs(self.table.most as u32 + self.table.removed) + slot::RUN * processors as u32;
        let entries = footprint::entries(&self.others);
        let removed = entries
            .iter()
            .filter(|(name, _)| name.starts_with("DESTINATIONS["));
        let kept: usize = removed.map(|(_, count)| count).sum();
        let mut taken = 0;
        let all = slots::free(&self.others);
        assert_eq!(
            all.len(),
            4,
            "of two programs, services and real servers: {all:?}"
        );
        for (name, free) in all {
            let unique: HashSet<_> = free.slots.iter().collect();
            assert_eq!(unique.len(), free.slots.len(), "{name}: a slot is there twice");
            taken += free.size as usize - free.slots.len();
        }
        assert_eq!(taken, kept, "a slot was not given back");
        for given in slots::given(&self.others) {
            assert!(
                given.iter().all(|given| *given <= most),
                "{given:?} slots were given, of {most}"
            );
            for (sum, given) in self.sums.slots.iter_mut().zip(given) {
                *sum = given.max(*sum);
            }
        }
    }

    /// `ip_vs` goes and comes.
    pub(super) fn reload(&mut self, removal: Removal) {
        self.sums.reloads += 1;
        self.sender.let_go();
        if removal != Removal::AtRest {
            self.traced.process.signal(Signal::STOP);
            self.overrun();
        }
        if removal == Removal::Flooded {
            self.traced.process.signal(Signal::CONT);
        }
        // What is under way on another processor arrives, and that is all that is waited for.
        thread::sleep(Duration::from_millis(50));
        self.table.goes();
        remove();
        self.traced.process.signal(Signal::CONT);
        self.account();
        let pause = self.random.between(0, 3000);
        thread::sleep(Duration::from_millis(pause));
        shell("modprobe ip_vs");
        probed();
        let took = self.collected.shown("the table", |gather| {
            of(gather, "ipvs_virtual_server").count() > 0
        });
        self.sums.back = self.sums.back.max(took);
        assert!(
            took < 3 * INTERVAL,
            "{took:?} until the table is gathered again, where two intervals are told"
        );
        self.begin();
    }
}
