//! Netlink attributes: a borrowed reader and the writer that mirrors it.
//!
//! Owns: lengths, padding, byte order of the wire. Refuses to know: what an attribute means. The reader takes
//! any bytes at all without panicking; it can be tested and fuzzed without a kernel.

#![allow(
    clippy::inline_always,
    reason = "measured: thirty attributes to a real server, and a table has a hundred thousand"
)]

use super::Malformed;

const HEADER: usize = 4;
/// `NLA_F_NESTED | NLA_F_NET_BYTEORDER`: flags in the type, sent by some kernels and not by others.
const FLAGS: u16 = 0xc000;

/// Where the next attribute begins: lengths are padded to four bytes.
pub const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// Its type, without flags.
    pub kind: u16,
    payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The payload as it is.
    pub fn bytes(&self) -> &'a [u8] {
        self.payload
    }

    /// The attributes nested in it.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    #[inline(always)]
    fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.payload.first_chunk().copied().ok_or(Malformed {
            kind: self.kind,
            length: self.payload.len(),
            wanted: N,
        })
    }

    /// A byte.
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A 16-bit number in host order.
    pub fn u16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    /// A 16-bit number in network order.
    pub fn be16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A 32-bit number in host order.
    pub fn u32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A 64-bit number in host order. The payload need not be aligned.
    pub fn u64(&self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    /// Sixteen bytes: an address of either family.
    pub fn address(&self) -> Result<[u8; 16], Malformed> {
        self.array()
    }
}

/// The attributes in a stretch of bytes, one after the other. Ends at the first that does not fit, and says so.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads `bytes`, which begin with an attribute's header.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is still to be read, as it is.
    pub fn bytes(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest;
        let Some(&[low, high, kind_low, kind_high]) = rest.first_chunk() else {
            self.rest = &[];
            return remainder(rest).map(Err);
        };
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let kind = u16::from_ne_bytes([kind_low, kind_high]) & !FLAGS;
        let Some(payload) = rest.get(HEADER..length) else {
            self.rest = &[];
            return Some(Err(Malformed {
                kind,
                length: rest.len(),
                wanted: length.max(HEADER),
            }));
        };
        self.rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(Ok(Attribute { kind, payload }))
    }
}

/// What is behind the last attribute: up to three bytes of padding, or a mistake.
#[cold]
fn remainder(rest: &[u8]) -> Option<Malformed> {
    rest.iter().any(|&byte| byte != 0).then_some(Malformed {
        kind: 0,
        length: rest.len(),
        wanted: HEADER,
    })
}

/// Writes attributes behind what a buffer already holds.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// Adds an attribute. Payloads are a few bytes; one that would not fit the 16-bit length is not ours.
    pub fn put(&mut self, kind: u16, payload: &[u8]) {
        let length = (HEADER + payload.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.0.resize(aligned(self.0.len()), 0);
    }

    /// Adds an attribute that holds what `inner` writes.
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Writer<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&(kind | 0x8000).to_ne_bytes());
        inner(&mut Writer(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(bytes: &[u8]) -> Vec<Result<(u16, usize), Malformed>> {
        Attributes::new(bytes)
            .map(|item| item.map(|attribute| (attribute.kind, attribute.bytes().len())))
            .collect()
    }

    #[test]
    fn what_the_writer_wrote_the_reader_reads() -> Result<(), Malformed> {
        let mut bytes = Vec::new();
        let mut writer = Writer(&mut bytes);
        writer.put(7, b"wrr\0");
        writer.nest(1, |inner| {
            inner.put(2, &6u16.to_ne_bytes());
            inner.put(4, &80u16.to_be_bytes());
        });
        let found: Vec<_> = Attributes::new(&bytes).collect::<Result<_, _>>()?;
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].bytes(), b"wrr\0");
        assert_eq!(found[1].kind, 1, "the nested flag is not part of the type");
        let inner: Vec<_> = found[1].nested().collect::<Result<_, _>>()?;
        assert_eq!((inner[0].u16()?, inner[1].be16()?), (6, 80));
        Ok(())
    }

    #[test]
    fn an_attribute_longer_than_its_bytes_ends_the_reading_with_an_error() {
        let bytes = [12, 0, 3, 0, 1, 2, 3, 4];
        assert_eq!(
            kinds(&bytes),
            [Err(Malformed {
                kind: 3,
                length: 8,
                wanted: 12
            })]
        );
    }

    #[test]
    fn a_length_below_the_header_is_an_error_and_no_endless_loop() {
        assert_eq!(
            kinds(&[0, 0, 3, 0, 0, 0, 0, 0]),
            [Err(Malformed {
                kind: 3,
                length: 8,
                wanted: 4
            })]
        );
    }

    #[test]
    fn padding_at_the_end_is_not_an_attribute_and_anything_else_there_is_an_error() {
        assert_eq!(kinds(&[5, 0, 1, 0, 9, 0, 0, 0]), [Ok((1, 1))]);
        assert_eq!(kinds(&[8, 0, 1, 0, 9, 0, 0, 0, 0, 0]), [Ok((1, 4))]);
        assert_eq!(kinds(&[8, 0, 1, 0, 9, 0, 0, 0, 1]).len(), 2);
    }

    #[test]
    fn a_number_shorter_than_its_type_is_an_error_that_says_both_lengths() {
        let bytes = [6, 0, 5, 0, 1, 2, 0, 0];
        let attribute = Attributes::new(&bytes).next();
        let read = attribute.map(|attribute| attribute.and_then(|attribute| attribute.u32()));
        assert_eq!(
            read,
            Some(Err(Malformed {
                kind: 5,
                length: 2,
                wanted: 4
            }))
        );
    }
}
