//! From a program's addresses to slices of this machine.
#![allow(unsafe_code)] // The runtime hands out addresses; `Outputs` says why the slices are good.

use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::solana_sbpf::error::StableResult;
use solana_program_runtime::solana_sbpf::memory_region::{AccessType, MemoryMapping};
use std::error::Error;
use std::ops::Range;

/// Any error, as the runtime carries them.
pub(crate) type Failure = Box<dyn Error>;

/// How a program called a function wrongly. The program ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// A matrix without rows or columns, or larger than is allowed.
    #[error(
        "{rows} rows of {columns} columns; 1 to {max_rows} rows and 1 to {max_columns} columns are multiplied",
        max_rows = crate::MAX_ROWS,
        max_columns = crate::MAX_COLUMNS
    )]
    Matrix {
        /// Rows asked for.
        rows: u64,
        /// Columns asked for.
        columns: u64,
    },
    /// A matrix whose shift or multipliers could overflow a sum.
    #[error("sol_linear_i8: a shift is at most {max_shift}, a multiplier below {max_multiplier}", max_shift = worldline_mamba2::MAX_SHIFT, max_multiplier = worldline_mamba2::MAX_MULTIPLIER)]
    Scale,
    /// Sizes that no block has.
    #[error("sol_ssm_scan: a block of width {d_model} and state size {d_state}; a width is a multiple of 32 up to {max_model}, a state size even up to {max_state}", max_model = worldline_mamba2::MAX_D_MODEL, max_state = worldline_mamba2::MAX_D_STATE)]
    Sizes {
        /// The width.
        d_model: u64,
        /// The state size.
        d_state: u64,
    },
    /// Parameters or tables with which a sum could overflow.
    #[error("sol_ssm_scan: {0}")]
    Bound(worldline_mamba2::BoundError),
    /// An address that its type does not divide.
    #[error("a slice of {size}-byte numbers begins at {address:#x}, no multiple of {size}")]
    Alignment {
        /// The program's address.
        address: u64,
        /// Bytes of a number.
        size: usize,
    },
    /// What is written would change what is read.
    #[error("what is written overlaps another slice of the same call")]
    Overlap,
}

/// A slice of the program's memory, as the program names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The program's address.
    pub(crate) address: u64,
    /// Numbers, not bytes.
    pub(crate) numbers: u64,
}

impl Place {
    pub(crate) const fn new(address: u64, numbers: u64) -> Self {
        Self { address, numbers }
    }

    const fn bytes<T>(&self) -> u64 {
        self.numbers.saturating_mul(size_of::<T>() as u64)
    }

    fn aligned<T>(&self, host: u64) -> Result<(), Misuse> {
        let size = align_of::<T>();
        if host.is_multiple_of(size as u64) {
            return Ok(());
        }
        Err(Misuse::Alignment {
            address: self.address,
            size,
        })
    }
}

/// Makes a slice writable: an account's bytes may be shared until the first write to them, and
/// giving the account its own copy moves them. Every place that a call writes to is claimed before
/// any slice is taken.
pub(crate) fn claim<T>(
    context: &mut InvokeContext<'static, 'static>,
    place: Place,
) -> Result<(), Failure> {
    let mapping = context.memory_contexts.memory_mapping_mut()?;
    let length = place.bytes::<T>();
    match mapping.map_with_access_violation_handler(AccessType::Store, place.address, length) {
        StableResult::Ok(_) => Ok(()),
        StableResult::Err(error) => Err(error.into()),
    }
}

/// Where a place lies on this machine, if it is wholly there and aligned.
fn host<T>(mapping: &MemoryMapping, access: AccessType, place: Place) -> Result<u64, Failure> {
    match mapping.map(access, place.address, place.bytes::<T>()) {
        StableResult::Ok(host) => place.aligned::<T>(host).map(|()| host).map_err(Into::into),
        StableResult::Err(error) => Err(error.into()),
    }
}

/// A slice to read.
pub(crate) fn read<T: Number>(mapping: &MemoryMapping, place: Place) -> Result<&[T], Failure> {
    let host = host::<T>(mapping, AccessType::Load, place)?;
    // SAFETY: the mapping vouches for the bytes for as long as it is borrowed, they are aligned, and
    // any bytes are numbers. What is written is checked not to overlap them.
    Ok(unsafe { std::slice::from_raw_parts(host as *const T, place.numbers as usize) })
}

/// Takes many slices to read, and remembers where they lie.
pub(crate) struct Reader<'m> {
    mapping: &'m MemoryMapping,
    pub(crate) taken: Vec<Range<u64>>,
}

impl<'m> Reader<'m> {
    pub(crate) fn new(mapping: &'m MemoryMapping) -> Self {
        Self {
            mapping,
            taken: Vec::new(),
        }
    }

    /// So many numbers at the program's address.
    pub(crate) fn take<T: Number>(
        &mut self,
        address: u64,
        numbers: usize,
    ) -> Result<&'m [T], Failure> {
        let slice = read(self.mapping, Place::new(address, numbers as u64))?;
        self.taken.push(range(slice));
        Ok(slice)
    }
}

/// The slices that a call writes to, handed out once each, none overlapping another or one that
/// is read.
pub(crate) struct Outputs<'m> {
    mapping: &'m MemoryMapping,
    taken: Vec<Range<u64>>,
}

impl<'m> Outputs<'m> {
    /// Outputs beside these slices that are read.
    pub(crate) fn beside(mapping: &'m MemoryMapping, read: &[Range<u64>]) -> Self {
        Self {
            mapping,
            taken: read.to_vec(),
        }
    }

    /// A slice to write, which was [`claim`]ed before.
    pub(crate) fn take<T: Number>(&mut self, place: Place) -> Result<&'m mut [T], Failure> {
        let host = host::<T>(self.mapping, AccessType::Store, place)?;
        let length = place.bytes::<T>();
        let range = host..host + length;
        if self
            .taken
            .iter()
            .any(|taken| taken.start < range.end && range.start < taken.end)
        {
            return Err(Misuse::Overlap.into());
        }
        self.taken.push(range);
        // SAFETY: the mapping vouches for `length` writable bytes at `host` for as long as it is
        // borrowed, they are aligned, any bytes are a number, and no other slice of this call
        // touches them.
        Ok(unsafe { std::slice::from_raw_parts_mut(host as *mut T, place.numbers as usize) })
    }
}

/// Where a slice lies on this machine.
pub(crate) fn range<T>(slice: &[T]) -> Range<u64> {
    let bytes = slice.as_ptr_range();
    bytes.start as u64..bytes.end as u64
}

/// Types for which every pattern of bits is a value.
pub(crate) trait Number: bytemuck::Pod {}
impl<T: bytemuck::Pod> Number for T {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use solana_program_runtime::solana_sbpf::memory_region::MemoryRegion;
    use solana_program_runtime::solana_sbpf::program::SBPFVersion;
    use solana_program_runtime::solana_sbpf::vm::Config;

    /// Bytes of each region.
    const BYTES: usize = 4_096;
    /// A region that can be read; its bytes count from 0.
    pub(crate) const PROGRAM: u64 = 0x1_0000_0000;
    /// The same, where it is written to.
    pub(crate) const READ_ONLY: u64 = PROGRAM;
    /// Another region to read, likewise.
    pub(crate) const INPUT: u64 = 0x2_0000_0000;
    /// A region of zeros that can be written.
    pub(crate) const OUTPUT: u64 = 0x3_0000_0000;

    #[repr(align(64))]
    struct Region([u8; BYTES]);

    /// What `work` says, and what it leaves in the region at [`OUTPUT`].
    pub(crate) fn with_memory(
        work: impl FnOnce(&MemoryMapping) -> Result<(), Failure>,
    ) -> (Result<(), Failure>, Vec<u8>) {
        let counted = [[0; BYTES]; 2].map(|_: [u8; BYTES]| std::array::from_fn(|at| at as u8));
        let [program, input] = counted.map(Region);
        let mut output = Region([0; BYTES]);
        let regions = vec![
            MemoryRegion::new(&raw const program.0, PROGRAM),
            MemoryRegion::new(&raw const input.0, INPUT),
            MemoryRegion::new(&raw mut output.0, OUTPUT),
        ];
        // SAFETY: the regions outlive the mapping, and take any bytes.
        let mapping =
            unsafe { MemoryMapping::new(regions, &Config::default(), SBPFVersion::V3) }.unwrap();
        let result = work(&mapping);
        drop(mapping);
        (result, output.0.to_vec())
    }

    /// The misuse that `work` is refused for; nothing has been written.
    pub(crate) fn refused(work: impl FnOnce(&MemoryMapping) -> Result<(), Failure>) -> Misuse {
        let (result, memory) = with_memory(work);
        assert!(memory.iter().all(|byte| *byte == 0), "nothing was written");
        *result
            .expect_err("it is misuse")
            .downcast()
            .expect("a misuse")
    }

    /// A program's memory of any size: one region to read, one to write.
    #[derive(Default)]
    pub(crate) struct Machine {
        program: Vec<u64>,
        heap: Vec<u64>,
    }

    impl Machine {
        /// Puts numbers where they can be read; their address.
        pub(crate) fn put<T: Number>(&mut self, numbers: &[T]) -> u64 {
            PROGRAM + append(&mut self.program, numbers)
        }

        /// Puts numbers where they can be written; their address.
        pub(crate) fn room<T: Number>(&mut self, numbers: &[T]) -> u64 {
            OUTPUT + append(&mut self.heap, numbers)
        }

        /// What stands where things can be written.
        pub(crate) fn written(&self) -> Vec<u64> {
            self.heap.clone()
        }

        /// Bytes at an address that can be written.
        pub(crate) fn bytes(&self, address: u64, count: usize) -> Vec<u8> {
            let bytes: &[u8] = bytemuck::cast_slice(&self.heap);
            bytes[(address - OUTPUT) as usize..][..count].to_vec()
        }

        /// A value at an address that can be written.
        pub(crate) fn get<T: Number>(&self, address: u64) -> T {
            bytemuck::pod_read_unaligned(&self.bytes(address, size_of::<T>()))
        }

        /// Runs something in this memory.
        pub(crate) fn run(
            &mut self,
            work: impl FnOnce(&MemoryMapping) -> Result<(), Failure>,
        ) -> Result<(), Failure> {
            let program: &[u8] = bytemuck::cast_slice(&self.program);
            let heap: &mut [u8] = bytemuck::cast_slice_mut(&mut self.heap);
            let regions = vec![
                MemoryRegion::new(std::ptr::from_ref(program), PROGRAM),
                MemoryRegion::new(std::ptr::from_mut(heap), OUTPUT),
            ];
            let (config, version) = (Config::default(), SBPFVersion::V3);
            // SAFETY: the regions outlive the mapping, and take any bytes.
            let mapping = unsafe { MemoryMapping::new(regions, &config, version) }.unwrap();
            work(&mapping)
        }
    }

    /// Appends numbers at a whole word; where they begin.
    fn append<T: Number>(words: &mut Vec<u64>, numbers: &[T]) -> u64 {
        let at = 8 * words.len() as u64;
        let bytes: &[u8] = bytemuck::cast_slice(numbers);
        words.extend(bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        }));
        at
    }
}
