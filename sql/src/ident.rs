//! Identifiers of queries as PostgreSQL reads them; DataFusion's planner does the same with the trees.

use bessemer_schemas::{FileId, Name, Span};
use sqlparser::ast::{Ident, ObjectName};

/// The name that `ident` means.
pub(crate) fn name(file: FileId, ident: &Ident) -> Name {
    let value = match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    };
    Name { value, span: Span::from_tokens(file, ident.span) }
}

/// The parts of a dotted name; `None` where a part is computed.
pub(crate) fn parts(file: FileId, object: &ObjectName) -> Option<Vec<Name>> {
    object.0.iter().map(|part| part.as_ident().map(|ident| name(file, ident))).collect()
}
