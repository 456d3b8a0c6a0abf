//! Replay files (`.wlr`): everything needed to re-execute a match and to check who pressed what.
//!
//! An `abi::ReplayHeader` (896 B, little endian), then a zlib stream of, in this order: one
//! `InputBuffer` (32 B) a frame; the `InputSignature`s (72 B each); the first 4 bytes of each
//! frame's chain hash; the whole chain hash (32 B) of every 600th frame. The header says how many
//! frames and signatures there are, and how long the stream is.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use worldline_abi::{
    HASH_CHECKPOINT_FRAMES, HASH_PREFIX_BYTES, InputBuffer, InputSignature, LayoutError,
    MatchResult, ReplayHeader, Session, SessionState,
};

use crate::limits::{MAX_FRAMES, MAX_OPEN_MARKS};

const STORED: u32 = 0;
const ZLIB: u32 = 1;
/// Signatures in one replay: every mark of both seats, and one at the end.
const MAX_SIGNATURES: usize = 2 * (MAX_OPEN_MARKS + 1);

/// A match as it is kept: inputs, signatures, and the chain of state hashes.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Who played what.
    pub session: Session,
    /// The state before the first frame.
    pub start: SessionState,
    /// How it ended; all zeros but the discriminator while it runs.
    pub result: MatchResult,
    /// One a frame; the first is that of `start.frame + 1`.
    pub inputs: Vec<InputBuffer>,
    /// In the order in which they arrived.
    pub signatures: Vec<InputSignature>,
    /// The first bytes of each frame's chain hash.
    pub prefixes: Vec<[u8; HASH_PREFIX_BYTES]>,
    /// The whole chain hash of each frame divisible by [`HASH_CHECKPOINT_FRAMES`].
    pub checkpoints: Vec<[u8; 32]>,
}

/// The bytes are not a replay that this build reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The header is not one.
    #[error("not a replay: {0}")]
    Header(#[from] LayoutError),
    /// The header promises more than a match can hold.
    #[error(
        "the replay says {frames} frames and {signatures} signatures; at most {MAX_FRAMES} and {MAX_SIGNATURES} are read"
    )]
    TooLarge {
        /// Frames it promises.
        frames: u32,
        /// Signatures it promises.
        signatures: u32,
    },
    /// The body is compressed in an unknown way.
    #[error("the replay's compression {0} is unknown: use a newer build")]
    Compression(u32),
    /// The body is cut off or corrupt.
    #[error("the replay's body is damaged ({0}): fetch the file again")]
    Body(&'static str),
}

impl Recording {
    /// A recording of a match that is about to run its first frame.
    pub fn new(session: Session, start: SessionState) -> Self {
        Self {
            session,
            start,
            result: MatchResult::default(),
            inputs: Vec::new(),
            signatures: Vec::new(),
            prefixes: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// Takes in a frame: what was pressed and the state it led to.
    pub fn push(&mut self, inputs: InputBuffer, state: &SessionState) {
        self.inputs.push(inputs);
        let mut prefix = [0; HASH_PREFIX_BYTES];
        prefix.copy_from_slice(&state.chain[..HASH_PREFIX_BYTES]);
        self.prefixes.push(prefix);
        if state.frame.is_multiple_of(HASH_CHECKPOINT_FRAMES) {
            self.checkpoints.push(state.chain);
        }
    }

    /// Frames recorded.
    pub fn frames(&self) -> u32 {
        self.inputs.len() as u32
    }

    /// The last frame, by its number.
    pub fn last_frame(&self) -> u32 {
        self.start.frame + self.frames()
    }

    /// The bytes of a `.wlr` file.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let parts: [&[u8]; 4] = [
            bytemuck::cast_slice(&self.inputs),
            bytemuck::cast_slice(&self.signatures),
            self.prefixes.as_flattened(),
            self.checkpoints.as_flattened(),
        ];
        let body = parts
            .iter()
            .try_for_each(|part| encoder.write_all(part))
            .and_then(|()| encoder.finish())
            .expect("writing to memory does not fail");
        let header = ReplayHeader {
            frames: self.frames(),
            signatures: self.signatures.len() as u32,
            session: self.session,
            start: self.start,
            result: self.result,
            body_bytes: body.len() as u32,
            compression: ZLIB,
            ..ReplayHeader::default()
        };
        [bytemuck::bytes_of(&header), &body].concat()
    }

    /// Reads the header of a `.wlr` file and nothing else.
    pub fn decode_header(bytes: &[u8]) -> Result<ReplayHeader, ReplayError> {
        let head = bytes.get(..size_of::<ReplayHeader>()).unwrap_or(bytes);
        let header: ReplayHeader = worldline_abi::copy(head)?;
        worldline_abi::copy::<Session>(bytemuck::bytes_of(&header.session))?;
        worldline_abi::copy::<MatchResult>(bytemuck::bytes_of(&header.result))?;
        if header.frames > MAX_FRAMES || header.signatures as usize > MAX_SIGNATURES {
            return Err(ReplayError::TooLarge {
                frames: header.frames,
                signatures: header.signatures,
            });
        }
        Ok(header)
    }

    /// Reads the bytes of a `.wlr` file.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReplayError> {
        let header = Self::decode_header(bytes)?;
        let body = &bytes[size_of::<ReplayHeader>()..];
        if body.len() != header.body_bytes as usize {
            return Err(ReplayError::Body("its length is not what the header says"));
        }
        let first = header.start.frame;
        let last = first
            .checked_add(header.frames)
            .ok_or(ReplayError::Body("its frame numbers overflow"))?;
        let sizes = [
            header.frames as usize * size_of::<InputBuffer>(),
            header.signatures as usize * size_of::<InputSignature>(),
            header.frames as usize * HASH_PREFIX_BYTES,
            (last / HASH_CHECKPOINT_FRAMES - first / HASH_CHECKPOINT_FRAMES) as usize * 32,
        ];
        let raw = inflate(body, header.compression, sizes.iter().sum())?;
        let mut rest = &raw[..];
        let [inputs, signatures, prefixes, checkpoints] = sizes.map(|size| {
            let (part, after) = rest.split_at(size);
            rest = after;
            part
        });
        Ok(Self {
            session: header.session,
            start: header.start,
            result: header.result,
            inputs: bytemuck::allocation::pod_collect_to_vec(inputs),
            signatures: bytemuck::allocation::pod_collect_to_vec(signatures),
            prefixes: bytemuck::allocation::pod_collect_to_vec(prefixes),
            checkpoints: bytemuck::allocation::pod_collect_to_vec(checkpoints),
        })
    }
}

/// Exactly `size` bytes out of a body; never more memory than that.
fn inflate(body: &[u8], compression: u32, size: usize) -> Result<Vec<u8>, ReplayError> {
    let mut raw = Vec::with_capacity(size);
    match compression {
        STORED => raw.extend_from_slice(body),
        ZLIB => {
            ZlibDecoder::new(body)
                .take(size as u64 + 1)
                .read_to_end(&mut raw)
                .map_err(|_| ReplayError::Body("its compression is corrupt"))?;
        }
        other => return Err(ReplayError::Compression(other)),
    }
    if raw.len() != size {
        return Err(ReplayError::Body(
            "it holds fewer or more bytes than the header says",
        ));
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recording(frames: u32) -> Recording {
        let mut recording = Recording::new(Session::default(), SessionState::default());
        for frame in 1..=frames {
            let inputs = InputBuffer {
                frame,
                ..InputBuffer::default()
            };
            let state = SessionState {
                frame,
                chain: [frame as u8; 32],
                ..SessionState::default()
            };
            recording.push(inputs, &state);
        }
        recording.signatures.push(InputSignature {
            frame: 60,
            seat: 1,
            padding: [0; 3],
            signature: [9; 64],
        });
        recording
    }

    #[test]
    fn there_and_back_at_every_length() {
        for frames in [0, 1, 599, 600, 601, 1800] {
            let recording = recording(frames);
            assert_eq!(recording.checkpoints.len() as u32, frames / 600);
            assert_eq!(Recording::decode(&recording.encode()).unwrap(), recording);
        }
    }

    #[test]
    fn an_eight_minute_match_of_idle_hands_is_small() {
        assert!(recording(28_800).encode().len() < 200_000);
    }

    #[test]
    fn damage_is_named() {
        let good = recording(700).encode();
        let mut version = good.clone();
        version[7] = 2;
        assert!(matches!(
            Recording::decode(&version),
            Err(ReplayError::Header(LayoutError::Version { .. }))
        ));
        let mut huge = good.clone();
        huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            Recording::decode(&huge),
            Err(ReplayError::TooLarge { .. })
        ));
        let mut other = good.clone();
        other[852] = 7;
        assert_eq!(Recording::decode(&other), Err(ReplayError::Compression(7)));
        assert!(matches!(
            Recording::decode(&good[..good.len() - 1]),
            Err(ReplayError::Body(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_recording(at in 0usize..2000, with: u8, cut in 0usize..2000) {
            let mut bytes = recording(700).encode();
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = Recording::decode(&bytes);
            bytes.truncate(cut % bytes.len());
            prop_assert!(Recording::decode(&bytes).is_err());
        }
    }
}
