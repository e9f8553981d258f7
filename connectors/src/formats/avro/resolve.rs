//! How the values of a written schema become those of declared columns.

use arrow::array::ArrayRef;
use arrow_schema::{DataType, Field, Fields, TimeUnit};

use super::schema::{AvroField, AvroSchema, AvroType, TypeId};
use crate::formats::rows::{Contradiction, contradiction, missing_field};
use crate::formats::widening::is_widening;

/// How a value becomes one of a column.
#[derive(Debug)]
pub(super) enum Read {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    /// Bytes into bytes.
    Bytes,
    /// Text into text, or bytes into text, which then must be UTF-8.
    Text,
    /// Text into what it stands for.
    Parsed,
    Fixed(usize),
    /// 16 bytes into text.
    Uuid,
    Decimal {
        scale: i8,
        size: Option<usize>,
    },
    Date,
    Time {
        digits: u32,
    },
    Timestamp {
        digits: u32,
    },
    Enum(Vec<String>),
    List(Box<Read>),
    Map(Box<Read>),
    Struct(Steps),
    /// A branch that the column does not hold has none.
    Union(Vec<Option<Read>>),
}

/// How a record becomes columns.
#[derive(Debug)]
pub(super) struct Steps {
    /// In the order of the writer's fields.
    pub(super) fields: Vec<Step>,
    /// Columns that the writer does not have.
    pub(super) missing: Vec<usize>,
}

#[derive(Debug)]
pub(super) enum Step {
    Read { column: usize, read: Read },
    Skip(TypeId),
}

/// Resolves a schema against declared columns.
pub(super) struct Resolver<'a> {
    pub(super) schema: &'a AvroSchema,
    /// Whether plain numbers may be timestamps.
    pub(super) is_epoch: bool,
}

type Result<T> = std::result::Result<T, Contradiction>;

impl Resolver<'_> {
    /// The steps from records of the schema to `columns`, which have `defaults` where a field is missing.
    pub(super) fn root(&self, columns: &Fields, defaults: &[Option<ArrayRef>]) -> Result<Steps> {
        let AvroType::Record { fields, .. } = self.schema.get(self.schema.root) else {
            let found = self.schema.describe(self.schema.root);
            let column = columns.first().map(|column| column.name().clone()).unwrap_or_default();
            return Err(Contradiction { column, reason: format!("it is the schema of {found}, not of a record") });
        };
        self.steps(fields, columns, defaults, "")
    }

    fn steps(
        &self,
        fields: &[AvroField],
        columns: &Fields,
        defaults: &[Option<ArrayRef>],
        parent: &str,
    ) -> Result<Steps> {
        let path = |column: &Field| {
            if parent.is_empty() { column.name().clone() } else { format!("{parent}.{}", column.name()) }
        };
        let mut steps = Vec::with_capacity(fields.len());
        for field in fields {
            steps.push(match columns.iter().position(|column| *column.name() == field.name) {
                None => Step::Skip(field.type_id),
                Some(at) => {
                    Step::Read { column: at, read: self.read(field.type_id, &columns[at], &path(&columns[at]))? }
                }
            });
        }
        let mut missing = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            if fields.iter().any(|field| field.name == *column.name()) {
                continue;
            }
            let has_default = defaults.get(at).is_some_and(Option::is_some);
            let names = fields.iter().map(|field| field.name.as_str());
            missing_field(column, &path(column), has_default, names)?;
            missing.push(at);
        }
        Ok(Steps { fields: steps, missing })
    }

    fn read(&self, id: TypeId, column: &Field, path: &str) -> Result<Read> {
        let to = column.data_type();
        let read = match (self.schema.get(id), to) {
            (AvroType::Null, _) => Some(Read::Null),
            (AvroType::Union { branches }, _) => return self.union(id, branches, column, path),
            (AvroType::Record { fields, .. }, DataType::Struct(columns)) => {
                Some(Read::Struct(self.steps(fields, columns, &[], path)?))
            }
            (AvroType::Array { items }, DataType::List(item)) => {
                Some(Read::List(Box::new(self.read(*items, item, &format!("{path}.{}", item.name()))?)))
            }
            (AvroType::Map { values }, DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(entries) if entries.len() == 2 => {
                    let value = &entries[1];
                    Some(Read::Map(Box::new(self.read(*values, value, &format!("{path}.{}", value.name()))?)))
                }
                _ => None,
            },
            (plain, to) => self.plain(plain, to),
        };
        read.ok_or_else(|| contradiction(path, to, &self.schema.describe(id)))
    }

    fn union(&self, id: TypeId, branches: &[TypeId], column: &Field, path: &str) -> Result<Read> {
        let is_null = |branch: &TypeId| *self.schema.get(*branch) == AvroType::Null;
        let (mut reads, mut refused) = (Vec::with_capacity(branches.len()), Vec::new());
        for branch in branches {
            reads.push(self.read(*branch, column, path).map_err(|found| refused.push(found)).ok());
        }
        // A value of another branch is the fault of its record; where there is none of the column's, of the schema.
        let values = branches.iter().filter(|branch| !is_null(branch)).count();
        if values == 1 && refused.len() == 1 {
            return Err(refused.remove(0));
        }
        if refused.len() == values && values > 0 {
            return Err(contradiction(path, column.data_type(), &self.schema.describe(id)));
        }
        Ok(Read::Union(reads))
    }

    fn plain(&self, from: &AvroType, to: &DataType) -> Option<Read> {
        let is_text = matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let is_bytes = matches!(to, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
        match (from, to) {
            (AvroType::Int, DataType::Float32) => return Some(Read::Int),
            (AvroType::Long, DataType::Float32 | DataType::Float64) => return Some(Read::Long),
            (AvroType::Int, DataType::Timestamp(..)) if self.is_epoch => return Some(Read::Int),
            (AvroType::Long, DataType::Timestamp(..)) if self.is_epoch => return Some(Read::Long),
            // Moments and times somewhere are told apart by who declares them, as in text.
            (AvroType::Timestamp { digits, .. }, DataType::Timestamp(unit, _)) if fits(*digits, *unit) => {
                return Some(Read::Timestamp { digits: *digits });
            }
            (AvroType::String, DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_)) => {
                return Some(Read::Parsed);
            }
            (AvroType::String, DataType::Decimal128(..)) => return Some(Read::Parsed),
            (AvroType::String | AvroType::Uuid { is_text: true }, _) if is_bytes => return Some(Read::Bytes),
            (AvroType::Bytes, _) if is_text => return Some(Read::Text),
            (AvroType::Uuid { is_text: false }, _) if is_bytes => return Some(Read::Fixed(16)),
            _ => {}
        }
        let written = arrow_type(from).filter(|written| is_widening(written, to));
        written.and_then(|_| read_as_written(from))
    }
}

/// Whether a unit holds digits of a second; nanoseconds become microseconds where the last three are 0.
fn fits(digits: u32, unit: TimeUnit) -> bool {
    match unit {
        TimeUnit::Second => digits == 0,
        TimeUnit::Millisecond => digits <= 3,
        TimeUnit::Microsecond | TimeUnit::Nanosecond => true,
    }
}

fn read_as_written(from: &AvroType) -> Option<Read> {
    Some(match from {
        AvroType::Null => Read::Null,
        AvroType::Boolean => Read::Boolean,
        AvroType::Int => Read::Int,
        AvroType::Long => Read::Long,
        AvroType::Float => Read::Float,
        AvroType::Double => Read::Double,
        AvroType::Bytes => Read::Bytes,
        AvroType::String | AvroType::Uuid { is_text: true } => Read::Text,
        AvroType::Uuid { is_text: false } => Read::Uuid,
        AvroType::Fixed { size } => Read::Fixed(*size),
        AvroType::Decimal { scale, size, .. } => Read::Decimal { scale: *scale, size: *size },
        AvroType::Date => Read::Date,
        AvroType::Time { digits } => Read::Time { digits: *digits },
        AvroType::Timestamp { digits, .. } => Read::Timestamp { digits: *digits },
        AvroType::Enum { symbols } => Read::Enum(symbols.clone()),
        AvroType::Array { .. } | AvroType::Map { .. } | AvroType::Union { .. } | AvroType::Record { .. } => {
            return None;
        }
    })
}

/// The Arrow type of values that are not nested.
pub(super) fn arrow_type(from: &AvroType) -> Option<DataType> {
    Some(match from {
        AvroType::Boolean => DataType::Boolean,
        AvroType::Int => DataType::Int32,
        AvroType::Long => DataType::Int64,
        AvroType::Float => DataType::Float32,
        AvroType::Double => DataType::Float64,
        AvroType::Bytes | AvroType::Fixed { .. } => DataType::Binary,
        AvroType::String | AvroType::Uuid { .. } | AvroType::Enum { .. } => DataType::Utf8,
        AvroType::Decimal { precision, scale, .. } => DataType::Decimal128(*precision, *scale),
        AvroType::Date => DataType::Date32,
        AvroType::Time { .. } => DataType::Time64(TimeUnit::Microsecond),
        AvroType::Timestamp { digits, is_local } => {
            let unit = if *digits == 9 { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
            DataType::Timestamp(unit, (!is_local).then(|| "UTC".into()))
        }
        AvroType::Null
        | AvroType::Array { .. }
        | AvroType::Map { .. }
        | AvroType::Union { .. }
        | AvroType::Record { .. } => return None,
    })
}
