//! Descriptors: from `.proto` text or a compiled set, and which message of them is meant.

use std::path::Path;

use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::wire::Wire;

/// What the text of a registry's schema is called where it refers to others.
const MAIN: &str = "schema.proto";

/// Messages within one another that a record may be, at most.
const MESSAGES_DEEP_MAX: usize = 32;

/// Files that Confluent's tools import without a reference.
const WELL_KNOWN: [(&str, &str); 2] = [
    (
        "confluent/meta.proto",
        r#"syntax = "proto3"; package confluent; import "google/protobuf/descriptor.proto";
        message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
        extend google.protobuf.FileOptions { Meta file_meta = 1088; }
        extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
        extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
        extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
        extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }"#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3"; package confluent.type;
        message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"#,
    ),
];

/// A schema: a file of messages, with all that it imports.
#[derive(Debug, Clone)]
pub struct ProtobufSchema {
    file: FileDescriptor,
}

impl ProtobufSchema {
    /// Reads the text of a file. `references` are the files that it imports, by their names there.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse<'a>(text: &'a str, references: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let main = std::iter::once((MAIN, text));
        compile(Texts::new(main.chain(references)), MAIN)
    }

    /// Reads a file: `.proto` text, whose imports are beside it or in a folder above, or a compiled set of descriptors, of
    /// which the last file counts.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn open(path: &Path) -> Result<Self, String> {
        let is_text = path.extension().is_some_and(|extension| extension == "proto");
        if is_text {
            let name = path.file_name().and_then(|name| name.to_str()).ok_or("its name is not UTF-8")?;
            return compile(Folders(path.parent().unwrap_or(Path::new("")).to_owned()), name);
        }
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let pool = DescriptorPool::decode(bytes.as_slice())
            .map_err(|error| format!("it is neither `.proto` text nor a set of descriptors: {error}"))?;
        let file = pool.files().last().ok_or("it has no file")?;
        Ok(Self { file })
    }

    /// The message of a full name; without a name the only one of the file.
    ///
    /// # Errors
    /// Says which there are.
    pub fn message(&self, name: Option<&str>) -> Result<MessageDescriptor, String> {
        let names = || {
            let names: Vec<_> = self.file.messages().map(|message| format!("`{}`", message.full_name())).collect();
            names.join(", ")
        };
        match name {
            Some(name) => self
                .file
                .parent_pool()
                .get_message_by_name(name)
                .ok_or_else(|| format!("it has no message `{name}`; there are {}", names())),
            None => {
                let mut messages = self.file.messages();
                match (messages.next(), messages.next()) {
                    (Some(only), None) => Ok(only),
                    (None, _) => Err("it has no message".to_owned()),
                    _ => Err(format!("it has several messages: say `message = '…'`; there are {}", names())),
                }
            }
        }
    }

    /// The first message: the one that is meant where nothing else is said.
    pub fn first_message(&self) -> Result<MessageDescriptor, String> {
        self.file.messages().next().ok_or_else(|| "it has no message".to_owned())
    }

    /// The message at a path as records of a registry have it, [`split_path`].
    pub fn message_at(&self, path: &[u8]) -> Option<MessageDescriptor> {
        let mut wire = Wire::new(path, 0, path.len());
        let count = usize::try_from(zigzag(wire.varint().ok()?)).ok()?;
        if count == 0 {
            return self.file.messages().next();
        }
        let mut index = || usize::try_from(zigzag(wire.varint().ok()?)).ok();
        let mut found = self.file.messages().nth(index()?)?;
        for _ in 1..count {
            let inner = found.child_messages().nth(index()?)?;
            found = inner;
        }
        Some(found)
    }
}

/// Splits off what says which message of its schema a record is: a number of indices, then these, from the outermost
/// message to it. None are the first message.
pub fn split_path(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut wire = Wire::new(data, 0, data.len());
    let count = usize::try_from(zigzag(wire.varint().ok()?)).ok().filter(|count| *count <= MESSAGES_DEEP_MAX)?;
    for _ in 0..count {
        wire.varint().ok()?;
    }
    data.split_at_checked(wire.position())
}

pub(super) fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn compile(files: impl FileResolver + 'static, main: &str) -> Result<ProtobufSchema, String> {
    let mut all = ChainFileResolver::new();
    all.add(files);
    all.add(Texts::new(WELL_KNOWN));
    all.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(all);
    compiler.include_imports(true);
    compiler.open_file(main).map_err(|error| error.to_string())?;
    let file = compiler.descriptor_pool().get_file_by_name(main).ok_or("it was not compiled")?;
    Ok(ProtobufSchema { file })
}

/// Files that are known by their texts.
struct Texts(Vec<(String, String)>);

impl Texts {
    fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
    }
}

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let (_, text) = found.ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

/// Files of a folder, or of one above it: where imports begin is not said in a file.
struct Folders(std::path::PathBuf);

impl FileResolver for Folders {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file());
        let path = found.ok_or_else(|| protox::Error::file_not_found(name))?;
        File::open(name, &path)
    }
}
