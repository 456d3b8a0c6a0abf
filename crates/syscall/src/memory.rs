//! From a program's addresses to slices of this machine.
#![allow(unsafe_code)] // The runtime hands out addresses; `Outputs` says why the slices are good.

use solana_program_runtime::invoke_context::InvokeContext;
use solana_program_runtime::memory::translate_slice;
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
        "sol_matmul_i8: {rows} rows of {columns} columns; 1 to {max_rows} rows and 1 to {max_columns} columns are multiplied",
        max_rows = crate::MAX_ROWS,
        max_columns = crate::MAX_COLUMNS
    )]
    Matrix {
        /// Rows asked for.
        rows: u64,
        /// Columns asked for.
        columns: u64,
    },
    /// A state that no head has.
    #[error("sol_ssm_scan: shape {shape:#x}; its low 16 bits are an even state size of 2 to {max}, the next 16 a decay that is not negative, the rest zero", max = worldline_mamba2::MAX_D_STATE)]
    Shape {
        /// The argument.
        shape: u64,
    },
    /// A number for which vector and scalar arithmetic could differ.
    #[error("sol_ssm_scan: an input is -32,768; inputs are symmetric, -32,767 to 32,767")]
    Number,
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

/// A slice to read.
pub(crate) fn read<T: Number>(mapping: &MemoryMapping, place: Place) -> Result<&[T], Failure> {
    let slice = translate_slice::<T>(mapping, place.address, place.numbers, false)?;
    place.aligned::<T>(slice.as_ptr() as u64)?;
    Ok(slice)
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
        let length = place.bytes::<T>();
        let host = match self.mapping.map(AccessType::Store, place.address, length) {
            StableResult::Ok(host) => host,
            StableResult::Err(error) => return Err(error.into()),
        };
        place.aligned::<T>(host)?;
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

/// Numbers for which every pattern of bits is one.
pub(crate) trait Number: Copy {}
impl Number for i8 {}
impl Number for i16 {}
impl Number for i32 {}
