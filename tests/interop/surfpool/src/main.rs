//! Surfpool's L1 on loopback, of no other chain: `worldline-interop-surfpool PORT`, WebSockets on the next
//! port. Ends when its standard input does.

use std::error::Error;
use std::io::Read;

use surfpool_core::start_local_surfnet;
use surfpool_core::surfnet::svm::SurfnetSvm;
use surfpool_types::{RpcConfig, SimnetConfig, SurfpoolConfig};

/// Milliseconds between two blocks, as on Solana.
const SLOT: u64 = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args()
        .nth(1)
        .ok_or("which port?")?
        .parse::<u16>()?;
    let (svm, events, geyser) = SurfnetSvm::default();
    // Somebody has to take what it tells.
    std::thread::spawn(move || events.iter().for_each(drop));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let config = SurfpoolConfig {
        simnets: vec![SimnetConfig {
            offline_mode: true,
            remote_rpc_url: None,
            slot_time: SLOT,
            ..SimnetConfig::default()
        }],
        rpc: RpcConfig {
            bind_host: "127.0.0.1".into(),
            bind_port: port,
            ws_port: port + 1,
            ..RpcConfig::default()
        },
        ..SurfpoolConfig::default()
    };
    let (say, hear) = crossbeam_channel::unbounded();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(start_local_surfnet(svm, config, say, hear, geyser))
}
