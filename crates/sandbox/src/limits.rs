//! Every limit of this crate.

use std::time::Duration;

/// Branches in one call.
pub const MAX_BRANCHES: usize = 256;
/// Worlds that stand ready to become somebody's.
pub const MAX_READY: usize = 32;
/// Bytes of a cell or a command.
pub const MAX_CODE: usize = 4 << 20;
/// Bytes of one file moved by one call.
pub const MAX_FILE: usize = crate::wire::MAX_FILE;
/// Memory that a world may be given, in MiB.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 64..=1 << 20;
/// Processors that a world may be given.
pub const PROCESSORS: std::ops::RangeInclusive<u32> = 1..=256;
/// Disk that a world may be given, in MiB.
pub const DISK_MIB: std::ops::RangeInclusive<u32> = 16..=1 << 20;
/// Bytes beyond its disk that do not end a world: the folders of a file that is as large as the disk.
pub const DISK_SLACK: u64 = 1 << 20;
/// Processes and threads of a world.
pub const MAX_PROCESSES: u64 = 512;
/// Open files of a process. The loader of an image needs room for the files that it maps.
pub const MAX_OPEN_FILES: u64 = 4096;
/// Layers beneath a world's disk; beyond it, they become one.
pub const MAX_DISK_LAYERS: usize = 16;
/// Characters of a snapshot's name.
pub const MAX_NAME: usize = 128;
/// How long an interpreter may take to start.
pub const START: Duration = Duration::from_secs(120);
/// How long an interrupted cell may take to stop before its interpreter is ended.
pub const GRACE: Duration = Duration::from_secs(2);
/// How often a running call looks whether its caller is still there.
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// How long a running call may be silent before its world is asked whether it is there.
pub const PULSE: Duration = Duration::from_secs(10);
/// How long a world may take for an answer that it has at once.
pub const ANSWER: Duration = Duration::from_secs(60);
/// How often disks are measured.
pub const DISK_WATCH: Duration = Duration::from_secs(1);
/// Input of a command that may wait to be taken before whoever gives it waits too, bytes.
pub const MAX_UNTAKEN: usize = 1 << 20;
/// What an agent has said about a call, and its caller has not heard yet, bytes: what it may say on its own, and the
/// longest answer.
pub const MAX_UNHEARD: usize = 2 * crate::wire::WINDOW + crate::wire::MAX_PAYLOAD;
/// How long a command may take nothing of its input before giving it more fails.
pub const APPETITE: Duration = Duration::from_secs(60);
/// How long a snapshot waits for commands that are just ending.
pub const ENDING: Duration = Duration::from_millis(200);
/// How often it looks whether they have.
pub const ENDING_POLL: Duration = Duration::from_millis(5);
