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

/// Declares the structures of the kernel, each with its name there and its members, ordered by the feature that needs
/// them. A member whose path is not `structure.member` says its own; ` or ` stands between the names that it has on
/// different kernels.
macro_rules! layout {
    (@path $structure:literal $field:ident) => { concat!($structure, ".", stringify!($field)) };
    (@path $structure:literal $field:ident $path:literal) => { $path };
    ($(
        $structure:literal as $place:ident: $name:ident {
            $($feature:ident: $($(#[$doc:meta])* $field:ident $(= $path:literal)?),+;)+
        }
    )+) => {
        $(
            #[doc = concat!("`struct ", $structure, "`.")]
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            #[allow(missing_docs, reason = "the kernel's own names")]
            pub struct $name {
                $($($(#[$doc])* pub $field: Field,)+)+
            }
        )+

        /// Everything that the programs read, and what of it may be used.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Layout {
            /// Which features have all their fields: a set of the constants of this module.
            pub features: u32,
            $(#[doc = concat!("`struct ", $structure, "`.")] pub $place: $name,)+
        }

        impl Layout {
            /// Gives each member to `each`: its path, the feature that needs it, and its place here.
            pub fn members(&mut self, mut each: impl FnMut(&'static str, u32, &mut Field)) {
                $($($(each(layout!(@path $structure $field $($path)?), $feature, &mut self.$place.$field);)+)+)+
            }
        }
    };
}

layout! {
    "ip_vs_service" as service: Service {
        SERVICES: af, protocol, addr, port, fwmark, ipvs;
        PERSISTENCE: flags;
        DECISIONS: scheduler;
        CANDIDATES: destinations, num_dests, sched_data;
        CONFIGURED: timeout, netmask, pe;
    }
    "ip_vs_pe" as engine: Engine {
        CONFIGURED: name;
    }
    "ip_vs_dest" as destination: Destination {
        DESTINATIONS: af, addr, port, svc;
        STATE: weight, flags, u_threshold, activeconns,
            /// `inactconns`, or `totalconns` where [`TOTAL_CONNECTIONS`] is set.
            otherconns = "ip_vs_dest.totalconns or ip_vs_dest.inactconns";
        CANDIDATES: n_list, last_weight;
        CONFIGURED: conn_flags, l_threshold;
        LEFT: persistconns;
        CONNECTIONS:
            /// The flags of which the first says that it was not removed.
            available = "ip_vs_dest.cflags or ip_vs_dest.flags";
        OPTIONAL: tun_type, tun_port, tun_flags,
            /// `rcu_head`, which is another name for this to the compiler.
            callback_head;
    }
    "ip_vs_conn" as connection: Connection {
        DESTINATIONS: dest;
        DECISIONS: flags;
        CONNECTIONS: af, caddr, vaddr, cport, vport, protocol, state, fwmark, ipvs, timer,
            /// `rcu_head`, as in `ip_vs_dest`.
            callback_head;
    }
    // The header as IPVS has already parsed it.
    "ip_vs_iphdr" as header: Header {
        DECISIONS: hdr_flags, len, saddr, daddr;
        OPTIONAL: protocol;
    }
    "sk_buff" as packet: Packet {
        DECISIONS: data, len, data_len;
        TRANSMIT: mark, dev, sk;
    }
    // From a packet to the number of its network namespace.
    "net_device" as device: Device {
        TRANSMIT: net = "net_device.nd_net.net";
    }
    "sock" as socket: Socket {
        TRANSMIT: net = "sock.__sk_common.skc_net.net";
    }
    // What a configuration change asks for.
    "ip_vs_dest_user_kern" as request: DestinationRequest {
        CHANGES: addr, port, af, weight;
    }
    // From a service to the number of its network namespace.
    "netns_ipvs" as namespace: Namespace {
        SERVICES: net, inum = "net.ns.inum";
        LEFT: sysctl_expire_nodest_conn, sysctl_expire_quiescent_template, sysctl_conn_reuse_mode;
        CONNECTIONS: sysctl_drop_packet, sysctl_drop_entry, sync_state;
        OPTIONAL: sysctl_conntrack, conn_count, sysctl_conn_max;
    }
    "ip_vs_scheduler" as scheduler: Scheduler {
        DECISIONS: name;
    }
    "task_struct" as task: Task {
        OPTIONAL: real_parent, tgid, comm;
    }
}

impl Layout {
    /// Nothing is known.
    // SAFETY: integers only, for which zero is a value, and `Default` is not yet const.
    pub const NONE: Self = unsafe { core::mem::zeroed() };
}

/// What no feature needs: without it a change, for one, is told all the same.
pub const OPTIONAL: u32 = 0;
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
/// Connections can be told apart: their ends, and packets dropped around the scheduler.
pub const CONNECTIONS: u32 = 1 << 9;
/// What a change changes can be told.
pub const CONFIGURED: u32 = 1 << 10;
/// What a change leaves behind can be told, and what becomes of it.
pub const LEFT: u32 = 1 << 11;
/// Packets that are dropped where they are to be sent can be told apart.
pub const TRANSMIT: u32 = 1 << 12;
/// This kernel counts all connections of a destination where it used to count the inactive ones.
pub const TOTAL_CONNECTIONS: u32 = 1 << 7;
/// A destination is known by the place from which the kernel is called back to free it.
pub const CALLED_BACK: u32 = 1 << 8;

crate::plain!(Layout: 320);
