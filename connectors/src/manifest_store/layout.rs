//! Where things are in a pipeline's state folder, and what their names say.

use std::fmt;
use std::str::FromStr;

use bessemer_schemas::{Claim, Digest, Epoch};

/// Folder of the manifests.
pub(super) const MANIFESTS: &str = "manifests";
/// Folder of the blocks of the base.
pub(super) const BLOCKS: &str = "blocks";
/// Folder of old manifests, many in one object.
pub(super) const ARCHIVE: &str = "archive";
/// Folder of the blocks of slices that are too long for their manifest.
pub(super) const SLICES: &str = "slices";
/// Folder of the records of runs.
pub(super) const RUNS: &str = "runs";
/// What users ask of the daemon.
pub(super) const CONTROL: &str = "control.json";
/// What the daemon remembers.
pub(super) const DAEMON: &str = "daemon.json";
/// The hint: the number of a recent epoch.
pub(super) const LATEST: &str = "latest";
/// The advisory lock of local disk.
pub(super) const LOCK: &str = "lock";

/// Path of the manifest of `epoch`. Twenty digits, so that the order of names is that of epochs.
pub(super) fn manifest_path(epoch: Epoch) -> String {
    format!("{MANIFESTS}/{}", manifest_name(epoch))
}

/// Path of the archive whose last manifest is that of `epoch`.
pub(super) fn archive_path(epoch: Epoch) -> String {
    format!("{ARCHIVE}/{:020}.jsonl.zst", epoch.0)
}

/// The last epoch of an archive, from its file name.
pub(super) fn archive_epoch(name: &str) -> Option<Epoch> {
    manifest_epoch(&format!("{}.json", name.strip_suffix(".jsonl.zst")?))
}

fn manifest_name(epoch: Epoch) -> String {
    format!("{:020}.json", epoch.0)
}

/// The epoch of a manifest's file name.
pub(super) fn manifest_epoch(name: &str) -> Option<Epoch> {
    let epoch = Epoch(name.strip_suffix(".json")?.parse().ok()?);
    (manifest_name(epoch) == name).then_some(epoch)
}

/// Path of the record of a run. Twenty digits, so that the order of names is that of time.
pub(super) fn run_path(started_at: i64, id: Claim) -> String {
    format!("{RUNS}/{:020}-{id}.json", started_at.max(0))
}

/// Whether a file name is that of a run's record.
pub(super) fn is_run(name: &str) -> bool {
    let parts = name.strip_suffix(".json").and_then(|name| name.split_once('-'));
    parts.is_some_and(|(time, id)| time.len() == 20 && time.parse::<u64>().is_ok() && id.parse::<Claim>().is_ok())
}

/// Name of a block: who wrote it makes it sweepable, the digest makes it checkable.
///
/// Content alone would not do as a name: a block that was garbage to one writer could be written again, and named, by
/// the next one, while the first is still deleting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockName {
    /// The epoch whose manifest names it first.
    pub(super) epoch: Epoch,
    /// The claim of its writer.
    pub(super) claim: Claim,
    /// Digest of its bytes.
    pub(super) digest: Digest,
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{}-{}.jsonl.zst", self.epoch.0, self.claim, self.digest)
    }
}

impl FromStr for BlockName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let mut parts = text.strip_suffix(".jsonl.zst")?.splitn(3, '-');
            let epoch = Epoch(parts.next()?.parse().ok()?);
            let claim = parts.next()?.parse().ok()?;
            let digest = parts.next().filter(|digest| digest.len() == 64)?;
            Some(Self { epoch, claim, digest: Digest(digest.to_owned()) })
        };
        parse().ok_or_else(|| format!("`{text}` is no name of a block"))
    }
}

/// The name that a staged file (`name#7`) was meant to get; `None` if `name` is none. Both `object_store` and this
/// module write local files under such a name first, and listings hide them.
pub(super) fn staged_for(name: &str) -> Option<&str> {
    let (name, suffix) = name.rsplit_once('#')?;
    (!suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_foreign_names_are_not() {
        assert_eq!(manifest_path(Epoch(42)), "manifests/00000000000000000042.json");
        assert_eq!(manifest_epoch("00000000000000000042.json"), Some(Epoch(42)));
        assert_eq!(manifest_epoch("42.json"), None);
        assert_eq!(manifest_epoch("notes.json"), None);
        assert_eq!(archive_path(Epoch(1024)), "archive/00000000000000001024.jsonl.zst");
        assert_eq!(archive_epoch("00000000000000001024.jsonl.zst"), Some(Epoch(1024)));
        assert_eq!(archive_epoch("00000000000000001024.json"), None);

        let name = BlockName { epoch: Epoch(7), claim: Claim(9), digest: Digest::of(b"x") };
        assert_eq!(name.to_string().parse(), Ok(name));
        assert!("7-x-y.jsonl.zst".parse::<BlockName>().is_err());

        let run = run_path(7, Claim(9));
        assert!(is_run(run.strip_prefix("runs/").unwrap()), "{run}");
        assert!(!is_run("notes.json") && !is_run("7-0000000000000009.json"));

        assert_eq!(staged_for("latest#12"), Some("latest"));
        assert_eq!(staged_for("a#b"), None);
        assert_eq!(staged_for("a#"), None);
        assert_eq!(staged_for("a"), None);
    }
}
