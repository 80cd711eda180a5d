//! One gather: read, join, encode.

use std::{fs, time::Instant};

use anyhow::Context;
use bytes::Bytes;

use crate::{
    correlate::Correlator,
    health::{self, Health, Reporter},
    leave::Held,
    line::Encoder,
    log,
    model::{Activity, ServiceKey, Snapshot},
    netlink::{self, Reader},
    output,
    points::{Observer, Points, ProbeHealth, Schema, Seen},
    probe::{ProbeMode, ProbeSettings, Probes, Tell},
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
    probes: Option<Held<Probes>>,
    activity: Activity,
    correlator: Correlator,
    points: Points,
    encoder: Encoder,
    reporter: Reporter,
}

impl Gatherer {
    /// # Errors
    /// All probes are wanted, and not all are to be had.
    pub(super) fn new(settings: &settings::Collect) -> anyhow::Result<Self> {
        let netns = netlink::namespace().context(
            "cannot tell which network namespace this is, so no probe's count could be told from another's; \
             mount /proc",
        )?;
        let mode = match settings.probes {
            // Counters since the probes were attached say nothing in the one gather right after it.
            ProbeMode::Auto if settings.once => ProbeMode::Off,
            mode => mode,
        };
        let probes = (mode != ProbeMode::Off).then(|| {
            Held::new(Probes::attach(&ProbeSettings {
                mode,
                btf: settings.btf.clone(),
                sizes: settings.sizes,
                namespaces: vec![netns],
                tell: Tell::Changes,
            }))
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
            correlator: Correlator::new(netns),
            points: Points::new(settings.schema, None),
            encoder: Encoder::new(settings.unsigned),
            reporter: Reporter::default(),
        })
    }

    /// Gathers and returns the lines. `skipped`: ticks left out so far; `outputs`: what became of earlier lines.
    pub(super) fn gather(&mut self, skipped: u64, outputs: output::Counters) -> Bytes {
        let timestamp = self.precision.round(trigger::now());
        let begin = Instant::now();
        let filter = &self.services;
        let dump = self
            .reader
            .read(&mut self.snapshot, &|service| wanted(filter, &service.key));
        let dumped = Instant::now();
        self.read_probes();
        let complete = self.snapshot.services_in_namespace.is_some();
        let health = Health::of(
            dump.as_ref().err(),
            complete,
            self.probes.as_ref().map(|probes| probes.availability()),
        );
        self.reporter.report(&health);
        let seen = self
            .probes
            .as_ref()
            .filter(|probes| probes.tell_services())
            .map(|_| Seen {
                activity: &self.activity,
                correlator: &self.correlator,
            });
        self.points.snapshot(
            &mut self.encoder,
            &self.snapshot,
            seen,
            !self.services.is_empty(),
            timestamp,
        );
        if self.schema == Schema::Full {
            let (ours, filter) = (self.correlator.netns(), &self.services);
            let changes = self.activity.changes.iter();
            let ours = changes.filter(|change| change.netns == ours && wanted(filter, &change.service));
            self.points.changes(&mut self.encoder, ours);
            let observer = Observer {
                status: health.status,
                reason: health.reason,
                gather_ns: nanoseconds(begin),
                dump_ns: (dumped - begin).as_nanos() as u64,
                encode_ns: nanoseconds(dumped),
                dumps: self.reader.counters(),
                outputs,
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
        self.correlator.advance(&self.activity);
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

/// Whether a service is one of those asked for; none asked for is all.
fn wanted(filter: &[ServiceSpec], key: &ServiceKey) -> bool {
    filter.is_empty() || filter.iter().any(|spec| spec.matches(key))
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
