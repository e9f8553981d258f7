//! What a query reads, and what it may not contain. Names of `WITH` queries hide relations, as in SQL.

use std::convert::Infallible;
use std::ops::ControlFlow;

use bessemer_schemas::{Diagnostic, FileId, Name, Span};
use sqlparser::ast::{
    Expr, Function, ObjectName, Query, Select, SetExpr, Spanned, TableFactor, ValueWithSpan, Visit, Visitor,
};

use crate::expr_check;
use crate::ident;
use crate::spelling::names_window;

/// The relations that a query reads, each as often as it is named, and the problems that need no other statement.
pub(crate) fn reads(file: FileId, query: &Query) -> (Vec<Name>, Vec<Diagnostic>) {
    let mut walk = Walk { file, scopes: Vec::new(), relations: Vec::new(), problems: Vec::new() };
    let ControlFlow::Continue(()) = query.visit(&mut walk);
    (walk.relations, walk.problems)
}

struct Walk {
    file: FileId,
    scopes: Vec<Scope>,
    relations: Vec<Name>,
    problems: Vec<Diagnostic>,
}

/// The `WITH` of one query.
struct Scope {
    /// Name and address of each query; the address tells which one is being walked.
    ctes: Vec<(String, *const Query)>,
    /// How many of them are visible where the walk stands.
    visible: usize,
    is_recursive: bool,
}

impl Scope {
    fn of(file: FileId, query: &Query) -> Self {
        let with = query.with.as_ref();
        let ctes = with.map(|with| with.cte_tables.as_slice()).unwrap_or_default();
        Self {
            ctes: ctes
                .iter()
                .map(|cte| (ident::name(file, &cte.alias.name).value, std::ptr::from_ref(cte.query.as_ref())))
                .collect(),
            visible: 0,
            is_recursive: with.is_some_and(|with| with.recursive),
        }
    }

    fn position(&self, query: &Query) -> Option<usize> {
        self.ctes.iter().position(|(_, address)| std::ptr::eq(*address, query))
    }

    fn hides(&self, name: &str) -> bool {
        self.ctes.iter().take(self.visible).any(|(cte, _)| cte == name)
    }
}

impl Walk {
    fn report(&mut self, message: impl Into<String>, span: sqlparser::tokenizer::Span, help: &str) {
        let span = Span::from_tokens(self.file, span);
        self.problems.push(Diagnostic::error(message, span).with_help(help));
    }

    fn relation(&mut self, object: &ObjectName) {
        let Some(parts) = ident::parts(self.file, object) else { return };
        match parts.as_slice() {
            [name] if !self.scopes.iter().any(|scope| scope.hides(&name.value)) => self.relations.push(name.clone()),
            [_] | [] => {}
            [.., last] => {
                let help = format!("names have no schema or catalog: write `{}`", last.value);
                self.report(format!("`{object}` is no name of a source, table or view"), object.span(), &help);
            }
        }
    }

    /// What can be written after a table and the engine would pass over in silence.
    fn modifiers(&mut self, factor: &TableFactor) {
        let (sample, hints, with_ordinality) = match factor {
            TableFactor::Table { sample, with_hints, with_ordinality, .. } => {
                (sample.as_ref(), with_hints.as_slice(), *with_ordinality)
            }
            TableFactor::Derived { sample, .. } => (sample.as_ref(), &[][..], false),
            TableFactor::Function { with_ordinality, .. } | TableFactor::UNNEST { with_ordinality, .. } => {
                (None, &[][..], *with_ordinality)
            }
            _ => return,
        };
        if sample.is_some() {
            let help =
                "choose the rows by a key, so that they stay the same: `WHERE md5(key) LIKE '0%'` keeps one in sixteen";
            self.report("`TABLESAMPLE` would take other rows on every run", factor.span(), help);
        }
        if let Some(hint) = hints.first() {
            self.report("a query of a pipeline takes no table hints", hint.span(), "remove `WITH (…)`");
        }
        if with_ordinality {
            let help = "number the rows by `row_number() OVER (ORDER BY …)`";
            self.report("`WITH ORDINALITY` is not available", factor.span(), help);
        }
    }

    fn function(&mut self, function: &Function) {
        self.problems.extend(expr_check::volatile(self.file, function));
        if names_window(&function.name) {
            let message = format!("`{}` is a table function, which stands in FROM", function.name);
            let help = "write `FROM TUMBLE(t, at, INTERVAL '1 hour')` and `GROUP BY window_start, window_end`";
            self.report(message, function.name.span(), help);
        }
    }
}

impl Visitor for Walk {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Infallible> {
        if let Some(scope) = self.scopes.last_mut()
            && let Some(at) = scope.position(query)
        {
            scope.visible = at + usize::from(scope.is_recursive);
        }
        self.scopes.push(Scope::of(self.file, query));

        if matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)) {
            self.report("a query of a pipeline only reads", query.body.span(), "write `SELECT … FROM …`");
        }
        if !query.locks.is_empty() {
            self.report("a query of a pipeline takes no locks", query.span(), "remove `FOR UPDATE` or `FOR SHARE`");
        }
        if let Some(format) = &query.for_clause {
            let help = "remove it: `format` in `WITH (…)` of the feature set says how rows are written";
            self.report(format!("`{format}` is not PostgreSQL"), query.span(), help);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Infallible> {
        self.scopes.pop();
        if let Some(scope) = self.scopes.last_mut()
            && let Some(at) = scope.position(query)
        {
            scope.visible = at + 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Infallible> {
        if let Some(into) = &select.into {
            let help = "remove `INTO`: rows are written by `CREATE FEATURE SET name … AS SELECT …`";
            self.report("a query of a pipeline only reads", into.name.span(), help);
        }
        if select.top.is_some() {
            let help = "write `LIMIT n` at the end of the query";
            self.report("`SELECT TOP` is not PostgreSQL", select.select_token.0.span, help);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Infallible> {
        self.modifiers(factor);
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relation(name),
            TableFactor::Function { name, .. } if names_window(name) => {
                self.report("a window function stands for itself", name.span(), "remove `LATERAL`");
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        if let Expr::Function(function) = expr {
            self.function(function);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Infallible> {
        self.problems.extend(expr_check::variable(self.file, value));
        ControlFlow::Continue(())
    }
}
