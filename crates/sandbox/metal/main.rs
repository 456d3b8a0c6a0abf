//! The smallest guest: a machine without an operating system that answers a few lines over its serial
//! port. It is what virtual machines are probed and tested with where no Linux boots: it has memory that
//! a snapshot must keep, randomness and a clock that a branch must not share, and faults on demand.
//!
//! It runs in 64-bit mode with the page tables that the machine monitor made, one processor, no
//! interrupts. Some hosts emulate each of its instructions and know few vector instructions: `build.rs`
//! has them left out, memory is copied by string instructions, and numbers are written without the
//! compiler's library, which was built with them.
//!
//! It is built by the same compiler as this crate, in one call, and shares `frame.rs` with it.

#![no_std]
#![no_main]

#[path = "../src/frame.rs"]
#[allow(dead_code, unreachable_pub)]
mod frame;
mod machine;
mod memory;
mod text;

use core::fmt::Write;
use core::panic::PanicInfo;

use frame::{HEADER, MAX_LINE, WAKE_LEN, kind};
use machine::{Serial, nanoseconds};
use text::{Text, number};

/// Words that `peek` and `poke` see: eight MiB.
const WORDS: usize = 1 << 20;
const WORDS_OF_A_PAGE: usize = 512;
/// What a shell says of a word that it does not know, and of one that makes no sense.
const UNKNOWN: u32 = 127;
const MISUSED: u32 = 2;
/// Its output is one stream.
const STREAM: &[u8] = &[1];

/// All that it remembers.
struct State {
    count: u64,
    random: u64,
    /// The clock as it was told, and when: nanoseconds since 1970 and since power-on.
    told: [u64; 2],
    words: [u64; WORDS],
}

static STATE: machine::Once<State> = machine::Once::new(State {
    count: 0,
    random: 0,
    told: [0; 2],
    words: [0; WORDS],
});

/// Where `_start` goes on, with a stack.
#[unsafe(no_mangle)]
extern "C" fn run() -> ! {
    let state = STATE.take();
    machine::begin();
    Serial.write(&frame::GREETING);
    let mut payload = [0; MAX_LINE];
    loop {
        let mut header = [0; HEADER];
        Serial.read(&mut header);
        let (length, kind, call) = frame::parse_header(&header);
        let Some(payload) = payload.get_mut(..length) else {
            panic!("more bytes in one call than it takes");
        };
        Serial.read(payload);
        match kind {
            kind::WAKE => state.wake(call, payload),
            kind::SPAWN => {
                let mut out = Text::new();
                let code = match core::str::from_utf8(payload) {
                    Ok(line) => state.line(line, &mut out),
                    Err(_) => MISUSED,
                };
                if !out.bytes().is_empty() {
                    say(kind::OUTPUT, call, &[STREAM, out.bytes()]);
                }
                say(kind::EXIT, call, &[&code.to_le_bytes()]);
            }
            _ => say(kind::FAILED, call, &[b"this guest has no such call"]),
        }
    }
}

fn say(kind: u8, call: u32, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum();
    Serial.write(&frame::header(kind, call, length));
    for part in parts {
        Serial.write(part);
    }
}

impl State {
    /// A branch begins, or the first of them: what time it is, and randomness of its own.
    fn wake(&mut self, call: u32, payload: &[u8]) {
        let Some(payload) = payload.first_chunk::<WAKE_LEN>() else {
            return say(kind::FAILED, call, &[b"too short"]);
        };
        let (now, seed) = frame::parse_wake(payload);
        self.told = [now, nanoseconds()];
        self.random = seed;
        say(kind::DONE, call, &[]);
    }

    /// Does what a line says; gives the exit code.
    fn line(&mut self, line: &str, out: &mut Text) -> u32 {
        let mut words = line.split_ascii_whitespace();
        let word = words.next().unwrap_or_default();
        let numbers = [words.next(), words.next()].map(|word| word.and_then(number));
        match (word, numbers) {
            ("echo", _) => out.line(line.trim_start()[word.len()..].trim()),
            ("true", _) => {}
            ("count", _) => {
                self.count += 1;
                out.number(self.count);
            }
            ("peek", [Some(at), _]) => out.number(self.words[at as usize % WORDS]),
            ("poke", [Some(at), Some(value)]) => self.words[at as usize % WORDS] = value,
            ("touch", [Some(pages), _]) => self.touch(pages as usize),
            ("random", _) => out.hexadecimal(self.draw()),
            ("time", _) => out.number(self.now() / 1_000_000),
            ("cpu", _) => machine::cpu_name(out),
            ("panic", _) => panic!("as asked"),
            ("hang", _) => loop {
                core::hint::spin_loop();
            },
            ("off", _) => machine::reset(),
            ("help", _) => out.put(HELP),
            _ => return misunderstood(word, out),
        }
        0
    }

    /// Writes a word of each of this many pages.
    fn touch(&mut self, pages: usize) {
        for page in self.words.chunks_mut(WORDS_OF_A_PAGE).take(pages) {
            page[0] = page[0].wrapping_add(1);
        }
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn now(&self) -> u64 {
        let [told, at] = self.told;
        told + nanoseconds().saturating_sub(at)
    }
}

const HELP: &str = "\
echo WORDS      say them
true            do nothing
count           count one further, and say it
peek AT         say a word of memory
poke AT VALUE   write one
touch PAGES     write a word of each of so many pages
random          say 64 random bits
time            say the time, in milliseconds since 1970
cpu             say the processor's name
panic           break
hang            never answer
off             turn the machine off
help            say this
";

fn misunderstood(word: &str, out: &mut Text) -> u32 {
    let known = HELP
        .lines()
        .any(|line| line.split(' ').next() == Some(word));
    out.put(word);
    out.line(if known {
        ": it takes numbers; `help` says which"
    } else {
        ": there is no such word; `help` lists them all"
    });
    if known { MISUSED } else { UNKNOWN }
}

/// Says why, and turns the machine off: whoever waits for an answer hears it.
#[panic_handler]
fn broken(info: &PanicInfo) -> ! {
    let mut message = Text::new();
    let _ = write!(message, "{}", info.message());
    say(kind::FAILED, frame::NOBODY, &[message.bytes()]);
    machine::reset()
}
