//! `LIKE 'prefix%'` and `IN (…)` over texts in views, by their bits. The engine compares text by text, and hashes what it
//! looks up.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringViewArray, make_view};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::short_text::{SHORT_BYTES, are_short, bytes};

/// More texts than these are left to the engine's hash table.
const LIST_MAX: usize = 64;
/// Places of a lookup for each of its texts, so that a few attempts find one where no two share a place.
const PLACES: usize = 8;
/// How often a lookup is tried to be made.
const ATTEMPTS_MAX: u64 = 1_000;

/// A question about texts in views.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextTest {
    signature: Signature,
    asks: Asks,
    negated: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Asks {
    /// Whether they begin with this.
    Prefix(String),
    /// Whether they are among these.
    OneOf(Lookup),
}

/// Puts questions about views where the engine would compare texts.
pub(super) fn by_views(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let rewritten = expr.transform_up(|expr| {
        let Some((asks, negated)) = asked(&expr) else { return Ok(Transformed::no(expr)) };
        match expr {
            Expr::Like(Like { expr: text, .. }) | Expr::InList(InList { expr: text, .. })
                if text.get_type(schema)? == DataType::Utf8View =>
            {
                let signature = Signature::exact(vec![DataType::Utf8View], Volatility::Immutable);
                let test = ScalarUDF::new_from_impl(TextTest { signature, asks, negated });
                Ok(Transformed::yes(test.call(vec![*text])))
            }
            other => Ok(Transformed::no(other)),
        }
    })?;
    Ok(rewritten.data)
}

/// What `expr` asks of a text, if it can be asked of its view.
fn asked(expr: &Expr) -> Option<(Asks, bool)> {
    match expr {
        Expr::Like(Like { negated, pattern, escape_char: None, case_insensitive: false, .. }) => {
            let prefix = text(pattern)?.strip_suffix('%')?;
            // Behind a short text its view is zero, which a prefix must not take for its own.
            let plain = !prefix.contains(['%', '_', '\\', '\0']);
            plain.then(|| (Asks::Prefix(prefix.to_owned()), *negated))
        }
        Expr::InList(InList { list, negated, .. }) if list.len() <= LIST_MAX => {
            let short = |item| text(item).filter(|text| text.len() <= SHORT_BYTES);
            let texts = list.iter().map(short).collect::<Option<Vec<_>>>()?;
            Some((Asks::OneOf(Lookup::of(&texts)?), *negated))
        }
        _ => None,
    }
}

/// The text of a literal that is not null.
fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text), _) => {
            text.as_deref()
        }
        _ => None,
    }
}

impl ScalarUDFImpl for TextTest {
    fn name(&self) -> &'static str {
        match self.asks {
            Asks::Prefix(_) => "begins_with",
            Asks::OneOf(_) => "one_of",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [texts] = args.args.as_slice() else { return plan_err!("a question about texts has one argument") };
        let texts: ArrayRef = texts.to_array(args.number_rows)?;
        let texts = texts.as_string_view();
        let found = match &self.asks {
            Asks::Prefix(prefix) => begins_with(texts, prefix.as_bytes()),
            Asks::OneOf(lookup) => lookup.find(texts.views()),
        };
        let found = if self.negated { !&found } else { found };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(found, texts.nulls().cloned()))))
    }
}

fn begins_with(texts: &StringViewArray, prefix: &[u8]) -> BooleanBuffer {
    let views = texts.views();
    let inline = &prefix[..prefix.len().min(SHORT_BYTES)];
    let wanted = make_view(inline, 0, 0) >> 32 << 32;
    // The bits of the prefix in a view.
    let mask = ((1_u128 << (8 * inline.len())) - 1) << 32;
    let begins = |view: u128| (view ^ wanted) & mask == 0;
    if are_short(views) {
        let is_short = prefix.len() <= SHORT_BYTES;
        return BooleanBuffer::collect_bool(views.len(), |row| begins(views[row]) & is_short);
    }
    BooleanBuffer::collect_bool(views.len(), |row| {
        if bytes(views[row]) <= SHORT_BYTES {
            return begins(views[row]) && prefix.len() <= SHORT_BYTES;
        }
        // What a null points to is nothing.
        !texts.is_null(row) && texts.value(row).as_bytes().starts_with(prefix)
    })
}

/// Short texts, each at the place that its view gives it, and at no other's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Lookup {
    /// Views; a place of no text of its own has that of another.
    places: Vec<u128>,
    multiplier: u64,
    /// Bits of a product that are no place.
    shift: u32,
}

impl Lookup {
    /// `None` where no lookup was found; also for no texts.
    fn of(texts: &[&str]) -> Option<Self> {
        let views: Vec<_> = texts.iter().map(|text| make_view(text.as_bytes(), 0, 0)).collect();
        let count = (views.len() * PLACES).next_power_of_two();
        let shift = u64::BITS - count.ilog2();
        // Odd multiples of the golden ratio spread what is alike (Knuth, volume 3, section 6.4).
        let multipliers = (0..ATTEMPTS_MAX).map(|attempt| (2 * attempt + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        multipliers
            .map(|multiplier| Self { places: vec![*views.first()?; count], multiplier, shift }.filled(&views))
            .find_map(|it| it)
    }

    fn filled(mut self, views: &[u128]) -> Option<Self> {
        let mut taken = vec![None; self.places.len()];
        for view in views {
            let place = self.place(*view);
            if taken.get(place)?.is_some_and(|other| other != *view) {
                return None;
            }
            taken[place] = Some(*view);
            self.places[place] = *view;
        }
        Some(self)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half of a view; a place is a few bits")]
    fn place(&self, view: u128) -> usize {
        let (low, high) = (view as u64, (view >> 64) as u64);
        ((low ^ high.rotate_left(32)).wrapping_mul(self.multiplier) >> self.shift) as usize
    }

    fn find(&self, views: &[u128]) -> BooleanBuffer {
        BooleanBuffer::collect_bool(views.len(), |row| self.places[self.place(views[row])] == views[row])
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::datatypes::{Field, Schema};
    use datafusion::prelude::{col, lit};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::tests::state;

    /// Texts that are alike: short and long, with a zero byte, and of more bytes than characters.
    fn some_text() -> impl Strategy<Value = String> {
        const PARTS: [&str; 10] = ["", "a", "ab", "product-", "product-1234", "\0", "é", "語", " ", "%"];
        prop::collection::vec(select(&PARTS[..]), 0..4).prop_map(|parts| parts.concat())
    }

    fn rewritten(expr: &Expr, schema: &Schema) -> Expr {
        by_views(expr.clone(), &DFSchema::try_from(schema.clone()).unwrap()).unwrap()
    }

    fn answer(expr: Expr, batch: &RecordBatch) -> ArrayRef {
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).unwrap();
        let expr = state(1).create_physical_expr(expr, &schema).unwrap();
        expr.evaluate(batch).unwrap().into_array(batch.num_rows()).unwrap()
    }

    fn questions(prefix: &str, list: &[String]) -> [Expr; 4] {
        let pattern = lit(format!("{prefix}%"));
        let list: Vec<_> = list.iter().map(lit).collect();
        [
            col("text").like(pattern.clone()),
            col("text").not_like(pattern),
            col("text").in_list(list.clone(), false),
            col("text").in_list(list, true),
        ]
    }

    proptest! {
        #[test]
        fn views_answer_as_texts_do(
            texts in prop::collection::vec(prop::option::of(some_text()), 0..100),
            prefix in some_text(),
            list in prop::collection::vec(some_text(), 1..LIST_MAX),
        ) {
            let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8View, true)]));
            let texts: StringViewArray = texts.iter().map(Option::as_deref).collect();
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(texts)]).unwrap();
            for question in questions(&prefix, &list) {
                let by_view = rewritten(&question, &schema);
                prop_assert_eq!(&answer(by_view, &batch), &answer(question.clone(), &batch), "{}", question);
            }
        }
    }

    #[test]
    fn what_views_cannot_answer_is_left_to_the_engine() {
        let view = Schema::new(vec![Field::new("text", DataType::Utf8View, true)]);
        let flat = Schema::new(vec![Field::new("text", DataType::Utf8, true)]);
        let few = ["a".to_owned(), "product-1234".to_owned()];
        for question in questions("product-", &few) {
            assert_ne!(rewritten(&question, &view), question, "{question}");
            assert_eq!(rewritten(&question, &flat), question, "{question}");
        }

        let long = "product-12345";
        let null = Expr::Literal(ScalarValue::Utf8View(None), None);
        for question in [
            col("text").like(lit("pro_uct-%")),
            col("text").like(lit("%product")),
            col("text").like(lit(r"product\%")),
            col("text").ilike(lit("product-%")),
            col("text").like(col("text")),
            col("text").in_list(vec![lit("a"), lit(long)], false),
            col("text").in_list(vec![lit("a"), null], false),
            col("text").in_list((0..=LIST_MAX).map(|at| lit(at.to_string())).collect(), false),
        ] {
            assert_eq!(rewritten(&question, &view), question, "{question}");
        }
    }
}
