//! Exact sums of any finite numbers, for the few that no expansion holds.
//!
//! The bits of every finite `f64` lie on one grid, from 2⁻¹⁰⁷⁴ to 2¹⁰²³, which is cut into bins of 64 bits. A number is one or
//! two integers, in bins next to each other, and integers add up without error. Those of a bin have 128 bits, so that no
//! carry needs to go from one to the next meanwhile (Kulisch's long accumulator, with delayed carries).

/// Bits of a bin.
const BITS: u32 = 64;
/// Words of a whole sum: the grid, and what 2⁶³ numbers carry beyond it.
const WORDS: usize = 35;
/// Bits of a significand, the implicit one included.
const SIGNIFICAND: usize = 53;
/// The bits of infinity.
const INFINITE: u64 = 0x7ff << 52;

/// A sum that loses nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Wide {
    /// The bin of the first of `bins`.
    lowest: usize,
    bins: Vec<i128>,
    not_finite: NotFinite,
}

/// How many of the numbers were not finite.
#[derive(Debug, Clone, Copy, Default)]
struct NotFinite {
    nan: u64,
    infinite: u64,
    negative_infinite: u64,
}

impl NotFinite {
    fn count(&mut self, number: f64) -> &mut u64 {
        if number.is_nan() {
            &mut self.nan
        } else if number > 0. {
            &mut self.infinite
        } else {
            &mut self.negative_infinite
        }
    }

    /// What they add up to.
    fn sum(self) -> Option<f64> {
        match self {
            Self { nan: 0, infinite: 0, negative_infinite: 0 } => None,
            Self { nan: 0, negative_infinite: 0, .. } => Some(f64::INFINITY),
            Self { nan: 0, infinite: 0, .. } => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }
}

impl Wide {
    pub(super) fn add(&mut self, number: f64) {
        if number.is_finite() {
            self.add_finite(number);
        } else {
            *self.not_finite.count(number) += 1;
        }
    }

    /// Takes out a number that was added.
    pub(super) fn remove(&mut self, number: f64) {
        if number.is_finite() {
            self.add_finite(-number);
        } else {
            let count = self.not_finite.count(number);
            *count = count.saturating_sub(1);
        }
    }

    fn add_finite(&mut self, number: f64) {
        if number == 0. {
            return;
        }
        let bits = number.to_bits();
        let (exponent, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
        // A subnormal number has no implicit bit, and the exponent of the smallest normal one.
        let is_normal = u64::from(exponent != 0);
        let place = exponent - is_normal;
        let magnitude = u128::from(fraction | is_normal << 52) << (place % u64::from(BITS));
        let sign = if number < 0. { -1 } else { 1 };
        let bin = usize::try_from(place / u64::from(BITS)).unwrap_or(WORDS);
        self.add_at(bin, sign * i128::from(low_word(magnitude)));
        self.add_at(bin + 1, sign * i128::from(low_word(magnitude >> BITS)));
    }

    fn add_at(&mut self, bin: usize, part: i128) {
        if part == 0 {
            return;
        }
        if self.bins.is_empty() {
            self.lowest = bin;
        }
        if bin < self.lowest {
            self.bins.splice(0..0, std::iter::repeat_n(0, self.lowest - bin));
            self.lowest = bin;
        }
        let at = bin - self.lowest;
        if at >= self.bins.len() {
            self.bins.resize(at + 1, 0);
        }
        self.bins[at] += part;
    }

    /// Adds what [`Sum::encode`] wrote; `None` for other bytes.
    pub(super) fn add_encoded(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let (&[lowest, len], mut rest) = bytes.split_first_chunk()?;
        let (lowest, len) = (usize::from(lowest), usize::from(len));
        if len == 0 || lowest + len > WORDS {
            return None;
        }
        for at in 0..len {
            let (word, after) = rest.split_first_chunk()?;
            let word = u64::from_le_bytes(*word);
            let is_last = at + 1 == len;
            self.add_at(lowest + at, if is_last { word.cast_signed().into() } else { word.into() });
            rest = after;
        }
        *bytes = rest;
        Some(())
    }

    /// What it adds up to, with `parts`.
    pub(super) fn sum(&self, parts: &[f64]) -> Sum {
        if let Some(sum) = self.not_finite.sum() {
            return Sum::NotFinite(sum);
        }
        let mut whole = self.clone();
        for part in parts {
            whole.add_finite(*part);
        }
        let mut integer = Integer([0; WORDS]);
        for (at, bin) in whole.bins.iter().enumerate() {
            integer.add(whole.lowest + at, *bin);
        }
        Sum::Finite(Box::new(integer))
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bins.capacity() * size_of::<i128>()
    }
}

/// What numbers add up to.
#[derive(Debug, Clone)]
pub(super) enum Sum {
    NotFinite(f64),
    Finite(Box<Integer>),
}

impl Sum {
    /// The numbers of which each is the nearest to what those before it leave, and whether they leave nothing.
    pub(super) fn parts<const K: usize>(&self) -> ([f64; K], bool) {
        let mut parts = [0.; K];
        let mut rest = match self {
            Self::NotFinite(sum) => {
                parts[0] = *sum;
                return (parts, true);
            }
            Self::Finite(integer) => integer.clone(),
        };
        for part in &mut parts {
            *part = rest.rounded();
            if part.is_infinite() {
                return (parts, false);
            }
            rest.subtract(*part);
        }
        (parts, rest.0.iter().all(|word| *word == 0))
    }

    /// Appends it, if it is finite, in the same bytes on every machine.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        if let Self::Finite(integer) = self {
            integer.encode(bytes);
        }
    }
}

/// Multiples of the least subnormal number, in two's complement, the lowest word first.
#[derive(Debug, Clone)]
pub(super) struct Integer([u64; WORDS]);

impl Integer {
    /// Appends the words that it has, after their place and number.
    fn encode(&self, bytes: &mut Vec<u8>) {
        let Self(words) = self;
        let lowest = words.iter().position(|word| *word != 0).unwrap_or(0);
        // As many words as the sign needs.
        let fill = words[WORDS - 1];
        let last = words.iter().rposition(|word| *word != fill).unwrap_or(0).max(lowest);
        let is_sign_kept = (words[last] ^ fill) >> 63 == 0;
        let words = &words[lowest..=last + usize::from(!is_sign_kept)];
        bytes.extend([lowest, words.len()].map(|number| u8::try_from(number).unwrap_or(u8::MAX)));
        for word in words {
            bytes.extend(word.to_le_bytes());
        }
    }

    /// Adds to the word `at`, and what that carries to those above it.
    fn add(&mut self, at: usize, value: i128) {
        let mut carry = value;
        for word in self.0.iter_mut().skip(at) {
            if carry == 0 {
                break;
            }
            let sum = i128::from(*word) + carry;
            *word = low_word(sum.cast_unsigned());
            carry = sum >> BITS;
        }
    }

    fn subtract(&mut self, number: f64) {
        let mut wide = Wide::default();
        wide.add_finite(-number);
        for (at, bin) in wide.bins.iter().enumerate() {
            self.add(wide.lowest + at, *bin);
        }
    }

    fn negated(&self) -> Self {
        let mut carry = true;
        Self(self.0.map(|word| {
            let negated;
            (negated, carry) = (!word).overflowing_add(u64::from(carry));
            negated
        }))
    }

    /// The nearest `f64`; of two that are as near the even one.
    fn rounded(&self) -> f64 {
        let is_negative = self.0[WORDS - 1] >> 63 == 1;
        let magnitude = if is_negative { self.negated() } else { self.clone() };
        let Some(word) = magnitude.0.iter().rposition(|word| *word != 0) else { return 0. };
        let lead = word * 64 + magnitude.0[word].ilog2() as usize;
        // The encoding of an `f64` counts up through all of them, from one power of two into the next, up to infinity.
        let bits = match lead.checked_sub(SIGNIFICAND) {
            // So many multiples of the least subnormal.
            None => magnitude.0[0],
            Some(_) => (((lead - (SIGNIFICAND - 1)) as u64) << 52) + magnitude.significand(lead),
        };
        f64::from_bits(bits.min(INFINITE) | u64::from(is_negative) << 63)
    }

    /// The 53 bits from `lead` down, which is above them, rounded by what is below them.
    fn significand(&self, lead: usize) -> u64 {
        let first = lead - (SIGNIFICAND - 1);
        let (word, shift) = (first / 64, first % 64);
        let above = self.0.get(word + 1).copied().unwrap_or(0);
        let both = u128::from(above) << BITS | u128::from(self.0[word]);
        let bits = low_word(both >> shift) & ((1 << SIGNIFICAND) - 1);
        let half = first - 1;
        let is_half = self.0[half / 64] >> (half % 64) & 1 == 1;
        let below = self.0[half / 64] & ((1 << (half % 64)) - 1);
        let is_more = below != 0 || self.0[..half / 64].iter().any(|word| *word != 0);
        bits + u64::from(is_half && (is_more || bits & 1 == 1))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower of its two words")]
fn low_word(value: u128) -> u64 {
    value as u64
}
