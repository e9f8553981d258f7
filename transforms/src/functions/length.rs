//! `character_length` (`length`, `char_length`) of texts that lie in views: in one pass, a short text without a look at
//! its bytes one by one. The engine's own passes over all of them twice; of other types it is left to it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, StringViewArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

use crate::short_text::{SHORT_BYTES, are_short, bytes};

/// The highest bit of each byte.
const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; 16]);

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
    let views = texts.views();
    // No byte of any of them goes on with a character.
    if are_short(views) && views.iter().fold(0, |all, view| all | view) & HIGH_BITS == 0 {
        let lengths = views.iter().map(|view| length(bytes(*view)));
        return Int32Array::new(lengths.collect(), texts.nulls().cloned());
    }
    let lengths = views.iter().enumerate().map(|(row, view)| match bytes(*view) {
        count if count <= SHORT_BYTES => length(count - continuations(view >> 32)),
        // What a null points to is nothing.
        _ if texts.is_null(row) => 0,
        _ => length(characters(texts.value(row))),
    });
    Int32Array::new(lengths.collect(), texts.nulls().cloned())
}

fn length(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// How many bytes go on with a character: those that begin with the bits 1 and 0.
fn continuations(bytes: u128) -> usize {
    (bytes & HIGH_BITS & !(bytes << 1)).count_ones() as usize
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
