//! The layouts of real kernels, from fixtures cut out of their BTF.
//!
//! `cargo xtask lab --kernel SERIES -- sh -c 'modprobe ip_vs_wrr; cd /sys/kernel/btf; tar c vmlinux ip_vs ip_vs_wrr'`
//! gives a kernel's BTF; unpacked as `DIR/SERIES/`, `IPVS_OBSERVER_BTF=DIR cargo test -p ipvs-observer
//! renew_the_btf_fixtures -- --ignored` cuts the fixtures anew.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use ipvs_observer_common::layout::{self as features, Field};

use super::{
    Source, SourceError,
    extract::extract,
    reader::{self, Btf, Malformed},
    resolve,
};

const ALL: u32 = features::SERVICES
    | features::DESTINATIONS
    | features::PERSISTENCE
    | features::STATE
    | features::DECISIONS
    | features::CANDIDATES
    | features::CHANGES
    | features::CONFIGURED
    | features::LEFT
    | features::CONNECTIONS
    | features::TRANSMIT;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/btf")
}

fn of(kernel: &str) -> resolve::Resolved {
    Source::new(Some(&fixtures().join(kernel)))
        .layout()
        .expect(kernel)
}

fn at(offset: u16, size: u16) -> Field {
    Field { offset, size }
}

#[test]
fn every_kernel_of_the_matrix_with_btf_of_modules_has_every_feature() {
    for kernel in ["6.1-before", "6.1", "6.12", "6.18", "7"] {
        let resolved = of(kernel);
        assert_eq!(resolved.lacks, [], "{kernel}");
        assert_eq!(resolved.layout.features & ALL, ALL, "{kernel}");
    }
}

#[test]
fn connections_are_found_under_either_name_within_one_stable_series() {
    let (before, after) = (of("6.1-before").layout, of("6.1").layout);
    assert_eq!(before.destination.otherconns, at(364, 4));
    assert_eq!(after.destination.otherconns, at(372, 4));
    assert_eq!(before.features & features::TOTAL_CONNECTIONS, 0);
    assert_eq!(
        after.features & features::TOTAL_CONNECTIONS,
        features::TOTAL_CONNECTIONS
    );
}

#[test]
fn a_family_is_as_wide_as_the_kernel_has_it_and_members_are_where_it_put_them() {
    let (old, new) = (of("6.12").layout, of("7").layout);
    assert_eq!(old.service.af, at(36, 2));
    assert_eq!(new.service.af, at(20, 2));
    assert_eq!(old.service.port, at(56, 2));
    assert_eq!(new.service.port, at(48, 2));
    assert_eq!(old.connection.dest, at(184, 8));
    assert_eq!(new.connection.dest, at(48, 8));
    assert_eq!(old.service.addr.size, 16);
}

#[test]
fn a_member_of_a_member_is_found_by_its_path() {
    for kernel in ["6.1", "6.12", "6.18", "7"] {
        assert_eq!(of(kernel).layout.namespace.inum.size, 4, "{kernel}");
    }
}

#[test]
fn a_forward_declaration_in_the_kernel_is_not_taken_for_the_structure_in_the_module() {
    let kernel = fs::read(fixtures().join("6.12/vmlinux")).expect("the fixture");
    let base = Btf::parse(&kernel, None).expect("BTF");
    assert!((1..base.types()).any(|number| {
        base.get(number)
            .is_some_and(|found| base.name(found.name) == b"netns_ipvs" && base.size(number).is_none())
    }));
    assert_eq!(base.structure("netns_ipvs"), None);
    assert_eq!(of("6.12").layout.namespace.net, at(2024, 8));
}

#[test]
fn the_state_of_wrr_is_found_in_its_own_module() {
    for kernel in ["6.1", "6.12", "6.18", "7"] {
        let mark = Source::new(Some(&fixtures().join(kernel)))
            .wrr_mark()
            .expect(kernel);
        assert_eq!((mark.cl, mark.cw), (at(0, 8), at(8, 4)), "{kernel}");
    }
}

#[test]
fn ipvs_that_is_built_in_is_found_in_the_kernel_itself() {
    // A module's types and strings are numbered on from the kernel's, so both put together are one kernel.
    let blobs = ["vmlinux", "ip_vs"].map(|name| fs::read(fixtures().join("6.12").join(name)).expect(name));
    let part = |blob: &[u8], at: usize| {
        let [start, length] = [at, at + 4].map(|at| reader::word(blob, at).expect("a header") as usize);
        blob[24 + start..24 + start + length].to_owned()
    };
    let [types, strings] = [8, 16].map(|at| blobs.each_ref().map(|blob| part(blob, at)).concat());
    let mut kernel = blobs[0][..8].to_owned();
    for word in [0, types.len(), types.len(), strings.len()] {
        kernel.extend((word as u32).to_ne_bytes());
    }
    kernel.extend(types);
    kernel.extend(strings);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("vmlinux"), kernel).expect("written");
    let resolved = Source::new(Some(folder.path())).layout().expect("a layout");
    assert_eq!(resolved, of("6.12"));
}

#[test]
fn a_kernel_without_btf_of_modules_says_that_ipvs_is_not_there() {
    let error = Source::new(Some(&fixtures().join("5.10"))).layout();
    assert!(matches!(error, Err(SourceError::NotThere)), "{error:?}");
}

#[test]
fn a_missing_member_switches_off_its_feature_and_what_rests_on_it_and_nothing_else() {
    let resolved = resolve::resolve(&mut |path| match path {
        "ip_vs_dest.weight" => Field::default(),
        _ => at(8, 4),
    });
    assert_eq!(resolved.lacks.len(), 1);
    assert_eq!(resolved.lacks[0].feature, features::STATE);
    assert_eq!(resolved.lacks[0].member, "ip_vs_dest.weight");
    let off = features::STATE
        | features::DECISIONS
        | features::CANDIDATES
        | features::CONFIGURED
        | features::LEFT
        | features::CONNECTIONS
        | features::TRANSMIT;
    assert_eq!(resolved.layout.features & ALL, ALL & !off);
}

#[test]
fn a_blob_that_is_cut_short_is_refused_wherever_it_is_cut() {
    let kernel = fs::read(fixtures().join("6.12/vmlinux")).expect("the fixture");
    assert!(matches!(Btf::parse(b"ELF", None), Err(Malformed::Magic)));
    for length in 2..kernel.len() {
        assert!(Btf::parse(&kernel[..length], None).is_err(), "{length}");
    }
}

#[test]
fn no_byte_of_a_blob_can_make_the_reader_panic() {
    let folder = fixtures().join("6.12");
    let kernel = fs::read(folder.join("vmlinux")).expect("the fixture");
    let module = fs::read(folder.join("ip_vs")).expect("the fixture");
    let base = Btf::parse(&kernel, None).expect("BTF");
    for index in 0..module.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut module = module.clone();
            module[index] = value;
            if let Ok(btf) = Btf::parse(&module, Some(&base)) {
                let _ = resolve::layout(&btf);
            }
        }
    }
}

/// A blob of one structure with anonymous members that are it itself, and one name.
fn within_itself(members: u32) -> Vec<u8> {
    let mut types = vec![1, reader::kind::STRUCT << 24 | members, 8];
    for _ in 0..members {
        types.extend([0, 1, 0x7fff_fff8]);
    }
    let strings = b"\0ip_vs_service\0";
    let length = types.len() as u32 * 4;
    let mut blob = [0x9f, 0xeb, 1, 0].to_vec();
    for word in [24, 0, length, length, strings.len() as u32]
        .into_iter()
        .chain(types)
    {
        blob.extend(word.to_ne_bytes());
    }
    blob.extend(strings);
    blob
}

#[test]
fn a_structure_within_itself_ends_the_search_and_not_the_program() {
    for members in [1, 2, 1000] {
        let blob = within_itself(members);
        let resolved = resolve::layout(&Btf::parse(&blob, None).expect("BTF")).expect("a service");
        assert_eq!(resolved.layout.features & ALL, 0);
    }
}

#[test]
fn an_offset_that_is_too_great_to_be_counted_is_none() {
    // The member that is found within an anonymous one, at the end of 32 bits.
    let mut blob = within_itself(1);
    let strings = blob.len() as u32 - 24 - 24;
    blob.extend(b"af\0");
    let inner = [0, reader::kind::STRUCT << 24 | 1, 8, strings, 3, !7];
    let int = [0, reader::kind::INT << 24, 1, 8];
    let types: Vec<u8> = inner.into_iter().chain(int).flat_map(u32::to_ne_bytes).collect();
    blob.splice(48..48, types.iter().copied());
    for place in [12, 16] {
        let length = reader::word(&blob, place).expect("a header") + types.len() as u32;
        blob[place..place + 4].copy_from_slice(&length.to_ne_bytes());
    }
    let length = reader::word(&blob, 20).expect("a header") + 3;
    blob[20..24].copy_from_slice(&length.to_ne_bytes());
    // The anonymous member of the first structure is of the second type, as far away as one can be.
    blob[40..44].copy_from_slice(&2_u32.to_ne_bytes());
    blob[44..48].copy_from_slice(&(!7_u32).to_ne_bytes());
    let btf = Btf::parse(&blob, None).expect("BTF");
    let member = btf.member(1, "af").expect("it is found");
    assert_eq!(member.offset, 2 * (u32::MAX / 8));
    assert_eq!(resolve::field(&btf, "ip_vs_service.af"), Field::default());
}

#[test]
#[ignore = "writes the fixtures; needs the BTF of the kernels"]
fn renew_the_btf_fixtures() {
    let from = PathBuf::from(env::var_os("IPVS_OBSERVER_BTF").expect("IPVS_OBSERVER_BTF names a folder"));
    let mut paths = Vec::new();
    let mut note = |path| {
        paths.push(path);
        Field::default()
    };
    resolve::resolve(&mut note);
    resolve::wrr(&mut note);
    for kernel in fs::read_dir(&from)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
    {
        let folder = from.join(&kernel);
        let modules: Vec<(&str, Vec<u8>)> = ["ip_vs", "ip_vs_wrr"]
            .into_iter()
            .filter_map(|name| Some((name, fs::read(folder.join(name)).ok()?)))
            .collect();
        let blobs: Vec<&[u8]> = modules.iter().map(|(_, blob)| blob.as_slice()).collect();
        let vmlinux = fs::read(folder.join("vmlinux")).expect("vmlinux");
        let (base, small) = extract(&vmlinux, &blobs, &paths);
        let to = fixtures().join(&kernel);
        fs::create_dir_all(&to).expect("a folder");
        fs::write(to.join("vmlinux"), base).expect("written");
        for ((name, _), blob) in modules.iter().zip(small) {
            fs::write(to.join(name), blob).expect("written");
        }
    }
}
