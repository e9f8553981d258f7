//! From a call to a window: every argument looked at, every fault told.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan};
use sqlparser::ast::{self, FunctionArguments, Spanned};
use sqlparser::tokenizer::Span;

use super::call::{Function, what};
use super::interval::{NoLength, nanos_of};
use super::watermark::NoWatermark;
use super::{Aligned, Call, END, Kind, Length, Logs, START, Shape, Window};
use crate::reader::{Fault, Reader};
use crate::syntax::{argument_exprs, object_value};
use crate::type_name::{is_time, sql_type_name};

/// In how many windows a row may be: as many as a day has minutes.
const WINDOWS_MAX: i64 = 1_440;

impl Call<'_> {
    /// The window of this call over `data`, or nothing where it is refused.
    pub(crate) fn window(mut self, data: &LogicalPlan, logs: &Logs, reader: &mut dyn Reader) -> Option<Window> {
        let faults = self.take_faults();
        if !faults.is_empty() {
            for fault in faults {
                reader.refuse(fault);
            }
            return None;
        }
        let mut read = Read { call: &self, data, logs, reader };
        let names = read.names_are_free();
        let time = read.time();
        let unit = time.as_ref().map(|(_, unit)| *unit);
        let kind = read.kind(unit);
        let (time, _) = time?;
        names.then_some(Window { time, kind: kind? })
    }
}

struct Read<'a> {
    call: &'a Call<'a>,
    data: &'a LogicalPlan,
    logs: &'a Logs,
    reader: &'a mut dyn Reader,
}

/// A length and where it was written.
struct Written<'a> {
    length: Length,
    expr: &'a ast::Expr,
}

impl<'a> Read<'a> {
    fn refuse(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.reader.refuse(Fault { span, message: message.into(), help: help.into() });
    }

    /// The columns that the window adds must not be there already.
    fn names_are_free(&mut self) -> bool {
        let taken = [START, END].into_iter().find(|name| self.data.schema().has_column_with_unqualified_name(name));
        if let Some(name) = taken {
            let message = format!("the data of `{}` already has a column `{name}`", self.call.name);
            let help = format!("give it another name in a view or a query: `{name} AS inner_{name}`");
            self.refuse(self.call.name.span(), message, help);
        }
        taken.is_none()
    }

    fn time(&mut self) -> Option<(Column, TimeUnit)> {
        let written = self.call.argument("timecol")?;
        let expr = match descriptor(written) {
            Ok(expr) => expr,
            Err(span) => {
                self.refuse(span, "a window has one event time", "write `DESCRIPTOR(at)`, or `at` alone");
                return None;
            }
        };
        let Expr::Column(column) = self.reader.plan(expr, self.data.schema())? else {
            let help = "compute it as a column in a view or a query: `HOP((SELECT …, … AS at FROM t), at, …)`";
            self.refuse(expr.span(), "the event time of a window is a column", help);
            return None;
        };
        let at = self.data.schema().maybe_index_of_column(&column)?;
        let DataType::Timestamp(unit, _) = self.data.schema().field(at).data_type() else {
            self.no_timestamp(&column, at, expr.span());
            return None;
        };
        match self.logs.follows(self.data, &column) {
            Ok(_) => Some((column, *unit)),
            Err(reason) => {
                self.no_watermark(&column, &reason, expr.span());
                None
            }
        }
    }

    fn no_timestamp(&mut self, column: &Column, at: usize, span: Span) {
        let (name, data_type) = (&column.name, self.data.schema().field(at).data_type());
        let help = if is_time(data_type) {
            format!("write `CAST({name} AS TIMESTAMP) AS at` in a view or a query, and take the window over `at`")
        } else {
            "name the event time of the rows; text and numbers become times by `timestamp_format` of the source, or by \
             `to_timestamp(…)` in a generated column"
                .to_owned()
        };
        let message = format!("a window goes over a TIMESTAMP, but `{name}` is {}", sql_type_name(data_type));
        self.refuse(span, message, help);
    }

    fn no_watermark(&mut self, column: &Column, reason: &NoWatermark, span: Span) {
        let name = &column.name;
        let (message, help) = match reason {
            NoWatermark::Source { source, watermark: None } => (
                format!("source `{source}` has no watermark, so a window over it would never close"),
                format!("add `WATERMARK FOR {name} AS {name} - INTERVAL '5 minutes'` to the columns of `{source}`"),
            ),
            NoWatermark::Source { source, watermark: Some(watermark) } => (
                format!("`{name}` has no watermark, so a window over it would never close"),
                format!("the watermark of `{source}` is that of `{watermark}`: take the window over it"),
            ),
            NoWatermark::Computed => (
                format!("`{name}` is computed and follows no watermark, so a window over it would never close"),
                "take the window over the event time itself; `CAST`, `date_bin`, `date_trunc` and `± INTERVAL` keep \
                 its watermark, and so do `window_start` and `window_end`"
                    .to_owned(),
            ),
        };
        self.refuse(span, message, help);
    }

    fn kind(&mut self, unit: Option<TimeUnit>) -> Option<Kind> {
        match self.call.function {
            Function::Tumble => {
                let size = self.length("size", unit);
                let offset = self.offset(size.as_ref(), unit);
                let shape = Shape::Tumble { size: size?.length };
                Some(Kind::Aligned(Aligned { shape, offset: offset? }))
            }
            Function::Hop => {
                let (slide, size) = (self.length("slide", unit), self.length("size", unit));
                let offset = self.offset(size.as_ref(), unit);
                let (slide, size) = self.hop(&slide?, &size?)?;
                Some(Kind::Aligned(Aligned { shape: Shape::Hop { slide, size }, offset: offset? }))
            }
            Function::Cumulate => {
                let (step, size) = (self.length("step", unit), self.length("size", unit));
                let offset = self.offset(size.as_ref(), unit);
                let (step, size) = self.cumulate(&step?, &size?)?;
                Some(Kind::Aligned(Aligned { shape: Shape::Cumulate { step, size }, offset: offset? }))
            }
            Function::Session => {
                let keys: Vec<_> = self.call.keys.iter().map(|key| self.reader.plan(key, self.data.schema())).collect();
                let gap = self.length("gap", unit)?.length;
                Some(Kind::Session { keys: keys.into_iter().collect::<Option<_>>()?, gap })
            }
        }
    }

    fn hop(&mut self, slide: &Written<'_>, size: &Written<'_>) -> Option<(Length, Length)> {
        let (Length::Nanos(slide_nanos), Length::Nanos(size_nanos)) = (slide.length, size.length) else { return None };
        if slide_nanos > size_nanos {
            let message = format!("the slide {} is longer than the size {}", slide.expr, size.expr);
            let help = "rows between two windows would be in none: write a slide that is no longer than the size";
            self.refuse(slide.expr.span(), message, help);
            return None;
        }
        self.windows_of_a_row(slide_nanos, size_nanos, slide.expr)?;
        Some((slide.length, size.length))
    }

    fn cumulate(&mut self, step: &Written<'_>, size: &Written<'_>) -> Option<(Length, Length)> {
        let (Length::Nanos(step_nanos), Length::Nanos(size_nanos)) = (step.length, size.length) else { return None };
        if size_nanos % step_nanos != 0 {
            let message = format!("the size {} is no multiple of the step {}", size.expr, step.expr);
            let help = "a window grows step by step until it has its size: write a step that divides it";
            self.refuse(size.expr.span(), message, help);
            return None;
        }
        self.windows_of_a_row(step_nanos, size_nanos, step.expr)?;
        Some((step.length, size.length))
    }

    fn windows_of_a_row(&mut self, every: i64, size: i64, written: &ast::Expr) -> Option<()> {
        let windows = size / every + i64::from(size % every != 0);
        if windows > WINDOWS_MAX {
            let message = format!("every row would be in {windows} windows");
            let help = format!("write longer steps: up to {WINDOWS_MAX} windows of one row are computed");
            self.refuse(written.span(), message, help);
            return None;
        }
        Some(())
    }

    fn offset(&mut self, size: Option<&Written<'_>>, unit: Option<TimeUnit>) -> Option<Length> {
        let in_months = matches!(size.map(|size| size.length), Some(Length::Months(_)));
        let Some(expr) = self.call.argument("offset") else {
            return Some(if in_months { Length::Months(0) } else { Length::Nanos(0) });
        };
        let offset = self.read_length("offset", expr, unit)?;
        if size.is_some() && !offset.is_zero() && in_months != matches!(offset, Length::Months(_)) {
            let message = "an offset in months goes with a size in months, and no other does";
            let help = "write both in months or years, or both in weeks, days, hours, …";
            self.refuse(expr.span(), message, help);
            return None;
        }
        Some(if offset.is_zero() && in_months { Length::Months(0) } else { offset })
    }

    /// A length that is more than nothing, and of months only where windows may have them.
    fn length(&mut self, parameter: &str, unit: Option<TimeUnit>) -> Option<Written<'a>> {
        let expr = self.call.argument(parameter)?;
        let length = self.read_length(parameter, expr, unit)?;
        if !length.is_positive() {
            let message = format!("{} of `{}` is not more than nothing", what(parameter), self.call.name);
            self.refuse(expr.span(), message, "write a positive interval, such as `INTERVAL '1 hour'`");
            return None;
        }
        if matches!(length, Length::Months(_)) && self.call.function != Function::Tumble {
            let message = format!("`{}` does not count in months, which are not equally long", self.call.name);
            self.refuse(expr.span(), message, "write weeks or days, such as `INTERVAL '28 days'`, or use `TUMBLE`");
            return None;
        }
        Some(Written { length, expr })
    }

    fn read_length(&mut self, parameter: &str, expr: &'a ast::Expr, unit: Option<TimeUnit>) -> Option<Length> {
        let what = what(parameter);
        let length = match expr {
            ast::Expr::Interval(_) => Length::of(&self.reader.plan(expr, &DFSchema::empty())?),
            _ => Err(NoLength::NotLiteral),
        };
        match length {
            Ok(Length::Nanos(nanos)) if unit.is_some_and(|unit| nanos % nanos_of(unit) != 0) => {
                let message = format!("{what} {expr} is finer than the times of the column");
                self.refuse(
                    expr.span(),
                    message,
                    "write whole microseconds, or what else the type of the column counts",
                );
                None
            }
            Ok(length) => Some(length),
            Err(NoLength::NotLiteral) => {
                let message = format!("{what} of `{}` must be an interval as a literal", self.call.name);
                self.refuse(expr.span(), message, "write it as `INTERVAL '1 hour'`, or `INTERVAL '1' HOUR`");
                None
            }
            Err(NoLength::Mixed) => {
                let message = format!("{what} {expr} mixes months with days or hours");
                self.refuse(expr.span(), message, "months are not equally long: write months, or else days and hours");
                None
            }
            Err(NoLength::TooLong) => {
                let message = format!("{what} {expr} is too long");
                self.refuse(expr.span(), message, "write less than 292 years");
                None
            }
        }
    }
}

/// What stands in `DESCRIPTOR(…)`, or the expression itself; the place of one that holds more or less than one.
fn descriptor(expr: &ast::Expr) -> Result<&ast::Expr, Span> {
    match expr {
        ast::Expr::Function(call) if object_value(&call.name) == "descriptor" => match argument_exprs(call)[..] {
            [column] if matches!(&call.args, FunctionArguments::List(list) if list.args.len() == 1) => Ok(column),
            _ => Err(expr.span()),
        },
        expr => Ok(expr),
    }
}
