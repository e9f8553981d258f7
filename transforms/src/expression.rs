//! Checks single expressions and says what is wrong with them, at the smallest part that is wrong.
//!
//! DataFusion stops at the first error and often without a place. So an expression that it refuses is taken apart:
//! each operand is planned alone, every one that fails is looked into further, and where all operands are fine the
//! fault is the operator's own and is told at its place.

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, TimeUnit};
use bessemer_schemas::{Diagnostic, FileId, Span, nearest};
use datafusion::common::{DFSchema, DataFusionError, SchemaError, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast::{self, BinaryOperator, Function, Ident, Spanned, UnaryOperator};

use crate::catalog::Catalog;
use crate::comparison::Mixed;
use crate::syntax::{Children, argument_exprs, ident_value, object_value, place};
use crate::type_name::{is_text, is_time, sql_type_name};

/// How many columns a help lists at most.
const COLUMNS_LISTED: usize = 12;

/// Where an expression stands: its file, its scope, and the place to fall back to.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) catalog: &'a Catalog<'a>,
    pub(crate) schema: &'a DFSchema,
    pub(crate) context: &'a PlannerContext,
    pub(crate) file: FileId,
    pub(crate) fallback: Span,
}

impl Scope<'_> {
    /// The planned expression and its type, or every fault found in it.
    pub(crate) fn check(&self, expr: &ast::Expr) -> Result<(Expr, DataType), Vec<Diagnostic>> {
        self.plan(expr).map_err(|error| {
            let mut found = Vec::new();
            self.blame(expr, &error, &mut found);
            found
        })
    }

    fn plan(&self, expr: &ast::Expr) -> Result<(Expr, DataType), DataFusionError> {
        let planned = self.catalog.plan_expr(expr, self.schema, self.context)?;
        let data_type = planned.get_type(self.schema)?;
        Ok((planned, data_type))
    }

    fn blame(&self, expr: &ast::Expr, error: &DataFusionError, found: &mut Vec<Diagnostic>) {
        let before = found.len();
        if let ast::Expr::Function(function) = expr
            && !self.catalog.is_function(&object_value(&function.name))
        {
            found.push(self.unknown_function(function, self.span(expr)));
        }
        let children = Children::of(expr);
        for child in &children.exprs {
            if let Err(error) = self.plan(child) {
                self.blame(child, &error, found);
            }
        }
        for query in &children.queries {
            let mut context = self.context.clone();
            context.append_outer_query_schema(self.schema.clone().into());
            crate::blame::blame_query(self.catalog, query, &context, self.file, self.span(expr), found);
        }
        if found.len() == before {
            found.push(self.describe(expr, error));
        }
    }

    pub(crate) fn span(&self, expr: &ast::Expr) -> Span {
        place(self.file, expr.span(), self.fallback)
    }

    fn describe(&self, expr: &ast::Expr, error: &DataFusionError) -> Diagnostic {
        let span = self.span(expr);
        if Mixed::of(error).is_some_and(Mixed::is_literal) {
            return told(error, span);
        }
        match expr {
            ast::Expr::Identifier(ident) => self.unknown_column(std::slice::from_ref(ident), error, span),
            ast::Expr::CompoundIdentifier(parts) => self.unknown_column(parts, error, span),
            ast::Expr::Function(function) => self.bad_call(function, error, span),
            ast::Expr::Interval(_) => Diagnostic::error(format!("`{expr}` is no length of time"), span)
                .with_help("write a number and a unit, such as `INTERVAL '90 minutes'` or `INTERVAL '1' HOUR`"),
            ast::Expr::BinaryOp { left, op, right } => self.bad_operands(left, op, right, error, span),
            ast::Expr::UnaryOp { op, expr } => self.bad_operand(*op, expr, span),
            ast::Expr::Like { expr, pattern, .. }
            | ast::Expr::ILike { expr, pattern, .. }
            | ast::Expr::SimilarTo { expr, pattern, .. }
            | ast::Expr::RLike { expr, pattern, .. } => self.bad_pattern(expr, pattern, span),
            ast::Expr::Between { expr, low, high, .. } => {
                self.bad_comparison("BETWEEN", &[expr.as_ref(), low.as_ref(), high.as_ref()], span)
            }
            ast::Expr::InList { expr, list, .. } => {
                let operands: Vec<_> = std::iter::once(expr.as_ref()).chain(list).collect();
                self.bad_comparison("IN", &operands, span)
            }
            ast::Expr::IsDistinctFrom(left, right) | ast::Expr::IsNotDistinctFrom(left, right) => {
                self.bad_comparison("IS DISTINCT FROM", &[left.as_ref(), right.as_ref()], span)
            }
            ast::Expr::Case { operand: Some(_), .. } if Mixed::of(error).is_some() => told(error, span),
            ast::Expr::Cast { expr, data_type, .. } => self.bad_cast(expr, data_type, error, span),
            ast::Expr::Case { .. } => Diagnostic::error("the branches of this CASE have no type in common", span)
                .with_help("write `CAST(x AS …)` so that all branches have one type"),
            _ => told(error, span),
        }
    }

    fn unknown_column(&self, parts: &[Ident], error: &DataFusionError, span: Span) -> Diagnostic {
        let Some(column) = parts.last().map(ident_value) else {
            return told(error, span);
        };
        let written = parts.iter().map(ident_value).collect::<Vec<_>>().join(".");
        if is_ambiguous(error) {
            let owners = self.schema.qualified_fields_with_unqualified_name(&column);
            let choices: Vec<_> = owners
                .iter()
                .filter_map(|(qualifier, _)| qualifier.map(|q| format!("`{}.{column}`", q.table())))
                .collect();
            return Diagnostic::error(format!("column `{written}` is ambiguous"), span)
                .with_help(format!("qualify it: {}", choices.join(" or ")));
        }
        let qualifier = parts.len().checked_sub(2).and_then(|at| parts.get(at)).map(ident_value);
        let relations: Vec<&str> = {
            let mut names: Vec<_> = self.schema.iter().filter_map(|(q, _)| q.map(TableReference::table)).collect();
            names.dedup();
            names
        };
        if let Some(qualifier) = qualifier.as_deref()
            && !relations.contains(&qualifier)
        {
            let help = match nearest(qualifier, relations.iter().copied()) {
                Some(name) => format!("did you mean `{name}.{column}`?"),
                None if relations.is_empty() => format!("write `{column}`"),
                None => format!("what can be named here: {}", list(&relations)),
            };
            return Diagnostic::error(format!("`{qualifier}` is no table of this query"), span).with_help(help);
        }

        let of_qualifier = |candidate: Option<&str>| qualifier.is_none() || candidate.map(str::to_owned) == qualifier;
        let columns: Vec<&str> = self
            .schema
            .iter()
            .filter(|(q, _)| of_qualifier(q.map(TableReference::table)))
            .map(|(_, field)| field.name().as_str())
            .collect();
        let message = match &qualifier {
            Some(qualifier) => format!("`{qualifier}` has no column `{column}`"),
            None => format!("there is no column `{column}`"),
        };
        Diagnostic::error(message, span).with_help(self.column_help(&column, qualifier.as_deref(), &columns))
    }

    fn column_help(&self, column: &str, qualifier: Option<&str>, columns: &[&str]) -> String {
        if let Some(name) = nearest(column, columns.iter().copied()) {
            let name = if name == name.to_lowercase() { name.to_owned() } else { format!("\"{name}\"") };
            return match qualifier {
                Some(qualifier) => format!("did you mean `{qualifier}.{name}`?"),
                None => format!("did you mean `{name}`?"),
            };
        }
        let elsewhere = self.schema.qualified_fields_with_unqualified_name(column);
        if let Some((Some(owner), _)) = elsewhere.first() {
            return format!("did you mean `{}.{column}`?", owner.table());
        }
        if columns.is_empty() {
            "no column can be named here".to_owned()
        } else {
            format!("the columns are {}", list(columns))
        }
    }

    fn unknown_function(&self, function: &Function, span: Span) -> Diagnostic {
        let name = object_value(&function.name);
        let span = place(self.file, function.name.span(), span);
        let diagnostic = Diagnostic::error(format!("there is no function `{name}`"), span);
        match nearest(&name, self.catalog.function_names()) {
            Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
            None => diagnostic.with_help("the functions are those of DataFusion's SQL reference"),
        }
    }

    fn bad_call(&self, function: &Function, error: &DataFusionError, span: Span) -> Diagnostic {
        let name = object_value(&function.name);
        let types: Vec<_> = argument_exprs(function)
            .into_iter()
            .map(|arg| self.plan(arg).map_or_else(|_| "?".to_owned(), |(_, data_type)| sql_type_name(&data_type)))
            .collect();
        let message = if types.is_empty() {
            format!("`{name}` cannot be called without arguments")
        } else {
            format!("`{name}` cannot take ({})", types.join(", "))
        };
        let accepted = self.catalog.signatures(&name);
        let help = if accepted.is_empty() {
            plain_words(error)
        } else {
            let forms: Vec<_> = accepted.iter().map(|args| format!("`{name}({args})`")).collect();
            format!("it takes {}; write `CAST(x AS …)` to change a type", forms.join(" or "))
        };
        Diagnostic::error(message, span).with_help(help)
    }

    fn type_of(&self, expr: &ast::Expr) -> Option<DataType> {
        self.plan(expr).ok().map(|(_, data_type)| data_type)
    }

    fn bad_operands(
        &self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        error: &DataFusionError,
        span: Span,
    ) -> Diagnostic {
        let (Some(left_type), Some(right_type)) = (self.type_of(left), self.type_of(right)) else {
            return told(error, span);
        };
        let (left_name, right_name) = (sql_type_name(&left_type), sql_type_name(&right_type));
        if let BinaryOperator::And | BinaryOperator::Or = op {
            let wrong = if left_type == DataType::Boolean { right } else { left };
            return Diagnostic::error(format!("`{op}` needs conditions, not {left_name} and {right_name}"), span)
                .with_help(format!("write a condition, such as `{wrong} IS NOT NULL`"));
        }
        let help = match (is_time(&left_type), is_time(&right_type)) {
            (true, _) if !op_compares(op) => format!("write `{left} {op} INTERVAL '1 hour'`"),
            (_, true) if !op_compares(op) => format!("write `{right} {op} INTERVAL '1 hour'`"),
            // Text is what is most often there by mistake; otherwise bring the right side to the left.
            _ if is_text(&left_type) => format!("write `CAST({left} AS {right_name})`"),
            _ => format!("write `CAST({right} AS {left_name})`"),
        };
        Diagnostic::error(format!("`{op}` does not work on {left_name} and {right_name}"), span).with_help(help)
    }

    fn bad_operand(&self, op: UnaryOperator, expr: &ast::Expr, span: Span) -> Diagnostic {
        let name = self.type_of(expr).map_or_else(|| "this".to_owned(), |data_type| sql_type_name(&data_type));
        let wanted = if op == UnaryOperator::Not { "BOOLEAN" } else { "DOUBLE" };
        Diagnostic::error(format!("`{op}` does not work on {name}"), span)
            .with_help(format!("write `CAST({expr} AS {wanted})`"))
    }

    fn bad_pattern(&self, expr: &ast::Expr, pattern: &ast::Expr, span: Span) -> Diagnostic {
        let wrong = [expr, pattern].into_iter().find(|side| self.type_of(side).is_none_or(|found| !is_text(&found)));
        let wrong = wrong.unwrap_or(expr);
        let name = self.type_of(wrong).map_or_else(|| "this".to_owned(), |data_type| sql_type_name(&data_type));
        Diagnostic::error(format!("a pattern is matched against text, not {name}"), span)
            .with_help(format!("write `CAST({wrong} AS VARCHAR)`"))
    }

    fn bad_comparison(&self, what: &str, operands: &[&ast::Expr], span: Span) -> Diagnostic {
        let mut names: Vec<_> = operands
            .iter()
            .filter_map(|operand| self.type_of(operand))
            .map(|data_type| sql_type_name(&data_type))
            .collect();
        names.dedup();
        let wanted = names.first().cloned().unwrap_or_else(|| "…".to_owned());
        Diagnostic::error(format!("{what} cannot compare {}", names.join(", ")), span)
            .with_help(format!("write `CAST(x AS {wanted})`"))
    }

    fn bad_cast(&self, expr: &ast::Expr, to: &ast::DataType, error: &DataFusionError, span: Span) -> Diagnostic {
        let Some(from) = self.type_of(expr) else { return told(error, span) };
        // The target is a type if a null can be cast to it.
        let null = ast::Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(ast::Expr::Value(ast::Value::Null.into())),
            data_type: to.clone(),
            array: false,
            format: None,
        };
        if self.type_of(&null).is_some() {
            let possible: Vec<_> =
                TYPES.iter().filter(|(_, other)| can_cast_types(&from, other)).map(|(name, _)| *name).collect();
            return Diagnostic::error(format!("{} cannot be cast to {to}", sql_type_name(&from)), span)
                .with_help(format!("it can be cast to {}", list(&possible)));
        }
        let written = to.to_string();
        let names: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
        let diagnostic = Diagnostic::error(format!("there is no type `{written}`"), span);
        match nearest(&written, names.iter().copied()) {
            Some(name) => diagnostic.with_help(format!("did you mean `{name}`?")),
            None => diagnostic.with_help(format!("the types are {}", list(&names))),
        }
    }
}

fn op_compares(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

/// Types that a cast may name, as far as a help lists them.
const TYPES: [(&str, DataType); 11] = [
    ("BOOLEAN", DataType::Boolean),
    ("SMALLINT", DataType::Int16),
    ("INTEGER", DataType::Int32),
    ("BIGINT", DataType::Int64),
    ("REAL", DataType::Float32),
    ("DOUBLE", DataType::Float64),
    ("DECIMAL", DataType::Decimal128(38, 10)),
    ("VARCHAR", DataType::Utf8),
    ("BYTEA", DataType::Binary),
    ("DATE", DataType::Date32),
    ("TIMESTAMP", DataType::Timestamp(TimeUnit::Microsecond, None)),
];

/// `a`, `b`, `c`, and no more than a reader takes in.
pub(crate) fn list(names: &[&str]) -> String {
    let mut text = names.iter().take(COLUMNS_LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > COLUMNS_LISTED {
        text.push_str(", …");
    }
    text
}

pub(crate) fn is_ambiguous(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::SchemaError(inner, _)
        if matches!(inner.as_ref(), SchemaError::AmbiguousReference { .. }))
}

/// The engine's own words at a place: for what we have none for.
pub(crate) fn told(error: &DataFusionError, span: Span) -> Diagnostic {
    if let Some(mixed) = Mixed::of(error) {
        return Diagnostic::error(mixed.to_string(), span).with_help(mixed.help());
    }
    Diagnostic::error(plain_words(error), span)
        .with_help("write it in another way; a view for each part shows which one is refused")
}

/// What the engine says, without its prefixes and hints: for what we have no words of our own for.
pub(crate) fn plain_words(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::Diagnostic(diagnostic, _) => diagnostic.message.clone(),
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) | DataFusionError::Execution(text) => {
            text.clone()
        }
        DataFusionError::SQL(error, _) => error.to_string(),
        // A regular expression that does not parse: its last line says why.
        DataFusionError::External(error) => {
            let text = error.to_string();
            let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
        root => root.strip_backtrace(),
    };
    let line = text.lines().next().unwrap_or_default().trim().trim_end_matches(['.', ':']);
    // A function that says itself what it takes.
    let line =
        line.rsplit_once("user-defined coercion failed with: Error during planning: ").map_or(line, |(_, why)| why);
    let line = line.replace('\'', "`");
    let mut letters = line.chars();
    match letters.next() {
        // `LIMIT …` keeps its capitals, `Projections …` does not.
        Some(first) if !letters.clone().next().is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => line.clone(),
    }
}
