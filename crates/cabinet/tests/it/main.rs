//! The cabinet from outside: its command, driven over JSON-RPC by this process and by the two
//! libraries that everybody uses.

mod client;
mod counter;
mod crash;
mod javascript;
mod process;
mod rollup;
mod rpc;
