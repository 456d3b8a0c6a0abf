//! A client of any chain that speaks Solana's JSON-RPC: worlds uploaded, downloaded, forked and
//! retired; sessions opened, lent to a rollup, played, settled; matches verified from what L1 keeps.
//!
//! ```text
//!   bytes, no I/O                        chains
//!   program  addresses, calls            rpc, watch   questions, subscriptions
//!   world    a world's calls             send         transactions, retried
//!   session  a session's calls           upload, download, retire
//!   record   frames to a recording       table, play, settle, keeper, verify, lists,
//!                                        bench
//! ```
//!
//! The left column decides, the right one asks and sends. Everything that takes several transactions
//! asks the chain first what is there: run it again after a failure, and it goes on. Calls block;
//! nothing here needs a runtime. The crate must never know servers, or how a frame is computed: it
//! hands recordings to `worldline_arena` to be executed again.
//!
//! The main calls are [`upload::upload`] and [`verify::verify`]:
//!
//! ```no_run
//! use worldline_cartridge::Cartridge;
//! use worldline_chain::{Commitment, Program, Rpc, upload, verify, wallet};
//!
//! let l1 = Rpc::new("http://127.0.0.1:8899", Commitment::Confirmed);
//! let owner = wallet::read("id.json".as_ref())?;
//! let cartridge = Cartridge::open("worlds/micro.cart")?;
//! let terms = upload::Terms { id: upload::default_id(cartridge.manifest()), fee: 0 };
//! let world = upload::upload(&l1, Program::default(), &owner, terms, &cartridge, &|_| ())?;
//! println!("{} can be played", world.address);
//!
//! let session = "Wor1d1ine1111111111111111111111111111111111".parse()?;
//! let report = verify::verify(&l1, &Program::default(), &session, Default::default())?;
//! println!("{}", report.detail);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bench;
pub mod download;
mod journal;
pub mod keeper;
pub mod limits;
pub mod lists;
pub mod play;
mod program;
pub mod read;
pub mod record;
pub mod retire;
mod rpc;
mod send;
pub mod session;
pub mod settle;
pub mod table;
pub mod upload;
pub mod verify;
pub mod wallet;
pub mod watch;
pub mod world;

pub use program::{Program, SYSTEM_PROGRAM, unit_limit};
pub use rpc::{Account, Commitment, Filter, Rpc, RpcError, Status};
pub use send::{Refusal, SendError, Signed, sign};

pub use solana_address::Address;
pub use solana_instruction::Instruction as Call;
pub use solana_keypair::Keypair;
pub use solana_signature::Signature;
pub use solana_signer::Signer;
