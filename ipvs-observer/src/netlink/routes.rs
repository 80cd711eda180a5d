//! Whose the virtual addresses are, by the kernel's own route lookups.
//!
//! IPVS takes a client's packet where it is delivered to this machine, so an address that is routed elsewhere, or
//! nowhere, gets nothing from other machines. A lookup follows the namespace's rules and all its tables, which a dump
//! of the local table does not; it asks for no privilege, and takes no lock that another waits for: both families
//! answer it without the lock of network configuration since Linux 4.14 (`RTNL_FLAG_DOIT_UNLOCKED`).

use std::time::Duration;

use super::{
    Failure, Kernel,
    link::{Link, NLM_F_REQUEST},
};
use crate::model::{Address, Family, KeyMap, ServiceKey, Snapshot};

/// `struct rtmsg`.
const HEADER: usize = 12;
/// Where it says of which type the route is.
const TYPE: usize = 7;
const RTM_GETROUTE: u16 = 26;
const RTN_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
/// An answer is one route.
const ROOM: usize = 16 * 1024;

/// Addresses that are looked up again at each gather, at the least: those of nearly every table.
const RENEWED: usize = 256;
/// Of more, so many gathers have all of them: a minute's at the usual interval, each for a few hundredths of what the dump
/// of their services takes. A new address never waits.
const GATHERS: usize = 6;

/// What was found about addresses, from gather to gather.
#[derive(Default)]
pub(super) struct Routes {
    link: Option<Link>,
    known: KeyMap<Address, Known>,
    gather: u64,
    /// The service whose address is looked up again next.
    next: usize,
}

struct Known {
    local: bool,
    /// The gather in which it was looked up, and the last one that had the address.
    looked_up: u64,
    wanted: u64,
}

impl Routes {
    /// Closes the socket, which keeps the namespace that it belongs to.
    pub(super) fn let_go(&mut self) {
        self.link = None;
    }

    /// Says of each virtual server whether its address is local. Where that cannot be had, nothing is said.
    ///
    /// # Errors
    /// What kept a lookup from being made.
    pub(super) fn locate(
        &mut self,
        kernel: &mut dyn Kernel,
        timeout: Duration,
        snapshot: &mut Snapshot,
    ) -> Result<(), Failure> {
        let outcome = self.renew(kernel, timeout, snapshot);
        if outcome.is_err() {
            // What was known may be so no longer.
            self.known.clear();
            self.let_go();
        }
        let found = |key: &ServiceKey| Some(self.known.get(&address(key)?)?.local);
        snapshot.locate(found);
        outcome
    }

    fn renew(
        &mut self,
        kernel: &mut dyn Kernel,
        timeout: Duration,
        snapshot: &Snapshot,
    ) -> Result<(), Failure> {
        let servers = snapshot.virtual_servers();
        let address = |place: usize| servers.get(place).and_then(|server| address(&server.service.key));
        if servers.is_empty() {
            self.known.clear();
            return Ok(());
        }
        if self.link.is_none() {
            let channel = kernel.open_routes(timeout).map_err(Failure::Socket)?;
            self.link = Some(Link::new(channel, HEADER, ROOM, timeout));
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        self.gather += 1;
        let gather = self.gather;
        let mut there = 0;
        for address in (0..servers.len()).filter_map(address) {
            if let Some(known) = self.known.get_mut(&address) {
                there += usize::from(known.wanted != gather);
                known.wanted = gather;
                continue;
            }
            let known = Known {
                local: look_up(link, address)?,
                looked_up: gather,
                wanted: gather,
            };
            self.known.insert(address, known);
            there += 1;
        }
        if self.known.len() > there {
            self.known.retain(|_, known| known.wanted == gather);
        }
        // One more, because the next service may have the address that was the last one's.
        let mut left = (there.div_ceil(GATHERS) + 1).max(RENEWED);
        for _ in 0..servers.len() {
            self.next = (self.next + 1) % servers.len();
            let known = address(self.next).and_then(|address| Some((address, self.known.get_mut(&address)?)));
            let Some((address, known)) = known.filter(|(_, known)| known.looked_up != gather) else {
                continue;
            };
            (known.local, known.looked_up) = (look_up(link, address)?, gather);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// The virtual address of a service; a mark has none.
fn address(key: &ServiceKey) -> Option<Address> {
    match key {
        ServiceKey::Endpoint { address, .. } => Some(*address),
        ServiceKey::Fwmark { .. } => None,
    }
}

/// Whether the route to an address ends here.
fn look_up(link: &mut Link, address: Address) -> Result<bool, Failure> {
    const NO_MEMORY: [i32; 2] = [libc::ENOMEM, libc::ENOBUFS];
    let bytes = address.bytes();
    let bytes = match address.family() {
        Family::INET => &bytes[..4],
        _ => &bytes[..],
    };
    let Family(family) = address.family();
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&[family as u8, bytes.len() as u8 * 8]);
    link.begin(RTM_GETROUTE, NLM_F_REQUEST, &header)
        .put(RTA_DST, bytes);
    let mut local = false;
    let outcome = link.exchange(false, &mut |route, _| {
        local = route.get(TYPE) == Some(&RTN_LOCAL);
        Ok(())
    });
    match outcome {
        Ok(_) => Ok(local),
        Err(Failure::Refused(error))
            if error.raw_os_error().is_some_and(|code| NO_MEMORY.contains(&code)) =>
        {
            Err(Failure::Refused(error))
        }
        // There is no route, or one that says no: unreachable, prohibited, a black hole, a family that is switched off.
        Err(Failure::Refused(_) | Failure::NotPermitted(_)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests;
