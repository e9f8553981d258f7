//! From paths on the command line to a pipeline that can run: read, parse, open the sources, plan.
//!
//! Everything that is wrong with the text is reported together, whichever crate found it.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bessemer_connectors::sink::{FeatureSetOptions, check_distinct_paths};
use bessemer_connectors::{Source, SourceOptions};
use bessemer_schemas::{
    Definition, Diagnostic, ErrorKind, OptionEntry, OptionMap, OptionValue, SourceDefinition, SourceFile, SourceFiles,
};
use bessemer_transforms::{Plan, Relation, SessionOptions};
use datafusion::execution::SessionState;
use futures::FutureExt;

use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::sql_files;

/// Rows of a batch: DataFusion's own choice, large enough for its kernels and small enough for the cache.
const BATCH_ROWS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(8_191);
/// Bytes that operators may spill at one time.
const SPILL_BYTES_MAX: u64 = 100 << 30;

/// A pipeline whose text is understood; the world has not been asked yet.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// What the user wrote.
    pub(crate) definition: Definition,
    /// How it is run.
    pub(crate) settings: Settings,
    /// Options of each source, in the definition's order.
    pub(crate) sources: Vec<SourceOptions>,
    /// Options of each feature set, in the definition's order.
    pub(crate) sets: Vec<FeatureSetOptions>,
    /// What is odd but runs.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A pipeline that can run: its sources are open, its queries are planned.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The text, understood.
    pub(crate) parsed: Parsed,
    /// The sources that something reads, in the definition's order.
    pub(crate) sources: Vec<Source>,
    /// The queries, planned.
    pub(crate) plan: Plan,
    /// The session that they were planned in.
    pub(crate) session: SessionState,
}

impl Parsed {
    /// The pipeline's name.
    pub(crate) fn name(&self) -> &str {
        &self.definition.pipeline.name.value
    }

    /// A feature set's options by its name.
    pub(crate) fn set(&self, name: &str) -> Result<&FeatureSetOptions> {
        let at = self.definition.feature_sets.iter().position(|set| set.name.value == name);
        at.and_then(|at| self.sets.get(at)).ok_or_else(|| {
            let names: Vec<_> = self.definition.feature_sets.iter().map(|set| set.name.value.as_str()).collect();
            unknown("feature set", name, &names)
        })
    }
}

/// A name that is not there, with the nearest one that is.
pub(crate) fn unknown(what: &str, name: &str, names: &[&str]) -> Error {
    let hint = match bessemer_schemas::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Error::Unknown { message: format!("there is no {what} `{name}`; {hint}") }
}

/// Reads and understands a pipeline.
pub(crate) fn parse(paths: &[PathBuf]) -> Result<Parsed> {
    understand(read(paths)?)
}

/// Understands a pipeline whose files are read already.
pub(crate) fn understand(files: Vec<SourceFile>) -> Result<Parsed> {
    let base = base_folder(&files)?;
    let sources = SourceFiles(files.clone());
    let (definition, mut diagnostics) = bessemer_sql::parse(files, &environment);
    let Some(mut definition) = definition else {
        return Err(Error::Definition { files: sources, diagnostics });
    };
    let (settings, problems) = Settings::parse(&mut definition, &base);
    diagnostics.extend(problems);
    let source_options =
        options_of(&mut definition.sources, &mut diagnostics, |source| SourceOptions::parse(source, &base));
    let set_options =
        options_of(&mut definition.feature_sets, &mut diagnostics, |set| FeatureSetOptions::parse(set, &base));
    let named = definition.feature_sets.iter().zip(&set_options);
    let named: Vec<_> = named.filter_map(|(set, options)| Some((&set.name, options.as_ref()?))).collect();
    diagnostics.extend(check_distinct_paths(&named));

    if diagnostics.iter().any(Diagnostic::is_error) {
        diagnostics.extend(problems_of_the_rest(&definition, &set_options, &base)?);
    }
    let is_wrong = diagnostics.iter().any(Diagnostic::is_error);
    match (settings, all(source_options), all(set_options)) {
        (Some(settings), Some(sources), Some(sets)) if !is_wrong => {
            Ok(Parsed { definition, settings, sources, sets, warnings: diagnostics })
        }
        _ => {
            diagnostics.sort_by_key(|diagnostic| diagnostic.span);
            Err(Error::Definition { files: definition.files, diagnostics })
        }
    }
}

/// Opens the sources and plans the queries. `partitions` is that of the last manifest, if there is one.
pub(crate) async fn load(mut parsed: Parsed, partitions: Option<u32>) -> Result<Loaded> {
    let (sources, diagnostics) = open_sources(&parsed).await?;
    parsed.warnings.extend(diagnostics);
    plan_over(parsed, sources, partitions)
}

/// Plans the queries over sources that are open.
pub(crate) fn plan_over(mut parsed: Parsed, sources: Vec<Source>, partitions: Option<u32>) -> Result<Loaded> {
    let session = bessemer_transforms::session(&SessionOptions {
        partitions: partitions_of(&parsed.settings, partitions),
        memory_bytes: usize::try_from(parsed.settings.memory_bytes).unwrap_or(usize::MAX),
        process_memory: parsed.settings.process_memory.clone(),
        spill_dir: std::env::temp_dir(),
        spill_bytes_max: SPILL_BYTES_MAX,
        batch_rows: BATCH_ROWS,
    })?;
    let sets: Vec<_> = parsed.sets.iter().map(Some).collect();
    let (plan, problems) = plan(&parsed.definition, &sources, &sets, &session);
    parsed.warnings.extend(problems);
    parsed.warnings.sort_by_key(|diagnostic| diagnostic.span);
    if parsed.warnings.iter().any(Diagnostic::is_error) {
        return Err(Error::Definition { files: parsed.definition.files, diagnostics: parsed.warnings });
    }
    Ok(Loaded { parsed, sources, plan, session })
}

/// Plans what can be planned over `sources`. `sets` are the options of the feature sets, where they could be read.
fn plan(
    definition: &Definition,
    sources: &[Source],
    sets: &[Option<&FeatureSetOptions>],
    session: &SessionState,
) -> (Plan, Vec<Diagnostic>) {
    let relations: Vec<_> = sources
        .iter()
        .map(|source| Relation {
            name: source.name().to_owned(),
            plain: source.table_provider(false),
            with_origin: source.table_provider(true),
        })
        .collect();
    let named = definition.feature_sets.iter().zip(sets);
    let partitioning: BTreeMap<_, _> = named
        .filter_map(|(set, options)| Some((set.name.value.clone(), options.as_ref()?.partition_by.clone())))
        .collect();
    let (plan, mut problems) = bessemer_transforms::plan(definition, &relations, &partitioning, session);
    problems.extend(layout_problems(definition, sets, &plan));
    (plan, problems)
}

/// What is wrong with the queries of a definition that has errors already, as far as it is sound.
///
/// The text alone is asked, not the world: where the columns of a source come from its files, what reads it is looked
/// at when the text is right.
fn problems_of_the_rest(
    definition: &Definition,
    sets: &[Option<FeatureSetOptions>],
    base: &Path,
) -> Result<Vec<Diagnostic>> {
    let sources: Vec<_> = definition.sources.iter().filter_map(|source| stand_in(source, base)).collect();
    let session = bessemer_transforms::session(&SessionOptions {
        partitions: NonZeroUsize::MIN,
        // Nothing is run.
        memory_bytes: 0,
        process_memory: None,
        spill_dir: std::env::temp_dir(),
        spill_bytes_max: 0,
        batch_rows: BATCH_ROWS,
    })?;
    let sets: Vec<_> = sets.iter().map(Option::as_ref).collect();
    Ok(plan(definition, &sources, &sets, &session).1)
}

/// A source with the columns that `source` declares, whatever is wrong with its options: queries are planned over it.
fn stand_in(source: &SourceDefinition, base: &Path) -> Option<Source> {
    let mut source = source.clone();
    source.columns.as_mut()?.iter_mut().for_each(|column| column.default = None);
    let span = source.name.span;
    let option = |key: &str, text: &str| OptionEntry {
        key: key.to_owned(),
        key_span: span,
        value: OptionValue::Text(text.to_owned()),
        value_span: span,
    };
    // Its options are taken already; what it includes says what it was to read.
    let options = if source.includes.iter().all(|include| include.kind.is_of_files()) {
        vec![option("path", "."), option("format", "json")]
    } else {
        let topic = [option("connector", "kafka"), option("bootstrap_servers", "."), option("topic", "any")];
        let is_change = source.includes.iter().any(|include| include.kind.is_of_changes());
        let format = if is_change { "debezium_json" } else { "json" };
        topic.into_iter().chain([option("format", format)]).collect()
    };
    source.options = OptionMap::new(source.options.owner(), span, options);
    let options = SourceOptions::parse(&mut source, base).0?;
    // With declared columns nothing is waited for.
    Source::open(&source, options, None).now_or_never()?.ok()
}

/// What the options of the sets ask of columns that are not there, or of the wrong type.
fn layout_problems(definition: &Definition, sets: &[Option<&FeatureSetOptions>], plan: &Plan) -> Vec<Diagnostic> {
    let sets = definition.feature_sets.iter().zip(sets);
    let problems = sets.filter_map(|(set, options)| {
        let problems = options.as_ref()?.validate(&plan.set(&set.name.value)?.schema, &set.entity);
        Some(problems.into_iter().map(|problem| Diagnostic::error(problem, set.name.span)))
    });
    problems.flatten().collect()
}

/// Opens every source; what is wrong with the definition becomes a diagnostic at its place, the world's troubles an error.
async fn open_sources(parsed: &Parsed) -> Result<(Vec<Source>, Vec<Diagnostic>)> {
    #[cfg(feature = "kafka")]
    if parsed.sources.iter().any(|source| matches!(source, SourceOptions::Kafka(_))) {
        crate::allocator::give_back_at_once();
    }
    let mut sources = Vec::new();
    let mut diagnostics = Vec::new();
    for (definition, options) in parsed.definition.sources.iter().zip(&parsed.sources) {
        match Source::open(definition, options.clone(), Some(&parsed.settings.state)).await {
            Ok(source) => sources.push(source),
            Err(error) if error.kind() == ErrorKind::Invalid => {
                diagnostics.push(Diagnostic::error(error_chain(&error), definition.name.span));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((sources, diagnostics))
}

/// An error with its causes, on one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn options_of<D, O>(
    definitions: &mut [D],
    diagnostics: &mut Vec<Diagnostic>,
    parse: impl Fn(&mut D) -> (Option<O>, Vec<Diagnostic>),
) -> Vec<Option<O>> {
    let mut all = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let (options, problems) = parse(definition);
        diagnostics.extend(problems);
        all.push(options);
    }
    all
}

/// All of `items`, if none is missing.
fn all<T>(items: Vec<Option<T>>) -> Option<Vec<T>> {
    items.into_iter().collect()
}

fn partitions_of(settings: &Settings, recorded: Option<u32>) -> NonZeroUsize {
    let wanted = settings.partitions.or(recorded).and_then(|count| NonZeroUsize::new(count as usize));
    wanted.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}

#[expect(clippy::disallowed_methods, reason = "this is the program's edge: the one place that reads the environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for path in paths {
        for file in expand(path)? {
            let text =
                std::fs::read_to_string(&file).map_err(|source| Error::Unreadable { path: file.clone(), source })?;
            files.push(SourceFile { path: file.display().to_string(), text });
        }
    }
    Ok(files)
}

/// The pipeline files that `path` means: itself, or the `.sql` files of a folder by name.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Ok(vec![path.to_owned()]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(sql_files::none_at(path)),
        found => found.and_then(|_| std::fs::read_dir(path).map(drop)).map_err(unreadable)?,
    }
    let files = sql_files::in_folder(path);
    if files.is_empty() { Err(sql_files::none_at(path)) } else { Ok(files) }
}

/// The folder that relative paths in the pipeline are relative to: that of its first file.
fn base_folder(files: &[SourceFile]) -> Result<PathBuf> {
    let first = files.first().map(|file| PathBuf::from(&file.path)).unwrap_or_default();
    let absolute = std::path::absolute(&first).map_err(|source| Error::Unreadable { path: first, source })?;
    Ok(absolute.parent().map(Path::to_owned).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_every_stage_are_told_in_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipeline.sql");
        let text = "
CREATE PIPELINE p;
SET nonsense = 3;
CREATE SOURCE s (id BIGINT, name VARCHAR) INCLUDE PATH AS file WITH (pth = 'x', format = 'json');
CREATE SOURCE broken (id BIGNIT) WITH (path = 'x', format = 'json');
CREATE VIEW v AS SELECT * FROM broken;
CREATE FEATURE SET a WITH (path = 'a') AS SELECT id, nam, file FROM s;
CREATE FEATURE SET b WITH (path = 'b', bloom_filter = 'nme') AS SELECT id, name FROM s;
CREATE FEATURE SET c WITH (path = 'c', no_option = 1) AS SELECT idd FROM s;
CREATE FEATURE SET d WITH (path = 'd') AS SELECT anything FROM v;";
        std::fs::write(&path, text).unwrap();
        let Err(Error::Definition { diagnostics, .. }) = parse(&[path]) else { panic!("it is accepted") };
        let lines: Vec<_> = diagnostics.iter().filter_map(|found| Some(found.span?.start.line)).collect();
        // A source without a path has an option that nobody knows, and none that it needs.
        assert_eq!(lines, [3, 4, 4, 5, 7, 8, 9, 9], "{diagnostics:#?}");
    }
}
