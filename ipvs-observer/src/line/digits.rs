//! Numbers as text.

/// Digits of 2^64−1.
pub(super) const DIGITS: usize = 20;

/// Writes a number's digits; returns how many they are. What is behind them is as it happens to be.
#[inline(always)]
pub(super) fn digits(room: &mut [u8; DIGITS], value: u64) -> usize {
    // The greater part of all numbers.
    if value < 10 {
        room[0] = b'0' + value as u8;
        return 1;
    }
    more_digits(room, value)
}

#[inline(never)]
fn more_digits(room: &mut [u8; DIGITS], value: u64) -> usize {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    let length = digits.len();
    // Pieces of known lengths that overlap: a copy of any length takes a call.
    if let (Some(first), Some(last)) = (digits.first_chunk::<8>(), digits.last_chunk::<8>()) {
        room[..8].copy_from_slice(first);
        if let Some(middle) = digits.get(8..16) {
            room[8..16].copy_from_slice(middle);
        }
        room[length - 8..length].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (digits.first_chunk::<4>(), digits.last_chunk::<4>()) {
        room[..4].copy_from_slice(first);
        room[length - 4..length].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (digits.first_chunk::<2>(), digits.last_chunk::<2>()) {
        room[..2].copy_from_slice(first);
        room[length - 2..length].copy_from_slice(last);
    }
    length
}

/// The digits of a byte with a dot behind them, and how many they are with it.
pub(super) const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [
            b'0' + (octet / 100) as u8,
            b'0' + (octet / 10 % 10) as u8,
            b'0' + (octet % 10) as u8,
        ];
        octets[octet] = match octet {
            0..10 => ([digits[2], b'.', 0, 0], 2),
            10..100 => ([digits[1], digits[2], b'.', 0], 3),
            _ => ([digits[0], digits[1], digits[2], b'.'], 4),
        };
        octet += 1;
    }
    octets
};
