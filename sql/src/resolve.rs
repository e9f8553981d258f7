//! All statements of all files to one [`Definition`]: one namespace, views in the order of what they read, and every
//! problem between statements.
//!
//! What is broken is left out, and with it what reads it: so whoever plans the rest reports no error that only follows
//! from another one.

use std::collections::{BTreeMap, BTreeSet};

use bessemer_schemas::{
    Definition, Diagnostic, Name, OptionEntry, OptionMap, PipelineDefinition, Position, SourceFiles, Span, nearest,
};
use sqlparser::ast::Query;

use crate::reads::reads;
use crate::statement::{Kind, Parsed, Statement};
use crate::with_options::repeated;

/// Joins the statements; problems are appended to `diagnostics`.
pub(crate) fn resolve(
    files: SourceFiles,
    statements: Vec<Parsed>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Definition> {
    let mut graph = Graph::new(&files, &statements, diagnostics);
    graph.read(&files, diagnostics);
    graph.cycles(&files, diagnostics);
    graph.spread();
    graph.unused(&files, diagnostics);

    let has_errors = diagnostics.iter().any(Diagnostic::is_error);
    let definition = Assembly { order: graph.order(), files, diagnostics }.assemble(statements);
    let is_empty = definition.sources.is_empty() && definition.views.is_empty() && definition.feature_sets.is_empty();
    if has_errors && is_empty { None } else { Some(definition) }
}

/// What the names of a pipeline stand for and which reads which.
struct Graph<'s> {
    nodes: Vec<Node<'s>>,
    /// The node that owns a name; a second statement of that name is a node without one.
    by_name: BTreeMap<&'s str, usize>,
    /// All queries are understood, so what none of them reads is read by none.
    is_complete: bool,
}

struct Node<'s> {
    statement: usize,
    kind: Kind,
    name: &'s Name,
    query: Option<&'s Query>,
    /// Nodes that its query reads.
    reads: Vec<usize>,
    is_sound: bool,
}

impl<'s> Graph<'s> {
    fn new(files: &SourceFiles, statements: &'s [Parsed], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let is_complete = statements.iter().all(|parsed| parsed.is_sound || parsed.is_without_query());
        let mut graph = Self { nodes: Vec::new(), by_name: BTreeMap::new(), is_complete };
        for (statement, parsed) in statements.iter().enumerate() {
            let Some((kind, name)) = parsed.name.as_ref().filter(|(kind, _)| kind.is_relation()) else { continue };
            let mut is_sound = parsed.is_sound;
            match graph.by_name.get(name.value.as_str()) {
                Some(first) => {
                    diagnostics.push(name_twice(files, *kind, name, &graph.nodes[*first]));
                    graph.nodes[*first].is_sound = false;
                    is_sound = false;
                }
                None => {
                    graph.by_name.insert(&name.value, graph.nodes.len());
                }
            }
            let query = match &parsed.statement {
                Some(Statement::View(view)) => Some(view.query.as_ref()),
                Some(Statement::FeatureSet(set)) => Some(set.query.as_ref()),
                _ => None,
            };
            graph.nodes.push(Node { statement, kind: *kind, name, query, reads: Vec::new(), is_sound });
        }
        graph
    }

    /// Finds what each query reads.
    fn read(&mut self, files: &SourceFiles, diagnostics: &mut Vec<Diagnostic>) {
        for at in 0..self.nodes.len() {
            let Some(query) = self.nodes[at].query else { continue };
            let (relations, mut problems) = reads(self.nodes[at].name.span.file, query);
            let mut found = Vec::new();
            for relation in &relations {
                match self.by_name.get(relation.value.as_str()) {
                    Some(target) => {
                        problems.extend(self.refuse_set(files, *target, relation));
                        found.push(*target);
                    }
                    None => problems.push(self.unknown(relation)),
                }
            }
            let has_errors = problems.iter().any(Diagnostic::is_error);
            let node = &mut self.nodes[at];
            node.reads = found;
            node.is_sound &= !has_errors;
            self.is_complete &= !has_errors;
            diagnostics.append(&mut problems);
        }
    }

    fn refuse_set(&self, files: &SourceFiles, target: usize, relation: &Name) -> Option<Diagnostic> {
        let node = &self.nodes[target];
        (node.kind == Kind::FeatureSet).then(|| {
            let message = format!("a query cannot read feature set `{}`", relation.value);
            Diagnostic::error(message, relation.span).with_help(format!(
                "put the query of `{}` ({}) in a view and read that view in both",
                relation.value,
                place(files, node.name.span)
            ))
        })
    }

    fn unknown(&self, relation: &Name) -> Diagnostic {
        let readable: Vec<&str> = self
            .nodes
            .iter()
            .filter(|node| node.kind != Kind::FeatureSet)
            .map(|node| node.name.value.as_str())
            .collect();
        let help = match nearest(&relation.value, readable.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if readable.is_empty() => "create it first: `CREATE SOURCE name WITH (…)`".to_owned(),
            None => {
                format!("there are {}", readable.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
            }
        };
        let message = format!("there is no source, table or view `{}`", relation.value);
        Diagnostic::error(message, relation.span).with_help(help)
    }

    /// Reports each cycle once, at the view of it that is written first.
    fn cycles(&mut self, files: &SourceFiles, diagnostics: &mut Vec<Diagnostic>) {
        let mut in_cycle = BTreeSet::new();
        for start in 0..self.nodes.len() {
            if in_cycle.contains(&start) {
                continue;
            }
            let Some(path) = self.path_back(start) else { continue };
            let names: Vec<&str> = path.iter().map(|at| self.nodes[*at].name.value.as_str()).collect();
            let node = &self.nodes[start];
            let diagnostic = if let [_] = names.as_slice() {
                Diagnostic::error(format!("view `{}` reads itself", node.name.value), node.name.span)
                    .with_help("name what it should read; for a step that calls itself write `WITH RECURSIVE`")
            } else {
                let cycle = names.iter().chain(names.first()).map(|name| format!("`{name}`"));
                let message = format!("views read each other in a circle: {}", cycle.collect::<Vec<_>>().join(" → "));
                let last = path.last().map_or(node, |at| &self.nodes[*at]);
                Diagnostic::error(message, node.name.span).with_help(format!(
                    "break the circle, for example where `{}` ({}) reads `{}`",
                    last.name.value,
                    place(files, last.name.span),
                    node.name.value
                ))
            };
            diagnostics.push(diagnostic);
            in_cycle.extend(path);
        }
        for at in in_cycle {
            self.nodes[at].is_sound = false;
        }
    }

    /// The shortest way from a node back to itself.
    fn path_back(&self, start: usize) -> Option<Vec<usize>> {
        let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for next in &self.nodes[at].reads {
                if *next == start {
                    let mut path = vec![at];
                    while let Some(before) = path.last().and_then(|at| came_from.get(at)) {
                        path.push(*before);
                    }
                    path.reverse();
                    return Some(path);
                }
                if !came_from.contains_key(next) {
                    came_from.insert(*next, at);
                    queue.push_back(*next);
                }
            }
        }
        None
    }

    /// What reads something broken is left out too.
    fn spread(&mut self) {
        loop {
            let broken: Vec<usize> = (0..self.nodes.len())
                .filter(|at| {
                    self.nodes[*at].is_sound && self.nodes[*at].reads.iter().any(|to| !self.nodes[*to].is_sound)
                })
                .collect();
            if broken.is_empty() {
                return;
            }
            for at in broken {
                self.nodes[at].is_sound = false;
            }
        }
    }

    fn unused(&self, files: &SourceFiles, diagnostics: &mut Vec<Diagnostic>) {
        if !self.is_complete {
            return;
        }
        if !self.nodes.iter().any(|node| node.kind == Kind::FeatureSet) {
            let span = self.nodes.last().map_or_else(|| end_of(files), |node| node.name.span);
            diagnostics.push(
                Diagnostic::warning("this pipeline has no feature set, so it writes nothing", span)
                    .with_help("add `CREATE FEATURE SET name WITH (path = '…') AS SELECT …`"),
            );
            return;
        }
        let read: BTreeSet<usize> = self.nodes.iter().flat_map(|node| node.reads.iter().copied()).collect();
        for (at, node) in self.nodes.iter().enumerate() {
            if node.is_sound && node.kind != Kind::FeatureSet && !read.contains(&at) {
                let message = format!("{} `{}` is never read", node.kind.word(), node.name.value);
                let help = "read it in a query, or remove the statement";
                diagnostics.push(Diagnostic::warning(message, node.name.span).with_help(help));
            }
        }
    }

    /// The sound statements: relations in an order in which each comes after what it reads.
    fn order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut done = BTreeSet::new();
        let mut pending: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].is_sound).collect();
        while !pending.is_empty() {
            let ready = pending.iter().position(|at| self.nodes[*at].reads.iter().all(|to| done.contains(to)));
            // Without a cycle there is always one; a cycle has already made its views unsound.
            let Some(ready) = ready else { break };
            let at = pending.remove(ready);
            done.insert(at);
            order.push(self.nodes[at].statement);
        }
        order
    }
}

fn name_twice(files: &SourceFiles, kind: Kind, name: &Name, first: &Node<'_>) -> Diagnostic {
    let message = format!("{} `{}` has the name of a {}", kind.word(), name.value, first.kind.word());
    let message = if kind == first.kind { format!("two {}s are named `{}`", kind.word(), name.value) } else { message };
    Diagnostic::error(message, name.span)
        .with_help(format!("the other is at {}: rename one of the two", place(files, first.name.span)))
}

/// `file:line:column`, for the second place of a message.
fn place(files: &SourceFiles, span: Span) -> String {
    let path = files.file(span.file).map_or("?", |file| file.path.as_str());
    format!("{path}:{}:{}", span.start.line, span.start.column)
}

fn end_of(files: &SourceFiles) -> Span {
    let first = Position { line: 1, column: 1 };
    let file = files.0.first().map(|_| bessemer_schemas::FileId(0)).unwrap_or_default();
    Span { file, start: first, end: first }
}

/// Moves the sound statements into a definition.
struct Assembly<'d> {
    order: Vec<usize>,
    files: SourceFiles,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Assembly<'_> {
    fn assemble(self, statements: Vec<Parsed>) -> Definition {
        let rank: BTreeMap<usize, usize> = self.order.iter().enumerate().map(|(rank, at)| (*at, rank)).collect();
        let mut pipeline: Option<PipelineDefinition> = None;
        let mut settings: Vec<OptionEntry> = Vec::new();
        let mut views = BTreeMap::new();
        let (mut sources, mut feature_sets) = (Vec::new(), Vec::new());
        for (at, parsed) in statements.into_iter().enumerate() {
            match (parsed.statement, rank.get(&at)) {
                (Some(Statement::Pipeline(next)), _) => match &pipeline {
                    Some(first) => self.diagnostics.push(pipeline_twice(&self.files, &next.name, &first.name)),
                    None => pipeline = Some(next),
                },
                (Some(Statement::Setting(entry)), _) => match settings.iter().find(|other| other.key == entry.key) {
                    Some(first) => self.diagnostics.push(setting_twice(&self.files, &entry, first)),
                    None => settings.push(entry),
                },
                (Some(Statement::Source(source)), Some(_)) => sources.push(*source),
                (Some(Statement::View(view)), Some(rank)) => {
                    views.insert(*rank, view);
                }
                (Some(Statement::FeatureSet(set)), Some(_)) => feature_sets.push(set),
                _ => {}
            }
        }
        let pipeline = pipeline.unwrap_or_else(|| unnamed(&self.files));
        let settings = OptionMap::new("the engine", pipeline.name.span, settings);
        Definition {
            files: self.files,
            pipeline,
            settings,
            sources,
            views: views.into_values().collect(),
            feature_sets,
        }
    }
}

fn pipeline_twice(files: &SourceFiles, name: &Name, first: &Name) -> Diagnostic {
    let message = format!("a second `CREATE PIPELINE`: `{}`", name.value);
    Diagnostic::error(message, name.span).with_help(format!(
        "all files together are one pipeline, `{}` ({}): remove one of the two statements",
        first.value,
        place(files, first.span)
    ))
}

fn setting_twice(files: &SourceFiles, entry: &OptionEntry, first: &OptionEntry) -> Diagnostic {
    let help = format!("it is already set at {}: keep one of the two", place(files, first.key_span));
    repeated(entry, first.key_span).with_help(help)
}

/// A pipeline without `CREATE PIPELINE` is named after its first file.
fn unnamed(files: &SourceFiles) -> PipelineDefinition {
    let path = files.0.first().map_or("", |file| file.path.as_str());
    let file = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let stem = file.strip_suffix(".sql").unwrap_or(file);
    let mut value: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if !value.starts_with(|c: char| c.is_ascii_alphabetic()) {
        value.insert_str(0, "pipeline_");
        value.truncate(value.trim_end_matches('_').len());
    }
    let name = Name { value, span: end_of(files) };
    PipelineDefinition { options: OptionMap::new(format!("pipeline `{}`", name.value), name.span, Vec::new()), name }
}
