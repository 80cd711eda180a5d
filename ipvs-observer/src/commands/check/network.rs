//! What the network has to do for IPVS: deliver packets for the virtual addresses, and forward replies.

use super::{destinations, row::Row};
use crate::{
    log::counted,
    model::{Family, Forward, Forwarding, ServiceKey, Snapshot},
};

/// Addresses that are named; more are only counted.
const NAMED: usize = 3;

/// One row for each that the table needs.
pub(super) fn rows(snapshot: &Snapshot, forwarding: Forwarding) -> Vec<Row> {
    let inet = forwards(snapshot, Family::INET, "net.ipv4.ip_forward", forwarding.inet);
    let setting = "net.ipv6.conf.all.forwarding";
    let inet6 = forwards(snapshot, Family::INET6, setting, forwarding.inet6);
    [addresses(snapshot), inet, inet6].into_iter().flatten().collect()
}

/// Virtual addresses that packets from other machines do not reach.
fn addresses(snapshot: &Snapshot) -> Option<Row> {
    const NEED: &str = "virtual addresses";
    let mut foreign = Vec::new();
    let (mut local, mut unknown) = (Vec::new(), false);
    for server in snapshot.virtual_servers() {
        let ServiceKey::Endpoint { address, .. } = server.service.key else {
            continue;
        };
        match server.local {
            Some(true) => local.push(address),
            Some(false) => foreign.push(address),
            None => unknown = true,
        }
    }
    for list in [&mut local, &mut foreign] {
        list.sort_unstable();
        list.dedup();
    }
    if unknown {
        return Some(Row::optional(
            NEED,
            "the kernel did not answer route lookups",
            "address_local is left out",
            "a policy of SELinux may forbid them (nlmsg_read of netlink_route_socket)",
        ));
    }
    if foreign.is_empty() {
        let local = local.len() as u64;
        return (local > 0).then(|| Row::ok(NEED, format!("{local} of {local} local")));
    }
    let named: Vec<_> = foreign.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match foreign.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(Row::warning(
        NEED,
        format!("not local: {}{more}", named.join(", ")),
        "packets to them from other machines are not delivered here, so that IPVS gets connections from this machine \
         only; on the standby of a pair of directors that is as it should be",
        "ip address add ADDRESS dev INTERFACE, as a /32 or /128; its price: this machine answers for the address, so no \
         other on the link may",
    ))
}

/// Whether replies of masqueraded real servers get through; none without such servers.
fn forwards(snapshot: &Snapshot, family: Family, setting: &str, on: Option<bool>) -> Option<Row> {
    let masqueraded = destinations(snapshot).filter(|destination| {
        destination.forward == Forward::Masquerade && destination.key.address.family() == family
    });
    let masqueraded = masqueraded.count() as u64;
    let on = on.filter(|_| masqueraded > 0)?;
    let (need, detail) = ("forwarding", format!("{setting}={}", u8::from(on)));
    if on {
        return Some(Row::ok(need, detail));
    }
    Some(Row::warning(
        need,
        detail,
        &format!(
            "replies of {} do not get through this machine to clients on others, whose connects hang",
            counted(masqueraded, "masqueraded real server")
        ),
        &format!(
            "sysctl {setting}=1; its price: this machine is a router, so that its firewall decides who may pass"
        ),
    ))
}

#[cfg(test)]
mod tests;
