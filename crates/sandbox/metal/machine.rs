//! What the machine has: a start, a serial port, a clock, a name, a way to turn it off.

use core::arch::{asm, global_asm, x86_64};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering, fence};

use crate::text::Text;

// The monitor jumps here in 64-bit mode. Vector instructions are switched on (CR0.MP, not CR0.EM;
// CR4.OSFXSR and OSXMMEXCPT), because the compiler's own library was built with them.
global_asm!(
    ".globl _start",
    "_start:",
    "lea rsp, [rip + stack_top]",
    "mov rax, cr0",
    "and rax, -5",
    "or rax, 2",
    "mov cr0, rax",
    "mov rax, cr4",
    "or rax, 0x600",
    "mov cr4, rax",
    "call run",
    ".bss",
    ".balign 16",
    ".skip 65536",
    "stack_top:",
    ".text",
);

/// The first serial port: its data, and its line status.
const PORT: u16 = 0x3f8;
const STATUS: u16 = PORT + 5;
const HAS_DATA: u8 = 1;
/// The keyboard controller's command port, and the command that pulls the reset line.
const KEYBOARD: u16 = 0x64;
const RESET: u8 = 0xfe;
/// Where KVM is told to keep its clock.
const KVM_CLOCK: u32 = 0x4b56_4d01;
const ENABLED: u64 = 1;
/// KVM's leaf of features, and its clock's bit.
const KVM_SIGNATURE: u32 = 0x4000_0000;
const KVM_FEATURES: u32 = 0x4000_0001;
const HAS_CLOCK: u32 = 1 << 3;

/// A value that is handed out once.
pub(crate) struct Once<T> {
    value: UnsafeCell<T>,
    taken: AtomicBool,
}

// SAFETY: `take` gives the one reference there ever is.
unsafe impl<T: Send> Sync for Once<T> {}

impl<T> Once<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            taken: AtomicBool::new(false),
        }
    }

    pub(crate) fn take(&'static self) -> &'static mut T {
        assert!(!self.taken.swap(true, Ordering::AcqRel));
        // SAFETY: nobody has taken it before, and nobody will again.
        unsafe { &mut *self.value.get() }
    }
}

fn put(port: u16, value: u8) {
    // SAFETY: the ports written here belong to devices that touch no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

fn get(port: u16) -> u8 {
    let value: u8;
    // SAFETY: as for `put`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) }
    value
}

/// The first serial port.
pub(crate) struct Serial;

impl Serial {
    /// Waits until all of it has come.
    pub(crate) fn read(&self, bytes: &mut [u8]) {
        for byte in bytes {
            while get(STATUS) & HAS_DATA == 0 {
                core::hint::spin_loop();
            }
            *byte = get(PORT);
        }
    }

    /// The monitor takes every byte at once.
    pub(crate) fn write(&self, bytes: &[u8]) {
        for byte in bytes {
            put(PORT, *byte);
        }
    }
}

/// Turns the machine off: a monitor without a keyboard takes its reset line for that.
pub(crate) fn reset() -> ! {
    put(KEYBOARD, RESET);
    loop {
        core::hint::spin_loop();
    }
}

/// What KVM writes about its clock (`struct pvclock_vcpu_time_info`).
#[repr(C, align(64))]
struct Clock {
    version: u32,
    _pad: u32,
    stamp: u64,
    nanoseconds: u64,
    multiplier: u32,
    shift: i8,
    _flags: [u8; 3],
}

struct Shared(UnsafeCell<Clock>);

// SAFETY: there is one processor, and `nanoseconds` reads it as something that changes under it.
unsafe impl Sync for Shared {}

static CLOCK: Shared = Shared(UnsafeCell::new(Clock {
    version: 0,
    _pad: 0,
    stamp: 0,
    nanoseconds: 0,
    multiplier: 0,
    shift: 0,
    _flags: [0; 3],
}));

/// Asks KVM to keep the clock, where it offers one.
pub(crate) fn begin() {
    if x86_64::__cpuid(KVM_SIGNATURE).eax < KVM_FEATURES
        || x86_64::__cpuid(KVM_FEATURES).eax & HAS_CLOCK == 0
    {
        return;
    }
    let at = CLOCK.0.get() as u64 | ENABLED;
    // SAFETY: the register exists, as just asked, and the memory it names is KVM's alone from now on.
    unsafe {
        asm!("wrmsr", in("ecx") KVM_CLOCK, in("eax") at as u32, in("edx") (at >> 32) as u32,
            options(nostack));
    }
}

/// Nanoseconds since power-on; 0 where KVM keeps no clock.
pub(crate) fn nanoseconds() -> u64 {
    let clock = CLOCK.0.get();
    loop {
        // SAFETY: the memory is always there; it changes under us, so it is read as such, and the
        // version says whether all was of one moment.
        let (before, now, after) = unsafe {
            let before = (&raw const (*clock).version).read_volatile();
            fence(Ordering::Acquire);
            let now = clock.read_volatile();
            fence(Ordering::Acquire);
            (before, now, (&raw const (*clock).version).read_volatile())
        };
        if before == after && before % 2 == 0 {
            return now.read();
        }
    }
}

impl Clock {
    fn read(&self) -> u64 {
        if self.version == 0 {
            return 0;
        }
        // SAFETY: every 64-bit processor has the instruction.
        let ticks = unsafe { x86_64::_rdtsc() }.saturating_sub(self.stamp);
        let ticks = if self.shift >= 0 {
            ticks << self.shift
        } else {
            ticks >> -self.shift
        };
        self.nanoseconds + (u128::from(ticks) * u128::from(self.multiplier) >> 32) as u64
    }
}

/// Says what the processor calls itself.
pub(crate) fn cpu_name(out: &mut Text) {
    const PARTS: core::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;
    for part in PARTS {
        let told = x86_64::__cpuid(part);
        for word in [told.eax, told.ebx, told.ecx, told.edx] {
            for byte in word.to_le_bytes().into_iter().filter(|&byte| byte != 0) {
                out.byte(byte);
            }
        }
    }
    out.byte(b'\n');
}
