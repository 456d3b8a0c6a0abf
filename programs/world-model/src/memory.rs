//! The four functions that compilers assume, by the runtime's syscalls.
#![allow(unsafe_code)] // The compiler calls them with what it promises: pointers good for `n` bytes.

use pinocchio::syscalls::{sol_memcmp_, sol_memcpy_, sol_memmove_, sol_memset_};

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    unsafe { sol_memcpy_(to, from, n as u64) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    unsafe { sol_memmove_(to, from, n as u64) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    unsafe { sol_memset_(to, byte as u8, n as u64) };
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, n: usize) -> i32 {
    let mut order = 0;
    unsafe { sol_memcmp_(one, other, n as u64, &mut order) };
    order
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, n: usize) -> i32 {
    unsafe { memcmp(one, other, n) }
}
