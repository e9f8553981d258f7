//! Bessemer's SQL: text to [`Definition`](bessemer_schemas::Definition) and diagnostics, and how a diagnostic is shown.
//!
//! ```text
//! text ─► tokens ─► statements ─► trees and options ─► Definition
//!            │           │               │                 │
//!            └───────────┴───────┬───────┴─────────────────┘
//!                                ▼
//!                   Diagnostic ─► file, line, column, caret, help
//! ```
//!
//! Every problem of all files is found in one run: a broken statement does not hide the next, a broken column,
//! option or constraint not its neighbour. Queries stay `sqlparser` trees, in the dialect that DataFusion plans.
//!
//! It refuses to read files, the environment or the network: texts and a function for variables come from the caller.
//! It knows no connector: which options there are is the business of whoever takes them.
//!
//! ```
//! use bessemer_schemas::SourceFile;
//! use bessemer_sql::{parse, render};
//!
//! let text = "CREATE SOURCE flights (id BIGNIT) WITH (path = 'flights/');";
//! let file = SourceFile { path: "flights.sql".into(), text: text.into() };
//! let (_, diagnostics) = parse(vec![file.clone()], &|_| None);
//! let error = diagnostics.iter().find(|diagnostic| diagnostic.is_error()).unwrap();
//! let shown = render(error, &bessemer_schemas::SourceFiles(vec![file]));
//! assert!(shown.starts_with("error: unknown type `BIGNIT`\n  --> flights.sql:1:27\n"));
//! assert!(shown.ends_with("= help: did you mean `BIGINT`?\n"));
//! ```

mod dialect;
mod lexer;
mod spelling;

mod balance;
mod context;
mod cursor;

mod column;
mod constraint;
mod data_type;
mod emit;
mod feature_set;
mod interval;
mod literal;
mod query;
mod source;
mod statement;
mod watermark;
mod with_options;

mod expr_check;
mod ident;
mod reads;
mod resolve;
mod source_check;

mod parse;
mod render;

pub use parse::parse;
pub use render::{Style, render, render_all, render_all_styled, render_styled};
