//! Fractions as line protocol has them, the last ones from memory.

/// The longest: a sign, seventeen digits with a point, and an exponent of five characters.
pub(super) const FRACTION: usize = 24;

/// A fraction, written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fraction {
    bits: u64,
    /// Its characters, and what is behind them.
    pub(super) text: [u8; FRACTION],
    /// How many they are.
    pub(super) length: usize,
}

/// The last two fractions: the real servers of a service have two each, and often the same.
#[derive(Debug, Default)]
pub(super) struct Fractions {
    last: [Fraction; 2],
    older: usize,
}

impl Fractions {
    /// A number that is finite, written.
    #[inline(always)]
    pub(super) fn of(&mut self, value: f64) -> &Fraction {
        let bits = value.to_bits();
        let known = |fraction: &Fraction| fraction.bits == bits && fraction.length > 0;
        let place = self.last.iter().position(known);
        let place = place.unwrap_or_else(|| self.write(value));
        &self.last[place]
    }

    #[inline(never)]
    fn write(&mut self, value: f64) -> usize {
        let place = self.older;
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        // A whole number is written without a fraction.
        let text = text.strip_suffix(".0").unwrap_or(text).as_bytes();
        let fraction = &mut self.last[place];
        fraction.bits = value.to_bits();
        fraction.length = text.len().min(FRACTION);
        fraction.text[..fraction.length].copy_from_slice(&text[..fraction.length]);
        self.older = 1 - place;
        place
    }
}
