//! Cuts from a kernel's BTF the small part that the layout needs: how the fixtures are made.
//!
//! Pointers lose what they point to and structures the members that nobody asks for; offsets, sizes, anonymous
//! members, forward declarations and the split over the kernel's types stay as they were.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Btf, Type, kind, word};

const HEADER: u32 = 24;

/// The types to keep, each with the members to keep of it.
#[derive(Default)]
struct Kept(BTreeMap<u32, BTreeSet<usize>>);

impl Kept {
    /// Keeps the members on a path such as `net.ns.inum`, with what they are made of.
    fn path(&mut self, btf: &Btf<'_>, path: &str) {
        let mut steps = path.split('.');
        let Some(mut number) = steps.next().and_then(|name| btf.structure(name)) else {
            return;
        };
        for step in steps {
            let Some(next) = self.member(btf, number, step) else {
                return;
            };
            number = next;
        }
        self.whole(btf, number);
    }

    /// Keeps a member and the way to it; returns its type.
    fn member(&mut self, btf: &Btf<'_>, number: u32, name: &str) -> Option<u32> {
        let found = btf.member(number, name)?.r#type;
        let number = self.plain(btf, number);
        let structure = btf.get(number)?;
        for (index, member) in structure.rest.chunks_exact(12).enumerate() {
            let (own, r#type) = (btf.name(word(member, 0).ok()?), word(member, 4).ok()?);
            if own == name.as_bytes() {
                self.0.entry(number).or_default().insert(index);
                return Some(found);
            }
            if own.is_empty() && btf.member(r#type, name).is_some() {
                self.0.entry(number).or_default().insert(index);
                return self.member(btf, r#type, name);
            }
        }
        None
    }

    /// Keeps typedefs and qualifiers down to the type behind them.
    fn plain(&mut self, btf: &Btf<'_>, mut number: u32) -> u32 {
        while let Some(found) = btf.get(number)
            && refers(found.kind())
            && found.kind() != kind::PTR
        {
            self.0.entry(number).or_default();
            number = found.size_or_referred;
        }
        number
    }

    /// Keeps a type, so that its size can be told.
    fn whole(&mut self, btf: &Btf<'_>, number: u32) {
        let number = self.plain(btf, number);
        let Some(found) = btf.get(number) else {
            return;
        };
        self.0.entry(number).or_default();
        if found.kind() == kind::ARRAY {
            for place in [0, 4] {
                self.whole(btf, word(found.rest, place).expect("an array is whole"));
            }
        }
    }

    /// Keeps the forward declarations of a structure, which a reader must not take for it.
    fn forward(&mut self, btf: &Btf<'_>, name: &str) {
        for number in 1..btf.types() {
            if let Some(found) = btf.get(number)
                && found.kind() == kind::FWD
                && btf.name(found.name) == name.as_bytes()
            {
                self.0.entry(number).or_default();
            }
        }
    }
}

fn refers(kind: u32) -> bool {
    matches!(
        kind,
        kind::PTR | kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
    )
}

/// The parts of a kernel and of its modules that `paths` need.
pub(super) fn extract(kernel: &[u8], modules: &[&[u8]], paths: &[&str]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let base = Btf::parse(kernel, None).expect("the kernel's BTF");
    let modules: Vec<Btf<'_>> = modules
        .iter()
        .map(|blob| Btf::parse(blob, Some(&base)).expect("a module's BTF"))
        .collect();
    let kept: Vec<Kept> = modules
        .iter()
        .chain(modules.is_empty().then_some(&base))
        .map(|btf| {
            let mut kept = Kept::default();
            for path in paths {
                kept.path(btf, path);
                kept.forward(btf, path.split('.').next().unwrap_or_default());
            }
            kept
        })
        .collect();
    let mut of_base = Kept::default();
    for (number, members) in kept.iter().flat_map(|kept| &kept.0) {
        if *number < base.types() {
            of_base.0.entry(*number).or_default().extend(members);
        }
    }
    let mut writer = Writer::default();
    let small_base = writer.write(&base, &of_base);
    let small_modules = modules
        .iter()
        .zip(kept)
        .map(|(module, mut kept)| {
            kept.0.retain(|number, _| *number >= base.types());
            writer.clone().write(module, &kept)
        })
        .collect();
    (small_base, small_modules)
}

/// Writes a blob, and after it those that are split over it.
#[derive(Clone, Default)]
struct Writer {
    numbers: BTreeMap<u32, u32>,
    strings: BTreeMap<Vec<u8>, u32>,
    strings_length: u32,
}

impl Writer {
    fn write(&mut self, btf: &Btf<'_>, kept: &Kept) -> Vec<u8> {
        for number in kept.0.keys() {
            self.numbers.insert(*number, self.numbers.len() as u32 + 1);
        }
        let mut strings = Vec::new();
        if self.strings.is_empty() {
            self.place(&mut strings, b"");
        }
        let mut types = Vec::new();
        for (number, members) in &kept.0 {
            let found = btf.get(*number).expect("it was found before");
            for value in self.r#type(btf, &found, members, &mut strings) {
                types.extend(value.to_ne_bytes());
            }
        }
        let mut blob = Vec::new();
        blob.extend(0xeb9f_u16.to_ne_bytes());
        blob.extend([1, 0]);
        let (types_length, strings_length) = (types.len() as u32, strings.len() as u32);
        for value in [HEADER, 0, types_length, types_length, strings_length] {
            blob.extend(value.to_ne_bytes());
        }
        blob.extend(types);
        blob.extend(strings);
        blob
    }

    fn r#type(
        &mut self,
        btf: &Btf<'_>,
        found: &Type<'_>,
        members: &BTreeSet<usize>,
        strings: &mut Vec<u8>,
    ) -> Vec<u32> {
        let name = self.place(strings, btf.name(found.name));
        let kind = found.kind();
        let without_length = found.info & !0xffff;
        match kind {
            kind::STRUCT | kind::UNION => {
                let mut words = vec![
                    name,
                    without_length | members.len() as u32,
                    found.size_or_referred,
                ];
                for (_, member) in found
                    .rest
                    .chunks_exact(12)
                    .enumerate()
                    .filter(|(index, _)| members.contains(index))
                {
                    let [place, r#type, at] = [0, 4, 8].map(|at| word(member, at).expect("a whole member"));
                    words.push(self.place(strings, btf.name(place)));
                    words.push(self.number(r#type));
                    words.push(at);
                }
                words
            }
            kind::ENUM | kind::ENUM64 => vec![name, without_length, found.size_or_referred],
            kind::PTR => vec![name, found.info, 0],
            kind::ARRAY => {
                let [element, index, count] =
                    [0, 4, 8].map(|at| word(found.rest, at).expect("a whole array"));
                vec![
                    name,
                    found.info,
                    0,
                    self.number(element),
                    self.number(index),
                    count,
                ]
            }
            _ if refers(kind) => vec![name, found.info, self.number(found.size_or_referred)],
            _ => {
                let rest = found
                    .rest
                    .chunks_exact(4)
                    .map(|rest| word(rest, 0).expect("a whole word"));
                [name, found.info, found.size_or_referred]
                    .into_iter()
                    .chain(rest)
                    .collect()
            }
        }
    }

    fn number(&self, old: u32) -> u32 {
        self.numbers.get(&old).copied().unwrap_or_default()
    }

    fn place(&mut self, strings: &mut Vec<u8>, name: &[u8]) -> u32 {
        if let Some(place) = self.strings.get(name) {
            return *place;
        }
        let place = self.strings_length;
        self.strings.insert(name.to_owned(), place);
        strings.extend(name);
        strings.push(0);
        self.strings_length += name.len() as u32 + 1;
        place
    }
}
