//! The definition as a later run will compare it.

use bessemer_connectors::Source;
use bessemer_schemas::{DefinitionDigest, Digest, SetDigest, SourceDigest, SourceKind};
use bessemer_transforms::PlannedSet;
use datafusion::arrow::datatypes::{Field, Schema};

use crate::load::Loaded;

/// The digest of today's definition.
pub(super) fn definition(loaded: &Loaded) -> DefinitionDigest {
    let sources = loaded.sources.iter().map(|source| (source.name().to_owned(), source_digest(source)));
    let options = &loaded.parsed.sets;
    let sets = loaded
        .plan
        .sets
        .iter()
        .zip(options)
        .map(|(set, options)| (set.name.clone(), set_digest(set, options.layout())));
    DefinitionDigest { sources: sources.collect(), sets: sets.collect(), ..DefinitionDigest::default() }
}

pub(super) fn source_digest(source: &Source) -> SourceDigest {
    let kind = match source.kind() {
        SourceKind::Log => "log",
        SourceKind::Table => "table",
    };
    SourceDigest {
        kind: kind.to_owned(),
        location: source.location_text(),
        columns: columns(source.schema()),
        decoding: Digest::of(source.decoding_text().as_bytes()),
        since: None,
    }
}

fn set_digest(set: &PlannedSet, layout: String) -> SetDigest {
    SetDigest {
        kind: set.kind.to_string(),
        plan: set.plan_digest.clone(),
        columns: columns(&set.schema),
        expectations: set.expectations_digest.clone(),
        layout,
    }
}

fn columns(schema: &Schema) -> Vec<(String, String)> {
    let text = |field: &Field| {
        let nullability = if field.is_nullable() { "" } else { " NOT NULL" };
        (field.name().clone(), format!("{}{nullability}", field.data_type()))
    };
    schema.fields().iter().map(|field| text(field)).collect()
}
