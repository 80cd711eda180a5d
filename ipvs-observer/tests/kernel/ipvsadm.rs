//! `ipvsadm`, the judge: set tables with it, read them with it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
    process::{ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A service by protocol and address as `ipvsadm` prints them, such as `TCP 10.0.0.1:80` or `FWM 47 IPv6`.
pub type Name = String;

/// What one listing says of a service and its destinations: its words behind the name, and theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub words: Vec<String>,
    pub destinations: BTreeMap<String, Vec<String>>,
}

impl Entry {
    /// The words as numbers.
    pub fn numbers(&self) -> Vec<u64> {
        numbers(&self.words)
    }
}

/// Words as numbers.
pub fn numbers(words: &[String]) -> Vec<u64> {
    words
        .iter()
        .map(|word| word.parse().unwrap_or_else(|error| panic!("{word:?}: {error}")))
        .collect()
}

/// Runs it and returns what it prints.
pub fn run(args: &[&str]) -> String {
    let output = Command::new("ipvsadm")
        .args(args)
        .output()
        .expect("ipvsadm is in the lab");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ipvsadm {args:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Holds that the kernel counts so many connections of a service, soon: some kernels sum up every two seconds.
pub fn counts(service: &str, connections: u64) {
    let begin = Instant::now();
    loop {
        let counted = list(&["--stats", "--exact"])[service].numbers()[0];
        if counted == connections {
            return;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(6),
            "{service}: {counted} connections, not {connections}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// Rules of so many services, from 10.`net`.0.0 on, with so many real servers each. `options` are the services'.
pub fn many(protocol: &str, net: u8, options: &str, services: usize, servers: usize) -> String {
    let mut rules = String::new();
    for service in 0..services {
        let (high, low) = (service / 250, service % 250);
        let address = format!("{protocol} 10.{net}.{high}.{low}:80");
        writeln!(rules, "-A {address} {options}").expect("a string grows");
        for server in 0..servers {
            let (server, weight) = (format!("10.{}.{high}.{server}:8080", net + 100), low + 1);
            writeln!(rules, "-a {address} -r {server} -m -w {weight}").expect("a string grows");
        }
    }
    rules
}

/// Empties the table and fills it with rules.
pub fn restore(rules: &str) {
    run(&["-C"]);
    change(|input| input.write_all(rules.as_bytes()));
}

/// Changes the table again and again, for so long.
pub fn change_for(time: Duration, mut once: impl FnMut(&mut ChildStdin) -> io::Result<()>) {
    let begin = Instant::now();
    change(|rules| {
        while begin.elapsed() < time {
            once(rules)?;
        }
        Ok(())
    });
}

/// Changes the table by rules that are written to one `ipvsadm`.
fn change(write: impl FnOnce(&mut ChildStdin) -> io::Result<()>) {
    let mut child = Command::new("ipvsadm")
        .arg("-R")
        .stdin(Stdio::piped())
        .spawn()
        .expect("ipvsadm is in the lab");
    write(child.stdin.as_mut().expect("piped")).expect("ipvsadm reads its rules");
    // Waiting closes its input first.
    assert!(
        child.wait().expect("ipvsadm ends").success(),
        "ipvsadm -R refused the rules"
    );
}

/// A listing, by service and destination. `kind` adds its flags, such as `--stats`.
pub fn list(kind: &[&str]) -> BTreeMap<Name, Entry> {
    read(&run(&[&["-L", "-n"], kind].concat()))
}

/// A listing that was printed, read.
pub fn read(text: &str) -> BTreeMap<Name, Entry> {
    let mut table: BTreeMap<Name, Entry> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        match words.first().map(String::as_str) {
            Some("TCP" | "UDP" | "SCTP" | "FWM") => {
                let mark = words[0] == "FWM";
                let length = if mark && words.get(2).is_some_and(|word| word == "IPv6") {
                    3
                } else {
                    2
                };
                let rest = words.split_off(length);
                let name = words.join(" ");
                table.insert(
                    name.clone(),
                    Entry {
                        words: rest,
                        ..Entry::default()
                    },
                );
                current = Some(name);
            }
            Some("->") => {
                // The heading has an arrow too, above the first service.
                let Some(entry) = current.as_ref().and_then(|name| table.get_mut(name)) else {
                    continue;
                };
                let rest = words.split_off(2);
                assert!(
                    entry.destinations.insert(words[1].clone(), rest).is_none(),
                    "twice: {line}"
                );
            }
            _ => {}
        }
    }
    table
}

/// A row of the connection table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub protocol: String,
    pub state: String,
    pub client: String,
    pub virtual_address: String,
    pub destination: String,
}

impl Row {
    /// Whether it is what persistence remembers, and no connection.
    pub fn is_template(&self) -> bool {
        self.client.ends_with(":0")
    }
}

/// The connection table that `ipvsadm -Lnc` shows, sorted, without how long each entry lives.
pub fn entries() -> Vec<Row> {
    let text = run(&["-L", "-n", "-c"]);
    let mut rows: Vec<_> = text
        .lines()
        .skip(2)
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let word = |place: usize| {
                let word = words.get(place).copied();
                word.unwrap_or_else(|| panic!("{line:?}")).to_owned()
            };
            Row {
                protocol: word(0),
                state: word(2),
                client: word(3),
                virtual_address: word(4),
                destination: word(5),
            }
        })
        .collect();
    rows.sort();
    rows
}

/// How many connections of a service, `TCP 10.0.0.1:80`, are in the table.
pub fn connections(service: &str) -> u64 {
    let rows = entries().into_iter();
    rows.filter(|row| !row.is_template() && format!("{} {}", row.protocol, row.virtual_address) == service)
        .count() as u64
}

/// What `ipvsadm -Sn` says of a service: the value behind each flag of its `-A` line.
pub fn saved() -> BTreeMap<Name, BTreeMap<String, String>> {
    let mut services = BTreeMap::new();
    for line in run(&["-S", "-n"]).lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if words.first() != Some(&"-A") {
            continue;
        }
        let protocol = match words[1] {
            "-t" => "TCP",
            "-u" => "UDP",
            "-f" => "FWM",
            "--sctp-service" => "SCTP",
            other => panic!("{other} in {line}"),
        };
        let six = if words.contains(&"-6") { " IPv6" } else { "" };
        let flags = words[3..]
            .windows(2)
            .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
            .collect();
        services.insert(format!("{protocol} {}{six}", words[2]), flags);
    }
    services
}
