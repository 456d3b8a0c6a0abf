//! Reading layouts in place.

use bytemuck::{Pod, PodCastError};

/// A fixed byte layout. `DISCRIMINATOR` names those that stand alone in an account
/// or a file: seven letters and a format version, the first eight bytes.
pub trait Layout: Pod {
    /// The name that errors use.
    const NAME: &'static str;
    /// Seven letters and a version byte, or `None` for a part of another layout.
    const DISCRIMINATOR: Option<[u8; 8]> = None;

    /// Tells each field in order: interface descriptions are made from this.
    fn describe(tell: &mut dyn FnMut(LayoutField));
}

/// A field of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutField {
    /// Its name.
    pub name: &'static str,
    /// Its first byte.
    pub offset: usize,
    /// Its Rust type, with paths.
    pub kind: &'static str,
}

/// The type of the field that `_field` reads.
pub(crate) fn kind<T, F>(_field: fn(&T) -> &F) -> &'static str {
    core::any::type_name::<F>()
}

/// Why bytes could not be read as a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The slice is not exactly as long as the layout.
    #[error("a {name} is {expected} bytes, these are {found}: pass exactly its bytes")]
    Length {
        /// The layout that was tried.
        name: &'static str,
        /// Its size, bytes.
        expected: usize,
        /// The slice's length, bytes.
        found: usize,
    },
    /// The slice begins at an address that the layout's widest field does not divide.
    #[error(
        "a {name} must begin at a multiple of {align} bytes: align the buffer, or copy it with `copy`"
    )]
    Misaligned {
        /// The layout that was tried.
        name: &'static str,
        /// Its alignment, bytes.
        align: usize,
    },
    /// The first seven bytes name something else.
    #[error("these bytes are not a {name}: their discriminator names something else")]
    Kind {
        /// The layout that was tried.
        name: &'static str,
    },
    /// The right kind, in a format version that this build does not read.
    #[error(
        "this {name} has format version {found}, this build reads version {expected}: use the build that wrote it"
    )]
    Version {
        /// The layout that was tried.
        name: &'static str,
        /// The version this build reads.
        expected: u8,
        /// The version in the bytes.
        found: u8,
    },
}

/// `bytes` as a `T`, in place. They must be exactly as long, aligned, and begin with
/// its discriminator if it has one.
pub fn view<T: Layout>(bytes: &[u8]) -> Result<&T, LayoutError> {
    check::<T>(bytes)?;
    bytemuck::try_from_bytes(bytes).map_err(|error| cast_error::<T>(error, bytes.len()))
}

/// [`view`], to be written to.
pub fn view_mut<T: Layout>(bytes: &mut [u8]) -> Result<&mut T, LayoutError> {
    check::<T>(bytes)?;
    let found = bytes.len();
    bytemuck::try_from_bytes_mut(bytes).map_err(|error| cast_error::<T>(error, found))
}

/// A `T` copied out of bytes at any alignment; the other rules are [`view`]'s.
pub fn copy<T: Layout>(bytes: &[u8]) -> Result<T, LayoutError> {
    check::<T>(bytes)?;
    bytemuck::try_pod_read_unaligned(bytes).map_err(|error| cast_error::<T>(error, bytes.len()))
}

/// Splits `bytes` into a `T` and the rest, as accounts and files with a header are laid out.
pub fn split<T: Layout>(bytes: &[u8]) -> Result<(&T, &[u8]), LayoutError> {
    match bytes.split_at_checked(size_of::<T>()) {
        Some((head, rest)) => Ok((view(head)?, rest)),
        None => Err(length::<T>(bytes.len())),
    }
}

fn check<T: Layout>(bytes: &[u8]) -> Result<(), LayoutError> {
    if bytes.len() != size_of::<T>() {
        return Err(length::<T>(bytes.len()));
    }
    match T::DISCRIMINATOR {
        Some(expected) if bytes[..7] != expected[..7] => Err(LayoutError::Kind { name: T::NAME }),
        Some(expected) if bytes[7] != expected[7] => Err(LayoutError::Version {
            name: T::NAME,
            expected: expected[7],
            found: bytes[7],
        }),
        _ => Ok(()),
    }
}

fn length<T: Layout>(found: usize) -> LayoutError {
    LayoutError::Length {
        name: T::NAME,
        expected: size_of::<T>(),
        found,
    }
}

fn cast_error<T: Layout>(error: PodCastError, found: usize) -> LayoutError {
    match error {
        PodCastError::TargetAlignmentGreaterAndInputNotAligned => LayoutError::Misaligned {
            name: T::NAME,
            align: align_of::<T>(),
        },
        _ => length::<T>(found),
    }
}

/// Declares a layout: its name, discriminator, size, and each field's offset.
macro_rules! layout {
    ($type:ident, $size:expr, $discriminator:expr, { $($field:ident @ $offset:expr),+ $(,)? }) => {
        impl crate::Layout for $type {
            const NAME: &'static str = stringify!($type);
            const DISCRIMINATOR: Option<[u8; 8]> = $discriminator;

            fn describe(tell: &mut dyn FnMut(crate::LayoutField)) {
                $(tell(crate::LayoutField {
                    name: stringify!($field),
                    offset: $offset,
                    kind: crate::layout::kind(|it: &Self| &it.$field),
                });)+
            }
        }
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)+
        };
    };
}
pub(crate) use layout;
