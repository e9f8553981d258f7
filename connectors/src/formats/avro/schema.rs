//! Avro schemas: from their JSON to a table of types (Avro specification 1.12, "Schema Declaration").

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// Types within one another, at most.
const DEPTH_MAX: usize = 64;

/// A schema.
#[derive(Debug, Clone, PartialEq)]
pub struct AvroSchema {
    types: Vec<AvroType>,
    pub(super) root: TypeId,
}

/// A type of a schema. A named type may be within itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TypeId(usize);

/// What a value is, its logical type included: one that the specification does not know, or that does not fit its type,
/// means nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AvroType {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed {
        size: usize,
    },
    /// 16 bytes or text.
    Uuid {
        is_text: bool,
    },
    Decimal {
        precision: u8,
        scale: i8,
        size: Option<usize>,
    },
    Date,
    /// Since midnight, in 10^-`digits` seconds; an `int` if these are milliseconds.
    Time {
        digits: u32,
    },
    /// Since 1970, in 10^-`digits` seconds; a moment, or a time of day somewhere.
    Timestamp {
        digits: u32,
        is_local: bool,
    },
    Enum {
        symbols: Vec<String>,
    },
    Array {
        items: TypeId,
    },
    Map {
        values: TypeId,
    },
    Union {
        branches: Vec<TypeId>,
    },
    Record {
        name: String,
        fields: Vec<AvroField>,
    },
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AvroField {
    pub(super) name: String,
    pub(super) type_id: TypeId,
    /// What a reader takes where the writer has no such field.
    pub(super) default: Option<Value>,
}

impl AvroSchema {
    /// Reads a schema. `references` are schemas whose names it uses, each before those that use it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse<'a>(text: &str, references: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut parser = Parser::default();
        for reference in references {
            parser.schema(reference)?;
        }
        let root = parser.schema(text)?;
        Ok(Self { types: parser.types, root })
    }

    pub(super) fn get(&self, id: TypeId) -> &AvroType {
        self.types.get(id.0).unwrap_or(&AvroType::Null)
    }

    /// The type for messages, as a schema names it.
    pub(super) fn describe(&self, id: TypeId) -> String {
        let of = |name: &str, logical: &str| format!("{name} ({logical})");
        match self.get(id) {
            AvroType::Null => "null".to_owned(),
            AvroType::Boolean => "boolean".to_owned(),
            AvroType::Int => "int".to_owned(),
            AvroType::Long => "long".to_owned(),
            AvroType::Float => "float".to_owned(),
            AvroType::Double => "double".to_owned(),
            AvroType::Bytes => "bytes".to_owned(),
            AvroType::String => "string".to_owned(),
            AvroType::Fixed { size } => format!("fixed of {size} bytes"),
            AvroType::Uuid { is_text } => of(if *is_text { "string" } else { "fixed" }, "uuid"),
            AvroType::Decimal { precision, scale, size } => {
                let logical = format!("decimal of {precision} digits, {scale} of them after the point");
                of(if size.is_some() { "fixed" } else { "bytes" }, &logical)
            }
            AvroType::Date => of("int", "date"),
            AvroType::Time { digits: 3 } => of("int", "time-millis"),
            AvroType::Time { .. } => of("long", "time-micros"),
            AvroType::Timestamp { digits, is_local } => {
                let unit = match digits {
                    3 => "millis",
                    6 => "micros",
                    _ => "nanos",
                };
                of("long", &format!("{}timestamp-{unit}", if *is_local { "local-" } else { "" }))
            }
            AvroType::Enum { .. } => "enum".to_owned(),
            AvroType::Array { items } => format!("array of {}", self.describe(*items)),
            AvroType::Map { values } => format!("map of {}", self.describe(*values)),
            AvroType::Union { branches } => {
                let branches: Vec<_> = branches.iter().map(|branch| self.describe(*branch)).collect();
                format!("union of {}", branches.join(", "))
            }
            AvroType::Record { name, .. } => format!("record `{name}`"),
        }
    }
}

#[derive(Default)]
struct Parser {
    types: Vec<AvroType>,
    /// Named types by their full names.
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn schema(&mut self, text: &str) -> Result<TypeId, String> {
        // A primitive may stand alone, with its quotes or without.
        let json = match serde_json::from_str(text) {
            Ok(json) => json,
            Err(_) if primitive(text.trim()).is_some() => Value::from(text.trim()),
            Err(_) => return Err("it is not JSON".to_owned()),
        };
        self.value(&json, "", 0)
    }

    fn add(&mut self, found: AvroType) -> TypeId {
        self.types.push(found);
        TypeId(self.types.len() - 1)
    }

    fn value(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<TypeId, String> {
        if depth > DEPTH_MAX {
            return Err(format!("its types are more than {DEPTH_MAX} deep in one another"));
        }
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => self.union(branches, namespace, depth),
            Value::Object(object) => self.object(object, namespace, depth),
            _ => Err("a type in it is no text, array or object".to_owned()),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, String> {
        if let Some(found) = primitive(name) {
            return Ok(self.add(found));
        }
        let full = full_name(name, namespace);
        let found = self.names.get(&full).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| format!("it has no type `{full}`"))
    }

    fn union(&mut self, branches: &[Value], namespace: &str, depth: usize) -> Result<TypeId, String> {
        let branches: Vec<_> =
            branches.iter().map(|branch| self.value(branch, namespace, depth + 1)).collect::<Result<_, _>>()?;
        let is_union = |id: &TypeId| matches!(self.types.get(id.0), Some(AvroType::Union { .. }));
        if branches.iter().any(is_union) {
            return Err("a union in it is a branch of a union".to_owned());
        }
        Ok(self.add(AvroType::Union { branches }))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Result<TypeId, String> {
        let Some(kind) = object.get("type") else { return Err("a type in it has no `type`".to_owned()) };
        let Value::String(kind) = kind else {
            // `{"type": {"type": "long", …}}` is its inner type.
            return self.value(kind, namespace, depth + 1);
        };
        match kind.as_str() {
            "record" | "error" => self.record(object, namespace, depth),
            "enum" => {
                let symbols = texts(object, "symbols")?;
                if symbols.iter().collect::<HashSet<_>>().len() != symbols.len() {
                    return Err("an enum in it has a symbol twice".to_owned());
                }
                let id = self.add(AvroType::Enum { symbols });
                self.name(object, namespace, id).map(|_| id)
            }
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or("a fixed type in it has no `size`")?;
                let id = self.add(logical_fixed(object, size));
                self.name(object, namespace, id).map(|_| id)
            }
            "array" => {
                let items = object.get("items").ok_or("an array in it has no `items`")?;
                let items = self.value(items, namespace, depth + 1)?;
                Ok(self.add(AvroType::Array { items }))
            }
            "map" => {
                let values = object.get("values").ok_or("a map in it has no `values`")?;
                let values = self.value(values, namespace, depth + 1)?;
                Ok(self.add(AvroType::Map { values }))
            }
            other => match primitive(other) {
                Some(plain) => Ok(self.add(logical(object, plain))),
                None => self.named(other, namespace),
            },
        }
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Result<TypeId, String> {
        // Its own fields may name it.
        let id = self.add(AvroType::Null);
        let name = self.name(object, namespace, id)?;
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let fields = object.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| format!("record `{name}` in it has no `fields`"))?;
        let mut parsed: Vec<AvroField> = Vec::with_capacity(fields.len());
        for field in fields {
            let of = |what: &str| format!("a field of record `{name}` in it has no `{what}`");
            let field_name = field.get("name").and_then(Value::as_str).ok_or_else(|| of("name"))?;
            let json = field.get("type").ok_or_else(|| of("type"))?;
            if parsed.iter().any(|other| other.name == field_name) {
                return Err(format!("record `{name}` in it has field `{field_name}` twice"));
            }
            let type_id = self.value(json, &inner, depth + 1)?;
            parsed.push(AvroField { name: field_name.to_owned(), type_id, default: field.get("default").cloned() });
        }
        if let Some(place) = self.types.get_mut(id.0) {
            *place = AvroType::Record { name, fields: parsed };
        }
        Ok(id)
    }

    /// Notes the full name of a type.
    fn name(&mut self, object: &Map<String, Value>, namespace: &str, id: TypeId) -> Result<String, String> {
        let name = object.get("name").and_then(Value::as_str).ok_or("a named type in it has no `name`")?;
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let full = full_name(name, namespace);
        if self.names.insert(full.clone(), id).is_some() {
            return Err(format!("it has type `{full}` twice"));
        }
        Ok(full)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn texts(object: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let list = object.get(key).and_then(Value::as_array).ok_or_else(|| format!("a type in it has no `{key}`"))?;
    let text =
        |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("one of its `{key}` is no text"));
    list.iter().map(text).collect()
}

fn primitive(name: &str) -> Option<AvroType> {
    Some(match name {
        "null" => AvroType::Null,
        "boolean" => AvroType::Boolean,
        "int" => AvroType::Int,
        "long" => AvroType::Long,
        "float" => AvroType::Float,
        "double" => AvroType::Double,
        "bytes" => AvroType::Bytes,
        "string" => AvroType::String,
        _ => return None,
    })
}

fn logical(object: &Map<String, Value>, plain: AvroType) -> AvroType {
    let timestamp = |digits, is_local| AvroType::Timestamp { digits, is_local };
    match (object.get("logicalType").and_then(Value::as_str).unwrap_or_default(), &plain) {
        ("date", AvroType::Int) => AvroType::Date,
        ("time-millis", AvroType::Int) => AvroType::Time { digits: 3 },
        ("time-micros", AvroType::Long) => AvroType::Time { digits: 6 },
        ("timestamp-millis", AvroType::Long) => timestamp(3, false),
        ("timestamp-micros", AvroType::Long) => timestamp(6, false),
        ("timestamp-nanos", AvroType::Long) => timestamp(9, false),
        ("local-timestamp-millis", AvroType::Long) => timestamp(3, true),
        ("local-timestamp-micros", AvroType::Long) => timestamp(6, true),
        ("local-timestamp-nanos", AvroType::Long) => timestamp(9, true),
        ("uuid", AvroType::String) => AvroType::Uuid { is_text: true },
        ("decimal", AvroType::Bytes) => decimal(object, None).unwrap_or(plain),
        _ => plain,
    }
}

fn logical_fixed(object: &Map<String, Value>, size: usize) -> AvroType {
    match object.get("logicalType").and_then(Value::as_str) {
        Some("uuid") if size == 16 => AvroType::Uuid { is_text: false },
        Some("decimal") => decimal(object, Some(size)).unwrap_or(AvroType::Fixed { size }),
        _ => AvroType::Fixed { size },
    }
}

/// A decimal that 128 bits hold.
fn decimal(object: &Map<String, Value>, size: Option<usize>) -> Option<AvroType> {
    let precision = object.get("precision").and_then(Value::as_u64).filter(|precision| (1..=38).contains(precision))?;
    let scale = object.get("scale").map_or(Some(0), Value::as_u64).filter(|scale| *scale <= precision)?;
    Some(AvroType::Decimal { precision: u8::try_from(precision).ok()?, scale: i8::try_from(scale).ok()?, size })
}
