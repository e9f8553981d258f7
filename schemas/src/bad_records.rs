//! The circuit breaker of a source: how many of the last records of a partition were bad.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many bad records a source puts up with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BadRecordLimit {
    /// How many of the last records of a partition are looked at.
    pub window: u32,
    /// The share of them that may be bad, from 0 to 1.
    pub share: f64,
}

impl Default for BadRecordLimit {
    /// Half of 10,000: records that were broken at their source are rarely that many, and those of a definition that does
    /// not fit are nearly all.
    fn default() -> Self {
        Self { window: 10_000, share: 0.5 }
    }
}

impl BadRecordLimit {
    /// How many of the window may be bad. A partition that has had fewer records trips at the same number.
    pub fn bad_max(&self) -> u32 {
        // The product is within the window, which is a `u32`.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the window")]
        let bad = (f64::from(self.window) * self.share.clamp(0.0, 1.0)).floor() as u32;
        bad
    }
}

/// Which of the last records of a partition were bad, as a manifest keeps it from epoch to epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecords {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Lengths of runs of records in the order of their offsets: bad, good, bad, good, … What came before was good, or is
    /// beyond the window.
    pub runs: Vec<u32>,
}

/// The last records of a partition, as runs of bad and good ones: at most as many runs as the window has records.
///
/// Records are counted, not offsets, and ones without a value are left out: so neither gaps nor the way in which offsets
/// are cut into epochs matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecordWindow {
    window: u32,
    bad_max: u32,
    /// Bad records and the good ones after them, oldest first.
    runs: VecDeque<(u32, u32)>,
    /// Sums over the runs.
    bad: u32,
    records: u32,
}

impl BadRecordWindow {
    /// The window after `runs` ([`BadRecords::runs`]).
    pub fn after(limit: &BadRecordLimit, runs: &[u32]) -> Self {
        let (window, bad_max) = (limit.window.max(1), limit.bad_max());
        let mut this = Self { window, bad_max, runs: VecDeque::new(), bad: 0, records: 0 };
        for run in runs.chunks(2) {
            this.append(run.first().copied().unwrap_or(0), run.get(1).copied().unwrap_or(0));
        }
        this
    }

    /// Takes good records.
    pub fn good(&mut self, records: usize) {
        if !self.runs.is_empty() {
            self.append(0, u32::try_from(records).unwrap_or(u32::MAX).min(self.window));
        }
    }

    /// Takes a bad record. Whether there are too many now.
    pub fn bad(&mut self) -> bool {
        self.append(1, 0);
        self.bad > self.bad_max
    }

    /// How many bad records there are in it.
    pub fn bad_records(&self) -> u32 {
        self.bad
    }

    /// As [`BadRecords::runs`]; empty where no record in the window is bad.
    pub fn to_runs(&self) -> Vec<u32> {
        let mut runs: Vec<u32> = self.runs.iter().flat_map(|(bad, good)| [*bad, *good]).collect();
        if runs.last() == Some(&0) {
            runs.pop();
        }
        runs
    }

    fn append(&mut self, bad: u32, good: u32) {
        match self.runs.back_mut() {
            // Bad ones that follow good ones are another run.
            Some((_, after)) if bad == 0 => *after += good,
            Some((before, after)) if *after == 0 => (*before, *after) = (*before + bad, good),
            _ => self.runs.push_back((bad, good)),
        }
        self.bad += bad;
        self.records += bad + good;
        self.forget();
    }

    /// Drops what is older than the window, and good records at its beginning.
    fn forget(&mut self) {
        while let Some((bad, good)) = self.runs.front_mut() {
            let excess = self.records.saturating_sub(self.window);
            let gone = excess.min(*bad);
            *bad -= gone;
            self.bad -= gone;
            self.records -= gone;
            if *bad > 0 {
                return;
            }
            self.records -= *good;
            self.runs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bad ones among the last records, counted by hand.
    fn counted(records: &[bool], window: usize) -> u32 {
        let bad = records.iter().rev().take(window).filter(|bad| **bad).count();
        u32::try_from(bad).unwrap()
    }

    /// Records that look random, and are the same in every run: stretches of mostly good and mostly bad ones.
    fn records(seed: u64) -> Vec<bool> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut records = Vec::new();
        while records.len() < 400 {
            let (length, share) = (next() % 40, next() % 5);
            records.extend((0..length).map(|_| next() % 5 < share));
        }
        records
    }

    #[test]
    fn it_counts_the_bad_ones_among_the_last_records_however_they_are_cut_into_epochs() {
        for seed in 0..50 {
            let limit = BadRecordLimit { window: 1 + u32::try_from(seed % 33).unwrap(), share: 0.6 };
            let records = records(seed);
            let mut window = BadRecordWindow::after(&limit, &[]);
            for (at, is_bad) in records.iter().enumerate() {
                if *is_bad {
                    let counted = counted(&records[..=at], limit.window as usize);
                    assert_eq!(window.bad(), counted > limit.bad_max(), "seed {seed}, record {at}");
                    assert_eq!(window.bad_records(), counted, "seed {seed}, record {at}");
                } else {
                    window.good(1);
                }
                // An epoch ends here and there.
                if (at as u64).is_multiple_of(3 + seed % 11) {
                    let runs = window.to_runs();
                    assert!(runs.iter().sum::<u32>() <= limit.window && !runs.contains(&0), "{runs:?}");
                    window = BadRecordWindow::after(&limit, &runs);
                }
            }
        }
    }

    #[test]
    fn many_good_records_at_once_are_as_many_single_ones() {
        let limit = BadRecordLimit { window: 10, share: 0.5 };
        let mut window = BadRecordWindow::after(&limit, &[]);
        window.good(1_000_000);
        assert_eq!(window.to_runs(), [] as [u32; 0]);
        (0..3).for_each(|_| assert!(!window.bad()));
        window.good(4);
        assert_eq!(window.to_runs(), [3, 4]);
        window.good(4);
        assert_eq!(window.to_runs(), [2, 8]);
        window.good(usize::MAX);
        assert_eq!(window.to_runs(), [] as [u32; 0]);
    }

    #[test]
    fn a_share_of_one_never_trips_and_one_of_zero_at_once() {
        let mut all = BadRecordWindow::after(&BadRecordLimit { window: 4, share: 1.0 }, &[]);
        assert!((0..20).all(|_| !all.bad()));
        assert!(BadRecordWindow::after(&BadRecordLimit { window: 4, share: 0.0 }, &[]).bad());
    }
}
