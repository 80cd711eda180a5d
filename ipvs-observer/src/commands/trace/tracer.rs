//! Events in, lines out.

use std::{
    io::{self, IsTerminal},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{namespaces::Namespaces, shape::Shape, summary::Summary};
use crate::{
    explain::Explainer,
    health,
    leave::Held,
    log,
    model::{Activity, Lost, Traced},
    module,
    output::{Outputs, Target},
    privilege::{self, Privileges},
    probe::{Outlook, ProbeMode, ProbeSettings, Probes},
    settings,
    trace::LocalClock,
};

/// How long one wait for events may take: then the word to stop is heard.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often modules are looked at, and what was lost is told.
const LOOK: Duration = Duration::from_secs(1);
/// How often `ip_vs` is looked for while it is waited for: what happens before the probes hold is not seen.
const WATCH: Duration = Duration::from_millis(100);

/// Everything that a trace needs.
pub(super) struct Tracer {
    probes: Held<Probes>,
    standing: Standing,
    privileges: Privileges,
    activity: Activity,
    namespaces: Namespaces,
    explainer: Explainer,
    shape: Shape,
    count: Option<u64>,
    deadline: Option<Instant>,
    told: Lost,
    summary: Summary,
}

/// How the probes stand, as last said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nothing is said yet.
    #[default]
    Unsaid,
    /// They wait for `ip_vs`.
    Waiting,
    /// They hold; without what this lacks, if anything.
    Attached(String),
}

impl Tracer {
    /// Attaches the probes, or begins to wait for `ip_vs`.
    ///
    /// # Errors
    /// This kernel or these privileges allow no trace.
    pub(super) fn start(
        settings: &settings::Trace,
        clock: LocalClock,
        outputs: &Outputs,
    ) -> anyhow::Result<Self> {
        let namespaces = Namespaces::find(settings)?;
        let probes = Held::new(|| {
            Probes::attach(&ProbeSettings {
                mode: ProbeMode::Auto,
                btf: settings.probing.btf.clone(),
                sizes: settings.sizes(),
                namespaces: namespaces.observed(),
                tell: settings.tell(),
                asked: settings.filter.asked(),
                refusals: 0,
                occasions: settings.packets.occasions(),
            })
        });
        let color = settings.writing.outputs == [Target::Stdout] && io::stdout().is_terminal();
        let mut tracer = Self {
            probes,
            standing: Standing::default(),
            privileges: settings.probing.privileges,
            activity: Activity::default(),
            namespaces,
            explainer: Explainer::default(),
            shape: Shape::new(settings.format, color, clock),
            count: settings.count,
            deadline: settings.duration.map(|duration| Instant::now() + duration),
            told: Lost::default(),
            summary: Summary::default(),
        };
        tracer.follow_modules(outputs)?;
        Ok(tracer)
    }

    /// Traces while `going`, and until the count or the time is reached. What it came to, and why it ended early.
    pub(super) fn run(&mut self, outputs: &Outputs, going: &AtomicBool) -> (Summary, anyhow::Result<()>) {
        let outcome = self.follow(outputs, going);
        // What was made before the end belongs to the trace, and nothing after it: then what was seen and what was
        // lost is what was made.
        self.probes.fall_silent();
        while self.forward(outputs) {}
        self.look_for_losses(outputs);
        (self.summary, outcome)
    }

    fn follow(&mut self, outputs: &Outputs, going: &AtomicBool) -> anyhow::Result<()> {
        let mut looked = Instant::now();
        self.give_up();
        while going.load(Ordering::Relaxed) && !self.finished() {
            let waits = self.standing == Standing::Waiting;
            let patience = if waits { WATCH } else { PATIENCE };
            let left = self.deadline.map_or(patience, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if let Err(error) = self.probes.wait(left.min(patience)) {
                log::write(
                    log::Level::Error,
                    &format!("cannot wait for events ({error}); looking again in a moment"),
                );
                std::thread::sleep(PATIENCE);
            }
            self.forward(outputs);
            if looked.elapsed() >= LOOK || waits && self.probes.ipvs_is_live() {
                looked = Instant::now();
                self.look_for_losses(outputs);
                self.follow_modules(outputs)?;
                self.give_up();
                if let Some(messages) = self.namespaces.follow() {
                    self.probes.observe(&self.namespaces.observed());
                    for (level, message) in messages {
                        log::write(level, &message);
                    }
                }
            }
        }
        Ok(())
    }

    fn finished(&self) -> bool {
        self.count.is_some_and(|count| self.summary.shown() >= count)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// True if there was anything.
    fn forward(&mut self, outputs: &Outputs) -> bool {
        let Self {
            probes,
            namespaces,
            explainer,
            shape,
            count,
            summary,
            ..
        } = self;
        let mut text = Vec::new();
        let any = probes.events(|event, before| {
            let event = explainer.explain(event, before);
            let full = count.is_some_and(|count| summary.shown() >= count);
            let netns = event.netns();
            if full || !namespaces.has(netns) {
                return;
            }
            match &event {
                Traced::Decision(_) => summary.decisions += 1,
                Traced::Change(_) => summary.changes += 1,
                Traced::Drop(_) => summary.drops += 1,
                Traced::End(_) => summary.ends += 1,
            }
            shape.event(&event, namespaces.name(netns), &mut text);
        });
        shape.send(text, outputs);
        any
    }

    /// Attaches again where modules came or went, until none does any more: attaching takes a while. Then it says how
    /// the probes stand, which holds for all that happens from then on.
    ///
    /// # Errors
    /// `ip_vs` is there, and this kernel or these privileges allow no trace.
    fn follow_modules(&mut self, outputs: &Outputs) -> anyhow::Result<()> {
        loop {
            match self.probes.look() {
                Outlook::Same => return self.stand(),
                Outlook::Some => {}
                Outlook::Ipvs => self.begin_anew(outputs)?,
            }
            self.probes.renew();
        }
    }

    /// With `ip_vs` go the ring and the count of what was lost: what is in them is told before, and the next count begins
    /// at nothing.
    fn begin_anew(&mut self, outputs: &Outputs) -> anyhow::Result<()> {
        while self.forward(outputs) {}
        self.look_for_losses(outputs);
        self.activity = Activity::default();
        self.told = Lost::default();
        if let Standing::Attached(_) = self.standing {
            anyhow::ensure!(
                self.privileges != Privileges::Attached,
                "ip_vs was unloaded, and the privileges for attaching to it again were given up (--privileges \
                 attached), so nothing more could be traced; start again, with --privileges reattach to go on by \
                 itself"
            );
            self.standing = Standing::Unsaid;
        }
        Ok(())
    }

    /// Says how the probes stand, where that is not what was last said.
    fn stand(&mut self) -> anyhow::Result<()> {
        let before = std::mem::take(&mut self.standing);
        if self.probes.waits() {
            if before != Standing::Waiting {
                log::write(
                    log::Level::Info,
                    &format!(
                        "IPVS is not loaded, and the trace begins when it is; {}",
                        module::remedy()
                    ),
                );
            }
            self.standing = Standing::Waiting;
            return Ok(());
        }
        let lack = health::lack(self.probes.availability());
        anyhow::ensure!(
            self.probes.can_tell(),
            "what is asked for cannot be traced here: {lack}"
        );
        let standing = Standing::Attached(lack);
        if let Standing::Attached(lack) = &standing
            && !lack.is_empty()
            && before != standing
        {
            log::write(log::Level::Warning, lack);
        }
        if !matches!(before, Standing::Attached(_)) {
            log::write(
                log::Level::Info,
                &format!("{} probes attached; press Ctrl-C to end", self.probes.count()),
            );
        }
        self.standing = standing;
        Ok(())
    }

    /// Gives up what attaching the probes needed, if it is to be given up.
    fn give_up(&self) {
        if self.probes.attached() {
            privilege::attached();
        }
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
            drops: since(lost.drops, self.told.drops),
            ends: since(lost.ends, self.told.ends),
            candidates: since(lost.candidates, self.told.candidates),
            skipped: since(lost.skipped, self.told.skipped),
        };
        self.told = lost;
        if new.is_nothing() {
            return;
        }
        self.summary.lost.decisions += new.decisions;
        self.summary.lost.changes += new.changes;
        self.summary.lost.drops += new.drops;
        self.summary.lost.ends += new.ends;
        self.summary.lost.candidates += new.candidates;
        self.summary.lost.skipped += new.skipped;
        let mut text = Vec::new();
        self.shape.lost(&new, self.namespaces.only(), &mut text);
        self.shape.send(text, outputs);
    }
}
