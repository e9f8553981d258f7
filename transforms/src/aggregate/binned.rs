//! Sums of floating-point numbers that do not depend on the order in which they are added.
//!
//! The bits of every finite `f64` lie on one grid, from 2⁻¹⁰⁷⁴ to 2¹⁰²³. The grid is cut into bins of 64 bits, and a
//! number into the parts of it that fall into each bin: one or two integers. Integers of a bin add up without error, in
//! any order. Kept are the bins from that of the largest number down, as many as are asked for; what is below
//! contributes nothing, whenever it comes. So a sum is a function of which numbers were added, and of nothing else.
//!
//! Binned summation is due to Demmel and Nguyen, "Parallel Reproducible Summation", IEEE Transactions on Computers 64(7),
//! 2015, who keep the bins as floating-point numbers; integers of 128 bits need no carry to be propagated meanwhile.

/// Bits of a bin.
const BITS: u32 = 64;
/// Bins of the grid.
const BINS: usize = 33;
/// Bits of a significand, the implicit one included.
const SIGNIFICAND: usize = 53;
/// The value of `f64::to_bits` from which on the number is infinite, or none.
const INFINITE: u64 = 0x7ff << 52;

/// Bits that say what was among the numbers that no sum has.
const NAN: u8 = 1;
const INFINITY: u8 = 2;
const NEGATIVE_INFINITY: u8 = 4;

/// The parts of a finite number in two bins next to each other.
#[derive(Debug, Clone, Copy)]
struct Parts {
    /// The lower of the two bins.
    bin: usize,
    low: i128,
    high: i128,
}

impl Parts {
    /// The parts of the magnitude `bits`, with the sign of the number.
    #[inline]
    fn new(value: f64) -> Self {
        let bits = value.to_bits();
        let (exponent, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
        // Without a branch: a subnormal has no implicit bit, and the exponent of the smallest normal number.
        let is_normal = u64::from(exponent != 0);
        let significand = fraction | is_normal << 52;
        let shift = exponent - is_normal;
        let wide = u128::from(significand) << (shift % u64::from(BITS));
        let sign = i128::from(bits.cast_signed() >> 63);
        let (low, high) = (i128::from(low_word(wide.cast_signed())), (wide >> BITS).cast_signed());
        let bin = usize::try_from(shift / u64::from(BITS)).unwrap_or(BINS);
        Self { bin, low: (low ^ sign) - sign, high: (high ^ sign) - sign }
    }

    /// The bin of the leading bit.
    #[inline]
    fn top(self) -> usize {
        self.bin + usize::from(self.high != 0)
    }
}

/// What is no finite number, as one of the bits above.
#[inline]
fn special(value: f64) -> Option<u8> {
    let bits = value.to_bits();
    if bits & INFINITE != INFINITE {
        return None;
    }
    Some(if value.is_nan() {
        NAN
    } else if value > 0. {
        INFINITY
    } else {
        NEGATIVE_INFINITY
    })
}

/// What numbers add up to that are not all finite.
fn special_sum(special: u8) -> Option<f64> {
    match special {
        0 => None,
        INFINITY => Some(f64::INFINITY),
        NEGATIVE_INFINITY => Some(f64::NEG_INFINITY),
        _ => Some(f64::NAN),
    }
}

/// A sum, kept in the uppermost `K` bins.
///
/// Exact down to the last bit of the lowest bin kept: of *n* numbers, the absolute error before the one rounding at the end
/// is at most *n*·2⁻⁶⁴⁽ᴷ⁻¹⁾ of the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binned<const K: usize> {
    /// Of the bin `top`, and of those below it.
    bins: [i128; K],
    top: u8,
    special: u8,
}

impl<const K: usize> Default for Binned<K> {
    fn default() -> Self {
        Self { bins: [0; K], top: 0, special: 0 }
    }
}

/// Sums of numbers that are kept in bins.
pub(super) trait Bins: Default + Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Adds a number.
    fn add(&mut self, value: f64);
    /// What they add up to.
    fn total(&self) -> Total;
}

impl<const K: usize> Bins for Binned<K> {
    #[inline]
    fn add(&mut self, value: f64) {
        if let Some(special) = special(value) {
            self.special |= special;
            return;
        }
        let parts = Parts::new(value);
        let top = parts.top();
        if top > usize::from(self.top) {
            self.raise(top);
        }
        let low = usize::from(self.top) - parts.bin;
        if low < K {
            self.bins[low] += parts.low;
        }
        if parts.high != 0 && low <= K {
            self.bins[low - 1] += parts.high;
        }
    }

    fn total(&self) -> Total {
        match special_sum(self.special) {
            Some(sum) => Total([sum, 0., 0.]),
            None => total(&self.bins, usize::from(self.top)),
        }
    }
}

impl<const K: usize> Binned<K> {
    /// Bytes of [`Self::encode`].
    pub(super) const BYTES: usize = 16 * K + 2;

    /// Lets `top` be the uppermost bin.
    #[cold]
    fn raise(&mut self, top: usize) {
        let by = (top - usize::from(self.top)).min(K);
        self.bins.copy_within(..K - by, by);
        self.bins[..by].fill(0);
        self.top = u8::try_from(top).unwrap_or(u8::MAX);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.special |= other.special;
        if other.top > self.top {
            self.raise(usize::from(other.top));
        }
        let below = usize::from(self.top - other.top);
        for (bin, more) in self.bins.iter_mut().skip(below).zip(other.bins) {
            *bin += more;
        }
    }

    /// Appends the state, in the same bytes on every machine.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend([self.top, self.special]);
        for bin in self.bins {
            bytes.extend(bin.to_le_bytes());
        }
    }

    /// Takes the state off the front of `bytes`; `None` where it is not there.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (&[top, special], mut rest) = bytes.split_first_chunk()?;
        let mut bins = [0; K];
        for bin in &mut bins {
            let (chunk, after) = rest.split_first_chunk()?;
            *bin = i128::from_le_bytes(*chunk);
            rest = after;
        }
        *bytes = rest;
        (usize::from(top) < BINS).then_some(Self { bins, top, special })
    }
}

/// A sum whose numbers can be taken out again: it keeps all bins, and how many numbers lead in each.
///
/// Its total is that of a [`Binned`] with as many bins that has the same numbers.
#[derive(Debug, Clone)]
pub(super) struct Revocable<const K: usize> {
    bins: [i128; BINS],
    leading: [u64; BINS],
    /// By the bit of each.
    special: [u64; 3],
}

impl<const K: usize> Default for Revocable<K> {
    fn default() -> Self {
        Self { bins: [0; BINS], leading: [0; BINS], special: [0; 3] }
    }
}

impl<const K: usize> Bins for Revocable<K> {
    fn add(&mut self, value: f64) {
        self.change(value, |bin, part| *bin += part, |count| *count += 1);
    }

    fn total(&self) -> Total {
        let top = self.leading.iter().rposition(|count| *count > 0).unwrap_or(0);
        let mut binned = Binned::<K> { bins: [0; K], top: u8::try_from(top).unwrap_or(u8::MAX), special: 0 };
        for (kept, bin) in binned.bins.iter_mut().zip(self.bins[..=top].iter().rev()) {
            *kept = *bin;
        }
        for (at, count) in self.special.iter().enumerate() {
            binned.special |= u8::from(*count > 0) << at;
        }
        binned.total()
    }
}

impl<const K: usize> Revocable<K> {
    /// Takes out a number that was added.
    pub(super) fn remove(&mut self, value: f64) {
        self.change(value, |bin, part| *bin -= part, |count| *count = count.saturating_sub(1));
    }

    fn change(&mut self, value: f64, bin: impl Fn(&mut i128, i128), count: impl Fn(&mut u64)) {
        if let Some(special) = special(value) {
            count(&mut self.special[special.trailing_zeros() as usize]);
            return;
        }
        let parts = Parts::new(value);
        count(&mut self.leading[parts.top()]);
        bin(&mut self.bins[parts.bin], parts.low);
        if parts.high != 0 {
            bin(&mut self.bins[parts.bin + 1], parts.high);
        }
    }
}

/// A sum, as numbers of which each is what rounding left out of those before it: to at least 128 bits, as far as the bins
/// go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Total([f64; 3]);

impl Total {
    /// The sum, rounded once, to the nearest.
    pub(super) fn rounded(&self) -> f64 {
        self.0[0]
    }

    /// The numbers that it is the sum of, without error.
    pub(super) fn parts(&self) -> impl Iterator<Item = f64> {
        self.0.into_iter().filter(|part| *part != 0.)
    }
}

/// Words of the widest number: the bins of [`Binned`], and what they carry.
const WORDS: usize = 4;

/// What `bins` add up to, the first of them the bin `top`.
fn total(bins: &[i128], top: usize) -> Total {
    debug_assert!(bins.len() < WORDS, "a word for each bin and one for what they carry");
    let bins = &bins[..bins.len().min(top + 1)];
    let mut number = Number { words: [0; WORDS], lowest: top + 1 - bins.len() };
    for (at, bin) in bins.iter().rev().enumerate() {
        number.add(at, *bin);
    }
    let mut parts = [number.rounded(), 0., 0.];
    for at in 1..parts.len() {
        if !parts[0].is_finite() {
            break;
        }
        number.subtract(parts[at - 1]);
        parts[at] = number.rounded();
    }
    Total(parts)
}

/// An integer in two's complement, its lowest word first, which is that of the bin `lowest`.
#[derive(Debug, Clone, Copy)]
struct Number {
    words: [u64; WORDS],
    lowest: usize,
}

impl Number {
    /// Adds to the word `at`, and what that carries to those above it.
    fn add(&mut self, at: usize, value: i128) {
        let mut carry = value;
        for word in self.words.iter_mut().skip(at) {
            let sum = i128::from(*word) + carry;
            *word = low_word(sum);
            carry = sum >> BITS;
        }
    }

    /// Takes off what it was rounded to.
    fn subtract(&mut self, rounded: f64) {
        let Parts { bin, low, high } = Parts::new(-rounded);
        for (bin, part) in [(bin, low), (bin + 1, high)] {
            // Below the lowest bin nothing was added, and nothing was rounded to.
            if let Some(at) = bin.checked_sub(self.lowest) {
                self.add(at, part);
            }
        }
    }

    fn negate(&mut self) {
        let mut carry = true;
        for word in &mut self.words {
            (*word, carry) = (!*word).overflowing_add(u64::from(carry));
        }
    }

    /// The nearest `f64`; of two that are as near the even one.
    fn rounded(mut self) -> f64 {
        let is_negative = self.words[WORDS - 1].cast_signed() < 0;
        if is_negative {
            self.negate();
        }
        let Some(word) = self.words.iter().rposition(|word| *word != 0) else { return 0. };
        let lead = word * 64 + self.words[word].ilog2() as usize;
        let place = lead + self.lowest * 64;
        // The encoding of an `f64` counts up through all of them, from one power of two into the next, up to infinity.
        let bits = match place.checked_sub(SIGNIFICAND) {
            // So many multiples of the least subnormal.
            None => self.words[0],
            Some(_) => (((place - (SIGNIFICAND - 1)) as u64) << 52) + self.significand(lead),
        };
        f64::from_bits(bits.min(INFINITE) | u64::from(is_negative) << 63)
    }

    /// The 53 bits from `lead` down, rounded by what is below them.
    fn significand(&self, lead: usize) -> u64 {
        let Some(first) = lead.checked_sub(SIGNIFICAND - 1) else {
            return self.words[0] << (SIGNIFICAND - 1 - lead);
        };
        let (word, shift) = (first / 64, first % 64);
        let above = self.words.get(word + 1).copied().unwrap_or(0);
        let both = u128::from(above) << BITS | u128::from(self.words[word]);
        let bits = low_word((both >> shift).cast_signed()) & ((1 << SIGNIFICAND) - 1);
        let Some(half) = first.checked_sub(1) else { return bits };
        let is_half = self.words[half / 64] >> (half % 64) & 1 == 1;
        let rest = self.words[half / 64] & ((1 << (half % 64)) - 1);
        let is_more = rest != 0 || self.words[..half / 64].iter().any(|word| *word != 0);
        bits + u64::from(is_half && (is_more || bits & 1 == 1))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the lower of its two words")]
fn low_word(value: i128) -> u64 {
    value as u64
}
