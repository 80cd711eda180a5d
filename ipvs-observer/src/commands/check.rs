//! `check`: what this kernel and these privileges allow, a row a need.

mod network;
mod row;
mod sysctl;

use std::thread;

use row::{Row, State, shown};

use crate::{
    leave::Held,
    log::counted,
    memory,
    model::{Activity, Destination, Snapshot},
    netlink::{self, Failure, Reader},
    privilege::{self, Capability, Gates},
    probe::{EVENTS_CLOSED, EVENTS_MAY_BE_CLOSED, Occasions, ProbeMode, ProbeSettings, Probes},
    settings,
    system::{self, Lockdown},
};

/// Prints the rows. False if something is degraded.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(settings: &settings::Check) -> anyhow::Result<bool> {
    let rows = rows(settings);
    let mut text = String::new();
    match settings.format {
        settings::CheckFormat::Json => {
            text.push_str(&serde_json::to_string_pretty(&rows)?);
            text.push('\n');
        }
        settings::CheckFormat::Text => {
            for (place, row) in rows.iter().enumerate() {
                text.push_str(&shown(row, &rows, place));
            }
        }
    }
    super::print(text.as_bytes())?;
    Ok(rows.iter().all(|row| row.state != State::Missing))
}

fn rows(settings: &settings::Check) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut snapshot = Snapshot::default();
    let mut reader = Reader::default();
    let table = reader.read(&mut snapshot, &|_| true);
    rows.push(if let Err(Failure::Absent(remedy)) = table {
        Row::missing("module ip_vs", "not loaded", "there is nothing to gather", remedy)
    } else {
        Row::ok("module ip_vs", "loaded, or built in")
    });
    rows.push(match table {
        Ok(()) => Row::ok(
            "IPVS table",
            format!(
                "{} and {}",
                counted(snapshot.virtual_servers().len() as u64, "virtual server"),
                counted(snapshot.all_destinations() as u64, "real server")
            ),
        ),
        Err(ref failure) => Row::missing(
            "IPVS table",
            failure.reason(),
            "no table is gathered",
            &remedy(failure),
        ),
    });
    if let Some(totals) = snapshot.totals {
        rows.push(if totals.estimation {
            Row::ok("estimation", "counters move")
        } else {
            Row::missing(
                "estimation",
                "switched off",
                "counters and rates stand still",
                "sysctl net.ipv4.vs.run_estimation=1, and let net.ipv4.vs.est_cpulist name a CPU",
            )
        });
    }
    if !matches!(table, Err(Failure::Absent(_))) {
        reader.read_surroundings(&mut snapshot);
        rows.extend(sysctl::rows(&snapshot));
        rows.extend(network::rows(&snapshot, netlink::forwarding()));
    }
    privileges(&mut rows);
    let probes = Held::new(|| {
        Probes::attach(&ProbeSettings {
            mode: ProbeMode::Auto,
            btf: settings.btf.clone(),
            occasions: Occasions::ALL,
            ..ProbeSettings::default()
        })
    });
    rows.extend(probes.availability().needs().iter().map(|need| {
        let state = match (&need.missing, need.optional) {
            (None, _) => State::Ok,
            (Some(_), true) => State::Optional,
            (Some(_), false) => State::Missing,
        };
        let lacking = need.missing.is_some();
        Row {
            need: format!("probe: {}", need.name),
            state,
            detail: need.missing.clone().unwrap_or_else(|| "works".to_owned()),
            consequence: if lacking {
                need.consequence.to_owned()
            } else {
                String::new()
            },
            remedy: need.remedy.to_owned(),
        }
    }));
    rows.push(memory(probes));
    rows
}

/// What `collect` would take on this machine: the process itself, and the probes' maps at their usual sizes.
fn memory(mut probes: Held<Probes>) -> Row {
    let mut activity = Activity::default();
    probes.health(&mut activity);
    let mib = |bytes: Option<u64>| bytes.map(|bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)));
    let unknown = || "an unknown size".to_owned();
    Row::ok(
        "memory",
        format!(
            "{} resident, {} in the kernel for the maps of the probes",
            mib(memory::resident()).unwrap_or_else(unknown),
            mib(activity.probes.map_bytes).unwrap_or_else(unknown)
        ),
    )
}

fn remedy(failure: &Failure) -> String {
    match failure {
        Failure::Absent(remedy) => (*remedy).to_owned(),
        Failure::NotPermitted(why) => why.clone(),
        other => other.to_string(),
    }
}

fn privileges(rows: &mut Vec<Row>) {
    for (capability, consequence) in [
        (Capability::NetAdmin, "no table is gathered, only totals"),
        (Capability::Bpf, "no probes: netlink only"),
        (Capability::Perfmon, "no probes: netlink only"),
    ] {
        let name = capability.name();
        rows.push(match privilege::want(capability) {
            None => Row::ok(name, "in effect"),
            Some(want) => Row::missing(name, want.text, consequence, want.remedy),
        });
    }
    rows.push(match privilege::want(Capability::SysAdmin) {
        None => Row::ok("collect --netns", "CAP_SYS_ADMIN is in effect"),
        Some(want) => Row::optional(
            "collect --netns",
            want.text,
            "no other network namespace is gathered",
            want.remedy,
        ),
    });
    rows.push(fence());
    rows.push(match system::lockdown() {
        Lockdown::None => Row::ok("lockdown", "none"),
        Lockdown::Integrity => Row::ok("lockdown", "integrity, which allows kprobes"),
        Lockdown::Confidentiality => Row::missing(
            "lockdown",
            "confidentiality",
            "no probes: netlink only",
            "boot with lockdown=integrity, or do without",
        ),
    });
    rows.push(if system::kprobes() {
        Row::ok("kprobes", "in this kernel")
    } else {
        Row::missing(
            "kprobes",
            "not in this kernel",
            "no probes: netlink only",
            "use a kernel with CONFIG_KPROBES, CONFIG_KPROBE_EVENTS and CONFIG_BPF_EVENTS",
        )
    });
    if let Some(level) = system::perf_event_paranoid() {
        let detail = format!("kernel.perf_event_paranoid is {level}");
        rows.push(
            match (system::performance_events(), privilege::want(Capability::Perfmon)) {
                (Ok(()), _) => Row::ok("performance events", detail),
                (Err(_), Some(want)) => Row::missing(
                    "performance events",
                    format!("{detail}, and {}", want.text),
                    "no probes: netlink only",
                    // Whether this kernel wants more at that level cannot be tried without.
                    if level < EVENTS_MAY_BE_CLOSED {
                        want.remedy
                    } else {
                        EVENTS_CLOSED
                    },
                ),
                (Err(_), None) => Row::missing(
                    "performance events",
                    format!("{detail}, at which this kernel wants CAP_SYS_ADMIN"),
                    "no probes: netlink only",
                    EVENTS_CLOSED,
                ),
            },
        );
    }
}

/// Put up around a thread that ends, so that what is shown is what there is.
fn fence() -> Row {
    const NEED: &str = "fence";
    const CONSEQUENCE: &str = "a mistake in this program could do more";
    let tried = thread::Builder::new().spawn(|| privilege::fence(&Gates::default()));
    let Ok(Ok(fence)) = tried.map(thread::JoinHandle::join) else {
        return Row::optional(
            NEED,
            "cannot be tried: there is no thread for it",
            CONSEQUENCE,
            "",
        );
    };
    match (fence.landlock, fence.seccomp) {
        (Ok(landlock), Ok(())) => Row::ok(NEED, format!("{landlock}, seccomp")),
        (landlock, seccomp) => Row::optional(
            NEED,
            format!(
                "{}, {}",
                landlock.unwrap_or_else(|error| format!("no Landlock ({error})")),
                seccomp.map_or_else(|error| format!("no seccomp ({error})"), |()| "seccomp".to_owned())
            ),
            CONSEQUENCE,
            "none needed: collect and trace go on without; kernels from 5.13 on have Landlock, switched on by lsm=",
        ),
    }
}

/// All real servers.
fn destinations(snapshot: &Snapshot) -> impl Iterator<Item = &Destination> {
    let servers = snapshot.virtual_servers().iter();
    servers.flat_map(|server| snapshot.destinations(server))
}
