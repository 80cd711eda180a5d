//! What IPVS tells through `/proc`: whether it is there, its totals, whether its counters move.
//!
//! Readable without any privilege, so this much works even where netlink is refused. `thread-self` is the
//! reading thread's network namespace, which `self` is not in a thread that changed it.

use std::io;

use super::Kernel;
use crate::model::{Forwarding, Settings, Stats, Totals};

/// Present as soon as IPVS is, in every namespace.
const TABLE: &str = "/proc/thread-self/net/ip_vs";
const STATS: &str = "/proc/thread-self/net/ip_vs_stats";
const RUN_ESTIMATION: &str = "/proc/sys/net/ipv4/vs/run_estimation";
const ESTIMATION_CPUS: &str = "/proc/sys/net/ipv4/vs/est_cpulist";

/// What stage of its life the module is at; absent where IPVS is built in.
const STAGE: &str = "/sys/module/ip_vs/initstate";

/// Whether IPVS is loaded, or built in. Asked here and not by resolving the netlink family, because that would
/// have the kernel load the module, and that is the user's choice. A module that is being removed takes its family
/// away before its files, and would be loaded again likewise.
pub(super) fn present(kernel: &mut dyn Kernel) -> bool {
    let stage = |stage: String| matches!(stage.trim(), "coming" | "going");
    kernel.exists(TABLE) && !kernel.read(STAGE).is_ok_and(stage)
}

/// The namespace's totals.
///
/// # Errors
/// The file cannot be read or is not as the kernel writes it.
pub(super) fn totals(kernel: &mut dyn Kernel) -> io::Result<Totals> {
    let text = kernel.read(STATS)?;
    let stats = parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, STATS))?;
    // Both settings are absent on kernels that always estimate, and then counters move.
    let on = kernel
        .read(RUN_ESTIMATION)
        .map_or(true, |text| text.trim() != "0");
    let cpus = kernel
        .read(ESTIMATION_CPUS)
        .map_or(true, |text| !text.trim().is_empty());
    Ok(Totals {
        stats,
        estimation: on && cpus,
    })
}

/// The settings of the namespace: below `/proc/sys/net` the kernel shows those of the reading thread's.
pub(super) fn settings(kernel: &mut dyn Kernel) -> Settings {
    let mut value = |name: &str| number(kernel, &format!("/proc/sys/net/ipv4/vs/{name}"));
    // Where the kernel allows more than that, as a negative mode, it takes it for set.
    let int = |value: Option<i64>| value.map(|value| value.try_into().unwrap_or(u32::MAX));
    let set = |value: Option<i64>| value.map(|value| value != 0);
    Settings {
        conn_reuse_mode: int(value("conn_reuse_mode")),
        expire_nodest_conn: set(value("expire_nodest_conn")),
        expire_quiescent_template: set(value("expire_quiescent_template")),
        conntrack: set(value("conntrack")),
        cache_bypass: set(value("cache_bypass")),
        sloppy_tcp: set(value("sloppy_tcp")),
        sloppy_sctp: set(value("sloppy_sctp")),
        schedule_icmp: set(value("schedule_icmp")),
        drop_entry: int(value("drop_entry")),
        drop_packet: int(value("drop_packet")),
        secure_tcp: int(value("secure_tcp")),
        am_droprate: int(value("am_droprate")),
        conn_max: int(value("conn_max")),
    }
}

/// Whether packets for others are forwarded.
pub(super) fn forwarding(kernel: &mut dyn Kernel) -> Forwarding {
    let mut on = |path| number(kernel, path).map(|value| value != 0);
    Forwarding {
        inet: on("/proc/sys/net/ipv4/ip_forward"),
        inet6: on("/proc/sys/net/ipv6/conf/all/forwarding"),
    }
}

fn number(kernel: &mut dyn Kernel, path: &str) -> Option<i64> {
    kernel.read(path).ok()?.trim().parse().ok()
}

/// Two rows of five hexadecimal numbers, each below two lines of headings.
fn parse(text: &str) -> Option<Stats> {
    let mut rows = text.lines().filter_map(|line| {
        let mut numbers = [0; 5];
        let mut words = line.split_whitespace();
        for number in &mut numbers {
            *number = u64::from_str_radix(words.next()?, 16).ok()?;
        }
        words.next().is_none().then_some(numbers)
    });
    let [connections, pkts_in, pkts_out, bytes_in, bytes_out] = rows.next()?;
    let [cps, pps_in, pps_out, bps_in, bps_out] = rows.next()?;
    Some(Stats {
        connections,
        pkts_in,
        pkts_out,
        bytes_in,
        bytes_out,
        cps,
        pps_in,
        pps_out,
        bps_in,
        bps_out,
    })
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::{Kernel, STAGE, TABLE, parse, present};
    use crate::netlink::Channel;

    /// A kernel with the table's file, whose module is at some stage of its life.
    struct At(Option<&'static str>);

    impl Kernel for At {
        fn exists(&mut self, path: &str) -> bool {
            path == TABLE
        }

        fn read(&mut self, path: &str) -> io::Result<String> {
            let stage = self.0.filter(|_| path == STAGE).map(|stage| format!("{stage}\n"));
            stage.ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn open(&mut self, _timeout: Duration) -> io::Result<Box<dyn Channel>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn a_module_that_comes_or_goes_is_not_there_and_one_built_in_is() {
        assert!(present(&mut At(Some("live"))) && present(&mut At(None)));
        assert!(!present(&mut At(Some("going"))) && !present(&mut At(Some("coming"))));
    }

    #[test]
    fn totals_are_read_as_the_kernel_writes_them() -> Result<(), &'static str> {
        let text = "   Total Incoming Outgoing         Incoming         Outgoing\n   \
                    Conns  Packets  Packets            Bytes            Bytes\n      \
                    1F       3E8      3E7           1000F               FF\n\n \
                    Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n       \
                    1        2        3               A0                5\n";
        let stats = parse(text).ok_or("not parsed")?;
        assert_eq!(
            (stats.connections, stats.pkts_in, stats.pkts_out),
            (31, 1000, 999)
        );
        assert_eq!((stats.bytes_in, stats.bytes_out), (0x1000f, 255));
        assert_eq!(
            (
                stats.cps,
                stats.pps_in,
                stats.pps_out,
                stats.bps_in,
                stats.bps_out
            ),
            (1, 2, 3, 160, 5)
        );
        Ok(())
    }

    #[test]
    fn a_file_cut_short_is_not_taken_for_zeros() {
        assert_eq!(parse("   Total Incoming\n 1 2 3\n"), None);
        assert_eq!(parse(""), None);
    }
}
