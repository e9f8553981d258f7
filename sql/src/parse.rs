//! All files of a pipeline to one definition.

use bessemer_schemas::{Definition, Diagnostic, FileId, SourceFile, SourceFiles};

use crate::context::Context;
use crate::lexer;
use crate::resolve::resolve;
use crate::statement;

/// Reads the files of one pipeline. `environment` gives the values of `${NAME}` and `secret('NAME')`.
///
/// All problems of all files are returned, in the order of their places. The definition holds what is sound: a
/// statement with an error is left out, and so is what reads it, so that the caller can go on checking the rest and
/// report everything in one run. Before anything is *run*, no diagnostic may be an error. There is no definition where
/// nothing is sound.
pub fn parse(
    files: Vec<SourceFile>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (Option<Definition>, Vec<Diagnostic>) {
    let files = SourceFiles(files);
    let mut diagnostics = Vec::new();
    let mut statements = Vec::new();
    for (file, id) in files.0.iter().zip(0..) {
        // A byte order mark is no part of the text: columns count without it.
        let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
        let mut ctx = Context::new(FileId(id), text, environment);
        for tokens in lexer::statements(ctx.file, text, &mut ctx.diagnostics) {
            statements.push(statement::parse(&mut ctx, &tokens));
        }
        diagnostics.append(&mut ctx.diagnostics);
    }

    let definition = resolve(files, statements, &mut diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.map(|span| (span.file, span.start)));
    diagnostics.dedup();
    (definition, diagnostics)
}
