//! Statistics, as functions of a count and of exact sums.

use super::expansion::{Expansion, Factors, settle, two_sum};
use super::moments::PRODUCT_PARTS;

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
    fn divisor(self, count: u64) -> Option<f64> {
        let divisor = match self {
            Self::Population => count,
            Self::Sample => count.saturating_sub(1),
        };
        (divisor > 0).then_some(divisor as f64)
    }
}

/// A sum: a number that is the nearest to it, one that is the nearest to what that leaves, and so on.
type Parts = [f64; PRODUCT_PARTS];

/// How many numbers there are, and their sums: *x*; *x*, *x*²; or *x*, *y*, *x*², *y*², *xy*.
///
/// They are a function of the numbers, not of their order; so is what is computed from them here, in whatever way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Totals {
    pub(super) count: u64,
    pub(super) sums: [Parts; 5],
}

impl Totals {
    /// The value of `statistic`, which must be one of those that these sums are kept for; NULL where it has none.
    #[inline]
    pub(super) fn value(&self, statistic: Statistic) -> Option<f64> {
        let value = match statistic {
            _ if self.count == 0 => None,
            Statistic::Sum => Some(self.sums[0][0]),
            Statistic::Average => Some(self.average(0)),
            Statistic::Variance(of) => self.variance(of),
            Statistic::StandardDeviation(of) => self.variance(of).map(f64::sqrt),
            Statistic::Covariance(of) => of.divisor(self.count).map(|divisor| self.products() / divisor),
            Statistic::Correlation => self.correlation(),
            Statistic::Regression(line) => self.regression(line),
        };
        // Machines differ in the bits of a number that is none.
        value.map(|value| if value.is_nan() { f64::NAN } else { value })
    }

    fn average(&self, column: usize) -> f64 {
        self.sums[column][0] / self.count as f64
    }

    fn variance(&self, of: Of) -> Option<f64> {
        let [x, squares, ..] = &self.sums;
        of.divisor(self.count).map(|divisor| not_negative(self.spread(squares, x, x)) / divisor)
    }

    /// Which of these is NULL is as the engine has it.
    fn correlation(&self) -> Option<f64> {
        match (self.sums[0][0].is_nan(), self.sums[1][0].is_nan()) {
            (true, true) => return Some(f64::NAN),
            (false, false) if self.count > 1 => {}
            _ => return None,
        }
        let scale = self.squares(0).sqrt() * self.squares(1).sqrt();
        (scale != 0.).then(|| (self.products() / scale).clamp(-1., 1.))
    }

    /// The first column is *y*.
    fn regression(&self, line: Line) -> Option<f64> {
        let slope = || Some(self.squares(1)).filter(|squares| *squares != 0.).map(|squares| self.products() / squares);
        match line {
            Line::Slope => slope(),
            Line::Intercept => Some(self.average(0) - slope()? * self.average(1)),
            Line::Fit if self.squares(0) == 0. => None,
            Line::Fit => Some((slope()? * (self.products() / self.squares(0))).min(1.)),
            Line::AverageX => Some(self.average(1)),
            Line::AverageY => Some(self.average(0)),
            Line::SquaresX => Some(self.squares(1)),
            Line::SquaresY => Some(self.squares(0)),
            Line::Products => Some(self.products()),
        }
    }

    /// The sum of the squares of what one of two columns differs from its average by.
    fn squares(&self, column: usize) -> f64 {
        let sum = &self.sums[column];
        not_negative(self.spread(&self.sums[2 + column], sum, sum))
    }

    /// The sum of the products of what both columns differ from their averages by.
    fn products(&self) -> f64 {
        let [x, y, _, _, products] = &self.sums;
        self.spread(products, x, y)
    }

    /// The sum of products less the product of the sums over the count.
    fn spread(&self, products: &Parts, x: &Parts, y: &Parts) -> f64 {
        let count = self.count as f64;
        let is_finite = |parts: &Parts| parts[0].is_finite();
        if self.count == 1 && is_finite(x) && is_finite(y) {
            return 0.;
        }
        if ![products, x, y].into_iter().all(is_finite) {
            return products[0] - x[0] / count * y[0];
        }
        if products[0].abs() <= LARGE_PRODUCT && x[0].abs().max(y[0].abs()) <= LARGE_SUM {
            return difference(count, products, x, y) / count;
        }
        let [products, x, y] =
            [(products, SCALE * SCALE), (x, SCALE), (y, SCALE)].map(|(parts, scale)| parts.map(|part| part * scale));
        difference(count, &products, &x, &y) / count / SCALE / SCALE
    }
}

/// 2⁹⁰⁰, 2⁴⁰⁰: beyond these, sums times counts or one another may leave the range of `f64`, though the result is in it.
const LARGE_PRODUCT: f64 = f64::from_bits((1023 + 900) << 52);
const LARGE_SUM: f64 = f64::from_bits((1023 + 400) << 52);
/// 2⁻³⁰⁰, by which numbers are multiplied then.
const SCALE: f64 = f64::from_bits((1023 - 300) << 52);
/// 2⁻⁴⁰: where two numbers have more than 40 bits in common, more of their parts are subtracted.
const CANCELLED: f64 = f64::from_bits((1023 - 40) << 52);

/// `count * products - x * y`, to about the last bit.
fn difference(count: f64, products: &Parts, x: &Parts, y: &Parts) -> f64 {
    let ([minuend, subtrahend], errors) = Factors::new([count, x[0]]).times(&Factors::new([products[0], y[0]]));
    let (difference, error) = two_sum(minuend, -subtrahend);
    let below = (errors[0] + count * products[1]) - (errors[1] + (x[0] * y[1] + x[1] * y[0]));
    let difference = difference + (error + below);
    if difference.abs() <= CANCELLED * minuend.abs().max(subtrahend.abs()) {
        return all_of_difference(count, products, x, y);
    }
    difference
}

#[cold]
fn all_of_difference(count: f64, products: &Parts, x: &Parts, y: &Parts) -> f64 {
    // Below the last of these parts is nothing, or it is too small to matter beside the others.
    let mut sum = Expansion::<6, 1>::default();
    let mut add = |left: f64, right: f64| sum.add_products(&Factors::new([left]), &Factors::new([right]), |_, _| {});
    for part in products {
        add(count, *part);
    }
    for left in x {
        for right in y {
            add(-left, *right);
        }
    }
    let mut parts = sum.0.map(|[part]| part);
    settle(&mut parts, 0);
    parts[0]
}

/// What rounding made less than nothing is nothing; what is no number stays so.
fn not_negative(spread: f64) -> f64 {
    if spread < 0. { 0. } else { spread }
}
