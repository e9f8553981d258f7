//! What the statistics of floating-point numbers are computed from: how many there are, their sums, and those of their
//! products. Each sum is the same whatever the order, and so is what is computed from it.

use super::binned::{Binned, Bins, Revocable};

/// Bins of a sum that is a result: 64 bits below the bin of the largest number.
pub(super) const SUM_BINS: usize = 2;
/// Bins of sums that are subtracted from one another: what is left has lost the bits that they had in common.
pub(super) const PRODUCT_BINS: usize = 3;

/// A statistic of one column, or of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Statistic {
    Sum,
    Average,
    Variance(Of),
    StandardDeviation(Of),
    Covariance(Of),
    Correlation,
    Regression(Line),
}

/// What is known of the line that lies nearest to points (*y*, *x*), by least squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Line {
    Slope,
    Intercept,
    /// The share of the variance of *y* that it explains.
    Fit,
    AverageX,
    AverageY,
    /// Of the squares of what *x* differs from its average by, the sum.
    SquaresX,
    SquaresY,
    Products,
}

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Of {
    Sample,
    Population,
}

impl Of {
    /// By what a sum over `count` numbers is divided; `None` where that is nothing.
    fn divisor(self, count: u64) -> Option<u64> {
        match self {
            Self::Population => Some(count),
            Self::Sample => count.checked_sub(1),
        }
        .filter(|divisor| *divisor > 0)
    }
}

/// A count, and `N` sums. Of one column *x*: *x*, and *x*² where `N` is 2. Of two: *x*, *y*, *xy*, *x*², *y*².
#[derive(Debug, Clone)]
pub(super) struct Moments<S, const N: usize> {
    count: u64,
    sums: [S; N],
}

/// Of a sum or an average.
pub(super) type First = Moments<Binned<SUM_BINS>, 1>;
/// Of a variance or a standard deviation.
pub(super) type Second = Moments<Binned<PRODUCT_BINS>, 2>;
/// Of a covariance, a correlation or a regression.
pub(super) type Joint = Moments<Binned<PRODUCT_BINS>, 5>;
impl<S: Bins, const N: usize> Default for Moments<S, N> {
    fn default() -> Self {
        Self { count: 0, sums: std::array::from_fn(|_| S::default()) }
    }
}

/// Calls `put` with two numbers that add up to the product of two, without error.
#[inline]
fn product(left: f64, right: f64, mut put: impl FnMut(f64)) {
    let product = left * right;
    put(product);
    if product.is_finite() {
        put(left.mul_add(right, -product));
    }
}

/// Calls `put` with the number of each sum, and what a row adds to it.
#[inline]
fn terms<const N: usize>(x: f64, y: f64, mut put: impl FnMut(usize, f64)) {
    put(0, x);
    match N {
        1 => {}
        2 => product(x, x, |term| put(1, term)),
        _ => {
            put(1, y);
            product(x, y, |term| put(2, term));
            product(x, x, |term| put(3, term));
            product(y, y, |term| put(4, term));
        }
    }
}

impl<S: Bins, const N: usize> Moments<S, N> {
    /// Adds a row; of one column, `y` is nothing.
    #[inline]
    pub(super) fn add(&mut self, x: f64, y: f64) {
        self.count += 1;
        terms::<N>(x, y, |at, term| self.sums[at].add(term));
    }

    /// The value of `statistic`, which must be one of those that these moments are kept for.
    pub(super) fn value(&self, statistic: Statistic) -> Option<f64> {
        let count = self.count;
        #[expect(clippy::cast_precision_loss, reason = "nobody counts to 2⁵³")]
        let number = |count: u64| count as f64;
        // The sum of the products of what two columns differ from their means by, times the count.
        let spread = |both: usize, left: usize, right: usize| {
            let mut spread = Binned::<PRODUCT_BINS>::default();
            for part in self.sums[both].total().parts() {
                product(part, number(count), |term| spread.add(term));
            }
            for left in self.sums[left].total().parts() {
                for right in self.sums[right].total().parts() {
                    product(-left, right, |term| spread.add(term));
                }
            }
            spread.total().rounded()
        };
        let divided = |spread: f64, of: Of| Some(spread / number(count) / number(of.divisor(count)?));
        match statistic {
            Statistic::Sum => (count > 0).then(|| self.sums[0].total().rounded()),
            Statistic::Average => (count > 0).then(|| self.sums[0].total().rounded() / number(count)),
            Statistic::Variance(of) => divided(not_negative(spread(1, 0, 0)), of),
            Statistic::StandardDeviation(of) => divided(not_negative(spread(1, 0, 0)), of).map(f64::sqrt),
            Statistic::Covariance(of) => divided(spread(2, 0, 1), of),
            Statistic::Correlation => {
                // Which of these is null is as DataFusion has it.
                match (self.sums[0].total().rounded().is_nan(), self.sums[1].total().rounded().is_nan()) {
                    (true, true) => return Some(f64::NAN),
                    (false, false) if count > 1 => {}
                    _ => return None,
                }
                let scale = not_negative(spread(3, 0, 0)).sqrt() * not_negative(spread(4, 1, 1)).sqrt();
                (scale != 0.).then(|| (spread(2, 0, 1) / scale).clamp(-1., 1.))
            }
            // The first column is y.
            Statistic::Regression(line) if count > 0 => {
                let average = |at: usize| self.sums[at].total().rounded() / number(count);
                let squares = |at: usize| not_negative(spread(3 + at, at, at)) / number(count);
                let products = || spread(2, 0, 1) / number(count);
                let slope = || Some(products() / squares(1)).filter(|_| squares(1) != 0.);
                match line {
                    Line::Slope => slope(),
                    Line::Intercept => Some(average(0) - slope()? * average(1)),
                    Line::Fit if squares(0) == 0. => None,
                    Line::Fit => Some((slope()? * products() / squares(0)).min(1.)),
                    Line::AverageX => Some(average(1)),
                    Line::AverageY => Some(average(0)),
                    Line::SquaresX => Some(squares(1)),
                    Line::SquaresY => Some(squares(0)),
                    Line::Products => Some(products()),
                }
            }
            Statistic::Regression(_) => None,
        }
    }
}

impl<const K: usize, const N: usize> Moments<Binned<K>, N> {
    /// Bytes of [`Self::encode`].
    pub(super) const BYTES: usize = 8 + N * Binned::<K>::BYTES;

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            sum.merge(other);
        }
    }

    /// Appends the state, in the same bytes on every machine.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.count.to_le_bytes());
        for sum in &self.sums {
            sum.encode(bytes);
        }
    }

    /// The state that [`Self::encode`] wrote; `None` for other bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = bytes.split_first_chunk()?;
        let mut moments = Self { count: u64::from_le_bytes(*count), ..Self::default() };
        for sum in &mut moments.sums {
            *sum = Binned::decode(&mut rest)?;
        }
        rest.is_empty().then_some(moments)
    }
}

impl<const K: usize, const N: usize> Moments<Revocable<K>, N> {
    /// Takes out a row that was added.
    pub(super) fn remove(&mut self, x: f64, y: f64) {
        self.count = self.count.saturating_sub(1);
        terms::<N>(x, y, |at, term| self.sums[at].remove(term));
    }
}

/// What rounding made less than nothing is nothing; what is no number stays so.
fn not_negative(spread: f64) -> f64 {
    if spread < 0. { 0. } else { spread }
}
