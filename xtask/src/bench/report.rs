//! What was measured, as Markdown and as JSON.

use std::{fmt::Write, fs};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::lab::{emulator::Emulator, run::Processors};

/// The way that the others are held against.
const FLOOR: &str = "raw dump";

/// Everything that was measured.
pub(crate) struct Report {
    machine: String,
    emulator: String,
    processors: Processors,
    gathers: Vec<Value>,
    path: Vec<Value>,
    path_text: String,
}

impl Report {
    /// Of measurements made on this machine.
    pub(crate) fn new(processors: Processors, emulator: &Emulator) -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("an unnamed processor", |rest| {
                rest.trim_start_matches([' ', '\t', ':'])
            });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            machine: format!("{model}, {cores} cores"),
            emulator: emulator.version()?,
            processors,
            gathers: Vec::new(),
            path: Vec::new(),
            path_text: String::new(),
        })
    }

    /// Takes what the gathers' run printed: a line of JSON for each way and table.
    pub(crate) fn gathers(&mut self, kernel: &str, printed: &str) -> Result<()> {
        for line in printed.lines() {
            let row: Value = serde_json::from_str(line)
                .with_context(|| format!("the measurement printed what is no row: {line}"))?;
            self.gathers.push(with_kernel(row, kernel));
        }
        Ok(())
    }

    /// Takes what the path's run printed: tables, and lines of JSON.
    pub(crate) fn path(&mut self, kernel: &str, printed: &str) -> Result<()> {
        for line in printed.lines() {
            if line.starts_with('{') {
                self.path.push(with_kernel(serde_json::from_str(line)?, kernel));
            } else {
                self.path_text.push_str(line);
                self.path_text.push('\n');
            }
        }
        Ok(())
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.about());
        let mut before = (String::new(), String::new());
        let mut floor = &Value::Null;
        for row in &self.gathers {
            let (kernel, table) = (word(row, "kernel"), word(row, "table"));
            if before.0 != kernel {
                let _ = write!(
                    text,
                    "\nkernel {kernel}, medians of {} rounds\n\n\
                     | table | way | wall, ms | × floor | CPU, ms | × floor | peak, MiB | system calls |\n\
                     |---|---|---:|---:|---:|---:|---:|---:|\n",
                    row["rounds"]
                );
            }
            if word(row, "way") == FLOOR {
                floor = row;
            }
            let median = &row["median"];
            let ratio = |name: &str| number(&median[name]) / number(&floor["median"][name]);
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {} |",
                if before == (kernel.to_owned(), table.to_owned()) {
                    ""
                } else {
                    table
                },
                word(row, "way"),
                number(&median["wall_ns"]) / 1e6,
                ratio("wall_ns"),
                number(&median["cpu_ns"]) / 1e6,
                ratio("cpu_ns"),
                number(&median["peak_bytes"]) / f64::from(1 << 20),
                median["syscalls"],
            );
            before = (kernel.to_owned(), table.to_owned());
        }
        if !self.path_text.is_empty() {
            let _ = write!(text, "\n{}", self.path_text);
        }
        text
    }

    fn about(&self) -> String {
        let clock = match self.processors {
            Processors::Counted => "the guest's clock counts instructions, one a nanosecond",
            Processors::OneThread | Processors::Kvm => "the guest's clock is the machine's",
            Processors::ThreadEach => {
                "a thread for each of the guest's two processors, and its clock is the machine's"
            }
        };
        format!("{} on {}; {clock}", self.emulator, self.machine)
    }

    pub(crate) fn json(&self) -> Result<String> {
        let all = json!({
            "machine": self.machine,
            "emulator": self.emulator,
            "clock": if self.processors == Processors::Counted { "instructions" } else { "wall" },
            "side_by_side": self.processors == Processors::ThreadEach,
            "gathers": self.gathers,
            "path": self.path,
        });
        Ok(serde_json::to_string_pretty(&all)? + "\n")
    }
}

fn with_kernel(mut row: Value, kernel: &str) -> Value {
    row["kernel"] = json!(kernel);
    row
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_held_against_the_floor_of_its_own_table() {
        let mut report = Report {
            machine: String::new(),
            emulator: String::new(),
            processors: Processors::Counted,
            gathers: Vec::new(),
            path: Vec::new(),
            path_text: String::new(),
        };
        let row = |table: &str, way: &str, wall: u64| {
            format!(
                "{{\"table\":\"{table}\",\"way\":\"{way}\",\"rounds\":3,\"median\":{{\"wall_ns\":{wall},\
                 \"cpu_ns\":1000000,\"syscalls\":5,\"peak_bytes\":1048576}}}}\n"
            )
        };
        let printed = [
            row("1x1", FLOOR, 2_000_000),
            row("1x1", "gather", 3_000_000),
            row("2x1", FLOOR, 4_000_000),
            row("2x1", "gather", 8_000_000),
        ];
        report.gathers("6.12", &printed.concat()).unwrap();
        let text = report.text();
        assert!(
            text.contains("|  | gather | 3.00 | 1.50 | 1.00 | 1.00 | 1.0 | 5 |"),
            "{text}"
        );
        assert!(text.contains("| 2x1 | raw dump | 4.00 | 1.00 |"), "{text}");
        assert!(text.contains("|  | gather | 8.00 | 2.00 |"), "{text}");
        assert!(report.json().unwrap().contains("\"kernel\": \"6.12\""));
    }
}
