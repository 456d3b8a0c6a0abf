//! What the loader needs to bring a process back: plain records, laid out the same on both sides.
//! Both sides compile this file. Byte counts and addresses are in bytes; numbers are little endian.

/// Addresses that belong to the loader: its program, its heap, and the plan while it works. A process
/// that has something of its own there cannot be saved.
pub const LOADER_START: u64 = 0x6000_0000;
/// Where the loader keeps the plan and its stack.
pub const ARENA: u64 = 0x6800_0000;
/// End of the loader's addresses.
pub const LOADER_END: u64 = 0x7000_0000;

/// Where a region's untouched pages come from.
pub mod source {
    /// Zeros.
    pub const ZERO: u32 = 0;
    /// A file of the world, by its place in the list of paths.
    pub const FILE: u32 = 1;
    /// A memory layer, by its place in the list of layers.
    pub const LAYER: u32 = 2;
    /// A page of the kernel's (`[vdso]` and its data); the loader moves its own there.
    pub const KERNEL: u32 = 3;
}

/// Flag of a region: it grows downwards, as a stack does.
pub const GROWS_DOWN: u32 = 1;
/// Flag of a region: it is shared (and, with one process, shared with nobody).
pub const SHARED: u32 = 2;

/// A range of addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Offset in the source; for [`source::KERNEL`], its place among the kernel's regions.
    pub offset: u64,
    /// `PROT_*` of `mmap`.
    pub protection: u32,
    /// Flags.
    pub flags: u32,
    /// One of [`source`].
    pub source: u32,
    /// Which file or layer.
    pub index: u32,
}

/// Pages of a region that differ from its source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Offset in the layer.
    pub offset: u64,
    /// `PROT_*` of `mmap`.
    pub protection: u32,
    /// Which layer; with [`COPY`] set, its bytes are copied, not mapped.
    pub layer: u32,
}

/// Flag of [`Extent::layer`]: a region that cannot be backed by a file gets copies.
pub const COPY: u32 = 1 << 31;

/// How an open descriptor is made again.
pub mod descriptor {
    /// A file by path: flags, offset.
    pub const FILE: u32 = 0;
    /// A pipe: the number of its writing end, bytes in it.
    pub const PIPE: u32 = 1;
    /// A listening TCP socket: its address, its backlog.
    pub const LISTENER: u32 = 2;
    /// One end of a pair of connected Unix sockets: the number of the other end.
    pub const PAIR: u32 = 3;
    /// An `eventfd`: flags, count.
    pub const EVENT: u32 = 4;
    /// An `epoll`: flags, then what it watches as (number, events, data).
    pub const EPOLL: u32 = 5;
    /// A connection that left the world: a socket that is closed at its other end.
    pub const CLOSED: u32 = 6;
    /// The same open file as an earlier number.
    pub const SAME: u32 = 7;
}
