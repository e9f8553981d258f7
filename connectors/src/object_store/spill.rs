//! Sorting and keeping object versions in bounded memory: runs of a fixed length, spilled to unnamed temporary files.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};

use bessemer_schemas::ObjectVersion;

use crate::{Error, Result};

/// Versions kept in memory before a run is spilled: some 10 MiB.
pub(super) const RUN_LENGTH: usize = 64 << 10;

/// Sorts versions by path, spilling runs.
#[derive(Debug)]
pub(super) struct Sorter {
    run_length: usize,
    current: Vec<ObjectVersion>,
    spilled: Vec<SpillFile>,
}

impl Sorter {
    /// Spills whenever `run_length` versions are in memory.
    pub(super) fn new(run_length: usize) -> Self {
        Self { run_length, current: Vec::new(), spilled: Vec::new() }
    }

    /// Takes one version.
    pub(super) fn push(&mut self, version: ObjectVersion) -> Result<()> {
        self.current.push(version);
        if self.current.len() >= self.run_length {
            self.current.sort_unstable();
            let mut file = SpillFile::create()?;
            for version in self.current.drain(..) {
                file.push(&version)?;
            }
            self.spilled.push(file);
        }
        Ok(())
    }

    /// All versions in path order. The same object listed twice (by two patterns) comes once.
    pub(super) fn finish(mut self) -> Result<Sorted> {
        self.current.sort_unstable();
        let mut runs: Vec<Run> = vec![Run::Memory(self.current.into_iter())];
        for file in self.spilled {
            runs.push(Run::Spilled(file.read()?));
        }
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (at, run) in runs.iter_mut().enumerate() {
            if let Some(version) = run.next()? {
                heads.push(Reverse((version, at)));
            }
        }
        Ok(Sorted { runs, heads, last: None })
    }

    /// Versions in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.current.len()
    }

    /// Runs on disk so far.
    #[cfg(test)]
    pub(super) fn spilled_runs(&self) -> usize {
        self.spilled.len()
    }
}

/// A merge of sorted runs.
#[derive(Debug)]
pub(super) struct Sorted {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(ObjectVersion, usize)>>,
    last: Option<String>,
}

impl Sorted {
    /// The next version.
    pub(super) fn next(&mut self) -> Result<Option<ObjectVersion>> {
        while let Some(Reverse((version, at))) = self.heads.pop() {
            if let Some(next) = self.runs.get_mut(at).map(Run::next).transpose()?.flatten() {
                self.heads.push(Reverse((next, at)));
            }
            if self.last.as_ref() != Some(&version.path) {
                self.last = Some(version.path.clone());
                return Ok(Some(version));
            }
        }
        Ok(None)
    }
}

#[derive(Debug)]
enum Run {
    Memory(std::vec::IntoIter<ObjectVersion>),
    Spilled(SpillReader),
}

impl Run {
    fn next(&mut self) -> Result<Option<ObjectVersion>> {
        match self {
            Self::Memory(versions) => Ok(versions.next()),
            Self::Spilled(reader) => reader.next(),
        }
    }
}

/// A queue of versions: the first ones in memory, what is beyond a bound in a file.
#[derive(Debug)]
pub(super) struct SpillQueue {
    run_length: usize,
    first: VecDeque<ObjectVersion>,
    writing: Option<SpillFile>,
    reading: Option<SpillReader>,
}

impl SpillQueue {
    /// Keeps `run_length` versions in memory.
    pub(super) fn new(run_length: usize) -> Self {
        Self { run_length, first: VecDeque::new(), writing: None, reading: None }
    }

    /// Adds a version at the end; not after the first call of [`SpillQueue::front`].
    pub(super) fn push(&mut self, version: ObjectVersion) -> Result<()> {
        if self.writing.is_none() && self.first.len() < self.run_length {
            self.first.push_back(version);
            return Ok(());
        }
        if self.writing.is_none() {
            self.writing = Some(SpillFile::create()?);
        }
        self.writing.as_mut().map_or(Ok(()), |file| file.push(&version))
    }

    /// The next version, left in its place.
    pub(super) fn front(&mut self) -> Result<Option<&ObjectVersion>> {
        if self.first.is_empty() {
            if let Some(file) = self.writing.take() {
                self.reading = Some(file.read()?);
            }
            if let Some(version) = self.reading.as_mut().map(SpillReader::next).transpose()?.flatten() {
                self.first.push_back(version);
            }
        }
        Ok(self.first.front())
    }

    /// All that are left, in their order, in memory from now on; nothing may be added after it.
    pub(super) fn load(&mut self) -> Result<&VecDeque<ObjectVersion>> {
        if let Some(file) = self.writing.take() {
            self.reading = Some(file.read()?);
        }
        if let Some(mut rest) = self.reading.take() {
            while let Some(version) = rest.next()? {
                self.first.push_back(version);
            }
        }
        Ok(&self.first)
    }

    /// Versions in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.first.len()
    }

    /// Takes the version that [`SpillQueue::front`] showed.
    pub(super) fn pop_front(&mut self) -> Option<ObjectVersion> {
        self.first.pop_front()
    }
}

/// A temporary file without a name: it is gone when it is closed, whatever happens to the process.
#[derive(Debug)]
struct SpillFile(BufWriter<File>);

impl SpillFile {
    fn create() -> Result<Self> {
        Ok(Self(BufWriter::new(tempfile::tempfile().map_err(|error| disk("write", error))?)))
    }

    fn push(&mut self, version: &ObjectVersion) -> Result<()> {
        self.write(version).map_err(|error| disk("write", error))
    }

    fn write(&mut self, version: &ObjectVersion) -> io::Result<()> {
        self.write_text(&version.path)?;
        self.0.write_all(&version.size.to_le_bytes())?;
        self.0.write_all(&version.modified.to_le_bytes())?;
        self.0.write_all(&[u8::from(version.etag.is_some())])?;
        version.etag.as_ref().map_or(Ok(()), |etag| self.write_text(etag))
    }

    fn write_text(&mut self, text: &str) -> io::Result<()> {
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(text.as_bytes())
    }

    fn read(self) -> Result<SpillReader> {
        let mut file = self.0.into_inner().map_err(|error| disk("write", error.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| disk("read", error))?;
        Ok(SpillReader(BufReader::with_capacity(64 << 10, file)))
    }
}

#[derive(Debug)]
struct SpillReader(BufReader<File>);

impl SpillReader {
    fn next(&mut self) -> Result<Option<ObjectVersion>> {
        match self.read() {
            Ok(version) => Ok(Some(version)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(disk("read", error)),
        }
    }

    fn read(&mut self) -> io::Result<ObjectVersion> {
        let path = self.read_text()?;
        let size = u64::from_le_bytes(self.read_bytes()?);
        let modified = i64::from_le_bytes(self.read_bytes()?);
        let [has_etag] = self.read_bytes()?;
        let etag = if has_etag == 1 { Some(self.read_text()?) } else { None };
        Ok(ObjectVersion { path, size, modified, etag, late_before: None })
    }

    fn read_text(&mut self) -> io::Result<String> {
        let length = u32::from_le_bytes(self.read_bytes()?);
        let mut text = String::new();
        self.0.by_ref().take(u64::from(length)).read_to_string(&mut text)?;
        Ok(text)
    }

    fn read_bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn disk(action: &'static str, error: io::Error) -> Error {
    Error::disk(action, std::env::temp_dir(), error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(path: String, tag: Option<u8>) -> ObjectVersion {
        ObjectVersion { path, size: 1, modified: -2, etag: tag.map(|tag| tag.to_string()), late_before: None }
    }

    proptest! {
        #[test]
        fn spilled_sort_is_a_sort(
            paths in prop::collection::vec(("[a-c/é]{1,4}", any::<Option<u8>>()), 0..200),
            loaded_after in 1..60_usize,
        ) {
            let mut sorter = Sorter::new(16);
            let mut expected: Vec<_> = paths.into_iter().map(|(path, tag)| version(path, tag)).collect();
            for version in &expected {
                sorter.push(version.clone()).unwrap();
            }
            prop_assert_eq!(sorter.spilled_runs(), expected.len() / 16);
            expected.sort();
            expected.dedup_by(|left, right| left.path == right.path);
            let mut sorted = sorter.finish().unwrap();
            let mut queue = SpillQueue::new(16);
            while let Some(version) = sorted.next().unwrap() {
                queue.push(version).unwrap();
            }
            let mut found = Vec::new();
            while queue.front().unwrap().is_some() {
                found.extend(queue.pop_front());
                if found.len() == loaded_after {
                    let left = queue.load().unwrap();
                    prop_assert_eq!(left.len(), expected.len() - found.len());
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
