//! Exact sums as expansions: some `f64` that stand for their exact sum.
//!
//! The sum of two `f64`, and their product, is a rounded `f64` and an error that is one, too (Knuth, Dekker; Shewchuk,
//! "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates", 1997). What a number leaves behind
//! in one part goes to the next one, and what it leaves behind in the last is told. Nothing is ever rounded off.

/// Splits the significand of a number in two halves: 2²⁷ + 1.
const SPLITTER: f64 = 134_217_729.;
/// 2⁻⁹⁰⁰: the error of a product that is larger is an `f64`, whatever its factors.
const PRODUCT_MIN: f64 = f64::from_bits((1023 - 900) << 52);
/// More than are ever needed, so that no numbers can keep [`canonical`] busy.
const SWEEPS_MAX: usize = 12;
/// Sums side by side, of the numbers of one sum.
const WAYS: usize = 8;
/// Numbers after which they are added up: so few that two parts nearly always hold them.
const WAYS_ROWS: usize = 1024;

/// The sum of two numbers, rounded, and what rounding took off it; no number where the sum leaves the range.
#[inline]
pub(super) fn two_sum(left: f64, right: f64) -> (f64, f64) {
    let sum = left + right;
    let virtually = sum - left;
    (sum, (left - (sum - virtually)) + (right - virtually))
}

/// Factors, and the halves of their significands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors<const L: usize> {
    numbers: [f64; L],
    high: [f64; L],
    low: [f64; L],
}

impl<const L: usize> Factors<L> {
    #[inline]
    pub(super) fn new(numbers: [f64; L]) -> Self {
        let high = numbers.map(|number| {
            let scaled = SPLITTER * number;
            scaled - (scaled - number)
        });
        Self { numbers, high, low: std::array::from_fn(|lane| numbers[lane] - high[lane]) }
    }

    /// Those of `lanes`.
    #[inline]
    pub(super) fn pick<const M: usize>(&self, lanes: [usize; M]) -> Factors<M> {
        let Self { numbers, high, low } = self;
        let pick = |of: &[f64; L]| lanes.map(|lane| of[lane]);
        Factors { numbers: pick(numbers), high: pick(high), low: pick(low) }
    }

    /// They times 1 or -1.
    #[inline]
    pub(super) fn signed(self, sign: f64) -> Self {
        let Self { numbers, high, low } = self;
        Self {
            numbers: numbers.map(|part| sign * part),
            high: high.map(|part| sign * part),
            low: low.map(|part| sign * part),
        }
    }

    /// The products, rounded, and what rounding took off each: exactly, unless it is too small for an `f64`; no number where
    /// an intermediate one leaves the range.
    #[inline]
    pub(super) fn times(&self, other: &Self) -> ([f64; L], [f64; L]) {
        let products: [f64; L] = std::array::from_fn(|lane| self.numbers[lane] * other.numbers[lane]);
        if is_any(&products, |product| product.abs() < PRODUCT_MIN) {
            return fused(self.numbers, other.numbers);
        }
        let errors = std::array::from_fn(|lane| {
            let error = self.high[lane] * other.high[lane] - products[lane];
            error
                + self.high[lane] * other.low[lane]
                + self.low[lane] * other.high[lane]
                + self.low[lane] * other.low[lane]
        });
        (products, errors)
    }
}

/// Products and their errors where splitting is of no use: slow on machines without the instruction.
#[cold]
fn fused<const L: usize>(left: [f64; L], right: [f64; L]) -> ([f64; L], [f64; L]) {
    let products: [f64; L] = std::array::from_fn(|lane| left[lane] * right[lane]);
    let errors = std::array::from_fn(|lane| {
        let has_error = products[lane].is_finite() && products[lane] != 0.;
        if has_error { left[lane].mul_add(right[lane], -products[lane]) } else { 0. }
    });
    (products, errors)
}

/// `L` sums, each of which `K` numbers stand for. Sums are side by side, so that a processor adds to several at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expansion<const K: usize, const L: usize>(pub(super) [[f64; L]; K]);

impl<const K: usize, const L: usize> Default for Expansion<K, L> {
    fn default() -> Self {
        Self([[0.; L]; K])
    }
}

impl<const K: usize, const L: usize> Expansion<K, L> {
    /// Adds a number to each sum, to the part `from` and those after it; `left_over` gets what does not fit, or the number
    /// itself where it is not finite or the sum is not. It may get nothing, too, which is 0.
    #[inline]
    pub(super) fn add(&mut self, from: usize, numbers: [f64; L], left_over: impl FnMut(usize, f64)) {
        let mut after = *self;
        let rests = [after.carry(from, numbers)];
        if is_left(&rests) {
            return self.give_away(after, rests, [numbers], left_over);
        }
        *self = after;
    }

    /// Adds a product to each sum in the same way.
    #[inline]
    pub(super) fn add_products(&mut self, left: &Factors<L>, right: &Factors<L>, left_over: impl FnMut(usize, f64)) {
        let mut after = *self;
        let (products, errors) = left.times(right);
        let rests = [after.carry(0, products), after.carry(1, errors)];
        if is_left(&rests) {
            let (products, errors) = fused(left.numbers, right.numbers);
            return self.give_away(after, rests, [products, errors], left_over);
        }
        *self = after;
    }

    /// Calls `left_over` for each sum, and lets it be what is then left of it.
    #[inline]
    fn give_away<const R: usize>(
        &mut self,
        after: Self,
        rests: [[f64; L]; R],
        terms: [[f64; L]; R],
        mut left_over: impl FnMut(usize, f64),
    ) {
        let left;
        (*self, left) = self.unfit(after, rests, terms);
        for left in left {
            for (lane, left) in left.into_iter().enumerate() {
                left_over(lane, left);
            }
        }
    }

    /// The sums, and what is not in them: `rests` where they are finite, as `after`; otherwise `terms`, as before.
    ///
    /// It takes values, so that a sum that fits need not be in memory.
    #[cold]
    #[inline(never)]
    fn unfit<const R: usize>(
        self,
        mut after: Self,
        mut rests: [[f64; L]; R],
        terms: [[f64; L]; R],
    ) -> (Self, [[f64; L]; R]) {
        for lane in 0..L {
            if rests.iter().all(|rests| rests[lane].is_finite()) {
                continue;
            }
            for (parts, before) in after.0.iter_mut().zip(self.0) {
                parts[lane] = before[lane];
            }
            for (rests, terms) in rests.iter_mut().zip(terms) {
                rests[lane] = terms[lane];
            }
        }
        (after, rests)
    }

    /// Adds to the part `from`, what that leaves behind to the next one, and so on; gives what the last one left behind.
    #[inline]
    fn carry(&mut self, from: usize, numbers: [f64; L]) -> [f64; L] {
        let mut rests = numbers;
        for parts in &mut self.0[from..] {
            for (part, rest) in parts.iter_mut().zip(&mut rests) {
                (*part, *rest) = two_sum(*part, *rest);
            }
        }
        rests
    }
}

impl<const K: usize> Expansion<K, 1> {
    /// Adds many numbers.
    pub(super) fn add_all(&mut self, numbers: &[f64], mut left_over: impl FnMut(f64)) {
        for block in numbers.chunks(WAYS_ROWS) {
            let (chunks, rest) = block.as_chunks();
            let sums = sums(chunks);
            let chunks = if sums.is_some() { sums.as_slice().as_flattened() } else { chunks };
            for number in chunks.as_flattened().iter().chain(rest) {
                self.add(0, [*number], |_, left| left_over(left));
            }
        }
    }
}

/// Numbers that add up to all of `chunks`, if two for each column do.
fn sums(chunks: &[[f64; WAYS]]) -> Option<[[f64; WAYS]; 2]> {
    let (mut sums, mut seen) = (Expansion::<2, WAYS>::default(), [0; WAYS]);
    if chunks.len() < 8 {
        return None;
    }
    for chunk in chunks {
        let rests = sums.carry(0, *chunk);
        seen.iter_mut().zip(rests).for_each(|(seen, rest)| *seen |= rest.to_bits());
    }
    // But for their signs.
    seen.iter().all(|seen| seen << 1 == 0).then_some(sums.0)
}

/// Whether there is anything in `rests`, or what is no number.
#[inline]
fn is_left<const L: usize>(rests: &[[f64; L]]) -> bool {
    is_any(rests.as_flattened(), |rest| rest != 0.)
}

/// Whether `is` is true of any, without a branch for each.
#[inline]
fn is_any(numbers: &[f64], is: impl Fn(f64) -> bool) -> bool {
    numbers.iter().fold(0, |any, number| any | u8::from(is(*number))) != 0
}

/// The one expansion of the same sum of which each part is the nearest `f64` to what those before it leave; `None` where the
/// sum is not in their range.
#[inline]
pub(super) fn canonical(mut parts: [f64; 3]) -> Option<[f64; 3]> {
    sweep(&mut parts, 0);
    if parts[2] == 0. && parts[0].is_finite() { Some(parts) } else { settled(parts) }
}

/// The same where there is a third part.
#[inline(never)]
fn settled(mut parts: [f64; 3]) -> Option<[f64; 3]> {
    settle(&mut parts, 0)?;
    break_tie(&mut parts);
    settle(&mut parts, 1)?;
    Some(parts)
}

/// Sums neighbours, from the last to `first`.
#[inline]
fn sweep<const K: usize>(parts: &mut [f64; K], first: usize) {
    for at in (first..K - 1).rev() {
        (parts[at], parts[at + 1]) = two_sum(parts[at], parts[at + 1]);
    }
}

/// Sums neighbours from `first` on until each is the rounded sum of itself and the next one.
#[expect(clippy::float_cmp, reason = "whether anything changed")]
pub(super) fn settle<const K: usize>(parts: &mut [f64; K], first: usize) -> Option<()> {
    for _ in 0..SWEEPS_MAX {
        let before = *parts;
        sweep(parts, first);
        if *parts == before {
            return Some(());
        }
    }
    None
}

/// Where the second part is half of the last bit of the first, the sign of the third says which neighbour is nearer.
#[expect(clippy::float_cmp, reason = "whether a sum is exact")]
fn break_tie(parts: &mut [f64; 3]) {
    let [part, half, below] = *parts;
    let neighbour = part + 2. * half;
    let is_beyond = half != 0. && below != 0. && (half < 0.) == (below < 0.);
    if is_beyond && neighbour - part == 2. * half {
        *parts = [neighbour, -half, below];
    }
}
