//! Names to offsets, and what each feature needs.

use ipvs_observer_common::layout::{
    self as features, Connection, Destination, DestinationRequest, Field, Header, Layout, Namespace, Packet,
    Scheduler, Service, Task,
};

use super::reader::Btf;

/// Something that does not work on this kernel, because a member is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    /// The feature, one of the constants of [`features`].
    pub(crate) feature: u32,
    /// The first member that it misses, as `structure.member`.
    pub(crate) member: &'static str,
}

/// The layout, and what is off with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// For the programs.
    pub(crate) layout: Layout,
    /// What does not work.
    pub(crate) lacks: Vec<Lack>,
}

/// Where the weighted round-robin scheduler keeps its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WrrMark {
    /// The destination chosen last, or the list itself.
    pub(crate) cl: Field,
    /// The weight that it is at.
    pub(crate) cw: Field,
    /// The greatest weight.
    pub(crate) mw: Field,
    /// The step from one weight to the next.
    pub(crate) di: Field,
}

/// The offsets; none where there is no IPVS in this BTF.
pub(crate) fn layout(btf: &Btf<'_>) -> Option<Resolved> {
    btf.structure("ip_vs_service")?;
    Some(resolve(&mut |path| field(btf, path)))
}

/// Where `wrr` keeps its state; none where there is no such scheduler in this BTF.
pub(crate) fn wrr_mark(btf: &Btf<'_>) -> Option<WrrMark> {
    let mark = wrr(&mut |path| field(btf, path));
    [mark.cl, mark.cw, mark.mw, mark.di]
        .iter()
        .all(|field| field.present())
        .then_some(mark)
}

/// The state of `wrr`, member by member.
pub(super) fn wrr(find: &mut impl FnMut(&'static str) -> Field) -> WrrMark {
    WrrMark {
        cl: find("ip_vs_wrr_mark.cl"),
        cw: find("ip_vs_wrr_mark.cw"),
        mw: find("ip_vs_wrr_mark.mw"),
        di: find("ip_vs_wrr_mark.di"),
    }
}

/// A member by its path: a structure, a member of it, members of that. Absent if any step is, or if it does not
/// fit where offsets are kept.
pub(crate) fn field(btf: &Btf<'_>, path: &str) -> Field {
    let mut steps = path.split('.');
    let found = steps
        .next()
        .and_then(|name| btf.structure(name))
        .and_then(|structure| {
            let (mut r#type, mut offset) = (structure, 0);
            for step in steps {
                let member = btf.member(r#type, step)?;
                offset = u32::checked_add(offset, member.offset)?;
                r#type = member.r#type;
            }
            Some(Field {
                offset: offset.try_into().ok()?,
                size: btf.size(r#type)?.try_into().ok()?,
            })
        });
    found.unwrap_or_default()
}

/// Every member that is wanted, asked of `find` by its path.
pub(super) fn resolve(find: &mut impl FnMut(&'static str) -> Field) -> Resolved {
    let total = find("ip_vs_dest.totalconns");
    let inactive = find("ip_vs_dest.inactconns");
    let service = Service {
        af: find("ip_vs_service.af"),
        protocol: find("ip_vs_service.protocol"),
        addr: find("ip_vs_service.addr"),
        port: find("ip_vs_service.port"),
        fwmark: find("ip_vs_service.fwmark"),
        flags: find("ip_vs_service.flags"),
        num_dests: find("ip_vs_service.num_dests"),
        destinations: find("ip_vs_service.destinations"),
        scheduler: find("ip_vs_service.scheduler"),
        sched_data: find("ip_vs_service.sched_data"),
        ipvs: find("ip_vs_service.ipvs"),
    };
    let destination = Destination {
        n_list: find("ip_vs_dest.n_list"),
        af: find("ip_vs_dest.af"),
        addr: find("ip_vs_dest.addr"),
        port: find("ip_vs_dest.port"),
        weight: find("ip_vs_dest.weight"),
        last_weight: find("ip_vs_dest.last_weight"),
        flags: find("ip_vs_dest.flags"),
        activeconns: find("ip_vs_dest.activeconns"),
        otherconns: if total.present() { total } else { inactive },
        svc: find("ip_vs_dest.svc"),
        u_threshold: find("ip_vs_dest.u_threshold"),
        l_threshold: find("ip_vs_dest.l_threshold"),
        callback_head: find("ip_vs_dest.callback_head"),
    };
    let known = |field: Field, feature| if field.present() { feature } else { 0 };
    let mut layout = Layout {
        features: known(total, features::TOTAL_CONNECTIONS)
            | known(destination.callback_head, features::CALLED_BACK),
        service,
        destination,
        connection: Connection {
            dest: find("ip_vs_conn.dest"),
            flags: find("ip_vs_conn.flags"),
        },
        header: Header {
            hdr_flags: find("ip_vs_iphdr.hdr_flags"),
            len: find("ip_vs_iphdr.len"),
            protocol: find("ip_vs_iphdr.protocol"),
            saddr: find("ip_vs_iphdr.saddr"),
            daddr: find("ip_vs_iphdr.daddr"),
        },
        packet: Packet {
            data: find("sk_buff.data"),
            len: find("sk_buff.len"),
            data_len: find("sk_buff.data_len"),
        },
        request: DestinationRequest {
            addr: find("ip_vs_dest_user_kern.addr"),
            port: find("ip_vs_dest_user_kern.port"),
            af: find("ip_vs_dest_user_kern.af"),
            weight: find("ip_vs_dest_user_kern.weight"),
        },
        namespace: Namespace {
            net: find("netns_ipvs.net"),
            inum: find("net.ns.inum"),
        },
        scheduler: Scheduler {
            name: find("ip_vs_scheduler.name"),
        },
        task: Task {
            real_parent: find("task_struct.real_parent"),
            tgid: find("task_struct.tgid"),
            comm: find("task_struct.comm"),
        },
    };
    let mut lacks = Vec::new();
    for (feature, needs) in needs(&layout) {
        match needs.iter().find(|(_, field)| !field.present()) {
            None => layout.features |= feature,
            Some((member, _)) => lacks.push(Lack { feature, member }),
        }
    }
    switch_off_what_rests_on_another(&mut layout);
    Resolved { layout, lacks }
}

type Needs = Vec<(&'static str, Field)>;

/// What each feature reads.
fn needs(layout: &Layout) -> [(u32, Needs); 7] {
    let Layout {
        service,
        destination,
        connection,
        header,
        packet,
        request,
        namespace,
        scheduler,
        ..
    } = layout;
    [
        (
            features::SERVICES,
            vec![
                ("ip_vs_service.af", service.af),
                ("ip_vs_service.protocol", service.protocol),
                ("ip_vs_service.addr", service.addr),
                ("ip_vs_service.port", service.port),
                ("ip_vs_service.fwmark", service.fwmark),
                ("ip_vs_service.ipvs", service.ipvs),
                ("netns_ipvs.net", namespace.net),
                ("net.ns.inum", namespace.inum),
            ],
        ),
        (
            features::DESTINATIONS,
            vec![
                ("ip_vs_dest.af", destination.af),
                ("ip_vs_dest.addr", destination.addr),
                ("ip_vs_dest.port", destination.port),
                ("ip_vs_dest.svc", destination.svc),
                ("ip_vs_conn.dest", connection.dest),
            ],
        ),
        (
            features::PERSISTENCE,
            vec![("ip_vs_service.flags", service.flags)],
        ),
        (
            features::STATE,
            vec![
                ("ip_vs_dest.weight", destination.weight),
                ("ip_vs_dest.flags", destination.flags),
                ("ip_vs_dest.u_threshold", destination.u_threshold),
                ("ip_vs_dest.activeconns", destination.activeconns),
                ("ip_vs_dest.totalconns or inactconns", destination.otherconns),
            ],
        ),
        (
            features::DECISIONS,
            vec![
                ("ip_vs_conn.flags", connection.flags),
                ("ip_vs_service.scheduler", service.scheduler),
                ("ip_vs_scheduler.name", scheduler.name),
                ("ip_vs_iphdr.hdr_flags", header.hdr_flags),
                ("ip_vs_iphdr.len", header.len),
                ("ip_vs_iphdr.saddr", header.saddr),
                ("ip_vs_iphdr.daddr", header.daddr),
                ("sk_buff.data", packet.data),
                ("sk_buff.len", packet.len),
                ("sk_buff.data_len", packet.data_len),
            ],
        ),
        (
            features::CANDIDATES,
            vec![
                ("ip_vs_service.destinations", service.destinations),
                ("ip_vs_service.num_dests", service.num_dests),
                ("ip_vs_service.sched_data", service.sched_data),
                ("ip_vs_dest.n_list", destination.n_list),
                ("ip_vs_dest.last_weight", destination.last_weight),
            ],
        ),
        (
            features::CHANGES,
            vec![
                ("ip_vs_dest_user_kern.addr", request.addr),
                ("ip_vs_dest_user_kern.port", request.port),
                ("ip_vs_dest_user_kern.af", request.af),
                ("ip_vs_dest_user_kern.weight", request.weight),
            ],
        ),
    ]
}

/// A feature whose own members are all there can still rest on one that is off.
fn switch_off_what_rests_on_another(layout: &mut Layout) {
    let rests = [
        (features::DESTINATIONS, features::SERVICES),
        (features::PERSISTENCE, features::SERVICES),
        (features::STATE, features::DESTINATIONS),
        (features::DECISIONS, features::STATE | features::PERSISTENCE),
        (features::CANDIDATES, features::DECISIONS),
        (features::CHANGES, features::SERVICES),
    ];
    for (feature, base) in rests {
        if layout.features & base != base {
            layout.features &= !feature;
        }
    }
}
