//! The settings of IPVS that decide what becomes of connections.

/// `net.ipv4.vs` of one network namespace, by the kernel's names. What the running kernel lacks is none, and so is
/// everything where the namespace belongs to a user namespace, which sees no settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What a SYN on a reused client port does. 0: it takes the old entry. Bit 0: where the old connection is over, it
    /// is scheduled anew. Bit 1: also in FIN_WAIT, where replies do not come through here.
    pub conn_reuse_mode: Option<u32>,
    /// Whether packets of a removed real server's connections end their entry; otherwise they are dropped.
    pub expire_nodest_conn: Option<bool>,
    /// Whether a persistence template ends when its real server has weight 0.
    pub expire_quiescent_template: Option<bool>,
    /// Whether connections of IPVS stay in connection tracking.
    pub conntrack: Option<bool>,
    /// Whether a packet without a real server is sent on to where it was going.
    pub cache_bypass: Option<bool>,
    /// Whether a TCP packet without SYN begins a connection.
    pub sloppy_tcp: Option<bool>,
    /// Whether an SCTP packet without INIT begins a connection.
    pub sloppy_sctp: Option<bool>,
    /// Whether an ICMP error begins a connection.
    pub schedule_icmp: Option<bool>,
    /// Entries are killed at random. As the three defences: 0 never, 1 when memory is short, 2 memory is short now,
    /// 3 always.
    pub drop_entry: Option<u32>,
    /// New connections are dropped.
    pub drop_packet: Option<u32>,
    /// TCP timeouts are short.
    pub secure_tcp: Option<u32>,
    /// Under `drop_packet` 3, one of so many packets is dropped.
    pub am_droprate: Option<u32>,
    /// Most entries of the connection table. Linux 7.
    pub conn_max: Option<u32>,
}

impl Settings {
    /// Whether a mode of a defence means that it is at work.
    pub fn defends(mode: u32) -> bool {
        mode >= 2
    }

    /// Whether connections or new connections are being dropped; none if neither setting is known.
    pub fn defence_active(&self) -> Option<bool> {
        let modes = [self.drop_entry, self.drop_packet];
        let known = modes.iter().any(Option::is_some);
        known.then(|| modes.into_iter().flatten().any(Self::defends))
    }
}

/// Whether the machine forwards packets that are not for it; none where the kernel does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// `net.ipv4.ip_forward`.
    pub inet: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`.
    pub inet6: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn a_defence_is_active_in_mode_2_and_3_and_unknown_where_the_kernel_has_neither_setting() {
        let active = |drop_entry, drop_packet| {
            let settings = Settings {
                drop_entry,
                drop_packet,
                // Not one of the two.
                secure_tcp: Some(3),
                ..Settings::default()
            };
            settings.defence_active()
        };
        assert_eq!(active(None, None), None);
        assert_eq!(active(Some(0), Some(1)), Some(false));
        assert_eq!(active(Some(2), Some(1)), Some(true));
        assert_eq!(active(None, Some(3)), Some(true));
    }
}
