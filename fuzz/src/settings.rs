//! What users write: services, networks, outputs, sizes, durations, names.

use ipvs_observer::{
    output::Target,
    settings::{self, ClientNet, DestinationSpec, ServiceSpec},
};

const WRITTEN: [&str; 26] = [
    "tcp://10.0.0.1:80",
    "udp://[2001:db8::1]:53",
    "sctp://[::ffff:10.0.0.1]:0",
    "fwmark:47",
    "fwmark:47/inet6",
    "fwmark:4294967296",
    "10.0.0.0/8",
    "2001:db8::/127",
    "192.0.2.7",
    "0.0.0.0/0",
    "10.0.0.1:8080",
    "192.0.2.7:40000",
    "[2001:db8::1]:8080",
    "stdout",
    "unix:///run/telegraf.sock",
    "unixgram:///run/telegraf.sock",
    "16MiB",
    "512KiB",
    "1048576",
    "18446744073709551615GiB",
    "10s",
    "500ms",
    "1m 30s",
    "blue",
    "/proc/1234/ns/net",
    "4096",
];

/// A text, taken for each of the things that a user may name.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    // What is shown of a setting is read as the same setting.
    if let Ok(spec) = text.parse::<ServiceSpec>() {
        assert_eq!(spec.to_string().parse(), Ok(spec));
    }
    if let Ok(target) = text.parse::<Target>() {
        assert_eq!(target.to_string().parse(), Ok(target));
    }
    let _ = text.parse::<ClientNet>();
    let _ = text.parse::<DestinationSpec>();
    if let Ok(interval) = settings::interval(text) {
        let nanoseconds = u64::try_from(interval.as_nanos()).expect("it was checked");
        assert!(settings::Precision::fitting(interval).round(nanoseconds) <= nanoseconds);
    }
    let _ = (
        settings::duration(text),
        settings::size(text),
        settings::netns(text),
    );
    assert!(settings::count(text, "none") != Ok(0) && settings::entries(text) != Ok(0));
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    WRITTEN.map(|text| text.as_bytes().to_vec()).to_vec()
}
