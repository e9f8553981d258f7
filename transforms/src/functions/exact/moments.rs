//! What statistics of floating-point numbers are computed from: how many there are, their sums and those of their products,
//! without error. What is computed from them then depends on nothing but the numbers.

use datafusion::common::HashMap;
use datafusion::logical_expr::EmitTo;

use super::expansion::{Expansion, Factors, canonical};
use super::statistic::Totals;
use super::wide::Wide;

/// Parts of a sum: 106 bits hold the significands of numbers that are not too far apart, and what they carry.
pub(super) const SUM_PARTS: usize = 2;
/// Parts of a sum of products, which have twice the bits.
pub(super) const PRODUCT_PARTS: usize = 3;

/// A count; the sums of `P` columns; if `S` is `P`, those of their squares; if `X` is 1, that of the products of both.
///
/// Sums are numbered in this order: *x*, *y*, *x*², *y*², *xy*, as far as there are any.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments<const P: usize, const S: usize, const X: usize> {
    pub(super) count: u64,
    pub(super) sums: Expansion<SUM_PARTS, P>,
    pub(super) squares: Expansion<PRODUCT_PARTS, S>,
    pub(super) products: Expansion<PRODUCT_PARTS, X>,
}

impl<const P: usize, const S: usize, const X: usize> Default for Moments<P, S, X> {
    fn default() -> Self {
        Self { count: 0, sums: Expansion::default(), squares: Expansion::default(), products: Expansion::default() }
    }
}

impl<const P: usize, const S: usize, const X: usize> Moments<P, S, X> {
    /// Adds a row; of one column, `y` is nothing. What expansions do not hold goes to `wide`, with the number of its sum.
    #[inline]
    pub(super) fn add(&mut self, x: f64, y: f64, wide: impl FnMut(usize, f64)) {
        self.count += 1;
        self.add_counted(x, y, wide);
    }

    /// Adds a row that is counted already.
    #[inline]
    pub(super) fn add_counted(&mut self, x: f64, y: f64, wide: impl FnMut(usize, f64)) {
        self.add_terms(x, y, 1., wide);
    }

    /// Takes out a row that was added; `wide` gets what is to be taken out there.
    pub(super) fn remove(&mut self, x: f64, y: f64, mut wide: impl FnMut(usize, f64)) {
        self.count = self.count.saturating_sub(1);
        self.add_terms(x, y, -1., |at, number| wide(at, -number));
    }

    /// Adds many rows of one column of which no products are kept.
    pub(super) fn add_all(&mut self, numbers: &[f64], mut wide: impl FnMut(usize, f64)) {
        debug_assert!(P == 1 && S == 0, "a sum");
        self.count += numbers.len() as u64;
        let mut sum = Expansion(self.sums.0.map(|part| [part[0]]));
        sum.add_all(numbers, |left| wide(0, left));
        self.sums = Expansion(sum.0.map(|part| [part[0]; P]));
    }

    /// Adds the terms of a row, times `sign`.
    #[inline]
    fn add_terms(&mut self, x: f64, y: f64, sign: f64, mut wide: impl FnMut(usize, f64)) {
        let numbers = std::array::from_fn(|column| if column == 0 { x } else { y });
        self.sums.add(0, numbers.map(|number| sign * number), &mut wide);
        if S > 0 {
            let factors = Factors::new([x, y]);
            let squared = factors.pick(std::array::from_fn(|column| column));
            self.squares.add_products(&squared.signed(sign), &squared, |lane, left| wide(P + lane, left));
            let [left, right] = [factors.pick([0; X]), factors.pick([1; X])];
            self.products.add_products(&left.signed(sign), &right, |_, left| wide(P + S, left));
        }
    }

    /// The parts of the sum `at`.
    #[inline]
    fn sum(&self, at: usize) -> [f64; PRODUCT_PARTS] {
        if at < P {
            let [first, second] = self.sums.0.map(|part| part[at]);
            [first, second, 0.]
        } else if at < P + S {
            self.squares.0.map(|part| part[at - P])
        } else {
            self.products.0.map(|part| part[at - P - S])
        }
    }

    fn set_sum(&mut self, at: usize, parts: [f64; PRODUCT_PARTS]) {
        for (part, number) in parts.into_iter().enumerate() {
            if at >= P + S {
                self.products.0[part][at - P - S] = number;
            } else if at >= P {
                self.squares.0[part][at - P] = number;
            } else if part < SUM_PARTS {
                self.sums.0[part][at] = number;
            }
        }
    }

    /// What it adds up to, with what of `group` is in `wides`.
    #[inline]
    pub(super) fn totals(&self, group: usize, wides: &Wides) -> Totals {
        let mut sums = [[0.; PRODUCT_PARTS]; 5];
        for (at, sum) in sums.iter_mut().take(P + S + X).enumerate() {
            let wide = wides.get(group, at);
            *sum = match canonical(self.sum(at)) {
                Some(parts) if wide.is_none() => parts,
                _ => wide.unwrap_or(&Wide::default()).sum(&self.sum(at)).parts().0,
            };
        }
        Totals { count: self.count, sums }
    }

    /// The same sums, which are now the same parts however they came about; appends those that no parts hold to `bytes`.
    pub(super) fn canonical(&self, group: usize, wides: &Wides, bytes: &mut Vec<u8>) -> Self {
        let mut moments = *self;
        for at in 0..P + S + X {
            let wide = wides.get(group, at);
            let has_place = |parts: &[f64; PRODUCT_PARTS]| at >= P || parts[SUM_PARTS..] == [0.];
            let parts = match canonical(self.sum(at)) {
                Some(parts) if wide.is_none() && has_place(&parts) => parts,
                _ => {
                    let whole = wide.unwrap_or(&Wide::default()).sum(&self.sum(at));
                    let (parts, is_all) = whole.parts();
                    if is_all && has_place(&parts) {
                        parts
                    } else {
                        bytes.push(u8::try_from(at).unwrap_or(u8::MAX));
                        whole.encode(bytes);
                        [0.; PRODUCT_PARTS]
                    }
                }
            };
            moments.set_sum(at, parts);
        }
        moments
    }
}

/// What expansions do not hold, by group and number of the sum.
#[derive(Debug, Default)]
pub(super) struct Wides {
    sums: HashMap<(usize, usize), Wide>,
    heap_bytes: usize,
}

impl Wides {
    #[cold]
    #[inline(never)]
    pub(super) fn add(&mut self, group: usize, at: usize, number: f64) {
        if number != 0. {
            self.change(group, at, |wide| wide.add(number));
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn remove(&mut self, group: usize, at: usize, number: f64) {
        if number != 0. {
            self.change(group, at, |wide| wide.remove(number));
        }
    }

    /// Adds the sums that [`Moments::canonical`] appended; `None` for other bytes.
    pub(super) fn add_encoded(&mut self, group: usize, mut bytes: &[u8]) -> Option<()> {
        while let Some((at, rest)) = bytes.split_first() {
            bytes = rest;
            self.change(group, usize::from(*at), |wide| wide.add_encoded(&mut bytes))?;
        }
        Some(())
    }

    fn change<T>(&mut self, group: usize, at: usize, change: impl FnOnce(&mut Wide) -> T) -> T {
        let wide = self.sums.entry((group, at)).or_default();
        let before = wide.heap_bytes();
        let changed = change(wide);
        self.heap_bytes += wide.heap_bytes() - before;
        changed
    }

    #[inline]
    fn get(&self, group: usize, at: usize) -> Option<&Wide> {
        if self.sums.is_empty() { None } else { self.sums.get(&(group, at)) }
    }

    /// Takes those of the groups that are emitted; the others then have the numbers that are left.
    pub(super) fn take_needed(&mut self, emit_to: EmitTo) -> Self {
        let taken = std::mem::take(self);
        let EmitTo::First(groups) = emit_to else { return taken };
        let mut emitted = Self::default();
        for ((group, at), wide) in taken.sums {
            let (to, group) = match group.checked_sub(groups) {
                Some(group) => (&mut *self, group),
                None => (&mut emitted, group),
            };
            to.heap_bytes += wide.heap_bytes();
            to.sums.insert((group, at), wide);
        }
        emitted
    }

    pub(super) fn size(&self) -> usize {
        self.sums.capacity() * size_of::<((usize, usize), Wide)>() + self.heap_bytes
    }
}
