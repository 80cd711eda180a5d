//! Events in, lines out.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::namespaces::{namespaces, observed};
use crate::{
    health,
    leave::Held,
    line::Encoder,
    log::{self, counted},
    model::{Activity, Lost, Netns, Traced},
    module, netlink,
    output::{Outputs, Target},
    points::{Points, Schema},
    privilege,
    probe::{Outlook, ProbeMode, ProbeSettings, Probes, Tell},
    settings::{self, TraceFormat},
    trace::{Filter, Json, Text, lost_words},
    trigger,
};

/// How long one wait for events may take: then the word to stop is heard.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often modules are looked at, and what was lost is told.
const LOOK: Duration = Duration::from_secs(1);

/// What mends a loss for want of room.
const WIDER: &str = "; a larger --ring or a narrower filter loses less";

/// Everything that a trace needs.
pub(super) struct Tracer {
    probes: Held<Probes>,
    activity: Activity,
    filter: Filter,
    /// The namespaces asked for; none: this one.
    asked: Vec<String>,
    /// Those of them that are there. Lines tell of which they are only where some were asked for.
    names: BTreeMap<Netns, String>,
    shape: Shape,
    count: Option<u64>,
    deadline: Option<Instant>,
    told: Lost,
    told_skipped: u64,
    summary: Summary,
}

/// How events look.
enum Shape {
    Text(Text),
    Json(Json),
    Line(Box<(Points, Encoder)>),
}

/// What a trace came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    decisions: u64,
    changes: u64,
    lost: Lost,
    /// Decisions among the lost that the kernel ran no probe for.
    skipped: u64,
}

impl Summary {
    /// Says it, with the lines that the outputs dropped.
    pub(super) fn tell(&self, dropped: u64) {
        let Summary {
            decisions,
            changes,
            lost,
            skipped,
        } = self;
        let whole = lost.is_nothing() && dropped == 0;
        log::write(
            if whole {
                log::Level::Info
            } else {
                log::Level::Warning
            },
            &format!(
                "{} and {} shown; lost: {}, {}{}",
                counted(*decisions, "decision"),
                counted(*changes, "change"),
                lost_words(lost),
                counted(dropped, "line"),
                match (whole, *skipped) {
                    (true, _) => String::new(),
                    (false, 0) => WIDER.to_owned(),
                    (false, _) => format!(
                        "; the kernel ran no probe for {skipped} of the decisions, because another program of eBPF \
                         was at work on that processor{}",
                        if *skipped == lost.decisions && dropped == 0 {
                            ""
                        } else {
                            WIDER
                        }
                    ),
                }
            ),
        );
    }
}

impl Tracer {
    /// Attaches the probes.
    ///
    /// # Errors
    /// This kernel or these privileges allow no trace.
    pub(super) fn start(settings: &settings::Trace) -> anyhow::Result<Self> {
        let names = namespaces(settings)?;
        let probes = Held::new(|| {
            Probes::attach(&ProbeSettings {
                mode: ProbeMode::Auto,
                btf: settings.btf.clone(),
                sizes: settings.sizes,
                namespaces: observed(&names),
                tell: if settings.explain {
                    Tell::Candidates
                } else {
                    Tell::Decisions
                },
            })
        });
        let availability = probes.availability();
        if netlink::present() {
            anyhow::ensure!(
                probes.tell_decisions(),
                "decisions cannot be traced here: {}",
                health::lack(availability)
            );
            if !availability.complete() {
                log::write(log::Level::Warning, &health::lack(availability));
            }
        } else {
            log::write(
                log::Level::Warning,
                &format!(
                    "IPVS is not loaded, and the trace begins when it is; {}",
                    module::remedy()
                ),
            );
        }
        let color = settings.outputs == [Target::Stdout] && io::stdout().is_terminal();
        Ok(Self {
            probes,
            activity: Activity::default(),
            filter: settings.filter.clone(),
            asked: settings.namespaces.clone(),
            names: if settings.namespaces.is_empty() {
                BTreeMap::new()
            } else {
                names
            },
            shape: match settings.format {
                TraceFormat::Text => Shape::Text(Text::new(color)),
                TraceFormat::Json => Shape::Json(Json),
                TraceFormat::Line => {
                    Shape::Line(Box::new((Points::new(Schema::Full, None), Encoder::new(false))))
                }
            },
            count: settings.count,
            deadline: settings.duration.map(|duration| Instant::now() + duration),
            told: Lost::default(),
            told_skipped: 0,
            summary: Summary::default(),
        })
    }

    /// Traces while `going`, and until the count or the time is reached.
    pub(super) fn run(&mut self, outputs: &Outputs, going: &AtomicBool) -> Summary {
        let mut looked = Instant::now();
        self.give_up();
        while going.load(Ordering::Relaxed) && !self.finished() {
            let left = self.deadline.map_or(PATIENCE, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if let Err(error) = self.probes.wait(left.min(PATIENCE)) {
                log::write(
                    log::Level::Error,
                    &format!("cannot wait for events ({error}); looking again in a moment"),
                );
                std::thread::sleep(PATIENCE);
            }
            self.forward(outputs);
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look_for_losses(outputs);
                self.follow_modules(outputs);
                self.give_up();
                self.follow_namespaces();
            }
        }
        // What was made before the end belongs to the trace, and nothing after it: then what was seen and what was
        // lost is what was made.
        self.probes.fall_silent();
        while self.forward(outputs) {}
        self.look_for_losses(outputs);
        self.summary
    }

    fn finished(&self) -> bool {
        self.count.is_some_and(|count| self.summary.decisions >= count)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// True if there was anything.
    fn forward(&mut self, outputs: &Outputs) -> bool {
        let Self {
            probes,
            filter,
            asked,
            names,
            shape,
            count,
            summary,
            ..
        } = self;
        let mut text = Vec::new();
        let any = probes.events(|event| {
            let full = count.is_some_and(|count| summary.decisions >= count);
            // More namespaces than the programs have room for are told apart here.
            let elsewhere = !asked.is_empty() && !names.contains_key(&netns(&event));
            if full || elsewhere || !filter.wants(&event) {
                return;
            }
            match &event {
                Traced::Decision(_) => summary.decisions += 1,
                Traced::Change(_) => summary.changes += 1,
            }
            shape.event(&event, names, &mut text);
        });
        shape.send(text, outputs);
        any
    }

    /// Attaches again where modules came or went. With `ip_vs` go the ring and the count of what was lost: what is in
    /// them is told before, and the next count begins at nothing.
    fn follow_modules(&mut self, outputs: &Outputs) {
        match self.probes.look() {
            Outlook::Same => return,
            Outlook::Schedulers => {}
            Outlook::Ipvs => {
                while self.forward(outputs) {}
                self.look_for_losses(outputs);
                self.activity = Activity::default();
                self.told = Lost::default();
                self.told_skipped = 0;
            }
        }
        self.probes.renew();
    }

    /// Gives up what attaching the probes needed, if it is to be given up.
    fn give_up(&self) {
        privilege::settle();
        if self.probes.attached() {
            privilege::attached();
        }
    }

    /// A namespace that was deleted is a state, and one that comes by its name is traced from then on.
    fn follow_namespaces(&mut self) {
        let found = |name: &String| Some((netlink::namespace_of(name).ok()?, name.clone()));
        let now: BTreeMap<_, _> = self.asked.iter().filter_map(found).collect();
        if now == self.names {
            return;
        }
        for name in &self.asked {
            let there = |names: &BTreeMap<_, String>| names.values().any(|found| found == name);
            match (there(&self.names), there(&now)) {
                (true, false) => log::write(
                    log::Level::Warning,
                    &format!(
                        "network namespace {name} is gone; nothing is traced in it until it comes again"
                    ),
                ),
                (false, true) => log::write(
                    log::Level::Info,
                    &format!("network namespace {name} came, and is traced"),
                ),
                _ => {}
            }
        }
        self.probes.observe(&observed(&now));
        self.names = now;
    }

    /// Tells of what was lost since the last look.
    fn look_for_losses(&mut self, outputs: &Outputs) {
        self.probes.health(&mut self.activity);
        let lost = self.activity.probes.lost;
        for message in &self.activity.diagnostics {
            log::write(log::Level::Warning, message);
        }
        // With the module that it belongs to, the kernel's count goes too, and begins anew.
        let since = |now: u64, told: u64| now.checked_sub(told).unwrap_or(now);
        let new = Lost {
            decisions: since(lost.decisions, self.told.decisions),
            changes: since(lost.changes, self.told.changes),
            candidates: since(lost.candidates, self.told.candidates),
        };
        self.told = lost;
        let skipped = self.activity.probes.decisions_skipped;
        self.summary.skipped += since(skipped, self.told_skipped);
        self.told_skipped = skipped;
        if new.is_nothing() {
            return;
        }
        self.summary.lost.decisions += new.decisions;
        self.summary.lost.changes += new.changes;
        self.summary.lost.candidates += new.candidates;
        let mut text = Vec::new();
        self.shape.lost(&new, &mut text);
        self.shape.send(text, outputs);
    }
}

fn netns(event: &Traced) -> Netns {
    match event {
        Traced::Decision(decision) => decision.netns,
        Traced::Change(change) => change.netns,
    }
}

impl Shape {
    fn event(&mut self, event: &Traced, names: &BTreeMap<Netns, String>, out: &mut Vec<u8>) {
        if let Self::Line(line) = self {
            line.0.in_netns(names.get(&netns(event)).map(String::as_str));
        }
        match (self, event) {
            (Self::Text(text), event) => text.event(event, out),
            (Self::Json(json), event) => json.event(event, out),
            (Self::Line(line), Traced::Decision(decision)) => line.0.decision(&mut line.1, decision),
            (Self::Line(line), Traced::Change(change)) => line.0.changes(&mut line.1, [change]),
        }
    }

    /// Line protocol has no place for it: there it is said on stderr.
    fn lost(&mut self, lost: &Lost, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => text.lost(lost, trigger::now(), out),
            Self::Json(json) => json.lost(lost, trigger::now(), out),
            Self::Line(_) => log::write(log::Level::Warning, &format!("lost {}", lost_words(lost))),
        }
    }

    fn send(&mut self, text: Vec<u8>, outputs: &Outputs) {
        let lines = match self {
            Self::Line(line) => line.1.take(),
            Self::Text(_) | Self::Json(_) => Bytes::from(text),
        };
        outputs.send(&lines);
    }
}
