//! The journal of a live match (`.wlj`): what a restart needs to go on where the process died.
//!
//! Records, one after the other: payload length u32, CRC-32 of the payload u32, payload. The first
//! payload byte says what it is:
//!
//! | tag | payload after the tag |
//! |---|---|
//! | 0 begin | format version 1 u8, `abi::Session` (320 B), start `abi::SessionState` (256 B), JSON: world id and the two seat tokens |
//! | 1 frame | two `abi::PadSlot` (28 B), first 4 bytes of the chain hash |
//! | 2 signature | `abi::InputSignature` (72 B) |
//! | 3 end | winner u8, reason u8 |
//!
//! A torn tail (a record that is cut off or whose CRC is wrong) ends the journal: what stands
//! before it counts. The file holds secrets (seat tokens) and is removed once the replay is stored.

use flate2::Crc;
use serde::{Deserialize, Serialize};
use worldline_abi::{HASH_PREFIX_BYTES, InputSignature, PadSlot, Session, SessionState};

use crate::id::Token;

const VERSION: u8 = 1;
const BEGIN: u8 = 0;
const FRAME: u8 = 1;
const SIGNATURE: u8 = 2;
const END: u8 = 3;
/// The longest payload that is read.
const MAX_PAYLOAD: usize = 4096;

/// One record.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Begin(Box<Begin>),
    Frame {
        slots: [PadSlot; 2],
        prefix: [u8; HASH_PREFIX_BYTES],
    },
    Signature(InputSignature),
    End {
        winner: u8,
        reason: u8,
    },
}

/// How a match began.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    pub(crate) session: Session,
    pub(crate) start: SessionState,
    pub(crate) secrets: Secrets,
}

/// What only this machine may know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Secrets {
    pub(crate) world: String,
    pub(crate) tokens: [Option<Token>; 2],
}

/// A journal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// No beginning: the process died before it was written, so no frame had run.
    #[error("the journal has no beginning: no frame had run")]
    Empty,
    /// The beginning is damaged.
    #[error("the journal's beginning is damaged: it is kept, nothing can be read from it")]
    Damaged,
    /// Another build wrote it.
    #[error(
        "the journal has format version {0}, this build reads version {VERSION}: start the build that wrote it once more"
    )]
    Version(u8),
}

impl Entry {
    pub(crate) fn begin(
        session: Session,
        start: SessionState,
        world: &str,
        tokens: [Option<Token>; 2],
    ) -> Self {
        let secrets = Secrets {
            world: world.into(),
            tokens,
        };
        Self::Begin(Box::new(Begin {
            session,
            start,
            secrets,
        }))
    }

    pub(crate) fn frame(slots: &[PadSlot; 2], chain: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = *chain;
        Self::Frame {
            slots: *slots,
            prefix: [a, b, c, d],
        }
    }

    pub(crate) fn end(state: &SessionState) -> Self {
        Self::End {
            winner: state.winner,
            reason: state.end_reason,
        }
    }

    /// Appends the record to `bytes`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        let at = bytes.len();
        bytes.extend([0; 8]);
        match self {
            Self::Begin(begin) => {
                bytes.extend([BEGIN, VERSION]);
                bytes.extend(bytemuck::bytes_of(&begin.session));
                bytes.extend(bytemuck::bytes_of(&begin.start));
                serde_json::to_writer(&mut *bytes, &begin.secrets).expect("strings serialise");
            }
            Self::Frame { slots, prefix } => {
                bytes.push(FRAME);
                bytes.extend(bytemuck::bytes_of(slots));
                bytes.extend(prefix);
            }
            Self::Signature(signature) => {
                bytes.push(SIGNATURE);
                bytes.extend(bytemuck::bytes_of(signature));
            }
            Self::End { winner, reason } => bytes.extend([END, *winner, *reason]),
        }
        let payload = &bytes[at + 8..];
        let head = [payload.len() as u32, crc(payload)].map(u32::to_le_bytes);
        bytes[at..at + 8].copy_from_slice(head.as_flattened());
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (tag, rest) = payload.split_first()?;
        match *tag {
            BEGIN => {
                let rest = rest.get(1..)?;
                let (session, rest) = rest.split_at_checked(size_of::<Session>())?;
                let (start, secrets) = rest.split_at_checked(size_of::<SessionState>())?;
                Some(Self::Begin(Box::new(Begin {
                    session: worldline_abi::copy(session).ok()?,
                    start: worldline_abi::copy(start).ok()?,
                    secrets: serde_json::from_slice(secrets).ok()?,
                })))
            }
            FRAME => {
                let (slots, prefix) = rest.split_at_checked(size_of::<[PadSlot; 2]>())?;
                Some(Self::Frame {
                    slots: bytemuck::try_pod_read_unaligned(slots).ok()?,
                    prefix: prefix.try_into().ok()?,
                })
            }
            SIGNATURE => Some(Self::Signature(worldline_abi::copy(rest).ok()?)),
            END => <[u8; 2]>::try_from(rest)
                .ok()
                .map(|[winner, reason]| Self::End { winner, reason }),
            _ => None,
        }
    }
}

/// The entries of a journal up to its torn tail, if it has one; the first is a beginning.
pub(crate) fn read(mut bytes: &[u8]) -> Result<(Begin, Vec<Entry>), JournalError> {
    if next_length(bytes).is_none_or(|length| bytes.len() < 8 + length) {
        return Err(JournalError::Empty);
    }
    let first = next(&mut bytes).ok_or(JournalError::Damaged)?;
    if let [BEGIN, version, ..] = first
        && *version != VERSION
    {
        return Err(JournalError::Version(*version));
    }
    let Some(Entry::Begin(begin)) = Entry::read(first) else {
        return Err(JournalError::Damaged);
    };
    let entries = std::iter::from_fn(|| next(&mut bytes).and_then(Entry::read)).collect();
    Ok((*begin, entries))
}

fn next_length(bytes: &[u8]) -> Option<usize> {
    bytes
        .first_chunk()
        .map(|length| u32::from_le_bytes(*length) as usize)
}

/// The next payload; `None` at the end and at a torn tail.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = next_length(bytes).filter(|length| *length <= MAX_PAYLOAD)?;
    let sum = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let (payload, rest) = bytes.get(8..)?.split_at_checked(length)?;
    *bytes = rest;
    (crc(payload) == sum).then_some(payload)
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Vec<u8> {
        let mut bytes = Vec::new();
        let tokens = [Some(Token::random()), None];
        Entry::begin(Session::default(), SessionState::default(), "melee", tokens)
            .write(&mut bytes);
        for sequence in 0..100 {
            let slots = [PadSlot {
                sequence,
                ..PadSlot::default()
            }; 2];
            Entry::frame(&slots, &[sequence as u8; 32]).write(&mut bytes);
        }
        Entry::End {
            winner: 1,
            reason: 3,
        }
        .write(&mut bytes);
        bytes
    }

    #[test]
    fn there_and_back() {
        let (begin, entries) = read(&journal()).unwrap();
        assert_eq!(begin.secrets.world, "melee");
        assert!(begin.secrets.tokens[0].is_some() && begin.secrets.tokens[1].is_none());
        assert_eq!(entries.len(), 101);
        assert!(matches!(
            entries[99],
            Entry::Frame {
                prefix: [99, 99, 99, 99],
                ..
            }
        ));
        assert!(matches!(
            entries[100],
            Entry::End {
                winner: 1,
                reason: 3
            }
        ));
    }

    #[test]
    fn every_torn_tail_leaves_what_stands_before_it() {
        let bytes = journal();
        let whole = read(&bytes).unwrap().1.len();
        let mut seen = vec![];
        for end in 0..bytes.len() {
            match read(&bytes[..end]) {
                Ok((_, entries)) => seen.push(entries.len()),
                Err(error) => assert_eq!(error, JournalError::Empty),
            }
        }
        assert!(seen.is_sorted() && seen.first() == Some(&0) && seen.last() == Some(&(whole - 1)));
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_there() {
        let mut bytes = journal();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let count = read(&bytes).unwrap().1.len();
        assert!((30..70).contains(&count), "{count}");
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut bytes = journal();
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        bytes[9] = 2;
        let sum = crc(&bytes[8..8 + length]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read(&bytes).unwrap_err(), JournalError::Version(2));
    }
}
