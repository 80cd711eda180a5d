//! One gather: read, join, encode, hand out.

use std::{sync::Arc, thread, time::Instant};

use anyhow::Context;

use super::{connections::Connections, namespace::Namespace, probing::Probing, sought::Sought};
use crate::{
    health::{self, Health},
    line::Encoder,
    log, memory,
    model::{Activity, Netns, Refusal},
    netlink::Failure,
    output::Outputs,
    points::{Observer, Points, ProbeHealth, Schema, Seen},
    probe::{ProbeMode, ProbeSettings, Probes, Tell},
    settings::{self, Precision, ServiceSpec, wanted},
    trigger,
};

/// Everything that lives from one gather to the next.
pub(super) struct Gatherer {
    /// Whether it is a failure if one of the probes is not to be had.
    all_probes: bool,
    schema: Schema,
    precision: Precision,
    services: Vec<ServiceSpec>,
    sought: Sought,
    namespaces: Vec<Namespace>,
    probes: Option<Probing>,
    connections: Option<Connections>,
    /// How many refusals and drops are written of a namespace.
    refusals: u32,
    /// Whether there is one gather, which has to have everything.
    once: bool,
    activity: Activity,
    points: Points,
    encoder: Encoder,
    outputs: Arc<Outputs>,
}

impl Gatherer {
    /// Prepares to gather for `outputs`.
    ///
    /// # Errors
    /// All probes are wanted, and not all are to be had.
    pub(super) fn new(settings: &settings::Collect, outputs: Arc<Outputs>) -> anyhow::Result<Self> {
        let namespaces = namespaces(&settings.namespaces.names, !settings.once)?;
        let mode = settings.probes_wanted();
        let probes = (mode != ProbeMode::Off).then(|| {
            Probing::attach(&ProbeSettings {
                mode,
                btf: settings.probing.btf.clone(),
                sizes: settings
                    .probing
                    .sizes()
                    .for_refusals(settings.refusals(), namespaces.len()),
                refusals: settings.refusals(),
                namespaces: namespaces.iter().map(Namespace::netns).collect(),
                tell: Tell::CHANGES,
                asked: settings.services.asked(),
                occasions: settings.packets.occasions(),
            })
        });
        let gatherer = Self {
            all_probes: mode == ProbeMode::On,
            schema: settings.schema,
            precision: settings.precision(),
            services: settings.services.specs.clone(),
            sought: Sought::new(&settings.services.specs),
            namespaces,
            probes,
            // The other schema has nothing of it.
            connections: settings
                .connections
                .filter(|_| settings.schema == Schema::Full)
                .map(Connections::new),
            refusals: settings.refusals(),
            once: settings.once,
            activity: Activity::default(),
            points: Points::new(settings.schema, None),
            encoder: {
                let outputs = Arc::clone(&outputs);
                Encoder::handing_out(settings.unsigned, move |lines| outputs.add(&lines))
            },
            outputs,
        };
        gatherer.require_probes(true)?;
        Ok(gatherer)
    }

    /// Holds that all probes are attached, if all are wanted. At the start `ip_vs` has to be there; one that is removed
    /// later is waited for, with its probes.
    ///
    /// # Errors
    /// Not all are to be had.
    pub(super) fn require_probes(&self, at_the_start: bool) -> anyhow::Result<()> {
        let Some(probes) = self.probes.as_ref().filter(|_| self.all_probes) else {
            return Ok(());
        };
        let waits = !at_the_start && probes.here().is_none_or(Probes::waits);
        let availability = probes.availability();
        anyhow::ensure!(
            waits || availability.complete(),
            "not all probes can be attached, and --probes on asks for all; {}; --probes auto goes on without",
            health::lack(availability)
        );
        Ok(())
    }

    /// Gathers, and gives the lines to the outputs as they are encoded. `skipped`: ticks left out so far.
    pub(super) fn gather(&mut self, skipped: u64) {
        let timestamp = self.precision.round(trigger::now());
        let begin = Instant::now();
        let outputs = self.outputs.counters();
        self.outputs.begin();
        self.read_tables();
        // A namespace that is not there has no services; one that could not be read may have any.
        let there = |namespace: &&Namespace| !matches!(namespace.failure, Some(Failure::NoNamespace));
        let tables = self.namespaces.iter().filter(there);
        self.sought.look(&tables.map(|namespace| &namespace.snapshot));
        if let Some(connections) = &mut self.connections {
            if self.once {
                connections.read_now(&self.namespaces);
            }
            connections.take(false);
        }
        let missing = self.sought.missing();
        self.read_probes();
        let probes = self.probe_health();
        let availability = self.probes.as_ref().map(Probing::availability);
        let probing = self.probes.as_ref().and_then(Probing::here);
        let tell_services = probing.is_some_and(Probes::tell_services);
        let rss_bytes = memory::resident().unwrap_or(0);
        for (place, namespace) in self.namespaces.iter_mut().enumerate() {
            let encoding = Instant::now();
            let complete = namespace.snapshot.services_in_namespace.is_some();
            let health = Health::of(namespace.failure.as_ref(), complete, availability);
            namespace.reporter.report(&health);
            let connections = self.connections.as_ref();
            let unread = connections.and_then(|connections| connections.missing(place));
            let lacks: Vec<_> = missing.as_deref().into_iter().chain(unread).collect();
            let (status, reason) = health.without((!lacks.is_empty()).then(|| lacks.join("; ")).as_deref());
            self.points.in_netns(namespace.name());
            let seen = tell_services.then_some(Seen {
                activity: &self.activity,
                correlator: &namespace.correlator,
            });
            let filter = &self.services;
            self.points.snapshot(
                &mut self.encoder,
                &namespace.snapshot,
                seen,
                connections.and_then(|connections| connections.of(place, namespace)),
                !filter.is_empty(),
                timestamp,
            );
            if self.schema != Schema::Full {
                continue;
            }
            let changes = self.activity.changes.iter();
            let made =
                changes.filter(|change| namespace.saw(change.netns) && wanted(filter, &change.service));
            self.points.changes(&mut self.encoder, made);
            let refusals = self.activity.refusals.iter();
            let met = refusals.filter(|met| namespace.saw(met.netns()) && wanted(filter, met.service()));
            let chosen = Refusal::chosen(met, self.refusals as usize);
            self.points.refusals(&mut self.encoder, chosen);
            let observer = Observer {
                status,
                reason,
                gather_ns: nanoseconds(begin),
                dump_ns: namespace.dump.as_nanos() as u64,
                encode_ns: nanoseconds(encoding),
                dumps: namespace.counters(),
                outputs,
                gathers_skipped: skipped,
                rss_bytes,
                probes,
            };
            self.points.observer(&mut self.encoder, &observer, timestamp);
        }
        self.encoder.finish();
        if let Some(connections) = &mut self.connections {
            connections.written();
            if !self.once {
                connections.begin_if_due(&self.namespaces);
            }
        }
    }

    /// When the connection table is read next, if that is before the next gather.
    pub(super) fn reads_at(&self) -> Option<Instant> {
        self.connections.as_ref().and_then(Connections::due)
    }

    /// Has the connection table read if it is time for that.
    pub(super) fn read_connections(&mut self) {
        if let Some(connections) = &mut self.connections
            && connections.due().is_some()
        {
            connections.begin_if_due(&self.namespaces);
        }
    }

    /// Whether there are probes, so that [`Gatherer::follow`] between gathers has them attached the sooner.
    pub(super) fn probes(&self) -> bool {
        self.probes.is_some()
    }

    /// Has the probes attached that there is an occasion for.
    pub(super) fn follow(&mut self) {
        if let Some(probes) = &mut self.probes {
            probes.follow();
        }
    }

    /// The program's own namespace is read here; others side by side, each in a thread that ends in it.
    fn read_tables(&mut self) {
        let (services, schema) = (self.services.as_slice(), self.schema);
        if let [namespace] = self.namespaces.as_mut_slice()
            && namespace.name().is_none()
        {
            return namespace.read(services, schema);
        }
        let mut without_thread = Vec::new();
        thread::scope(|scope| {
            for (place, namespace) in self.namespaces.iter_mut().enumerate() {
                let reading = move || namespace.read(services, schema);
                if let Err(error) = thread::Builder::new().spawn_scoped(scope, reading) {
                    without_thread.push((place, error));
                }
            }
        });
        for (place, error) in without_thread {
            self.namespaces[place].not_read(error);
        }
    }

    fn read_probes(&mut self) {
        let Some(probes) = &mut self.probes else { return };
        let observed: Vec<Netns> = self.namespaces.iter().map(Namespace::netns).collect();
        probes.read(&observed, &mut self.activity);
        for message in &self.activity.diagnostics {
            log::write(log::Level::Warning, message);
        }
    }

    fn probe_health(&self) -> Option<ProbeHealth> {
        let availability = self.probes.as_ref()?.here()?.availability();
        Some(ProbeHealth {
            attached: availability.attached() as u64,
            missing: availability.missing() as u64,
            totals: self.activity.probes,
        })
    }
}

/// The namespaces asked for, each once; the program's own if none was.
fn namespaces(asked: &[String], waits: bool) -> anyhow::Result<Vec<Namespace>> {
    const NO_PROC: &str = "cannot tell which network namespace this is, so no probe's count could be told from \
                           another's; mount /proc";
    if asked.is_empty() {
        return Ok(vec![Namespace::new(None, waits).context(NO_PROC)?]);
    }
    let mut names: Vec<&String> = Vec::new();
    for name in asked {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let named = names
        .into_iter()
        .map(|name| Namespace::new(Some(name.clone()), waits));
    named.map(|namespace| namespace.context(NO_PROC)).collect()
}

fn nanoseconds(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}
