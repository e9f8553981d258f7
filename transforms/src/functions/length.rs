//! `character_length` (`length`, `char_length`) of texts that lie in views: in one pass, a short text without a look at
//! its bytes one by one. The engine's own passes over all of them twice; of other types it is left to it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// The highest bit of each byte.
const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; 16]);
/// What a view holds by itself.
const INLINE_BYTES: u32 = 12;

/// The engine's function, but for views.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CharacterLength(pub(super) Arc<ScalarUDF>);

impl ScalarUDFImpl for CharacterLength {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.0.return_type(arguments)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(texts)] if *texts.data_type() == DataType::Utf8View => {
                Ok(ColumnarValue::Array(Arc::new(lengths(texts.as_string_view()))))
            }
            _ => self.0.invoke_with_args(args),
        }
    }
}

fn lengths(texts: &StringViewArray) -> Int32Array {
    let views = texts.views().iter().enumerate();
    let lengths = views.map(|(row, view)| match view.to_le_bytes() {
        [a, b, c, d, ..] if u32::from_le_bytes([a, b, c, d]) <= INLINE_BYTES => {
            (u32::from_le_bytes([a, b, c, d]) - continuations(view >> 32)).cast_signed()
        }
        // What a null points to is nothing.
        _ if texts.is_null(row) => 0,
        _ => i32::try_from(characters(texts.value(row))).unwrap_or(i32::MAX),
    });
    Int32Array::new(lengths.collect(), texts.nulls().cloned())
}

/// How many bytes go on with a character: those that begin with the bits 1 and 0.
fn continuations(bytes: u128) -> u32 {
    (bytes & HIGH_BITS & !(bytes << 1)).count_ones()
}

fn characters(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::functions::tests::text_of;

    proptest! {
        #[test]
        fn lengths_are_those_of_the_characters(
            texts in prop::collection::vec(prop::option::of("([a-z ]|[àéß]|[€語]|[🚂😀]){0,20}"), 0..50),
        ) {
            let found = lengths(&texts.iter().map(Option::as_deref).collect());
            let expected: Int32Array =
                texts.iter().map(|text| Some(i32::try_from(text.as_ref()?.chars().count()).unwrap())).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[tokio::test]
    async fn every_name_and_type_has_it() {
        let rows = "(SELECT text, arrow_cast(text, 'Utf8View') AS view FROM (VALUES ('日本'), ('a rather long text €'), (NULL)) AS t (text)) AS t";
        let names = ["length", "char_length", "character_length"];
        let calls = names.map(|name| format!("{name}(text) AS {name}_of_text, {name}(view) AS {name}_of_view"));
        insta::assert_snapshot!(text_of(&format!("SELECT {} FROM {rows}", calls.join(", "))).await);
    }
}
