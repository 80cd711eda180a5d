//! The BPF type format, read in place.
//!
//! Owns: finding a structure and its members in a BTF blob, alone or split over a base. Refuses to know: IPVS.
//! Nothing is decoded that is not asked for: the base is the whole kernel's, a hundred thousand types, of which
//! ten are wanted. The format is described in the kernel's `Documentation/bpf/btf.rst`.

use std::{fmt, ops::Range};

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const TYPE: usize = 12;
const MEMBER: usize = 12;
/// Members within members, and qualifiers around a type: no kernel has this many.
const DEEPEST: usize = 32;
/// Members looked at to find one of them, those of anonymous members included: a structure within itself would have
/// more than anybody can look at.
const MOST_MEMBERS: usize = 1 << 16;

/// The kinds that are told apart here.
pub(crate) mod kind {
    pub(crate) const INT: u32 = 1;
    pub(crate) const PTR: u32 = 2;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const FWD: u32 = 7;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const RESTRICT: u32 = 11;
    pub(crate) const FUNC: u32 = 12;
    pub(crate) const FUNC_PROTO: u32 = 13;
    pub(crate) const VAR: u32 = 14;
    pub(crate) const DATASEC: u32 = 15;
    pub(crate) const FLOAT: u32 = 16;
    pub(crate) const DECL_TAG: u32 = 17;
    pub(crate) const TYPE_TAG: u32 = 18;
    pub(crate) const ENUM64: u32 = 19;
}

/// What is wrong with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// It does not begin as BTF of this machine's byte order does.
    #[error("not BTF of this machine's byte order")]
    Magic,
    /// It ends before what it announces.
    #[error("cut short")]
    Short,
    /// A kind of type that this reader does not know, so it cannot tell where the next begins.
    #[error("type of unknown kind {0}")]
    Kind(u32),
}

/// A blob, with the base that it is split over.
pub(crate) struct Btf<'a> {
    base: Option<&'a Btf<'a>>,
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`.
    starts: Vec<u32>,
}

/// A type as it stands in the blob.
#[derive(Clone, Copy)]
pub(crate) struct Type<'a> {
    pub(crate) name: u32,
    pub(crate) info: u32,
    /// The size in bytes, or the type referred to.
    pub(crate) size_or_referred: u32,
    /// What follows, by kind.
    pub(crate) rest: &'a [u8],
}

impl Type<'_> {
    pub(crate) fn kind(&self) -> u32 {
        self.info >> 24 & 0x1f
    }

    /// Whether the members' offsets carry the sizes of bit fields.
    fn bit_sizes(&self) -> bool {
        self.info >> 31 == 1
    }
}

/// A member of a structure or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Bytes from the beginning of the structure that was asked about.
    pub(crate) offset: u32,
    /// Its type.
    pub(crate) r#type: u32,
}

impl<'a> Btf<'a> {
    /// A blob, which may be split over a base. Its types are walked once, to find where each begins.
    pub(crate) fn parse(blob: &'a [u8], base: Option<&'a Btf<'a>>) -> Result<Self, Malformed> {
        if blob.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(Malformed::Magic);
        }
        let header_length = word(blob, 4)? as usize;
        let section = |at: usize| -> Result<&'a [u8], Malformed> {
            let (offset, length) = (word(blob, at)? as usize, word(blob, at + 4)? as usize);
            let start = header_length.checked_add(offset).ok_or(Malformed::Short)?;
            let end = start.checked_add(length).ok_or(Malformed::Short)?;
            blob.get(start..end).ok_or(Malformed::Short)
        };
        if header_length < HEADER {
            return Err(Malformed::Short);
        }
        let (types, strings) = (section(8)?, section(16)?);
        let mut starts = Vec::with_capacity(types.len() / 32);
        let mut at = 0;
        while at < types.len() {
            starts.push(at as u32);
            at = extent(types, at)?.end;
        }
        Ok(Self {
            base,
            types,
            strings,
            starts,
        })
    }

    /// How many types there are, those of the base and the void included.
    pub(crate) fn types(&self) -> u32 {
        self.first() + self.starts.len() as u32
    }

    /// The number of the first type of this blob: the base's come before, and 0 is void.
    pub(crate) fn first(&self) -> u32 {
        self.base.map_or(1, Btf::types)
    }

    fn first_string(&self) -> usize {
        self.base
            .map_or(0, |base| base.first_string() + base.strings.len())
    }

    /// A type by its number.
    pub(crate) fn get(&self, number: u32) -> Option<Type<'a>> {
        if number < self.first() {
            return self.base?.get(number);
        }
        let start = *self.starts.get((number - self.first()) as usize)? as usize;
        let range = extent(self.types, start).ok()?;
        Some(Type {
            name: word(self.types, start).ok()?,
            info: word(self.types, start + 4).ok()?,
            size_or_referred: word(self.types, start + 8).ok()?,
            rest: self.types.get(range.start + TYPE..range.end)?,
        })
    }

    /// A name by its place among the strings.
    pub(crate) fn name(&self, place: u32) -> &'a [u8] {
        let place = place as usize;
        if place < self.first_string() {
            return self.base.map_or(&[], |base| base.name(place as u32));
        }
        let string = self
            .strings
            .get(place - self.first_string()..)
            .unwrap_or_default();
        let end = string.iter().position(|&byte| byte == 0).unwrap_or(string.len());
        &string[..end]
    }

    /// The structure or union of a name: this blob's own if it has one, else the base's. A forward declaration
    /// of the same name is none.
    pub(crate) fn structure(&self, name: &str) -> Option<u32> {
        let own = (self.first()..self.types()).find(|&number| {
            self.get(number).is_some_and(|candidate| {
                matches!(candidate.kind(), kind::STRUCT | kind::UNION)
                    && self.name(candidate.name) == name.as_bytes()
            })
        });
        own.or_else(|| self.base?.structure(name))
    }

    /// A member of a structure, also of an anonymous one within it. Bit fields are none: they have no address.
    pub(crate) fn member(&self, structure: u32, name: &str) -> Option<Member> {
        self.member_within(structure, name.as_bytes(), DEEPEST, &mut { MOST_MEMBERS })
    }

    fn member_within(&self, structure: u32, name: &[u8], depth: usize, left: &mut usize) -> Option<Member> {
        let depth = depth.checked_sub(1)?;
        let structure = self.get(self.plain(structure)?)?;
        if !matches!(structure.kind(), kind::STRUCT | kind::UNION) {
            return None;
        }
        for member in structure.rest.chunks_exact(MEMBER) {
            *left = left.checked_sub(1)?;
            let (place, r#type, at) = (
                word(member, 0).ok()?,
                word(member, 4).ok()?,
                word(member, 8).ok()?,
            );
            let (bits, bit_size) = if structure.bit_sizes() {
                (at & 0x00ff_ffff, at >> 24)
            } else {
                (at, 0)
            };
            let own_name = self.name(place);
            if own_name == name {
                return (bits % 8 == 0 && bit_size == 0).then_some(Member {
                    offset: bits / 8,
                    r#type,
                });
            }
            if own_name.is_empty()
                && let Some(inner) = self.member_within(r#type, name, depth, left)
            {
                return Some(Member {
                    offset: (bits / 8).checked_add(inner.offset)?,
                    r#type: inner.r#type,
                });
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    pub(crate) fn plain(&self, mut number: u32) -> Option<u32> {
        for _ in 0..DEEPEST {
            let found = self.get(number)?;
            match found.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    number = found.size_or_referred;
                }
                _ => return Some(number),
            }
        }
        None
    }

    /// How many bytes a type takes.
    pub(crate) fn size(&self, number: u32) -> Option<u32> {
        self.size_within(number, DEEPEST)
    }

    fn size_within(&self, number: u32, depth: usize) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        let found = self.get(self.plain(number)?)?;
        match found.kind() {
            kind::PTR => Some(size_of::<usize>() as u32),
            kind::ARRAY => {
                let (element, count) = (word(found.rest, 0).ok()?, word(found.rest, 8).ok()?);
                self.size_within(element, depth)?.checked_mul(count)
            }
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                Some(found.size_or_referred)
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Btf<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Btf of {} types", self.starts.len())
    }
}

/// Where the type that begins at `start` begins and ends.
fn extent(types: &[u8], start: usize) -> Result<Range<usize>, Malformed> {
    let info = word(types, start + 4)?;
    let length = (info & 0xffff) as usize;
    let rest = match info >> 24 & 0x1f {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => length * 12,
        kind::ENUM | kind::FUNC_PROTO => length * 8,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        unknown => return Err(Malformed::Kind(unknown)),
    };
    let end = start + TYPE + rest;
    if end > types.len() {
        return Err(Malformed::Short);
    }
    Ok(start..end)
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let word = bytes.get(at..at + 4).ok_or(Malformed::Short)?;
    Ok(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}
