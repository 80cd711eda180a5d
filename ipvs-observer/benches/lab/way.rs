//! The ways to read a table that are held against each other.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    counter::{Costs, From, peak_memory},
    row::Round,
};

const EXPORTER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9100);

/// A way, ready for its rounds.
pub enum Way {
    Worker(Worker),
    /// A program that is started for each round.
    Program(&'static [&'static str]),
    Exporter(Exporter),
}

impl Way {
    pub fn round(&mut self) -> io::Result<Round> {
        match self {
            Self::Worker(worker) => worker.round(),
            Self::Program(words) => program(words),
            Self::Exporter(exporter) => exporter.round(),
        }
    }
}

/// This program once more, as a worker.
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    pub fn start(words: &[&str], table: &str) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("worker")
            .args(words)
            .arg(table)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a worker without pipes"));
        };
        let mut worker = Self {
            child,
            orders,
            answers: BufReader::new(answers),
        };
        worker.answer()?;
        Ok(worker)
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::other("a worker ended early"));
        }
        Ok(line)
    }

    pub fn round(&mut self) -> io::Result<Round> {
        self.orders.write_all(b"\n")?;
        Ok(serde_json::from_str(&self.answer()?)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a program that waits to be counted before it becomes what it is.
fn held(words: &[&str], stdout: Stdio) -> io::Result<(Child, Costs)> {
    let child = Command::new("busybox")
        .args(["sh", "-c", "read -r go; exec \"$@\"", "held"])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .spawn()?;
    let costs = Costs::of(child.id(), From::Exec)?;
    Ok((child, costs))
}

fn let_go(child: &mut Child) -> io::Result<()> {
    // Closed behind it.
    child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(b"\n"))
}

/// From its start to its end, what it prints thrown away.
fn program(words: &[&str]) -> io::Result<Round> {
    let (mut child, mut costs) = held(words, Stdio::null())?;
    let began = Instant::now();
    let_go(&mut child)?;
    let mut status = 0;
    // SAFETY: an all-zero `rusage` is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid for the call, and the child is waited for here alone.
    let ended = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    let wall = began.elapsed();
    if ended < 0 || status != 0 {
        return Err(io::Error::other(format!("{words:?} ended with {status}")));
    }
    let cost = costs.read()?;
    Ok(Round {
        wall_ns: wall.as_nanos() as u64,
        cpu_ns: cost.cpu_ns,
        syscalls: cost.syscalls,
        peak_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
    })
}

/// The node exporter with its ipvs collector alone; a round is a scrape.
pub struct Exporter {
    child: Child,
    costs: Costs,
}

impl Exporter {
    pub fn start(path: &str) -> io::Result<Self> {
        let (mut child, costs) = held(
            &[
                path,
                "--collector.disable-defaults",
                "--collector.ipvs",
                "--web.listen-address",
                &EXPORTER.to_string(),
                "--log.level=error",
            ],
            Stdio::null(),
        )?;
        let_go(&mut child)?;
        let mut exporter = Self { child, costs };
        for _ in 0..200 {
            if TcpStream::connect(EXPORTER).is_ok() {
                // As in every other way, the first is not measured.
                exporter.round()?;
                return Ok(exporter);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(io::Error::other("the node exporter does not listen"))
    }

    fn round(&mut self) -> io::Result<Round> {
        let before = self.costs.read()?;
        let began = Instant::now();
        let mut stream = TcpStream::connect(EXPORTER)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut lines = BufReader::new(stream).split(b'\n');
        let status = lines.next().transpose()?.unwrap_or_default();
        if !status.ends_with(b" 200 OK\r") {
            return Err(io::Error::other("the node exporter refused the scrape"));
        }
        // Not kept: a program that is started later counts its parent's memory as its own.
        let mut servers = 0;
        for line in lines {
            servers += u32::from(line?.starts_with(b"node_ipvs_backend_weight{"));
        }
        let wall = began.elapsed();
        if servers == 0 {
            return Err(io::Error::other("the scrape has no real server in it"));
        }
        let cost = self.costs.read()?.since(before);
        Ok(Round {
            wall_ns: wall.as_nanos() as u64,
            cpu_ns: cost.cpu_ns,
            syscalls: cost.syscalls,
            peak_bytes: peak_memory(self.child.id())?,
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
