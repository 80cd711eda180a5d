//! One gather: read, join, encode.

use std::{fs, time::Instant};

use bytes::Bytes;

use crate::{
    health::{Health, Reporter},
    line::Encoder,
    model::{Service, Snapshot},
    netlink::Reader,
    points::{Observer, Points, Schema},
    settings::{self, Precision, ServiceSpec},
    trigger,
};

/// Everything that lives from one gather to the next.
pub(super) struct Gatherer {
    schema: Schema,
    precision: Precision,
    services: Vec<ServiceSpec>,
    reader: Reader,
    snapshot: Snapshot,
    points: Points,
    encoder: Encoder,
    reporter: Reporter,
}

impl Gatherer {
    pub(super) fn new(settings: &settings::Collect) -> Self {
        Self {
            schema: settings.schema,
            precision: settings.precision,
            services: settings.services.clone(),
            reader: Reader::default(),
            snapshot: Snapshot::default(),
            points: Points::new(settings.schema, None),
            encoder: Encoder::new(settings.unsigned),
            reporter: Reporter::default(),
        }
    }

    /// Gathers and returns the lines. `skipped`: ticks left out so far.
    pub(super) fn gather(&mut self, skipped: u64) -> Bytes {
        let timestamp = self.precision.round(trigger::now());
        let begin = Instant::now();
        let filter = &self.services;
        let wanted =
            |service: &Service| filter.is_empty() || filter.iter().any(|spec| spec.matches(&service.key));
        let dump = self.reader.read(&mut self.snapshot, &wanted);
        let dumped = Instant::now();
        let complete = self.snapshot.services_in_namespace.is_some();
        let health = Health::of(dump.as_ref().err(), complete, None);
        self.reporter.report(&health);
        self.points.snapshot(
            &mut self.encoder,
            &self.snapshot,
            !self.services.is_empty(),
            timestamp,
        );
        if self.schema == Schema::Full {
            let observer = Observer {
                status: health.status,
                reason: health.reason,
                gather_ns: nanoseconds(begin),
                dump_ns: (dumped - begin).as_nanos() as u64,
                encode_ns: nanoseconds(dumped),
                dumps: self.reader.counters(),
                gathers_skipped: skipped,
                rss_bytes: resident().unwrap_or(0),
                probes: None,
            };
            self.points.observer(&mut self.encoder, &observer, timestamp);
        }
        self.encoder.take()
    }
}

fn nanoseconds(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

/// Resident memory in bytes, from the second number of `/proc/self/statm`, which counts pages.
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
