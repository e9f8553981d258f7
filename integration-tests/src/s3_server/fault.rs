//! Which request goes wrong, and how: drawn from a seed, so that a failure can be repeated.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One way in which a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 500, and the request had no effect.
    InternalError,
    /// 500, although the request took effect: the answer lies.
    InternalErrorAfter,
    /// 503 `SlowDown`.
    SlowDown,
    /// 409 `ConditionalRequestConflict` to a put-if-absent that had no effect, as S3 answers to a race; else nothing.
    Conflict,
    /// The connection is dropped before the request took effect.
    DropBefore,
    /// The connection is dropped after the request took effect, before the answer.
    DropAfter,
    /// The connection is dropped in the middle of the answer's body.
    CutBody,
    /// No answer until the client gives up.
    Hang,
    /// The answer comes late.
    Slow(Duration),
}

/// How often which fault is met. Faults are drawn in the order in which requests arrive.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    seed: u64,
    /// Requests in a thousand that go wrong.
    per_mille: u32,
    faults: Vec<Fault>,
}

impl FaultPlan {
    /// Every request is answered as it should be.
    pub fn none() -> Self {
        Self { seed: 0, per_mille: 0, faults: Vec::new() }
    }

    /// Of a thousand requests about `per_mille` meet one of `faults`, each as likely as the others.
    pub fn seeded(seed: u64, per_mille: u32, faults: &[Fault]) -> Self {
        Self { seed, per_mille, faults: faults.to_vec() }
    }

    pub(super) fn dice(&self) -> Dice {
        Dice { random: StdRng::seed_from_u64(self.seed), plan: self.clone() }
    }
}

/// A plan being played.
#[derive(Debug)]
pub(super) struct Dice {
    random: StdRng,
    plan: FaultPlan,
}

impl Dice {
    /// What happens to the next request.
    pub(super) fn roll(&mut self) -> Option<Fault> {
        if self.plan.faults.is_empty() || self.random.random_range(0..1000) >= self.plan.per_mille {
            return None;
        }
        Some(self.plan.faults[self.random.random_range(0..self.plan.faults.len())])
    }
}
