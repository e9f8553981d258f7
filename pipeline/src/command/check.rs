//! `check`: every problem of a pipeline, with its place.

use bessemer_schemas::{Diagnostic, Severity, SourceFiles};
use serde::Serialize;

use crate::cli::PipelineArgs;
use crate::error::{Error, Result};
use crate::load::{self, Loaded};
use crate::output;

/// One problem, for scripts.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    severity: &'static str,
    message: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    help: Option<&'a str>,
}

/// What `check --json` prints.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    pipeline: Option<&'a str>,
    ok: bool,
    diagnostics: Vec<Problem<'a>>,
    feature_sets: Vec<SetLine>,
}

#[derive(Debug, Serialize)]
struct SetLine {
    name: String,
    kind: String,
    why: Vec<String>,
    /// Of a snapshot set, what it is computed from.
    upkeep: Option<String>,
}

/// Checks a pipeline. Its error, if it has one, is the program's.
pub(crate) async fn check(args: &PipelineArgs) -> Result<()> {
    let loaded = match load::parse(&args.paths) {
        Ok(parsed) => load::load(parsed, None).await,
        Err(error) => Err(error),
    };
    match loaded {
        Ok(loaded) if args.json => json(Some(&loaded), &loaded.parsed.definition.files, &loaded.parsed.warnings),
        Ok(loaded) => text(&loaded),
        Err(Error::Definition { files, diagnostics }) if args.json => {
            json(None, &files, &diagnostics)?;
            Err(Error::Definition { files, diagnostics })
        }
        Err(error) => Err(error),
    }
}

fn text(loaded: &Loaded) -> Result<()> {
    if !loaded.parsed.warnings.is_empty() {
        output::note(bessemer_sql::render_all(&loaded.parsed.warnings, &loaded.parsed.definition.files));
    }
    let sets = sets(loaded);
    output::line(format!(
        "{}: {}, {}, {}",
        loaded.parsed.name(),
        output::plural(loaded.sources.len() as u64, "source"),
        output::plural(loaded.parsed.definition.views.len() as u64, "view"),
        output::plural(sets.len() as u64, "feature set"),
    ))?;
    let rows = sets.into_iter().map(|mut set| {
        set.why.extend(set.upkeep);
        vec![set.name, set.kind, set.why.join("; ")]
    });
    let rows = rows.collect();
    output::table(&["feature set", "kind", "why"], rows)
}

fn sets(loaded: &Loaded) -> Vec<SetLine> {
    let sets = loaded.plan.sets.iter();
    sets.map(|set| SetLine {
        name: set.name.clone(),
        kind: set.kind.to_string(),
        why: set.reasons.iter().map(|reason| reason.text.clone()).collect(),
        upkeep: set.upkeep_text(),
    })
    .collect()
}

fn json(loaded: Option<&Loaded>, files: &SourceFiles, diagnostics: &[Diagnostic]) -> Result<()> {
    output::json(&Answer {
        pipeline: loaded.map(|loaded| loaded.parsed.name()),
        ok: !diagnostics.iter().any(Diagnostic::is_error),
        diagnostics: diagnostics.iter().map(|diagnostic| problem(diagnostic, files)).collect(),
        feature_sets: loaded.map(sets).unwrap_or_default(),
    })
}

fn problem<'a>(diagnostic: &'a Diagnostic, files: &'a SourceFiles) -> Problem<'a> {
    let span = diagnostic.span;
    Problem {
        severity: match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        message: &diagnostic.message,
        file: span.and_then(|span| files.file(span.file)).map(|file| file.path.as_str()),
        line: span.map(|span| span.start.line),
        column: span.map(|span| span.start.column),
        help: diagnostic.help.as_deref(),
    }
}
