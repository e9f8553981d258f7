//! `top_k(value, k)`: the values that are there most often, with how often, exactly.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::{all_rows, constant};

/// The function. Its result is a list of (value, count), the most frequent first, of equally frequent ones the smaller.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TopK {
    signature: Signature,
}

impl Default for TopK {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn entry(value: &DataType) -> Fields {
    Fields::from(vec![Field::new("value", value.clone(), false), Field::new("count", DataType::Int64, false)])
}

fn entries(value: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(entry(value)), true)))
}

impl AggregateUDFImpl for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [DataType::Dictionary(_, value), k] if k.is_integer() => Ok(vec![(**value).clone(), DataType::Int64]),
            [value, k] if k.is_integer() && !value.is_nested() => Ok(vec![value.clone(), DataType::Int64]),
            [value, k] if k.is_integer() => {
                plan_err!("values of type {value} are not compared: take one of their fields")
            }
            _ => plan_err!("write `top_k(value, 3)`: a value, and how many of the most frequent ones"),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(entries(&arguments[0]))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let counts =
            Field::new(format_state_name(args.name, "counts"), entries(args.input_fields[0].data_type()), true);
        Ok(vec![Arc::new(counts)])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        all_rows(&args)?;
        let k = match constant(&args, "how many")? {
            ScalarValue::Int64(Some(k)) if k > 0 => usize::try_from(k).unwrap_or(usize::MAX),
            other => return plan_err!("`{}` of {other} values: ask for one at least", args.name),
        };
        Ok(Box::new(Tally::new(args.expr_fields[0].data_type().clone(), k)?))
    }

    /// Of an empty frame.
    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        let DataType::List(item) = data_type else { return ScalarValue::try_from(data_type) };
        let none = new_empty_array(item.data_type());
        Ok(ScalarValue::List(Arc::new(ListArray::try_new(
            Arc::clone(item),
            OffsetBuffer::from_lengths([0]),
            none,
            None,
        )?)))
    }
}

/// How often each value is there.
#[derive(Debug)]
struct Tally {
    value: DataType,
    converter: RowConverter,
    counts: HashMap<OwnedRow, i64>,
    /// Bytes of the rows.
    row_bytes: usize,
    k: usize,
}

impl Tally {
    fn new(value: DataType, k: usize) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(value.clone())])?;
        Ok(Self { value, converter, counts: HashMap::new(), row_bytes: 0, k })
    }

    /// Adds `more` of each of `values`, or takes them away; nulls are no values.
    fn add(&mut self, values: &ArrayRef, more: impl Fn(usize) -> i64) -> Result<()> {
        let rows = self.converter.convert_columns(std::slice::from_ref(values))?;
        for at in (0..values.len()).filter(|at| values.is_valid(*at)) {
            let row = rows.row(at).owned();
            let bytes = row.as_ref().len();
            match self.counts.entry(row) {
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(more(at));
                    self.row_bytes += bytes;
                }
                std::collections::hash_map::Entry::Occupied(mut entry) => {
                    *entry.get_mut() += more(at);
                    if *entry.get() == 0 {
                        entry.remove();
                        self.row_bytes -= bytes;
                    }
                }
            }
        }
        Ok(())
    }

    /// The first `limit` values, most frequent first.
    fn list(&self, limit: usize) -> Result<ListArray> {
        let mut found: Vec<_> = self.counts.iter().collect();
        found.sort_unstable_by(|(left, lefts), (right, rights)| rights.cmp(lefts).then_with(|| left.cmp(right)));
        found.truncate(limit);
        let counts: Int64Array = found.iter().map(|(_, count)| **count).collect();
        let values = self.converter.convert_rows(found.iter().map(|(row, _)| row.row()))?.swap_remove(0);
        let entries = StructArray::try_new(entry(&self.value), vec![values, Arc::new(counts)], None)?;
        let item = Arc::new(Field::new_list_field(DataType::Struct(entry(&self.value)), true));
        Ok(ListArray::try_new(item, OffsetBuffer::from_lengths([entries.len()]), Arc::new(entries), None)?)
    }
}

impl Accumulator for Tally {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], |_| 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0], |_| -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for entries in states[0].as_list::<i32>().iter().flatten() {
            let entries = entries.as_struct();
            let counts = entries.column(1).as_primitive::<Int64Type>();
            self.add(entries.column(0), |at| counts.value(at))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::List(Arc::new(self.list(usize::MAX)?))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::List(Arc::new(self.list(self.k)?)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.row_bytes + self.counts.capacity() * size_of::<(OwnedRow, i64)>()
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::tests::text_of;

    #[tokio::test]
    async fn the_most_frequent_come_first_in_groups_and_frames() {
        let rows = "(VALUES (1, 'a', 'x'), (2, 'a', 'y'), (3, 'b', 'z'), (4, 'a', 'y'), (5, 'a', NULL), (6, 'b', NULL),
                            (7, 'a', 'w')) AS t (id, kind, page)";
        let grouped =
            text_of(&format!("SELECT kind, top_k(page, 2) AS pages FROM {rows} GROUP BY kind ORDER BY kind")).await;
        let rolling = text_of(&format!(
            "SELECT id, top_k(page, 1) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS pages
             FROM {rows} ORDER BY id"
        ))
        .await;
        insta::assert_snapshot!(format!("{grouped}\n{rolling}"));
    }
}
