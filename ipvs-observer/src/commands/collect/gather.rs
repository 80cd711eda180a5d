//! One gather: read, join, encode.

use std::{fs, time::Instant};

use bytes::Bytes;

use crate::{
    health::{self, Health, Reporter},
    line::Encoder,
    log,
    model::{Activity, Service, Snapshot},
    netlink::Reader,
    points::{Observer, Points, ProbeHealth, Schema},
    probe::{ProbeMode, ProbeSettings, Probes},
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
    probes: Option<Probes>,
    activity: Activity,
    points: Points,
    encoder: Encoder,
    reporter: Reporter,
}

impl Gatherer {
    /// # Errors
    /// All probes are wanted, and not all are to be had.
    pub(super) fn new(settings: &settings::Collect) -> anyhow::Result<Self> {
        let mode = settings.probes;
        let probes = (mode != ProbeMode::Off).then(|| {
            Probes::attach(&ProbeSettings {
                mode,
                ..ProbeSettings::default()
            })
        });
        if let (ProbeMode::On, Some(probes)) = (mode, &probes) {
            let availability = probes.availability();
            anyhow::ensure!(
                availability.complete(),
                "not all probes can be attached, and --probes on asks for all; {}; --probes auto goes on without",
                health::lack(availability)
            );
        }
        Ok(Self {
            schema: settings.schema,
            precision: settings.precision,
            services: settings.services.clone(),
            reader: Reader::default(),
            snapshot: Snapshot::default(),
            probes,
            activity: Activity::default(),
            points: Points::new(settings.schema, None),
            encoder: Encoder::new(settings.unsigned),
            reporter: Reporter::default(),
        })
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
        self.read_probes();
        let complete = self.snapshot.services_in_namespace.is_some();
        let health = Health::of(
            dump.as_ref().err(),
            complete,
            self.probes.as_ref().map(Probes::availability),
        );
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
                probes: self.probe_health(),
            };
            self.points.observer(&mut self.encoder, &observer, timestamp);
        }
        self.encoder.take()
    }

    fn read_probes(&mut self) {
        let Some(probes) = &mut self.probes else { return };
        probes.refresh();
        probes.read(&mut self.activity);
        for message in &self.activity.diagnostics {
            log::write(log::Level::Warning, message);
        }
    }

    fn probe_health(&self) -> Option<ProbeHealth> {
        let availability = self.probes.as_ref()?.availability();
        Some(ProbeHealth {
            attached: availability.attached() as u64,
            missing: availability.missing() as u64,
            totals: self.activity.probes,
        })
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
