//! Where the running kernel keeps what the programs read: resolved by name from its BTF, handed over as one
//! read-only global. Never compiled in.

/// Where a member of a kernel structure is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the structure's beginning.
    pub offset: u16,
    /// Bytes that it takes; 0: this kernel has no such member.
    pub size: u16,
}

impl Field {
    /// Whether this kernel has the member.
    pub const fn present(self) -> bool {
        self.size != 0
    }
}

macro_rules! layout {
    ($($(#[$doc:meta])* $name:ident: $fields:literal { $($(#[$field_doc:meta])* $field:ident),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            #[allow(missing_docs, reason = "the kernel's own names")]
            pub struct $name {
                $($(#[$field_doc])* pub $field: Field,)+
            }
            const _: () = assert!(size_of::<$name>() == $fields * 4);
        )+
    };
}

layout! {
    /// `struct ip_vs_service`.
    Service: 11 {
        af, protocol, addr, port, fwmark, flags, num_dests, destinations, scheduler, sched_data, ipvs,
    }
    /// `struct ip_vs_dest`.
    Destination: 13 {
        n_list, af, addr, port, weight, last_weight, flags, activeconns,
        /// `inactconns`, or `totalconns` where [`super::layout::TOTAL_CONNECTIONS`] is set.
        otherconns,
        svc, u_threshold, l_threshold,
        /// `rcu_head`, which is another name for this to the compiler.
        callback_head,
    }
    /// `struct ip_vs_conn`.
    Connection: 2 { dest, flags }
    /// `struct ip_vs_iphdr`, the header as IPVS has already parsed it.
    Header: 5 { hdr_flags, len, protocol, saddr, daddr }
    /// `struct sk_buff`.
    Packet: 3 { data, len, data_len }
    /// `struct ip_vs_dest_user_kern`: what a configuration change asks for.
    DestinationRequest: 4 { addr, port, af, weight }
    /// From a service to the number of its network namespace.
    Namespace: 2 {
        /// `netns_ipvs.net`.
        net,
        /// `net.ns.inum`.
        inum,
    }
    /// `struct ip_vs_scheduler`.
    Scheduler: 1 { name }
    /// `struct task_struct`: who asked for a change. Without it a change is told all the same.
    Task: 3 { real_parent, tgid, comm }
}

/// Everything that the programs read, and what of it may be used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Which features have all their fields: a set of the constants of this module.
    pub features: u32,
    /// `struct ip_vs_service`.
    pub service: Service,
    /// `struct ip_vs_dest`.
    pub destination: Destination,
    /// `struct ip_vs_conn`.
    pub connection: Connection,
    /// `struct ip_vs_iphdr`.
    pub header: Header,
    /// `struct sk_buff`.
    pub packet: Packet,
    /// `struct ip_vs_dest_user_kern`.
    pub request: DestinationRequest,
    /// From a service to its namespace.
    pub namespace: Namespace,
    /// `struct ip_vs_scheduler`.
    pub scheduler: Scheduler,
    /// `struct task_struct`.
    pub task: Task,
}

impl Layout {
    /// Nothing is known.
    // SAFETY: integers only, for which zero is a value, and `Default` is not yet const.
    pub const NONE: Self = unsafe { core::mem::zeroed() };
}

/// Services can be told apart: the counters by service.
pub const SERVICES: u32 = 1;
/// Destinations can be told apart: the counters by destination.
pub const DESTINATIONS: u32 = 1 << 1;
/// Persistent services can be told from others: template hits.
pub const PERSISTENCE: u32 = 1 << 2;
/// The state of a destination can be read: weight, connections, overload.
pub const STATE: u32 = 1 << 3;
/// Decisions can be told in full: client, scheduler, destination.
pub const DECISIONS: u32 = 1 << 4;
/// The destinations of a service can be walked: candidates, and why none was there.
pub const CANDIDATES: u32 = 1 << 5;
/// Configuration changes can be told.
pub const CHANGES: u32 = 1 << 6;
/// This kernel counts all connections of a destination where it used to count the inactive ones.
pub const TOTAL_CONNECTIONS: u32 = 1 << 7;

/// A destination is known by the place from which the kernel is called back to free it.
pub const CALLED_BACK: u32 = 1 << 8;

crate::plain!(Layout: 180);
