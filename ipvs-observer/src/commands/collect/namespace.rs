//! One network namespace from gather to gather: its table, and what is known of it.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    correlate::Correlator,
    health::Reporter,
    model::{DumpCounters, Netns, Snapshot},
    netlink::{self, Failure, Reader},
    points::Schema,
    settings::{ServiceSpec, wanted},
};

/// A namespace that is gathered.
pub(super) struct Namespace {
    /// The name or path by which it was asked for; none for the one that the program runs in.
    name: Option<String>,
    reader: Reader,
    /// The table as last read.
    pub(super) snapshot: Snapshot,
    /// What kept it from being complete.
    pub(super) failure: Option<Failure>,
    /// How long it took to read.
    pub(super) dump: Duration,
    /// Its scheduler's picks from gather to gather.
    pub(super) correlator: Correlator,
    /// Its number at the gather before: what was done to it since is told, also if it is gone.
    before: Netns,
    pub(super) reporter: Reporter,
}

impl Namespace {
    /// The namespace of the calling thread, or that with a name. One that is not there may come, which is waited for if
    /// `waits`.
    pub(super) fn new(name: Option<String>, waits: bool) -> io::Result<Self> {
        let netns = match &name {
            None => netlink::namespace()?,
            Some(name) => netlink::namespace_of(name).unwrap_or_default(),
        };
        Ok(Self {
            reader: Reader::default(),
            snapshot: Snapshot::default(),
            failure: None,
            dump: Duration::ZERO,
            correlator: Correlator::new(netns),
            before: netns,
            reporter: Reporter::new(name.clone(), waits),
            name,
        })
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its number; 0, which is no namespace's, while it is not there.
    pub(super) fn netns(&self) -> Netns {
        self.correlator.netns()
    }

    pub(super) fn counters(&self) -> DumpCounters {
        self.reader.counters()
    }

    /// Whether what was told since the gather before happened here.
    pub(super) fn saw(&self, netns: Netns) -> bool {
        netns == self.netns() || netns == self.before
    }

    /// Reads the table. In a thread of its own where that is not the program's namespace: it ends there.
    pub(super) fn read(&mut self, services: &[ServiceSpec], schema: Schema) {
        let begin = Instant::now();
        self.before = self.netns();
        self.failure = match self.name.clone() {
            None => self.read_here(services, schema),
            Some(name) => self.read_in(&name, services, schema),
        };
        self.dump = begin.elapsed();
    }

    fn read_in(&mut self, name: &str, services: &[ServiceSpec], schema: Schema) -> Option<Failure> {
        let entered = netlink::enter(name);
        let netns = match &entered {
            Ok(netns) => *netns,
            Err(Failure::NoNamespace) => Netns::default(),
            // It is there, and the probes can tell its events from others'.
            Err(_) => netlink::namespace_of(name).unwrap_or_default(),
        };
        if netns != self.netns() {
            // Another namespace by the same name: nothing that was known is of this one.
            self.correlator = Correlator::new(netns);
        }
        match entered {
            Ok(_) => {
                let failure = self.read_here(services, schema);
                self.reader.let_go();
                failure
            }
            Err(failure) => {
                self.snapshot.clear();
                Some(failure)
            }
        }
    }

    fn read_here(&mut self, services: &[ServiceSpec], schema: Schema) -> Option<Failure> {
        let read = self
            .reader
            .read(&mut self.snapshot, &|service| wanted(services, &service.key));
        let there = !matches!(read, Err(Failure::Absent(_)));
        if there && schema == Schema::Full {
            self.reader.read_surroundings(&mut self.snapshot);
        }
        read.err()
    }

    /// That there is no thread to read it with.
    pub(super) fn not_read(&mut self, error: io::Error) {
        self.snapshot.clear();
        self.failure = Some(Failure::NoThread(error));
        self.dump = Duration::ZERO;
        self.before = self.netns();
    }
}
