//! Names to offsets, and what each feature needs.

use ipvs_observer_common::layout::{self as features, Field, Layout};

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
    let mut layout = Layout::default();
    let (mut works, mut lacks) = (0, Vec::<Lack>::new());
    layout.members(|member, feature, field| {
        let mut names = member.split(" or ").map(&mut *find);
        *field = names.find(|found| found.present()).unwrap_or_default();
        works |= feature;
        let known = feature == features::OPTIONAL || lacks.iter().any(|lack| lack.feature == feature);
        if !field.present() && !known {
            lacks.push(Lack { feature, member });
        }
    });
    lacks.sort_by_key(|lack| lack.feature);
    for lack in &lacks {
        works &= !lack.feature;
    }
    let ways = [
        ("ip_vs_dest.totalconns", features::TOTAL_CONNECTIONS),
        ("ip_vs_dest.callback_head", features::CALLED_BACK),
    ];
    for (path, feature) in ways {
        if find(path).present() {
            works |= feature;
        }
    }
    layout.features = works;
    switch_off_what_rests_on_another(&mut layout);
    Resolved { layout, lacks }
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
        (features::CONFIGURED, features::DECISIONS | features::CHANGES),
        (features::LEFT, features::STATE | features::CHANGES),
        (features::CONNECTIONS, features::DECISIONS),
        (features::TRANSMIT, features::CONNECTIONS),
    ];
    for (feature, base) in rests {
        if layout.features & base != base {
            layout.features &= !feature;
        }
    }
}
