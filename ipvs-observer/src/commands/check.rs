//! `check`: what this kernel and these privileges allow, a row a need.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    leave::Held,
    model::Snapshot,
    netlink::{Failure, Reader},
    probe::{ProbeMode, ProbeSettings, Probes},
    settings,
    system::{self, Capabilities, Capability, Lockdown},
};

/// One need and how it stands.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    need: String,
    state: State,
    /// What was found.
    detail: String,
    /// What does not work; empty if all does.
    consequence: String,
    /// What mends it; empty if there is nothing to mend.
    remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is there.
    Ok,
    /// It is not, and nothing is lost by it.
    Optional,
    /// It is not, and something does not work.
    Missing,
}

impl Row {
    fn ok(need: impl Into<String>, detail: impl Into<String>) -> Self {
        let (consequence, remedy) = (String::new(), String::new());
        Self {
            need: need.into(),
            state: State::Ok,
            detail: detail.into(),
            consequence,
            remedy,
        }
    }

    fn missing(need: impl Into<String>, detail: impl Into<String>, consequence: &str, remedy: &str) -> Self {
        let (consequence, remedy) = (consequence.to_owned(), remedy.to_owned());
        Self {
            need: need.into(),
            state: State::Missing,
            detail: detail.into(),
            consequence,
            remedy,
        }
    }
}

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
        settings::CheckFormat::Text => rows.iter().for_each(|row| text.push_str(&shown(row, &rows))),
    }
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        outcome => outcome?,
    }
    Ok(rows.iter().all(|row| row.state != State::Missing))
}

fn shown(row: &Row, rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.need.len()).max().unwrap_or_default();
    let state = match row.state {
        State::Ok => "ok",
        State::Optional => "-",
        State::Missing => "MISSING",
    };
    let first = format!("{state:<8} {:<width$}  {}\n", row.need, row.detail);
    let lacking = row.state == State::Missing;
    let below = [("so", &row.consequence), ("remedy", &row.remedy)].map(|(word, what)| match what.as_str() {
        what if lacking && !what.is_empty() => format!("{:9}{:width$}  {word}: {what}\n", "", ""),
        _ => String::new(),
    });
    first + &below.concat()
}

fn rows(settings: &settings::Check) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut snapshot = Snapshot::default();
    let table = Reader::default().read(&mut snapshot, &|_| true);
    let absent = matches!(table, Err(Failure::Absent));
    rows.push(if absent {
        Row::missing(
            "module ip_vs",
            "not loaded",
            "there is nothing to gather",
            "modprobe ip_vs",
        )
    } else {
        Row::ok("module ip_vs", "loaded, or built in")
    });
    rows.push(match table {
        Ok(()) => Row::ok(
            "IPVS table",
            format!(
                "{} virtual and {} real servers",
                snapshot.virtual_servers().len(),
                snapshot.all_destinations()
            ),
        ),
        Err(failure) => Row::missing(
            "IPVS table",
            failure.reason(),
            "no table is gathered",
            &remedy(&failure),
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
    privileges(&mut rows);
    let probes = Held::new(|| {
        Probes::attach(&ProbeSettings {
            mode: ProbeMode::Auto,
            btf: settings.btf.clone(),
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
    rows
}

fn remedy(failure: &Failure) -> String {
    match failure {
        Failure::Absent => "modprobe ip_vs".to_owned(),
        Failure::NotPermitted => {
            "run as root or give CAP_NET_ADMIN; a rootless container cannot have it".to_owned()
        }
        other => other.to_string(),
    }
}

fn privileges(rows: &mut Vec<Row>) {
    let capabilities = Capabilities::in_effect();
    for (capability, consequence) in [
        (Capability::NetAdmin, "no table is gathered, only totals"),
        (Capability::Bpf, "no probes: netlink only"),
        (Capability::Perfmon, "no probes: netlink only"),
    ] {
        let name = capability.name();
        rows.push(if capabilities.has(capability) {
            Row::ok(name, "in effect")
        } else {
            let lower = name.to_lowercase();
            let remedy = format!(
                "systemd: AmbientCapabilities={name}; file: setcap {lower}+ep; container: --cap-add {}",
                name.trim_start_matches("CAP_")
            );
            Row::missing(name, "not in effect", consequence, &remedy)
        });
    }
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
    if let Some(paranoid) = system::perf_event_paranoid() {
        let detail = format!("kernel.perf_event_paranoid is {paranoid}");
        // Above 2 it is Debian's own level, which CAP_PERFMON lifts like the others.
        rows.push(if paranoid <= 1 || capabilities.has(Capability::Perfmon) {
            Row::ok("performance events", detail)
        } else {
            Row::missing(
                "performance events",
                detail,
                "no probes without CAP_PERFMON",
                "give CAP_PERFMON rather than lower the setting",
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_missing_something_says_the_consequence_and_the_remedy() {
        let rows = [
            Row::ok("lockdown", "none"),
            Row::missing("module ip_vs", "not loaded", "nothing to gather", "modprobe"),
        ];
        assert_eq!(shown(&rows[0], &rows), "ok       lockdown      none\n");
        assert_eq!(
            shown(&rows[1], &rows),
            "MISSING  module ip_vs  not loaded\n                       so: nothing to gather\n                       \
             remedy: modprobe\n"
        );
    }
}
