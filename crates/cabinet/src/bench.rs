//! What the engine costs: before any program does anything ([`run`], on a rollup of its own, which
//! needs no L1; an empty transaction is one of the magic program's `Noop`s), and for whatever a caller
//! has prepared on a running one ([`execute`], [`timing`]).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde_json::{Value, json};
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;

use crate::bank::{Bank, Event};
pub use crate::crank::Timing;
use crate::magic::{self, MAGIC_PROGRAM, ScheduleTask};
use crate::{Rollup, RollupConfig, StartRollup, Stopped};

/// Sixty a second, as a game does.
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Empty transactions to execute.
    pub transactions: usize,
    /// Tasks that run at 60 Hz while the rest is measured.
    pub tasks: usize,
    /// Transactions to send at 60 Hz over HTTP, each awaited on a WebSocket.
    pub inputs: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            transactions: 2000,
            tasks: 1,
            inputs: 300,
        }
    }
}

/// Percentiles of one measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// Half of all values are at most this.
    pub p50: f64,
    /// 95 of 100 are at most this.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Executing an empty transaction whose signature was checked, in µs.
    pub empty_transaction_us: Spread,
    /// Checking one signature, in µs; servers do it on threads of their own.
    pub signature_check_us: Spread,
    /// How late the runs of the tasks started, in µs: the largest of each task.
    pub task_latest_us: Vec<u64>,
    /// Distance of a task's notifications from 1/60 s, in ms.
    pub task_jitter_ms: Spread,
    /// From the start of an HTTP request to its WebSocket notification, in ms.
    pub send_to_socket_ms: Spread,
    /// Tasks that ran meanwhile.
    pub tasks: usize,
}

/// Something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The rollup does not start.
    #[error(transparent)]
    Start(#[from] StartRollup),
    /// The rollup ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Its server did not answer as it should.
    #[error("the rollup's server: {0}")]
    Server(String),
    /// What was to be timed fails.
    #[error("run {run} failed: {logs:?}")]
    Failed {
        /// Which, from 0.
        run: usize,
        /// The transaction's log.
        logs: Vec<String>,
    },
}

fn server(error: impl ToString) -> BenchError {
    BenchError::Server(error.to_string())
}

/// Measures on a rollup whose ledger is in `folder`, which should be empty.
pub async fn run(folder: &std::path::Path, load: Load) -> Result<Report, BenchError> {
    // Nothing listens on port 1; the rollup does without.
    let rollup = Rollup::start(RollupConfig::new(folder, "http://127.0.0.1:1")).await?;
    let (empty_transaction_us, signature_check_us) = empty(&rollup, load.transactions).await?;
    for task in 0..load.tasks {
        schedule(&rollup, task as i64).await?;
    }
    let jitter = tokio::spawn(jitter(rollup.clone(), load.inputs));
    let send_to_socket_ms = latency(&rollup, load.inputs).await?;
    let task_jitter_ms = jitter.await.map_err(server)?;
    let state = rollup.state().await?;
    let tasks = state["tasks"].as_array().cloned().unwrap_or_default();
    rollup.stop();
    Ok(Report {
        empty_transaction_us,
        signature_check_us,
        task_latest_us: tasks
            .iter()
            .filter_map(|task| task["latestMicros"].as_u64())
            .collect(),
        task_jitter_ms,
        send_to_socket_ms,
        tasks: load.tasks,
    })
}

fn noop(payer: &Keypair, hash: Hash, number: u64) -> Option<VersionedTransaction> {
    let instruction = Instruction {
        program_id: MAGIC_PROGRAM,
        accounts: Vec::new(),
        data: magic::noop(number),
    };
    let message = Message::new_with_blockhash(&[instruction], Some(&payer.pubkey()), &hash);
    VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[payer]).ok()
}

async fn empty(rollup: &Rollup, count: usize) -> Result<(Spread, Spread), BenchError> {
    let payer = Keypair::new();
    let hash = rollup
        .handle
        .engine
        .ask(|bank| bank.hashes.latest())
        .await?;
    let signed = (0..count as u64).filter_map(|number| noop(&payer, hash, number));
    let transactions: Vec<VersionedTransaction> = signed.collect();
    let checks = transactions.iter().map(|transaction| {
        micros(|| assert!(transaction.verify_with_results().iter().all(|valid| *valid)))
    });
    let checks = spread(checks.collect());
    let execute = move |bank: &mut Bank| {
        let run = |transaction: &VersionedTransaction| {
            micros(|| assert!(bank.execute(transaction, false).is_ok()))
        };
        transactions.iter().map(run).collect()
    };
    Ok((spread(rollup.handle.engine.ask(execute).await?), checks))
}

/// Executes the same instructions `count` times, as a task of the rollup does, one after the other;
/// microseconds each. What they name must be known to the rollup already.
pub async fn execute(
    rollup: &Rollup,
    instructions: Vec<Instruction>,
    count: usize,
) -> Result<Spread, BenchError> {
    let job = move |bank: &mut Bank| {
        let run = |run| {
            let start = Instant::now();
            let transaction = bank.task_transaction(&instructions, run as u64);
            let landed = transaction.map(|transaction| bank.execute(&transaction, false));
            let micros = start.elapsed().as_secs_f64() * 1e6;
            match landed {
                Some(Ok(landed)) if landed.error.is_none() => Ok(micros),
                Some(Ok(landed)) => Err((run, landed.logs.clone())),
                Some(Err(trial)) => Err((run, trial.landed.logs)),
                None => Err((run, Vec::new())),
            }
        };
        (0..count).map(run).collect::<Result<Vec<f64>, _>>()
    };
    let times = rollup.handle.engine.ask(job).await?;
    times
        .map(spread)
        .map_err(|(run, logs)| BenchError::Failed { run, logs })
}

/// How the rollup's tasks kept their time since this was asked last.
pub async fn timing(rollup: &Rollup) -> Result<Timing, BenchError> {
    let take = |bank: &mut Bank| bank.lent.as_mut().map(|lent| lent.crank.take_timing());
    Ok(rollup.handle.engine.ask(take).await?.unwrap_or_default())
}

async fn schedule(rollup: &Rollup, task_id: i64) -> Result<(), BenchError> {
    let instruction = Instruction {
        program_id: MAGIC_PROGRAM,
        accounts: Vec::new(),
        data: magic::noop(0),
    };
    let task = ScheduleTask {
        task_id,
        interval_millis: 16,
        iterations: i64::MAX,
        instructions: vec![instruction],
    };
    rollup
        .handle
        .engine
        .ask(move |bank| bank.schedule(task))
        .await?;
    // Not all at the same moment, as matches do not start at the same moment.
    tokio::time::sleep(Duration::from_millis(3)).await;
    Ok(())
}

/// Distances between notifications of tasks from what they should be.
async fn jitter(rollup: Rollup, frames: usize) -> Spread {
    let mut events = rollup.handle.engine.subscribe();
    let mut times: Vec<Instant> = Vec::with_capacity(frames);
    let tasks = match rollup.state().await {
        Ok(state) => state["tasks"].as_array().map_or(1, Vec::len).max(1),
        Err(_) => 1,
    };
    while times.len() < frames * tasks {
        match events.recv().await {
            Ok(Event::Landed { landed, .. }) if landed.keys[0] == rollup.identity() => {
                times.push(Instant::now());
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    // Tasks take turns in a fixed order, so that every `tasks`-th time is of the same task.
    let distances = times.windows(tasks + 1).map(|window| {
        let distance = (window[tasks] - window[0]).as_secs_f64() - FRAME.as_secs_f64();
        distance.abs() * 1e3
    });
    spread(distances.collect())
}

/// Sends at 60 Hz over HTTP, and waits for the logs on a WebSocket.
async fn latency(rollup: &Rollup, count: usize) -> Result<Spread, BenchError> {
    let (mut socket, _) = tokio_tungstenite::connect_async(rollup.ws_url())
        .await
        .map_err(server)?;
    let payer = Keypair::new();
    let subscribe = json!({
        "jsonrpc": "2.0", "id": 1, "method": "logsSubscribe",
        "params": [{ "mentions": [payer.pubkey().to_string()] }, { "commitment": "processed" }],
    });
    socket
        .send(tungstenite::Message::text(subscribe.to_string()))
        .await
        .map_err(server)?;
    let _subscribed = socket.next().await;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            let now = Instant::now();
            let message: Value = message
                .to_text()
                .ok()
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default();
            let signature = message["params"]["result"]["value"]["signature"].as_str();
            if signature.is_none_or(|name| heard.send((name.to_owned(), now)).is_err()) {
                return;
            }
        }
    });
    let agent: ureq::Agent = ureq::Agent::new_with_defaults();
    let mut sent = std::collections::HashMap::new();
    let start = tokio::time::Instant::now();
    for number in 0..count {
        let hash = rollup
            .handle
            .engine
            .ask(|bank| bank.hashes.latest())
            .await?;
        let Some(transaction) = noop(&payer, hash, number as u64) else {
            continue;
        };
        let wire = STANDARD.encode(bincode::serialize(&transaction).map_err(server)?);
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "sendTransaction",
            "params": [wire, { "encoding": "base64", "skipPreflight": true }],
        });
        tokio::time::sleep_until(start + FRAME * number as u32).await;
        sent.insert(transaction.signatures[0].to_string(), Instant::now());
        let (agent, url) = (agent.clone(), rollup.rpc_url());
        tokio::task::spawn_blocking(move || agent.post(&url).send(body.to_string()).map(|_| ()));
    }
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(5), hearing.recv()).await;
        let Ok(Some((signature, at))) = next else {
            let missing = count - latencies.len();
            return Err(server(format!(
                "{missing} of {count} transactions were never heard of"
            )));
        };
        latencies.extend(
            sent.get(&signature)
                .map(|sent| (at - *sent).as_secs_f64() * 1e3),
        );
    }
    Ok(spread(latencies))
}

fn micros(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e6
}

/// Percentiles of these values.
pub fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (values.len() as f64 * share) as usize;
        values
            .get(index.min(values.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    };
    Spread {
        p50: at(0.5),
        p95: at(0.95),
        max: at(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_that_is_asked_for_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let load = Load {
            transactions: 50,
            tasks: 2,
            inputs: 30,
        };
        let report = run(folder.path(), load).await.unwrap();
        for spread in [
            report.empty_transaction_us,
            report.signature_check_us,
            report.task_jitter_ms,
            report.send_to_socket_ms,
        ] {
            assert!(
                spread.p50 <= spread.p95 && spread.p95 <= spread.max,
                "{report:?}"
            );
        }
        assert_eq!(report.task_latest_us.len(), 2);
    }
}
