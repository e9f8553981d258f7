//! From paths on the command line to a pipeline that can run: read, parse, open the sources, plan.
//!
//! Everything that is wrong with the text is reported together, whichever crate found it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bessemer_connectors::sink::{FeatureSetOptions, check_distinct_paths};
use bessemer_connectors::{Source, SourceOptions};
use bessemer_schemas::{Definition, Diagnostic, ErrorKind, SourceFile, SourceFiles};
use bessemer_transforms::{Plan, Relation, SessionOptions};
use datafusion::execution::SessionState;

use crate::error::{Error, Result};
use crate::settings::Settings;

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
    let files = read(paths)?;
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
    if set_options.len() == definition.feature_sets.len() {
        let named: Vec<_> = definition.feature_sets.iter().map(|set| &set.name).zip(&set_options).collect();
        diagnostics.extend(check_distinct_paths(&named));
    }
    match (settings, diagnostics.iter().any(Diagnostic::is_error)) {
        (Some(settings), false) => {
            Ok(Parsed { definition, settings, sources: source_options, sets: set_options, warnings: diagnostics })
        }
        _ => Err(Error::Definition { files: definition.files, diagnostics }),
    }
}

/// Opens the sources and plans the queries. `partitions` is that of the last manifest, if there is one.
pub(crate) async fn load(parsed: Parsed, partitions: Option<u32>) -> Result<Loaded> {
    let (sources, mut diagnostics) = open_sources(&parsed).await?;
    let session = bessemer_transforms::session(&SessionOptions {
        partitions: partitions_of(&parsed.settings, partitions),
        memory_bytes: usize::try_from(parsed.settings.memory_bytes).unwrap_or(usize::MAX),
        spill_dir: std::env::temp_dir(),
        spill_bytes_max: SPILL_BYTES_MAX,
        batch_rows: BATCH_ROWS,
    })?;
    let relations: Vec<_> = sources
        .iter()
        .map(|source| Relation {
            name: source.name().to_owned(),
            plain: source.table_provider(false),
            with_origin: source.table_provider(true),
        })
        .collect();
    let partitioning: BTreeMap<_, _> = parsed
        .definition
        .feature_sets
        .iter()
        .zip(&parsed.sets)
        .map(|(set, options)| (set.name.value.clone(), options.partition_by.clone()))
        .collect();
    let (plan, problems) = bessemer_transforms::plan(&parsed.definition, &relations, &partitioning, &session);
    diagnostics.extend(problems);
    diagnostics.extend(plan.iter().flat_map(|plan| layout_problems(&parsed, plan)));
    let mut parsed = parsed;
    parsed.warnings.extend(diagnostics);
    let is_wrong = parsed.warnings.iter().any(Diagnostic::is_error);
    if let Some(plan) = plan.filter(|_| !is_wrong) {
        return Ok(Loaded { parsed, sources, plan, session });
    }
    Err(Error::Definition { files: parsed.definition.files, diagnostics: parsed.warnings })
}

/// What the options of the sets ask of columns that are not there, or of the wrong type.
fn layout_problems(parsed: &Parsed, plan: &Plan) -> Vec<Diagnostic> {
    let sets = parsed.definition.feature_sets.iter().zip(&parsed.sets);
    let problems = sets.filter_map(|(set, options)| {
        let problems = options.validate(&plan.set(&set.name.value)?.schema, &set.entity);
        Some(problems.into_iter().map(|problem| Diagnostic::error(problem, set.name.span)))
    });
    problems.flatten().collect()
}

/// Opens every source; what is wrong with the definition becomes a diagnostic at its place, the world's troubles an error.
async fn open_sources(parsed: &Parsed) -> Result<(Vec<Source>, Vec<Diagnostic>)> {
    let mut sources = Vec::new();
    let mut diagnostics = Vec::new();
    for (definition, options) in parsed.definition.sources.iter().zip(&parsed.sources) {
        match Source::open(definition, options.clone()).await {
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
) -> Vec<O> {
    let mut all = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let (options, problems) = parse(definition);
        diagnostics.extend(problems);
        all.extend(options);
    }
    all
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
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "sql") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(Error::NoPipeline { path: path.to_owned() }) } else { Ok(files) }
}

/// The folder that relative paths in the pipeline are relative to: that of its first file.
fn base_folder(files: &[SourceFile]) -> Result<PathBuf> {
    let first = files.first().map(|file| PathBuf::from(&file.path)).unwrap_or_default();
    let absolute = std::path::absolute(&first).map_err(|source| Error::Unreadable { path: first, source })?;
    Ok(absolute.parent().map(Path::to_owned).unwrap_or_default())
}
