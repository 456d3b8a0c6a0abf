//! Whether branches depend on how they are run: the same set, one after the other, all at once and in
//! another order, must give the same fingerprint ("strong parallelism invariance").

use serde::Serialize;
use sha2::{Digest, Sha256};
use worldline_sandbox::{Cancel, Cell, Command, Stream, child_seed};

use crate::error::WorldError;
use crate::limits::{MAX_STEP_TIME, MAX_VERIFIED, MAX_VERIFIED_STEPS};
use crate::model::{Kind, NewInstance, Note};
use crate::registry::Runtime;

/// What each branch of a code world does unless something else is asked for: it draws numbers.
const CELL: &str = "import random; [random.random() for _ in range(8)]";
/// The same for a branch of a match.
const LINE: &str = "step 60";

/// What is verified.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// How many branches.
    pub branches: usize,
    /// The seed that theirs come from.
    pub seed: u64,
    /// What each does, step by step: Python, or lines for a match. Something of our own if there is
    /// nothing.
    pub steps: Vec<String>,
    /// Ends all steps from elsewhere; what comes of it then says nothing.
    pub cancel: Cancel,
}

/// A set of branches, whatever their order: how many, the sum mod 2⁶⁴ and the XOR of their hash chains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// How many.
    pub count: u64,
    /// The sum.
    #[serde(serialize_with = "hexadecimal")]
    pub sum: u64,
    /// The XOR.
    #[serde(serialize_with = "hexadecimal")]
    pub xor: u64,
}

fn hexadecimal<S: serde::Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{value:016x}"))
}

impl FromIterator<u64> for Fingerprint {
    fn from_iter<I: IntoIterator<Item = u64>>(chains: I) -> Self {
        chains
            .into_iter()
            .fold(Self::default(), |so_far, chain| Self {
                count: so_far.count + 1,
                sum: so_far.sum.wrapping_add(chain),
                xor: so_far.xor ^ chain,
            })
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Whether the three are the same.
    pub holds: bool,
    /// One after the other.
    pub serial: Fingerprint,
    /// All at once.
    pub parallel: Fingerprint,
    /// One after the other in another order.
    pub shuffled: Fingerprint,
}

impl Runtime {
    /// Runs the same branches of a world three ways, and compares. The branches end with it.
    pub fn verify_spi(&self, id: &str, asked: &Verification) -> Result<Verified, WorldError> {
        if !(1..=MAX_VERIFIED).contains(&asked.branches) || asked.steps.len() > MAX_VERIFIED_STEPS {
            return Err(WorldError::Verification);
        }
        let kind = self.instance(id)?.kind;
        let snapshot = self.snapshot(id, &Note::default())?.id;
        let verified = self.compare(&snapshot, kind, asked);
        self.remove_snapshot(&snapshot)?;
        verified
    }

    fn compare(
        &self,
        snapshot: &str,
        kind: Kind,
        asked: &Verification,
    ) -> Result<Verified, WorldError> {
        let ordinals: Vec<u64> = (0..asked.branches as u64).collect();
        let one = |ordinal: u64| self.chain(snapshot, kind, asked, ordinal);
        let in_order = |order: &[u64]| {
            order
                .iter()
                .copied()
                .map(one)
                .collect::<Result<Fingerprint, _>>()
        };
        let serial = in_order(&ordinals)?;
        let shuffled = in_order(&shuffle(ordinals.clone(), asked.seed))?;
        let parallel = std::thread::scope(|scope| {
            let running: Vec<_> = ordinals
                .iter()
                .map(|&ordinal| scope.spawn(move || one(ordinal)))
                .collect();
            let ended = running.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.collect::<Result<Fingerprint, _>>()
        })?;
        Ok(Verified {
            holds: serial == parallel && serial == shuffled,
            serial,
            parallel,
            shuffled,
        })
    }

    /// The hash chain of one branch: where it began, then what came of each step.
    fn chain(
        &self,
        snapshot: &str,
        kind: Kind,
        asked: &Verification,
        ordinal: u64,
    ) -> Result<u64, WorldError> {
        let seed = child_seed(asked.seed, ordinal);
        let new = NewInstance {
            seed: Some(seed),
            ..NewInstance::default()
        };
        let branch = self.start(snapshot, &new)?.id;
        let steps = self.steps(&branch, kind, asked, seed);
        self.stop(&branch)?;
        steps
    }

    fn steps(
        &self,
        branch: &str,
        kind: Kind,
        asked: &Verification,
        seed: u64,
    ) -> Result<u64, WorldError> {
        let own = match kind {
            Kind::Sandbox => CELL,
            Kind::Match => LINE,
        };
        let own = [own.to_owned()];
        let mut chain = Sha256::digest(seed.to_le_bytes());
        let none = asked.steps.is_empty();
        for step in if none { &own[..] } else { &asked.steps } {
            let told = self.told(branch, kind, step, &asked.cancel)?;
            chain = Sha256::new()
                .chain_update(chain)
                .chain_update(told)
                .finalize();
        }
        let (first, _) = chain.split_at(size_of::<u64>());
        Ok(first
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The hash of what a step writes, and of how it ends.
    fn told(
        &self,
        branch: &str,
        kind: Kind,
        step: &str,
        cancel: &Cancel,
    ) -> Result<[u8; 32], WorldError> {
        // Apart, because how the two mix is a matter of time.
        let (mut out, mut errors) = (Sha256::new(), Sha256::new());
        let mut output = |stream: Stream, bytes: &[u8]| match stream {
            Stream::Out => out.update(bytes),
            Stream::Error => errors.update(bytes),
        };
        let end = match kind {
            Kind::Sandbox => {
                let cell = Cell {
                    cancel: cancel.clone(),
                    ..Cell::new(step).within(MAX_STEP_TIME)
                };
                let done = self.run(branch, &cell, &mut output)?;
                let error = done.error.map(|error| (error.name, error.message));
                format!("{} {:?} {error:?}", done.status, done.value)
            }
            Kind::Match => {
                let command = Command {
                    timeout: Some(MAX_STEP_TIME),
                    cancel: cancel.clone(),
                    ..Command::line(step)
                };
                self.exec(branch, &command, &mut output)?.to_string()
            }
        };
        let whole = Sha256::new().chain_update(end).chain_update(out.finalize());
        Ok(whole.chain_update(errors.finalize()).finalize().into())
    }
}

/// Another order, the same for the same seed (Fisher and Yates).
fn shuffle(mut ordinals: Vec<u64>, seed: u64) -> Vec<u64> {
    for at in (1..ordinals.len()).rev() {
        let drawn = child_seed(!seed, at as u64) % (at as u64 + 1);
        ordinals.swap(at, drawn as usize);
    }
    ordinals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_of_a_set_and_tells_sets_apart() {
        let of = |chains: &[u64]| chains.iter().copied().collect::<Fingerprint>();
        assert_eq!(of(&[1, u64::MAX, 7]), of(&[7, 1, u64::MAX]));
        assert_eq!(
            of(&[1, u64::MAX]),
            Fingerprint {
                count: 2,
                sum: 0,
                xor: u64::MAX - 1
            }
        );
        assert_ne!(of(&[1, 1]), of(&[]));
        assert_ne!(of(&[3]), of(&[1, 2]));
    }

    #[test]
    fn an_order_is_another_one_of_the_same() {
        let order = shuffle((0..10).collect(), 7);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        assert_ne!(order, sorted);
        assert_eq!(order, shuffle((0..10).collect(), 7));
    }
}
