//! A call of a window function as written: which argument is which.

use bessemer_schemas::{PARTITION_BY, WINDOW_FUNCTIONS, nearest};
use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, Spanned, TableFactor};
use sqlparser::tokenizer::Span;

use crate::expression::list;
use crate::reader::Fault;
use crate::syntax::{ident_value, object_value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl Function {
    fn of(name: &ObjectName) -> Option<Self> {
        let functions = [Self::Tumble, Self::Hop, Self::Cumulate, Self::Session];
        let at = WINDOW_FUNCTIONS.iter().position(|function| *function == object_value(name))?;
        functions.get(at).copied()
    }

    /// Its arguments after the data, in their order, by the names that Flink gives them.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["timecol", "size", "offset"],
            Self::Hop => &["timecol", "slide", "size", "offset"],
            Self::Cumulate => &["timecol", "step", "size", "offset"],
            Self::Session => &["timecol", "gap"],
        }
    }

    /// How it is written.
    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "`TUMBLE(t, at, INTERVAL '1 hour')`: data, event time, size and, if need be, an offset",
            Self::Hop => {
                "`HOP(t, at, INTERVAL '5 minutes', INTERVAL '1 hour')`: data, event time, slide, size and, if need \
                 be, an offset"
            }
            Self::Cumulate => {
                "`CUMULATE(t, at, INTERVAL '1 hour', INTERVAL '1 day')`: data, event time, step, size and, if need \
                 be, an offset"
            }
            Self::Session => "`SESSION(t PARTITION BY k, at, INTERVAL '30 minutes')`: data, keys, event time and gap",
        }
    }
}

/// A call of a window function.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(super) function: Function,
    /// Its name, in its place.
    pub(crate) name: &'a ObjectName,
    pub(super) keys: Vec<&'a Expr>,
    data: Option<&'a Expr>,
    arguments: Vec<(&'static str, &'a Expr)>,
    faults: Vec<Fault>,
}

impl<'a> Call<'a> {
    /// The call that stands in `FROM`, if it is one of a window function.
    pub(crate) fn of(factor: &'a TableFactor) -> Option<Self> {
        let TableFactor::Table { name, args: Some(args), .. } = factor else { return None };
        let function = Function::of(name)?;
        let mut call = Self { function, name, data: None, keys: Vec::new(), arguments: Vec::new(), faults: Vec::new() };
        call.bind(&args.args);
        Some(call)
    }

    pub(crate) fn is_session(&self) -> bool {
        self.function == Function::Session
    }

    /// The query that gives the rows.
    pub(crate) fn data(&self) -> Option<&'a Query> {
        match self.data? {
            Expr::Subquery(query) => Some(query),
            _ => None,
        }
    }

    pub(super) fn argument(&self, parameter: &str) -> Option<&'a Expr> {
        self.arguments.iter().find(|(name, _)| *name == parameter).map(|(_, expr)| *expr)
    }

    /// What is wrong with the arguments, whatever they are.
    pub(super) fn take_faults(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.faults)
    }

    fn bind(&mut self, args: &'a [FunctionArg]) {
        let mut unnamed = Vec::new();
        let mut after_keys = None;
        for arg in args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => unnamed.push(expr),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } if name.value == PARTITION_BY => {
                    self.partition_by(expr);
                    after_keys = Some(unnamed.len());
                }
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => self.named(name, expr),
                other => self.wrong(other.span(), format!("`{other}` is no argument of `{}`", self.name)),
            }
        }
        // What follows `PARTITION BY a` up to the last arguments are keys too: `PARTITION BY a, b, at, gap`.
        let open = self.parameters_left().len();
        if let Some(from) = after_keys {
            let keys = (unnamed.len() - from).saturating_sub(open);
            self.keys.extend(unnamed.drain(from..from + keys));
        }
        let mut unnamed = unnamed.into_iter();
        if self.data.is_none() {
            self.data = unnamed.next();
        }
        for parameter in self.parameters_left() {
            self.arguments.extend(unnamed.next().map(|expr| (parameter, expr)));
        }
        if let Some(surplus) = unnamed.next() {
            self.wrong(surplus.span(), format!("`{}` has too many arguments", self.name));
        }
        self.missing();
    }

    fn parameters_left(&self) -> Vec<&'static str> {
        let parameters = self.function.parameters().iter().copied();
        parameters.filter(|parameter| self.argument(parameter).is_none()).collect()
    }

    fn partition_by(&mut self, keys: &'a Expr) {
        if self.function != Function::Session {
            self.faults.push(Fault {
                span: keys.span(),
                message: format!("`{}` takes no PARTITION BY: its windows are the same for all rows", self.name),
                help: "leave it out, and write the key in GROUP BY, beside `window_start, window_end`".to_owned(),
            });
        }
        match keys {
            Expr::Tuple(keys) => self.keys.extend(keys),
            Expr::Nested(key) => self.keys.push(key),
            key => self.keys.push(key),
        }
    }

    fn named(&mut self, name: &Ident, expr: &'a Expr) {
        let written = ident_value(name).to_ascii_lowercase();
        let parameter = self.function.parameters().iter().find(|parameter| **parameter == written);
        match parameter {
            _ if written == "data" => self.data = Some(expr),
            Some(parameter) if self.argument(parameter).is_some() => {
                self.wrong(name.span, format!("argument `{written}` is given twice"));
            }
            Some(parameter) => self.arguments.push((parameter, expr)),
            None => {
                let names: Vec<_> = std::iter::once("data").chain(self.function.parameters().iter().copied()).collect();
                let help = match nearest(&written, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its arguments are {}", list(&names)),
                };
                let message = format!("`{}` has no argument `{written}`", self.name);
                self.faults.push(Fault { span: name.span, message, help });
            }
        }
    }

    fn missing(&mut self) {
        if !self.faults.is_empty() {
            return;
        }
        let missing: Vec<_> = self.parameters_left().into_iter().filter(|parameter| *parameter != "offset").collect();
        if self.data.is_none() {
            self.wrong(self.name.span(), format!("`{}` has no data to read", self.name));
        } else if !missing.is_empty() {
            let words: Vec<_> = missing.iter().map(|parameter| what(parameter)).collect();
            self.wrong(self.name.span(), format!("`{}` lacks {}", self.name, words.join(" and ")));
        } else if let Some(data) = self.data.filter(|_| self.data().is_none()) {
            self.wrong(data.span(), format!("`{}` reads a source, table, view or query, not `{data}`", self.name));
        }
    }

    fn wrong(&mut self, span: Span, message: String) {
        self.faults.push(Fault { span, message, help: format!("write {}", self.function.usage()) });
    }
}

/// A parameter in words.
pub(super) fn what(parameter: &str) -> String {
    match parameter {
        "timecol" => "the event time".to_owned(),
        other => format!("the {other}"),
    }
}
