//! Diagnostics as people read them: file, line, column, the source line, a caret, one help.

use bessemer_schemas::{Diagnostic, Severity, SourceFiles, Span};
use unicode_width::UnicodeWidthChar;

/// How the text is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Plain text.
    #[default]
    Plain,
    /// ANSI colours, for a terminal.
    Colour,
}

/// Widest part of a source line that is shown; longer lines are clipped around the caret.
const WIDTH_MAX: usize = 116;

/// Columns that are kept before the caret where a line is clipped.
const WIDTH_BEFORE: usize = 50;

/// Columns of a tab, which is shown as spaces.
const TAB: &str = "    ";

/// Shows one diagnostic as plain text, ending in a newline.
pub fn render(diagnostic: &Diagnostic, files: &SourceFiles) -> String {
    render_styled(diagnostic, files, Style::Plain)
}

/// Shows one diagnostic, ending in a newline.
pub fn render_styled(diagnostic: &Diagnostic, files: &SourceFiles, style: Style) -> String {
    let mut text = String::new();
    let (word, colour) = match diagnostic.severity {
        Severity::Error => ("error", "31"),
        Severity::Warning => ("warning", "33"),
    };
    let title = style.paint(&format!("1;{colour}"), word);
    let message = style.paint("1", &format!(": {}", visible(&diagnostic.message)));
    push_line(&mut text, &format!("{title}{message}"));

    let width = gutter(diagnostic.span);
    if let Some(span) = diagnostic.span {
        excerpt(&mut text, diagnostic, span, files, Frame { width, colour, style });
    }
    if let Some(help) = &diagnostic.help {
        let help = visible(help).replace('\n', &format!("\n{:1$}", "", width + 9));
        let bar = style.paint("34", "=");
        push_line(&mut text, &format!("{:width$} {bar} {}: {help}", "", style.paint("1", "help")));
    }
    text
}

/// Shows all diagnostics, each followed by an empty line, and how many there are. Nothing where there are none.
pub fn render_all(diagnostics: &[Diagnostic], files: &SourceFiles) -> String {
    render_all_styled(diagnostics, files, Style::Plain)
}

/// Shows all diagnostics and how many there are.
pub fn render_all_styled(diagnostics: &[Diagnostic], files: &SourceFiles, style: Style) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&render_styled(diagnostic, files, style));
        text.push('\n');
    }
    text.push_str(&count(diagnostics));
    text.push('\n');
    text
}

/// `2 errors, 1 warning`.
fn count(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let counted = [(errors, "error"), (diagnostics.len() - errors, "warning")];
    let parts = counted.iter().filter(|(count, _)| *count > 0);
    let parts = parts.map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" }));
    parts.collect::<Vec<_>>().join(", ")
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

#[derive(Clone, Copy)]
struct Frame<'a> {
    width: usize,
    colour: &'a str,
    style: Style,
}

fn excerpt(text: &mut String, diagnostic: &Diagnostic, span: Span, files: &SourceFiles, frame: Frame<'_>) {
    let Frame { width, colour, style } = frame;
    let file = files.file(span.file);
    let path = file.map_or("?", |file| file.path.as_str());
    let line = span.start.line;
    push_line(
        text,
        &format!("{:width$}{} {}:{line}:{}", "", style.paint("34", "-->"), visible(path), span.start.column),
    );

    let lines = file.map(|file| file.text.strip_prefix('\u{feff}').unwrap_or(&file.text).split('\n'));
    let Some(source) = lines.and_then(|mut lines| lines.nth(line.saturating_sub(1) as usize)) else { return };
    let shown = Excerpt::new(source.trim_end_matches('\r'), span);
    let bar = style.paint("34", "|");
    push_line(text, &format!("{:width$} {bar}", ""));
    push_line(text, &format!("{} {bar} {}", style.paint("34", &format!("{line:>width$}")), shown.text));
    let label = diagnostic.label.as_deref().map_or_else(String::new, |label| format!(" {}", visible(label)));
    let marks = style.paint(&format!("1;{colour}"), &format!("{}{label}", "^".repeat(shown.marks)));
    push_line(text, &format!("{:width$} {bar} {:before$}{marks}", "", "", before = shown.before));
}

fn gutter(span: Option<Span>) -> usize {
    span.map_or(2, |span| span.start.line.to_string().len().max(2))
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// One source line, ready to be shown, with the caret's place in columns of the screen.
struct Excerpt {
    text: String,
    before: usize,
    marks: usize,
}

impl Excerpt {
    fn new(line: &str, span: Span) -> Self {
        let start = span.start.column.saturating_sub(1) as usize;
        let end = if span.end.line == span.start.line {
            span.end.column.saturating_sub(1) as usize
        } else {
            // What goes on over several lines is marked to the end of the first.
            line.trim_end().chars().count()
        };
        let cells: Vec<String> = line.chars().map(cell).collect();
        let widths = |from: usize, to: usize| -> usize {
            cells
                .iter()
                .take(to)
                .skip(from)
                .map(|cell| cell.chars().filter_map(UnicodeWidthChar::width).sum::<usize>())
                .sum()
        };
        // A place after the end of a line, where something is missing, has a width too.
        let past_end = start.saturating_sub(cells.len());
        let before = widths(0, start) + past_end;
        let marks = widths(start, end.max(start)).max(1);
        if widths(0, cells.len()) <= WIDTH_MAX {
            return Self { text: cells.concat(), before, marks };
        }
        Self::clipped(&cells, before, marks)
    }

    fn clipped(cells: &[String], before: usize, marks: usize) -> Self {
        let from = before.saturating_sub(WIDTH_BEFORE);
        let (mut text, mut column, mut hidden) = (String::new(), 0, 0);
        let mut is_cut = false;
        for cell in cells {
            let width: usize = cell.chars().filter_map(UnicodeWidthChar::width).sum();
            if column < from {
                hidden += width;
            } else if column + width > from + WIDTH_MAX {
                is_cut = true;
                break;
            } else {
                text.push_str(cell);
            }
            column += width;
        }
        let lead = if hidden > 0 { "…" } else { "" };
        let tail = if is_cut { "…" } else { "" };
        let before = before.saturating_sub(hidden) + lead.chars().count();
        let marks = marks.min((from + WIDTH_MAX).saturating_sub(hidden + before).max(1));
        Self { text: format!("{lead}{text}{tail}"), before, marks }
    }
}

/// A character as it is shown: tabs as spaces, and nothing that could steer a terminal or reverse the text.
fn cell(c: char) -> String {
    match c {
        '\t' => TAB.to_owned(),
        c if is_hidden(c) => '\u{fffd}'.to_string(),
        c => c.to_string(),
    }
}

fn visible(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
