//! The frames of a running match on this machine's disk, so that a keeper that is killed goes on with
//! its recording. One record a frame: InputBuffer, then SessionState; the first is the start.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytemuck::{Zeroable, bytes_of, pod_read_unaligned};
use worldline_abi::{InputBuffer, Session, SessionState};

use crate::record::{Frame, RecordError, Recorder};

const INPUTS: usize = size_of::<InputBuffer>();
const RECORD: usize = INPUTS + size_of::<SessionState>();

/// A match's journal, open for more frames.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins a journal, or goes on with the one that is there: then the recorder has its frames, up
    /// to where the match stands. A match that has run frames which no journal has is a hole.
    pub(crate) fn open(
        path: &Path,
        session: Session,
        now: &SessionState,
    ) -> io::Result<(Self, Result<Recorder, RecordError>)> {
        let kept = match std::fs::read(path) {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let records = kept.as_chunks::<RECORD>().0;
        let mut frames = records.iter().map(read);
        let start = frames.next().map_or(*now, |(_, start)| start);
        let frames: Vec<Frame> = frames.take(now.frame as usize).collect();
        let recorder = Recorder::resume(session, start, &frames, now);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        // Frames that the rollup forgot when it died did not happen, and half a record is none.
        let known = if records.is_empty() {
            0
        } else {
            frames.len() + 1
        };
        file.set_len((known * RECORD) as u64)?;
        let path = path.to_owned();
        let mut journal = Self { path, file };
        if known == 0 {
            journal.push(&(InputBuffer::zeroed(), start))?;
        }
        Ok((journal, recorder))
    }

    pub(crate) fn push(&mut self, (inputs, state): &Frame) -> io::Result<()> {
        let mut record = [0; RECORD];
        record[..INPUTS].copy_from_slice(bytes_of(inputs));
        record[INPUTS..].copy_from_slice(bytes_of(state));
        self.file.write_all(&record)
    }

    /// The match is settled.
    pub(crate) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(self.path)
    }
}

fn read(record: &[u8; RECORD]) -> Frame {
    let (inputs, state) = record.split_at(INPUTS);
    (pod_read_unaligned(inputs), pod_read_unaligned(state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldline_abi::status;

    fn frame(number: u32) -> Frame {
        let state = SessionState {
            status: status::ACTIVE,
            frame: number,
            chain: [number as u8; 32],
            ..SessionState::default()
        };
        let inputs = InputBuffer {
            frame: number,
            ..InputBuffer::default()
        };
        (inputs, state)
    }

    #[test]
    fn a_recording_goes_on_where_the_rollup_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("match");
        let open = |now: u32| Journal::open(&path, Session::default(), &frame(now).1).unwrap();
        let (mut journal, recorder) = open(0);
        assert_eq!(recorder.unwrap().frames(), 0);
        for number in 1..=9 {
            journal.push(&frame(number)).unwrap();
        }
        drop(journal);
        // Killed within a record; the rollup stands at frame 7.
        let torn = OpenOptions::new().append(true).open(&path).unwrap();
        (&torn).write_all(&[1; 100]).unwrap();
        let (mut journal, recorder) = open(7);
        assert_eq!(recorder.unwrap().frames(), 7);
        journal.push(&frame(8)).unwrap();
        assert_eq!(open(8).1.unwrap().frames(), 8);
        assert!(open(12).1.is_err(), "frames that nobody recorded");
    }

    #[test]
    fn another_history_is_a_hole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("match");
        let (mut journal, _) = Journal::open(&path, Session::default(), &frame(0).1).unwrap();
        journal.push(&frame(1)).unwrap();
        let mut other = frame(1).1;
        other.chain = [9; 32];
        let (_, recorder) = Journal::open(&path, Session::default(), &other).unwrap();
        assert_eq!(recorder.err(), Some(RecordError::Hole(2)));
    }
}
