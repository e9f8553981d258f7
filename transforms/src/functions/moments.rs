//! `skewness`, `kurtosis` and `kurtosis_pop`: the shape of a distribution, by its central moments.
//!
//! Sums of powers of differences from the mean are merged as Pébay has it (Formulas for robust, one-pass parallel
//! computation of covariances and arbitrary-order statistical moments, Sandia report SAND2008-6212): no large numbers are
//! subtracted from one another. The estimates are those of `DuckDB`, SAS and pandas (with Bessel's correction), and NULL
//! where too few values, or values that are all the same, have no shape.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::all_rows;
use super::frame::{OfFrame, Sliding};

/// What is asked of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// How far it leans, of a sample (adjusted Fisher-Pearson).
    Skewness,
    /// How heavy its tails are beyond those of a normal one, of a sample.
    Kurtosis,
    /// The same of a population.
    KurtosisOfPopulation,
}

/// The function that tells it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ShapeOf {
    shape: Shape,
    signature: Signature,
}

impl ShapeOf {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for ShapeOf {
    fn name(&self) -> &'static str {
        match self.shape {
            Shape::Skewness => "skewness",
            Shape::Kurtosis => "kurtosis",
            Shape::KurtosisOfPopulation => "kurtosis_pop",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |part: &str| Arc::new(Field::new(format_state_name(args.name, part), DataType::Float64, false));
        Ok(["count", "mean", "m2", "m3", "m4"].map(field).into())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        all_rows(&args)?;
        Ok(Box::new(Whole { shape: self.shape, moments: Moments::default() }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        all_rows(&args)?;
        Ok(Box::new(Sliding::new(self.shape)))
    }
}

/// Number and mean of values, and sums of the powers of their differences from it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    count: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Moments {
    /// Those of values that are at hand, in two passes.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let Some(first) = values.clone().next() else { return Self::default() };
        // From the first value on: the mean of equal ones is that value, to the last bit.
        let (count, sum) = values.clone().fold((0., 0.), |(count, sum), value| (count + 1., sum + (value - first)));
        let mean = first + sum / count;
        let mut moments = Self { count, mean, ..Self::default() };
        for value in values {
            let difference = value - mean;
            let square = difference * difference;
            moments.m2 += square;
            moments.m3 += square * difference;
            moments.m4 += square * square;
        }
        moments
    }

    /// Those of the values of both.
    fn merged(self, other: Self) -> Self {
        if self.count == 0. || other.count == 0. {
            return if self.count == 0. { other } else { self };
        }
        let (a, b) = (self.count, other.count);
        let count = a + b;
        let delta = other.mean - self.mean;
        let share = delta / count;
        let m2 = self.m2 + other.m2 + delta * share * a * b;
        let m3 =
            self.m3 + other.m3 + delta * share * share * a * b * (a - b) + 3. * share * (a * other.m2 - b * self.m2);
        let m4 = self.m4
            + other.m4
            + delta * share * share * share * a * b * (a * a - a * b + b * b)
            + 6. * share * share * (a * a * other.m2 + b * b * self.m2)
            + 4. * share * (a * other.m3 - b * self.m3);
        Self { count, mean: self.mean + share * b, m2, m3, m4 }
    }

    fn shape(self, shape: Shape) -> Option<f64> {
        let Self { count: n, m2, m3, m4, .. } = self;
        let least = match shape {
            Shape::Skewness => 3.,
            Shape::Kurtosis => 4.,
            Shape::KurtosisOfPopulation => 2.,
        };
        if n < least || m2 == 0. {
            return None;
        }
        let excess = || n * m4 / (m2 * m2) - 3.;
        Some(match shape {
            Shape::Skewness => (n * (n - 1.)).sqrt() / (n - 2.) * (m3 / n) / (m2 / n).powf(1.5),
            Shape::Kurtosis => (n - 1.) / ((n - 2.) * (n - 3.)) * ((n + 1.) * excess() + 6.),
            Shape::KurtosisOfPopulation => excess(),
        })
    }
}

/// Of all values of a group.
#[derive(Debug)]
struct Whole {
    shape: Shape,
    moments: Moments,
}

impl Accumulator for Whole {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.moments = self.moments.merged(Moments::of(values[0].as_primitive::<Float64Type>().iter().flatten()));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, means, m2, m3, m4] = [0, 1, 2, 3, 4].map(|part| states[part].as_primitive::<Float64Type>());
        for row in 0..counts.len() {
            let (count, mean) = (counts.value(row), means.value(row));
            let other = Moments { count, mean, m2: m2.value(row), m3: m3.value(row), m4: m4.value(row) };
            self.moments = self.moments.merged(other);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Moments { count, mean, m2, m3, m4 } = self.moments;
        Ok([count, mean, m2, m3, m4].map(ScalarValue::from).into())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.moments.shape(self.shape)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

impl OfFrame for Shape {
    type Row = f64;

    fn rows(&self, columns: &[ArrayRef]) -> Vec<Option<f64>> {
        columns[0].as_primitive::<Float64Type>().iter().collect()
    }

    fn value(&self, rows: impl Iterator<Item = f64> + Clone) -> Option<f64> {
        Moments::of(rows).shape(*self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::tests::text_of;

    /// As `DuckDB` has them of 1, 2, 3, 4, 100.
    const SHAPES: [(Shape, f64); 3] = [
        (Shape::Skewness, 2.232_395_911_636_458),
        (Shape::Kurtosis, 4.986_865_957_200_655),
        (Shape::KurtosisOfPopulation, 0.246_716_489_300_163_65),
    ];

    #[test]
    fn shapes_are_what_others_compute() {
        let moments = Moments::of([1., 2., 3., 4., 100.].into_iter());
        for (shape, expected) in SHAPES {
            let found = moments.shape(shape).unwrap();
            assert!((found - expected).abs() < 1e-12, "{shape:?}: {found}");
        }
        for (values, shape) in [
            (&[1., 2.][..], Shape::Skewness),
            (&[1., 2., 3.], Shape::Kurtosis),
            (&[1.], Shape::KurtosisOfPopulation),
            (&[0.1, 0.1, 0.1], Shape::Skewness),
            (&[19.99; 10], Shape::Kurtosis),
        ] {
            assert_eq!(Moments::of(values.iter().copied()).shape(shape), None, "{shape:?} of {values:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_merge_into_the_whole(values in prop::collection::vec(-1e3..1e3, 0..60), cut in 0_usize..60) {
            let (left, right) = values.split_at(cut.min(values.len()));
            let of = |values: &[f64]| Moments::of(values.iter().copied());
            let (parts, whole) = (of(left).merged(of(right)), of(&values));
            for shape in [Shape::Skewness, Shape::Kurtosis, Shape::KurtosisOfPopulation] {
                match (parts.shape(shape), whole.shape(shape)) {
                    (Some(parts), Some(whole)) => {
                        prop_assert!((parts - whole).abs() <= 1e-6 * whole.abs().max(1.), "{parts} and {whole}");
                    }
                    (parts, whole) => prop_assert_eq!(parts, whole),
                }
            }
        }
    }

    #[tokio::test]
    async fn groups_and_frames_have_their_shape() {
        let rows = "(VALUES (1, 'a', 1), (2, 'a', 2), (3, 'b', 7), (4, 'a', 3), (5, 'a', 9), (6, 'a', NULL)) AS t (id, kind, size)";
        let grouped = text_of(&format!(
            "SELECT kind, round(skewness(size), 6) AS skewness, round(kurtosis(size), 6) AS kurtosis
             FROM {rows} GROUP BY kind ORDER BY kind"
        ))
        .await;
        let rolling = text_of(&format!(
            "SELECT id, round(skewness(size) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW), 6) AS skewness
             FROM {rows} ORDER BY id"
        ))
        .await;
        insta::assert_snapshot!(format!("{grouped}\n{rolling}"));
    }
}
