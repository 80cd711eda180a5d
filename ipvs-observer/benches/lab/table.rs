//! The tables, as `ipvsadm -R` takes them, and datagrams through them.

use std::{
    fs,
    io::{self, Write},
    net::UdpSocket,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// So many services with so many real servers each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub services: usize,
    pub destinations: usize,
}

const PORT: u16 = 53;

impl Table {
    /// Reads `1000x10`.
    pub fn parse(text: &str) -> Option<Self> {
        let (services, destinations) = text.split_once('x')?;
        Some(Self {
            services: services.parse().ok()?,
            destinations: destinations.parse().ok()?,
        })
    }

    fn service(service: usize) -> String {
        format!("10.100.{}.{}", service / 250, service % 250 + 1)
    }

    /// One-packet services: a datagram is a connection, and leaves no entry behind.
    fn rules(self) -> String {
        use std::fmt::Write;
        let mut rules = String::new();
        for service in 0..self.services {
            let address = Self::service(service);
            let _ = writeln!(rules, "-A -u {address}:{PORT} -s rr -o");
            for destination in 0..self.destinations {
                let _ = writeln!(
                    rules,
                    "-a -u {address}:{PORT} -r 10.200.{}.{}:{PORT} -m -w {}",
                    service % 250,
                    destination + 1,
                    service % 100 + 1
                );
            }
        }
        rules
    }

    /// Puts it into an IPVS that has nothing.
    pub fn fill(self) -> io::Result<()> {
        let mut child = Command::new("ipvsadm").arg("-R").stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(self.rules().as_bytes())?;
        }
        succeeded("ipvsadm -R", child.wait()?.success())
    }

    /// Sends `datagrams` to each service.
    pub fn send(self, datagrams: usize) -> io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for service in 0..self.services {
            let to = (Self::service(service), PORT);
            for _ in 0..datagrams {
                socket.send_to(b"x", (to.0.as_str(), to.1))?;
            }
        }
        Ok(())
    }
}

/// Addresses that lead to the services and to nowhere behind them.
pub fn network() -> io::Result<()> {
    let script = "modprobe dummy && ip link add servers type dummy && \
                  ip link set servers up && ip addr add 10.200.255.254/16 dev servers && \
                  ip route add local 10.100.0.0/16 dev lo && sysctl -qw net.ipv4.neigh.default.gc_thresh3=65536";
    let status = Command::new("sh").args(["-c", script]).status()?;
    succeeded("setting up the network", status.success())
}

/// Waits until the kernel has taken the last table's probes away, which it does one by one after their process has
/// ended: what that takes is no part of the next table.
pub fn without_probes() -> io::Result<()> {
    const LONGEST: u32 = 600;
    for _ in 0..LONGEST {
        if fs::read_to_string("/sys/kernel/debug/kprobes/list")?.is_empty() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(io::Error::other("the last table's probes are still there"))
}

/// Loads IPVS anew. The kernel keeps what `ipvsadm -C` removed for two minutes and looks through all of it for each real
/// server that is added: behind 40,000 of them as many more take 27.4 s of the guest's clock, and by themselves 4.9 s.
pub fn clear() -> io::Result<()> {
    let script = "set -e; [ ! -e /proc/net/ip_vs ] || { ipvsadm -C && modprobe -r ip_vs_rr ip_vs; }
                  modprobe ip_vs; modprobe ip_vs_rr";
    let status = Command::new("sh").args(["-c", script]).status()?;
    succeeded("loading ip_vs anew", status.success())
}

fn succeeded(what: &str, success: bool) -> io::Result<()> {
    if success {
        Ok(())
    } else {
        Err(io::Error::other(format!("{what} failed")))
    }
}
