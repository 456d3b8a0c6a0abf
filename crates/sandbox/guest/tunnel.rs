//! A connection to a port of this machine's loopback, or one that somebody in it makes to a port that the
//! agent listens at, carried over a call's input and output. It runs in a process of its own, as every command
//! does, so that nobody waits for it.

use std::io;

use crate::sys::{self, nr, sys};
use crate::wire;

/// Says that the connection stands; what follows is said by whom it leads to.
const CONNECTED: &[u8] = &[1];

/// Connects, and carries both ways until both have said all.
pub fn serve(port: u16) -> io::Result<()> {
    carry(crate::connected(port)?)
}

/// Waits for the next connection, and carries both ways until both have said all.
pub fn accept(listener: i32) -> io::Result<()> {
    let socket = sys!(nr::ACCEPT4, listener, 0, 0, sys::O_CLOEXEC)? as i32;
    sys::close(listener);
    carry(socket)
}

fn carry(socket: i32) -> io::Result<()> {
    sys::write_all(1, CONNECTED)?;
    let mut ways = [(0, socket, true), (socket, 1, true)];
    let mut buffer = vec![0; wire::CHUNK];
    while ways.iter().any(|way| way.2) {
        const IN: u64 = 1;
        let mut polled: Vec<u64> = ways.iter().map(|(from, _, open)| if *open { *from as u32 as u64 | IN << 32 } else { u32::MAX.into() }).collect();
        sys!(nr::POLL, polled.as_mut_ptr(), polled.len(), -1isize)?;
        for ((from, to, open), event) in ways.iter_mut().zip(polled) {
            if !*open || event >> 48 == 0 {
                continue;
            }
            let count = sys::read(*from, &mut buffer).unwrap_or(0);
            *open = count > 0 && sys::write_all(*to, &buffer[..count]).is_ok();
            if !*open && *to == socket {
                const SHUT_WR: usize = 1;
                let _ = sys!(nr::SHUTDOWN, socket, SHUT_WR);
            }
            if !*open && *to == 1 {
                return Ok(()); // Who is spoken to has gone; nothing that comes now would be heard.
            }
        }
    }
    Ok(())
}
