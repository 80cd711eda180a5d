//! The connection table, read beside the gathers, which never wait for it.
//!
//! Each reading has a thread of its own, which ends with it: what entered a network namespace would keep it. It is given
//! up after half of the period. So at least half of a processor's time is left to others, whatever the table's size, and
//! the next reading never meets the one before. The tables of several namespaces share that time, and the one that took
//! longest comes last: a large one keeps no other from being read.

use std::{
    io, mem,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::namespace::Namespace;
use crate::{
    log,
    model::{Entries, Netns},
    netlink::{self, Failure},
    privilege,
};

/// The connection tables of all namespaces, from one reading to the next.
pub(super) struct Connections {
    period: Duration,
    /// When the next reading begins; none: after the next gather, because there is nothing to attribute entries to.
    due: Option<Instant>,
    ending: Arc<AtomicBool>,
    reading: Option<JoinHandle<Vec<Table>>>,
    /// One for each namespace, while they are not being read.
    tables: Vec<Table>,
    /// What was told last of each namespace.
    told: Vec<Option<Trouble>>,
}

/// That of one namespace.
#[derive(Default)]
struct Table {
    name: Option<String>,
    netns: Netns,
    entries: Entries,
    /// Whether there was something to attribute entries to.
    begun: bool,
    read: Read,
    /// How long the last reading took, or was given.
    took: Duration,
}

/// How a reading ended.
#[derive(Default)]
enum Read {
    /// There was none since the last gather.
    #[default]
    Not,
    /// With every entry counted.
    Whole,
    Failed(Trouble),
}

/// Why there is nothing to write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    GivenUp,
    Failed(String),
}

impl Connections {
    /// Tables that are read every `period`, first after the first gather.
    pub(super) fn new(period: Duration) -> Self {
        Self {
            period,
            due: None,
            ending: Arc::default(),
            reading: None,
            tables: Vec::new(),
            told: Vec::new(),
        }
    }

    /// When the next reading begins, if that is not after the next gather.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Begins a reading if it is time for one, of the services that the namespaces had at the last gather.
    pub(super) fn begin_if_due(&mut self, namespaces: &[Namespace]) {
        let now = Instant::now();
        if self.due.is_some_and(|due| now < due) {
            return;
        }
        self.take(false);
        let complete = |namespace: &Namespace| namespace.snapshot.services_in_namespace.is_some();
        self.due = namespaces.iter().any(complete).then(|| now + self.period);
        // One that the kernel does not return from is not joined by another.
        if self.due.is_some() && self.reading.is_none() {
            self.begin(namespaces);
        }
    }

    /// Reads now, and waits for it: for the only gather that there will be.
    pub(super) fn read_now(&mut self, namespaces: &[Namespace]) {
        self.begin(namespaces);
        self.take(true);
    }

    fn begin(&mut self, namespaces: &[Namespace]) {
        self.tables.resize_with(namespaces.len(), Table::default);
        self.told.resize(namespaces.len(), None);
        for (table, namespace) in self.tables.iter_mut().zip(namespaces) {
            table.begin(namespace);
        }
        let (limit, ending) = (self.period / 2, Arc::clone(&self.ending));
        let tables = mem::take(&mut self.tables);
        let reading = move || read(tables, limit, &ending);
        match thread::Builder::new()
            .name("connections".to_owned())
            .spawn(reading)
        {
            Ok(reading) => self.reading = Some(reading),
            Err(error) => {
                let why = format!("the system gives no thread to read it with: {error}");
                let table = |namespace: &Namespace| Table {
                    name: namespace.name().map(str::to_owned),
                    read: Read::Failed(Trouble::Failed(why.clone())),
                    ..Table::default()
                };
                self.tables = namespaces.iter().map(table).collect();
            }
        }
    }

    /// Takes the tables back if they were read, and tells how that went.
    pub(super) fn take(&mut self, wait: bool) {
        let done = |reading: &mut JoinHandle<_>| wait || reading.is_finished();
        if let Some(reading) = self.reading.take_if(done) {
            self.tables = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        for (table, told) in self.tables.iter().zip(&mut self.told) {
            table.tell(told, self.period);
        }
    }

    /// The entries of the namespace at a place, if they were read since the last gather.
    pub(super) fn of(&self, place: usize, namespace: &Namespace) -> Option<&Entries> {
        let table = self.tables.get(place)?;
        let fresh = matches!(table.read, Read::Whole) && table.netns == namespace.netns();
        fresh.then_some(&table.entries)
    }

    /// Why those of the namespace at a place are not written, in a few words that stay the same while it lasts.
    pub(super) fn missing(&self, place: usize) -> Option<&'static str> {
        match self.told.get(place)?.as_ref()? {
            Trouble::GivenUp => Some("connection table not read in time"),
            Trouble::Failed(_) => Some("connection table cannot be read"),
        }
    }

    /// That what was read is written.
    pub(super) fn written(&mut self) {
        for table in &mut self.tables {
            table.read = Read::Not;
        }
    }
}

impl Drop for Connections {
    /// A reading under way ends after its next page.
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

impl Table {
    fn begin(&mut self, namespace: &Namespace) {
        self.name = namespace.name().map(str::to_owned);
        self.netns = namespace.netns();
        self.begun = self.entries.begin(&namespace.snapshot);
        self.read = Read::Not;
    }

    fn read(&mut self, give_up: &dyn Fn() -> bool) {
        if !self.begun {
            // What kept the services from being read is told by the gather.
            return;
        }
        if let Some(name) = &self.name {
            match netlink::enter(name) {
                Ok(netns) if netns == self.netns => {}
                // Another by the same name, or none: the next gather tells, and this table is of no use to it.
                Ok(_) | Err(Failure::NoNamespace) => return,
                Err(failure) => {
                    self.read = Read::Failed(Trouble::Failed(failure.to_string()));
                    return;
                }
            }
        }
        self.read = match netlink::connections::count(&mut self.entries, give_up) {
            Ok(true) => Read::Whole,
            Ok(false) => Read::Failed(Trouble::GivenUp),
            // IPVS went, which the next gather tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Read::Not,
            Err(error) => Read::Failed(Trouble::Failed(error.to_string())),
        };
    }

    /// Tells people how it was read if that is not what they were `told` last.
    fn tell(&self, told: &mut Option<Trouble>, period: Duration) {
        let now = match &self.read {
            Read::Not => return,
            Read::Whole => None,
            Read::Failed(trouble) => Some(trouble.clone()),
        };
        if now == *told {
            return;
        }
        let (level, message) = match &now {
            None => (log::Level::Info, "the connection table is read again".to_owned()),
            Some(Trouble::GivenUp) => (
                log::Level::Warning,
                format!(
                    "reading the connection table was given up after {:?}, half of --connections, which the tables of all \
                     namespaces share, so the fields entries_… are absent; a longer --connections gives it more time",
                    period / 2
                ),
            ),
            Some(Trouble::Failed(why)) => (
                log::Level::Warning,
                format!(
                    "cannot read the connection table ({why}), so the fields entries_… are absent; it is tried again \
                     every {period:?}"
                ),
            ),
        };
        match &self.name {
            Some(name) => log::write(level, &format!("network namespace {name}: {message}")),
            None => log::write(level, &message),
        }
        *told = now;
    }
}

/// The work of the thread.
fn read(mut tables: Vec<Table>, limit: Duration, ending: &AtomicBool) -> Vec<Table> {
    if tables.iter().any(|table| table.name.is_some()) {
        privilege::only_enter();
    } else {
        privilege::only_wait();
    }
    // Packets and gathers come first; where the system refuses, they share.
    let _ = rustix::process::setpriority_process(None, 19);
    let begin = Instant::now();
    let give_up = || begin.elapsed() > limit || ending.load(Ordering::Relaxed);
    for place in in_order(&tables) {
        let begin = Instant::now();
        tables[place].read(&give_up);
        tables[place].took = begin.elapsed();
    }
    tables
}

/// The places of tables in the order in which they are read. One that was given up for want of time had little of it, and
/// comes earlier the next time.
fn in_order(tables: &[Table]) -> Vec<usize> {
    let mut places: Vec<_> = (0..tables.len()).collect();
    places.sort_by_key(|&place| tables[place].took);
    places
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Table, in_order};

    #[test]
    fn the_table_that_took_longest_is_read_last() {
        let tables = [9, 1, 2].map(|took| Table {
            took: Duration::from_secs(took),
            ..Table::default()
        });
        assert_eq!(in_order(&tables), [1, 2, 0]);
    }
}
