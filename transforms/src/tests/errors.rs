//! Every file in `err/` is a definition with faults; beside it stands what the user is told.

use std::fs;
use std::path::Path;

use super::{parse, relations, state};

#[test]
fn every_fault_is_told_at_its_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("err");
    let state = state(2);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    assert!(files.len() >= 20);

    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for path in files {
            let text = fs::read_to_string(&path).unwrap();
            insta::assert_snapshot!(path.file_stem().unwrap().to_str().unwrap(), told(&text, &state));
        }
    });
}

fn told(text: &str, state: &datafusion::execution::SessionState) -> String {
    let (definition, parsed) = parse(text);
    assert!(parsed.iter().all(|diagnostic| !diagnostic.is_error()), "{parsed:#?}");
    let definition = definition.unwrap();
    let relations = relations(&definition, &std::collections::BTreeMap::new());
    let partitioning = definition
        .feature_sets
        .iter()
        .filter_map(|set| {
            let entry = set.options.entries().iter().find(|entry| entry.key == "partition_by")?;
            let fields = bessemer_schemas::PartitionField::parse_list(&entry.value.to_string()).unwrap();
            Some((set.name.value.clone(), fields))
        })
        .collect();
    let (_, faults) = crate::plan(&definition, &relations, &partitioning, state);
    assert!(
        !faults.is_empty() && faults.iter().all(|fault| fault.span.is_some() && fault.help.is_some()),
        "{faults:#?}"
    );
    bessemer_sql::render_all(&faults, &definition.files)
}
