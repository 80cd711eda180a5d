//! The connection table.

use std::sync::LazyLock;

use ipvs_observer::{
    model::{Entries, Snapshot},
    netlink::{Reader, Recording, connections},
    points::Schema,
};

use super::written;
use crate::fixture;

/// A table with entries of services that the recording has.
pub(super) const TABLE: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A090001 9C40 0A090001 0050 0A080001 1F90 ESTABLISHED     899
TCP 0A090000 0000 0A090001 0051 0A080002 1F90 NONE            599
UDP 0A090001 9C40 0A090001 0035 0A080009 14E9 UDP             299
IP  0A090001 0000 0000002F 0000 0A080001 0000 NONE             59
UDP 0A090001 0000 0A090001 13C4 0A080001 13C4 NONE            119 sip Call-ID: a b
TCP fd00:0009:0000:0000:0000:0000:0000:0001 9C40 fd00:0009:0000:0000:0000:0000:0000:0001 0050 \
fd00:0008:0000:0000:0000:0000:0000:0001 1F90 TIME_WAIT       119
";

/// The services and real servers that entries are attributed to.
static SERVICES: LazyLock<Snapshot> = LazyLock::new(|| {
    let text = String::from_utf8(fixture("recordings/6.12.txt")).expect("text");
    let kernel = Recording::parse(&text).expect("a recording");
    let mut snapshot = Snapshot::default();
    let read = Reader::new(Box::new(kernel)).read(&mut snapshot, &|_| true);
    read.expect("a whole recording");
    snapshot
});

/// No line is counted twice, but what may be of several services.
pub(super) fn run(bytes: &[u8]) {
    let mut entries = Entries::default();
    assert!(entries.begin(&SERVICES));
    if connections::count_from(bytes, &mut entries, &|| false).is_err() {
        return;
    }
    let mut counted = entries.unattributed();
    for server in SERVICES.virtual_servers() {
        let key = &server.service.key;
        counted += entries.service(key).expect("it was there").orphaned;
        for destination in SERVICES.destinations(server) {
            let counts = entries.destination(key, &destination.key).expect("it was there");
            counted += u64::from(counts.established + counts.syn_received + counts.time_wait);
            counted += u64::from(counts.other + counts.templates);
        }
    }
    let lines = bytes.split(|&byte| byte == b'\n').count() as u64 - 1;
    assert!(counted <= lines.saturating_sub(1), "more than there is");
    written(&SERVICES, Some(&entries), Schema::Full);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_of_connections_is_a_table_whose_entries_have_their_real_servers() {
        let mut entries = Entries::default();
        entries.begin(&SERVICES);
        assert!(connections::count_from(TABLE.as_bytes(), &mut entries, &|| false).expect("a table"));
        let services = SERVICES.virtual_servers().iter();
        let own = services.filter_map(|server| entries.service(&server.service.key));
        assert_eq!(own.map(|own| own.orphaned).sum::<u64>(), 1);
        assert_eq!(entries.unattributed(), 0);
    }
}
