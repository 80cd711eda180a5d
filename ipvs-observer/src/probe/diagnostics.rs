//! What the programs themselves have to say: records of aya-log, kept until the next reading.
//!
//! Programs write a record only on a rare error path. Nothing is printed here: stdout is for measurements, and
//! what goes to stderr is the caller's.

use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

/// Records kept between two readings; more are counted.
const KEPT: usize = 16;

#[derive(Default)]
struct Kept {
    records: Vec<String>,
    more: usize,
}

/// Takes the records of aya-log and keeps them.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Kept>>);

impl Log for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.records.len() < KEPT {
            kept.records.push(record.args().to_string());
        } else {
            kept.more += 1;
        }
    }

    fn flush(&self) {}
}

/// The programs' records. Without a reader, the programs still run.
pub(super) struct Diagnostics {
    keeper: Keeper,
    reader: Option<EbpfLogger<Keeper>>,
}

impl Diagnostics {
    /// Takes the log map out of a loaded object.
    pub(super) fn of(ebpf: &mut Ebpf) -> Self {
        let keeper = Keeper::default();
        let reader = EbpfLogger::init_with_logger(ebpf, keeper.clone()).ok();
        Self { keeper, reader }
    }

    /// Appends what was said since the last time.
    pub(super) fn drain_into(&mut self, records: &mut Vec<String>) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        reader.flush();
        let mut kept = self.keeper.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.append(&mut kept.records);
        if kept.more > 0 {
            records.push(format!("and {} more of the kind", kept.more));
            kept.more = 0;
        }
    }
}
