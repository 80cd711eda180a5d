//! Short kernel strings, kept in place.

use std::fmt;

/// A short string from the kernel: the name of a scheduler, a persistence engine or an interface.
///
/// The kernel bounds each of them at 16 bytes with the final NUL, so they are kept without an allocation.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Name {
    bytes: [u8; Self::CAPACITY],
    length: u8,
}

impl Name {
    /// The longest name in bytes. Longer input is cut: the kernel has no longer ones.
    pub const CAPACITY: usize = 16;

    /// The name up to the first NUL, or to the capacity.
    pub fn from_bytes(input: &[u8]) -> Self {
        let end = input
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(input.len())
            .min(Self::CAPACITY);
        let mut name = Self::default();
        name.bytes[..end].copy_from_slice(&input[..end]);
        name.length = end as u8;
        name
    }

    /// The name's bytes, without a NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The name as text. The kernel does not promise UTF-8 and line protocol needs it: what is not valid is
    /// left out, with all behind it.
    pub fn as_str(&self) -> &str {
        let bytes = self.as_bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn a_name_ends_at_the_first_nul() {
        assert_eq!(Name::from_bytes(b"wrr\0junk").as_str(), "wrr");
        assert_eq!(Name::from_bytes(b"wrr").as_str(), "wrr");
        assert!(Name::from_bytes(b"\0").is_empty());
    }

    #[test]
    fn a_name_longer_than_the_kernel_allows_is_cut() {
        assert_eq!(Name::from_bytes(&[b'a'; 40]).as_str(), "a".repeat(16));
    }

    #[test]
    fn a_name_that_is_not_text_is_cut_where_it_stops_being_text() {
        assert_eq!(Name::from_bytes(b"ab\xffcd").as_str(), "ab");
    }
}
