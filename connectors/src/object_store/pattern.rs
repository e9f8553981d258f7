//! Which objects a path means: a file, a folder with all below it, or a glob.

use glob::{MatchOptions, Pattern};
use object_store::path::Path as StorePath;

use crate::location::scheme;

/// `*` and `?` stay within a folder, `**` crosses them; a name's case matters.
const MATCH_OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// The paths of a source: one folder that holds them all, and what is meant in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PathPatterns {
    /// The folder, as a location: `s3://lake/in`, `data`, `/`.
    pub(super) folder: String,
    /// At least one.
    pub(super) patterns: Vec<PathPattern>,
}

/// One path, relative to the folder.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PathPattern {
    /// An object, or a folder with everything below it.
    Literal {
        /// Relative path; empty for the folder itself.
        path: String,
        /// Written with `/` at its end: only a folder will do.
        is_folder: bool,
    },
    /// A glob, its braces expanded.
    Glob {
        /// Relative path of the deepest folder without wildcards; may be empty.
        folder: String,
        /// The alternatives.
        patterns: Vec<Glob>,
    },
}

/// One alternative of a glob.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Glob {
    whole: Pattern,
    /// The folders on the way to an object.
    folders: Vec<FolderPattern>,
}

#[derive(Debug, Clone, PartialEq)]
enum FolderPattern {
    /// One folder of such a name.
    One(Pattern),
    /// `**`: any number of folders.
    Any,
}

impl PathPatterns {
    /// Parses one path, or several separated by commas (outside braces).
    ///
    /// # Errors
    /// Says what is wrong and what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut paths = Vec::new();
        for part in split_list(text) {
            paths.push(SplitPath::parse(part)?);
        }
        let Some(first) = paths.first() else {
            return Err("it is empty; write a path, a URL or a glob such as `'data/*.csv'`".to_owned());
        };
        if let Some(other) = paths.iter().find(|path| path.root != first.root) {
            return Err(format!(
                "`{}` and `{}` are in different stores; make two sources and a view with UNION ALL",
                first.text, other.text
            ));
        }
        let shared = paths.iter().map(SplitPath::folder_depth).min().unwrap_or(0);
        let shared = (0..shared)
            .take_while(|depth| paths.iter().all(|path| path.segments.get(*depth) == first.segments.get(*depth)))
            .count();
        let folder = format!("{}{}", first.root, first.segments[..shared].join("/"));
        let folder = if folder.is_empty() { ".".to_owned() } else { folder };
        let patterns = paths.iter().map(|path| path.below(shared)).collect::<Result<_, _>>()?;
        Ok(Self { folder, patterns })
    }

    /// Whether an object (relative path) is meant. `has_format_extension` decides for objects in a folder.
    pub(super) fn matches(&self, path: &str, has_format_extension: impl Fn(&str) -> bool) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(path, &has_format_extension))
    }
}

impl PathPattern {
    /// The deepest folder (or object) that holds everything meant: where a listing begins.
    pub(super) fn list_prefix(&self) -> &str {
        match self {
            Self::Literal { path, .. } => path,
            Self::Glob { folder, .. } => folder,
        }
    }

    /// Whether it can only mean one object.
    pub(super) fn is_object(&self) -> bool {
        matches!(self, Self::Literal { is_folder: false, .. })
    }

    /// Whether the folder (relative path) can hold an object that is meant, or is on the way to one.
    pub(super) fn may_hold(&self, folder: &str) -> bool {
        match self {
            Self::Literal { .. } => true,
            Self::Glob { patterns, .. } => patterns.iter().any(|glob| glob.may_hold(folder)),
        }
    }

    /// Whether objects are meant at any depth.
    pub(super) fn crosses_folders(&self) -> bool {
        match self {
            Self::Literal { .. } => true,
            Self::Glob { patterns, .. } => patterns.iter().any(|glob| glob.folders.contains(&FolderPattern::Any)),
        }
    }

    fn matches(&self, path: &str, has_format_extension: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Literal { path: literal, is_folder } => {
                (path == literal && !is_folder)
                    || below(path, literal).is_some_and(|rest| !is_hidden(rest) && has_format_extension(path))
            }
            Self::Glob { folder, patterns } => {
                below(path, folder).is_some_and(|rest| !is_hidden(rest))
                    && patterns.iter().any(|glob| glob.whole.matches_with(path, MATCH_OPTIONS))
            }
        }
    }
}

impl Glob {
    fn parse(text: &str) -> Result<Self, String> {
        let pattern = |text: &str| Pattern::new(text).map_err(|error| format!("`{text}` is no glob: {}", error.msg));
        let whole = pattern(text)?;
        let mut folders = Vec::new();
        for (at, name) in text.split('/').enumerate() {
            if name == "**" {
                folders.push(FolderPattern::Any);
                break;
            }
            let is_last = text.split('/').count() == at + 1;
            if !is_last {
                folders.push(FolderPattern::One(pattern(name)?));
            }
        }
        Ok(Self { whole, folders })
    }

    fn may_hold(&self, folder: &str) -> bool {
        let mut folders = self.folders.iter();
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            match folders.next() {
                Some(FolderPattern::Any) => return true,
                Some(FolderPattern::One(pattern)) if pattern.matches_with(name, MATCH_OPTIONS) => {}
                Some(FolderPattern::One(_)) | None => return false,
            }
        }
        true
    }
}

/// The part of `path` below `folder`.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() {
        return Some(path);
    }
    path.strip_prefix(folder)?.strip_prefix('/')
}

/// Files of other programs' own affairs, as Spark and Hive see it: a name that begins with `.` or `_`, except a Hive
/// partition such as `_day=2013-01-01`.
pub(super) fn is_hidden(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with('.') || (name.starts_with('_') && !name.contains('=')))
}

/// A path as written, taken apart.
struct SplitPath<'a> {
    text: &'a str,
    /// What is before the first segment: `s3://lake/`, `/` or nothing.
    root: String,
    segments: Vec<&'a str>,
    is_folder: bool,
}

impl<'a> SplitPath<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let (root, rest) = match scheme(text) {
            None if text.starts_with('/') => ("/".to_owned(), &text[1..]),
            None => (String::new(), text),
            Some(scheme) => {
                let after = &text[scheme.len() + "://".len()..];
                let (host, rest) = after.split_once('/').unwrap_or((after, ""));
                if has_wildcard(host) {
                    return Err(format!("`{text}` has a wildcard in the name of its bucket; name one bucket"));
                }
                (format!("{scheme}://{host}/"), rest)
            }
        };
        let segments: Vec<_> = rest.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let is_folder = rest.is_empty() || rest.ends_with('/') || matches!(segments.last(), Some(&"..") | None);
        Ok(Self { text, root, segments, is_folder })
    }

    /// Leading segments that may be part of the shared folder: no wildcards, and never the last one, so that a path
    /// means the same whether it is a file or a folder.
    fn folder_depth(&self) -> usize {
        let literal = self.segments.iter().take_while(|part| !has_wildcard(part)).count();
        let last_is_up = self.segments.last() == Some(&"..");
        if literal == self.segments.len() && !last_is_up { literal.saturating_sub(1) } else { literal }
    }

    fn is_web(&self) -> bool {
        matches!(scheme(&self.root), Some("http" | "https"))
    }

    fn below(&self, depth: usize) -> Result<PathPattern, String> {
        let rest = &self.segments[depth..];
        let literal = rest.iter().take_while(|part| !has_wildcard(part)).count();
        if rest.contains(&"..") {
            return Err(format!("`{}` has `..` where paths differ; write it without", self.text));
        }
        if literal == rest.len() {
            let path = if self.is_web() { decoded(&rest.join("/"))? } else { rest.join("/") };
            return Ok(PathPattern::Literal { path, is_folder: self.is_folder });
        }
        let mut text = rest.join("/");
        if self.is_folder {
            text.push_str("/**");
        }
        let patterns = expand_braces(&text)?.iter().map(|text| Glob::parse(text)).collect::<Result<_, _>>()?;
        Ok(PathPattern::Glob { folder: rest[..literal].join("/"), patterns })
    }
}

/// What the segments of a URL of a web server name: `%20` there is a blank. The key of an object in a bucket is spelled as
/// it is, and so may hold a `%20`.
fn decoded(segments: &str) -> Result<String, String> {
    let path = StorePath::from_url_path(segments).map_err(|error| error.to_string())?;
    Ok(path.as_ref().to_owned())
}

/// Whether `text` contains a wildcard.
fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// Splits at commas outside braces and brackets.
fn split_list(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let parts = text.split(move |c: char| {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Most alternatives of one glob: each is tried against every object.
const ALTERNATIVES_MAX: usize = 1_000;

/// Expands `{a,b}`, nested ones too.
fn expand_braces(text: &str) -> Result<Vec<String>, String> {
    let mut expanded = Vec::new();
    let mut waiting = vec![text.to_owned()];
    while let Some(pattern) = waiting.pop() {
        let Some(open) = pattern.rfind('{') else {
            expanded.push(pattern);
            continue;
        };
        let Some(length) = pattern[open..].find('}') else {
            return Err(format!("`{text}` lacks a `}}`"));
        };
        let (before, after) = (&pattern[..open], &pattern[open + length + 1..]);
        let alternatives = pattern[open + 1..open + length].split(',');
        waiting.extend(alternatives.map(|alternative| format!("{before}{alternative}{after}")));
        if waiting.len() + expanded.len() > ALTERNATIVES_MAX {
            return Err(format!("`{text}` has more than {ALTERNATIVES_MAX} alternatives"));
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, folder: &str, path: &str, expected: bool) {
        let patterns = PathPatterns::parse(text).unwrap();
        assert_eq!(patterns.folder, folder, "{text}");
        assert_eq!(patterns.matches(path, |path| path.rsplit('.').next() == Some("csv")), expected, "{text} on {path}");
    }

    #[test]
    fn file_or_folder_is_relative_to_its_parent() {
        check("data/a.csv", "data", "a.csv", true);
        check("data/a.csv", "data", "a.csv/part.csv", true);
        check("data/flights", "data", "flights/x/y.csv", true);
        check("data/flights/", "data", "flights/x/y.csv", true);
        check("data/flights/", "data", "flights", false);
        check("data/flights", "data", "flights2/y.csv", false);
        check("data/flights", "data", "flights/readme.md", false);
        check("a.csv", ".", "a.csv", true);
        check("/a.csv", "/", "a.csv", true);
        check("s3://lake/", "s3://lake/", "x/y.csv", true);
        check("s3://lake/in/a.csv", "s3://lake/in", "a.csv", true);
        check("../in/a.csv", "../in", "a.csv", true);
        check("..", "..", "a.csv", true);
    }

    #[test]
    fn star_stays_in_its_folder_and_two_cross_folders() {
        check("data/*.csv", "data", "a.csv", true);
        check("data/*.csv", "data", "sub/a.csv", false);
        check("data/**/*.csv", "data", "a.csv", true);
        check("data/**/*.csv", "data", "s/t/a.csv", true);
        check("data/*/a?.csv", "data", "s/ab.csv", true);
        check("data/a[0-3].csv", "data", "a2.csv", true);
        check("data/a[!0-3].csv", "data", "a2.csv", false);
        check("data/*/", "data", "x/y/z.bin", true);
    }

    #[test]
    fn folder_that_holds_nothing_meant_is_known() {
        let may_hold = |text: &str, folder: &str| PathPatterns::parse(text).unwrap().patterns[0].may_hold(folder);
        assert!(may_hold("data/*/a?/*.csv", ""));
        assert!(may_hold("data/*/a?/*.csv", "x"));
        assert!(may_hold("data/*/a?/*.csv", "x/ab"));
        assert!(!may_hold("data/*/a?/*.csv", "x/b"));
        assert!(!may_hold("data/*/a?/*.csv", "x/ab/c"));
        assert!(!may_hold("data/*.csv", "x"));
        assert!(may_hold("data/a*/**/*.csv", "ab/c/d"));
        assert!(!may_hold("data/a*/**/*.csv", "b"));
        assert!(may_hold("data/{a,b}/*.csv", "b"));
        assert!(may_hold("data/*/", "x/y/z"));
        assert!(may_hold("data", "x"));
    }

    #[test]
    fn percent_signs_are_decoded_for_web_servers_only() {
        check("https://host/in/a%20b.csv", "https://host/in", "a b.csv", true);
        check("s3://lake/in/a%20b.csv", "s3://lake/in", "a%20b.csv", true);
        check("s3://lake/day=10%3A00/*.csv", "s3://lake/day=10%3A00", "a.csv", true);
        assert!(PathPatterns::parse("https://host/in/%ff.csv").is_err());
    }

    #[test]
    fn braces_are_alternatives() {
        check("data/{a,b}/{x,y{1,2}}.csv", "data", "b/y2.csv", true);
        check("data/{a,b}/{x,y{1,2}}.csv", "data", "b/y3.csv", false);
        assert!(PathPatterns::parse("data/{a,b").is_err());
    }

    #[test]
    fn list_shares_the_deepest_folder() {
        check("d/a/x.csv, d/b/*.csv", "d", "b/y.csv", true);
        check("d/a/x.csv, d/b/*.csv", "d", "a/x.csv", true);
        check("d/a/x.csv, d/b/*.csv", "d", "a/y.csv", false);
        check("x.csv,y.csv", ".", "y.csv", true);
        assert!(PathPatterns::parse("s3://a/x,s3://b/x").is_err());
        assert!(PathPatterns::parse(" , ").is_err());
    }

    #[test]
    fn hidden_files_are_left_out_unless_named() {
        check("data", ".", "data/_SUCCESS.csv", false);
        check("data", ".", "data/.tmp/a.csv", false);
        check("data", ".", "data/_day=1/a.csv", true);
        check("data/**", "data", "_temporary/a.csv", false);
        check("data/_old/*.csv", "data/_old", "a.csv", true);
        check("data/_a.csv", "data", "_a.csv", true);
    }
}
