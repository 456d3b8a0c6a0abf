//! `worldline world`, `image`, `doctor` and `gc`: worlds that run code, snapshot and branch.
//!
//! All but `image` and `doctor` speak to a running `worldline serve`.

pub(crate) mod bench;
mod client;
mod host;
mod print;

use std::io::{BufRead, IsTerminal, Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::builder::RangedI64ValueParser;
use clap::{Args, Subcommand, value_parser};
use serde_json::{Value, json};
use worldline_runtime::graph::Graph;
use worldline_runtime::limits::MAX_PEERS;
use worldline_sandbox::limits::{DISK_MIB, MEMORY_MIB, PROCESSORS};

use client::Client;
pub(crate) use host::open;

use crate::table;

#[derive(Args, Clone)]
pub(crate) struct Server {
    /// Where `worldline serve` answers; also from WORLDLINE_URL. The token comes from WORLDLINE_TOKEN
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct WorldOptions {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    command: WorldCommand,
}

#[derive(Subcommand)]
enum WorldCommand {
    /// Make a world, of the default image unless another start is named
    Create(Create),
    /// Start a world from a snapshot
    Restore {
        /// The snapshot's id
        snapshot: String,
        #[command(flatten)]
        new: New,
    },
    /// Run a command, or Python with -c; the exit code is the command's
    Exec {
        /// The world's id
        id: String,
        /// Python to run in the world's interpreter, whose names stay
        #[arg(short = 'c', long, value_name = "CODE", conflicts_with = "command")]
        python: Option<String>,
        /// The command; one word alone is a line for the shell, whose folder and variables stay
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Type lines for the world's shell; the folder and exported variables stay
    Shell {
        /// The world's id
        id: String,
    },
    /// Copy a file in or out: one side is WORLD:PATH
    Cp {
        /// From
        from: String,
        /// To
        to: String,
    },
    /// Keep this moment; the world goes on
    Snapshot {
        /// The world's id
        id: String,
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        /// A digest: the snapshot that has it already is given instead
        #[arg(long)]
        digest: Option<String>,
    },
    /// Branch a running world
    Branch {
        /// The world's id
        id: String,
        /// How many branches
        #[arg(short = 'n', long, default_value_t = 3)]
        count: u32,
        /// The branches' labels, as -1,0,1; they must sum to 0 mod 3
        #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
        trits: Option<Vec<i8>>,
    },
    /// List worlds, or snapshots
    List {
        /// List snapshots
        #[arg(long)]
        snapshots: bool,
    },
    /// Let a world stand still
    Pause {
        /// The world's id
        id: String,
    },
    /// Let a world go on
    Resume {
        /// The world's id
        id: String,
    },
    /// End worlds, or forget snapshots
    Rm {
        /// Ids of worlds and snapshots
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Draw who came from whom
    Tree {
        /// Those that have ended too
        #[arg(long)]
        all: bool,
    },
    /// Find the first step that tells two worlds apart
    Diff {
        /// One world
        a: String,
        /// The other
        b: String,
        /// Steps to look at
        #[arg(long, default_value_t = 100)]
        depth: usize,
    },
    /// How far two worlds are from each other
    Distance {
        /// One world or snapshot
        a: String,
        /// The other
        b: String,
    },
    /// The way from one world to another, through their common ancestor
    Path {
        /// One world or snapshot
        a: String,
        /// The other
        b: String,
    },
    /// What was run in a world
    Trace {
        /// The world's id
        id: String,
    },
    /// Receipts: what each operation made of a world
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Verify a world's branches
    #[command(subcommand)]
    Verify(VerifyCommand),
    /// A regular graph of peers: which worlds keep copies for which
    Graph(Peers),
    /// What operations took
    Metrics,
    /// Ask the equations of the tables; `gf3` and `schema` are groups of them
    Check {
        /// One of them
        only: Option<String>,
    },
    /// Ask the tables a question; it changes nothing
    Sql {
        /// The question; standard input when left out
        question: Option<String>,
    },
}

#[derive(Subcommand)]
enum ReceiptCommand {
    /// Check that each begins where the one before it ended
    Verify,
}

#[derive(Subcommand)]
enum VerifyCommand {
    /// Run the same branches one after the other, all at once and in another order: do they come to
    /// the same?
    Spi {
        /// The world's id
        id: String,
        /// How many branches
        #[arg(short = 'n', long, default_value_t = 3)]
        branches: usize,
        /// The seed that theirs come from
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// What each does, step by step: Python, or lines for a match
        #[arg(short = 'c', long = "step", value_name = "CODE")]
        steps: Vec<String>,
    },
}

#[derive(Args)]
struct Peers {
    /// Print what the eigenvalues say, and fail unless the graph is Ramanujan
    #[arg(long)]
    spectral: bool,
    /// Neighbours of each peer
    #[arg(long, default_value_t = 3)]
    degree: usize,
    /// The random graph's seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// So many peers, instead of the worlds that are registered
    #[arg(long, value_name = "NUMBER")]
    peers: Option<usize>,
    /// A file with an edge in each line, instead of a random graph; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "degree", "seed"])]
    edges: Option<PathBuf>,
}

#[derive(Args)]
struct New {
    /// Words to keep beside it, as key=value
    #[arg(long = "metadata", value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Makes it reproducible
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds that it lives
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// What happens then
    #[arg(long, value_parser = ["stop", "pause"])]
    ttl_action: Option<String>,
    /// A server that it may reach, by name; at ports 80 and 443 if none is given. May be repeated
    #[arg(long, value_name = "NAME[:PORT]")]
    allow: Vec<String>,
    /// Its memory; a machine's cannot be another than its snapshot's
    #[arg(long, value_name = "MIB", value_parser = size(MEMORY_MIB))]
    memory: Option<u32>,
    /// Its processors; a machine's cannot be others than its snapshot's
    #[arg(long, value_name = "N", value_parser = size(PROCESSORS))]
    vcpus: Option<u32>,
    /// What it may write; a machine's counts as its memory, and is at most half of it
    #[arg(long, value_name = "MIB", value_parser = size(DISK_MIB))]
    disk: Option<u32>,
}

/// Reads a size of a world. A backend may make none so large.
fn size(limits: RangeInclusive<u32>) -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(i64::from(*limits.start())..=i64::from(*limits.end()))
}

#[derive(Args)]
struct Create {
    /// The image to begin from: a root file system, or a learned world
    #[arg(long)]
    image: Option<String>,
    /// What it is: a process, or a machine under Firecracker or QEMU, if the server has it; a snapshot goes on where it was taken
    #[arg(long, value_parser = ["auto", "process", "firecracker", "qemu"], default_value = "auto", conflicts_with = "snapshot")]
    backend: String,
    /// The snapshot to begin from
    #[arg(long, conflicts_with = "image")]
    snapshot: Option<String>,
    #[command(flatten)]
    new: New,
}

impl Create {
    /// The image with its backend, as servers name it.
    fn image(&self) -> Option<String> {
        let image = self.image.as_deref();
        match self.backend.as_str() {
            "auto" => image.map(str::to_owned),
            backend => Some(format!("{backend}:{}", image.unwrap_or_default())),
        }
    }
}

impl New {
    fn body(&self) -> Result<Value> {
        let mut metadata = serde_json::Map::new();
        for pair in &self.metadata {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("`{pair}` is not KEY=VALUE"))?;
            metadata.insert(key.into(), value.into());
        }
        let mut body = json!({ "metadata": metadata, "seed": self.seed, "ttl_seconds": self.ttl, "ttl_action": self.ttl_action });
        let sizes = [
            ("memory", self.memory),
            ("vcpus", self.vcpus),
            ("disk_size", self.disk),
        ];
        for (name, size) in sizes {
            body[name] = size.into();
        }
        if !self.allow.is_empty() {
            body["network"] = json!({ "allow": self.allow });
        }
        Ok(body)
    }
}

/// Equations by the names that people know them by.
const GROUPS: &[(&str, &[&str])] = &[
    ("gf3", &["gf3", "revisit"]),
    (
        "schema",
        &[
            "parent",
            "origin",
            "children",
            "one_branching",
            "state",
            "registered",
            "metrics",
        ],
    ),
];

pub(crate) fn world(options: WorldOptions) -> Result<ExitCode> {
    let client = Client::new(options.server.server.as_deref());
    let json = options.server.json;
    let told = match options.command {
        WorldCommand::Create(create) => {
            let mut body = create.new.body()?;
            body["image_id"] = create.image().into();
            body["snapshot_id"] = create.snapshot.into();
            client.post("/v1/sandboxes", &body)?
        }
        WorldCommand::Restore { snapshot, new } => {
            let mut body = new.body()?;
            body["snapshot_id"] = snapshot.into();
            client.post("/v1/sandboxes", &body)?
        }
        WorldCommand::Exec {
            id,
            python: Some(code),
            ..
        } => return run_cell(&client, &id, &code, json),
        WorldCommand::Exec { id, command, .. } => {
            if command.is_empty() {
                bail!("nothing to run: give a command, or Python with -c");
            }
            return exec(&client, &id, &command);
        }
        WorldCommand::Shell { id } => return shell(&client, &id),
        WorldCommand::Cp { from, to } => return copy(&client, &from, &to),
        WorldCommand::Snapshot { id, name, digest } => {
            let body = json!({ "name": name, "digest": digest });
            client.post(&format!("/v1/sandboxes/{id}/snapshots"), &body)?
        }
        WorldCommand::Branch { id, count, trits } => {
            let told = client.post(
                &format!("/instance/{id}/branch?count={count}"),
                &json!({ "trits": trits }),
            )?;
            if !json {
                print::instances(&told["instances"]);
                return Ok(ExitCode::SUCCESS);
            }
            told
        }
        WorldCommand::List { snapshots } => {
            let told = client.get(if snapshots { "/snapshot" } else { "/instance" })?;
            if !json {
                if snapshots {
                    print::snapshots(&told["data"])
                } else {
                    print::instances(&told["data"])
                }
                return Ok(ExitCode::SUCCESS);
            }
            told["data"].clone()
        }
        WorldCommand::Pause { id } => {
            return quiet(client.post(&format!("/instance/{id}/pause"), &json!({})));
        }
        WorldCommand::Resume { id } => {
            return quiet(client.post(&format!("/instance/{id}/resume"), &json!({})));
        }
        WorldCommand::Rm { ids } => {
            for id in &ids {
                let sort = if id.starts_with("snapshot_") {
                    "snapshot"
                } else {
                    "instance"
                };
                client.delete(&format!("/{sort}/{id}"))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        WorldCommand::Tree { all } => {
            let told = client.get("/v1/worlds/tree")?;
            if !json {
                print!("{}", print::tree(&told, all));
                return Ok(ExitCode::SUCCESS);
            }
            told
        }
        WorldCommand::Diff { a, b, depth } => {
            client.get(&format!("/v1/worlds/diff?a={a}&b={b}&depth={depth}"))?
        }
        WorldCommand::Distance { a, b } => {
            client.get(&format!("/v1/worlds/distance?a={a}&b={b}"))?
        }
        WorldCommand::Path { a, b } => {
            let told = client.get(&format!("/v1/worlds/distance?a={a}&b={b}"))?;
            if !json {
                for id in told["path"].as_array().into_iter().flatten() {
                    println!("{}", print::text(id));
                }
                return Ok(ExitCode::SUCCESS);
            }
            told["path"].clone()
        }
        WorldCommand::Trace { id } => {
            return rows(client.get(&format!("/v1/worlds/{id}/trace"))?, json);
        }
        WorldCommand::Metrics => return rows(client.get("/v1/worlds/metrics")?, json),
        WorldCommand::Sql { question } => {
            let question = match question {
                Some(question) => question,
                None => std::io::read_to_string(std::io::stdin())?,
            };
            return rows(
                client.post("/v1/worlds/sql", &json!({ "sql": question }))?,
                json,
            );
        }
        WorldCommand::Receipt(ReceiptCommand::Verify) => {
            return check(&client, Some("receipts"), json);
        }
        WorldCommand::Verify(VerifyCommand::Spi {
            id,
            branches,
            seed,
            steps,
        }) => {
            let told = client.post(
                &format!("/v1/worlds/{id}/verify"),
                &json!({ "branches": branches, "seed": seed, "steps": steps }),
            )?;
            if json {
                table::json(&told)?;
            } else {
                print::fingerprints(&told);
            }
            return Ok(verdict(told["holds"] == true));
        }
        WorldCommand::Graph(peers) => return graph(&client, &peers, json),
        WorldCommand::Check { only } => return check(&client, only.as_deref(), json),
    };
    if json {
        table::json(&told)?;
    } else {
        print::one(&told);
    }
    Ok(ExitCode::SUCCESS)
}

fn quiet(done: Result<Value>) -> Result<ExitCode> {
    done.map(|_| ExitCode::SUCCESS)
}

fn rows(told: Value, json: bool) -> Result<ExitCode> {
    if json {
        table::json(&told)?;
    } else {
        print::rows(&told);
    }
    Ok(ExitCode::SUCCESS)
}

fn check(client: &Client, only: Option<&str>, json: bool) -> Result<ExitCode> {
    let told = client.get("/v1/worlds/check")?;
    let group = only
        .and_then(|only| GROUPS.iter().find(|(name, _)| *name == only))
        .map(|(_, names)| *names);
    let wanted = |name: &str| match (only, group) {
        (_, Some(names)) => names.contains(&name),
        (Some(only), None) => only == name,
        (None, _) => true,
    };
    let told: Vec<&Value> = told
        .as_array()
        .into_iter()
        .flatten()
        .filter(|one| wanted(&print::text(&one["name"])))
        .collect();
    if told.is_empty() {
        bail!(
            "there is no equation `{}`: `worldline world check` lists them all",
            only.unwrap_or_default()
        );
    }
    let sound = told
        .iter()
        .all(|one| one["broken"].as_array().is_some_and(Vec::is_empty));
    if json {
        table::json(&told)?;
    } else {
        print::checks(&told);
    }
    Ok(verdict(sound))
}

fn verdict(holds: bool) -> ExitCode {
    if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn graph(client: &Client, asked: &Peers, json: bool) -> Result<ExitCode> {
    let graph = match (&asked.edges, asked.peers) {
        (Some(file), _) => Graph::read(&text_of(file)?)?,
        (None, Some(count)) => {
            let names = (0..count.min(MAX_PEERS + 1)).map(|at| format!("peer{at}"));
            Graph::regular(names.collect(), asked.degree, asked.seed)?
        }
        (None, None) => {
            let told = client.get("/instance")?;
            let worlds = told["data"].as_array().into_iter().flatten();
            let names = worlds.map(|world| print::text(&world["id"])).collect();
            Graph::regular(names, asked.degree, asked.seed)?
        }
    };
    if !asked.spectral {
        let edges: Vec<_> = graph.edges().collect();
        if json {
            table::json(&edges)?;
        } else {
            for (a, b) in edges {
                println!("{a} {b}");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let spectrum = graph.spectrum()?;
    let told = serde_json::to_value(&spectrum)?;
    if json {
        table::json(&told)?;
    } else {
        print::one(&told);
    }
    Ok(verdict(spectrum.ramanujan))
}

fn text_of(file: &Path) -> Result<String> {
    if file.as_os_str() == "-" {
        return Ok(std::io::read_to_string(std::io::stdin())?);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn exit(code: i64) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn exec(client: &Client, id: &str, command: &[String]) -> Result<ExitCode> {
    let path = format!("/instance/{id}/exec/sse");
    Ok(exit(client.stream(&path, &json!({ "command": command }))?))
}

fn run_cell(client: &Client, id: &str, code: &str, json: bool) -> Result<ExitCode> {
    let code = if code == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        code.to_owned()
    };
    let told = client.post(
        &format!("/v1/sandboxes/{id}/execute"),
        &json!({ "code": code }),
    )?;
    if json {
        table::json(&told)?;
    } else {
        let output = print::text(&told["output"]);
        print!(
            "{output}{}",
            if output.is_empty() || output.ends_with('\n') {
                ""
            } else {
                "\n"
            }
        );
    }
    Ok(exit(told["exit_code"].as_i64().unwrap_or(1)))
}

fn shell(client: &Client, id: &str) -> Result<ExitCode> {
    let person = std::io::stdin().is_terminal();
    let mut last = 0;
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if person {
            print!("{id}$ ");
            std::io::stdout().flush()?;
        }
        let Some(line) = lines.next().transpose()? else {
            return Ok(exit(last));
        };
        if line.trim().is_empty() {
            continue;
        }
        last = client.stream(
            &format!("/instance/{id}/exec/sse"),
            &json!({ "command": [line] }),
        )?;
    }
}

/// `WORLD:PATH`; a path of this machine has no colon, or a slash before it.
fn inside(place: &str) -> Option<(&str, &str)> {
    place
        .split_once(':')
        .filter(|(world, _)| !world.is_empty() && !world.contains('/'))
}

fn copy(client: &Client, from: &str, to: &str) -> Result<ExitCode> {
    let url = |id: &str, path: &str| format!("/v1/worlds/{id}/files?path={}", client::escape(path));
    match (inside(from), inside(to)) {
        (Some((id, path)), None) => {
            let bytes = client.bytes(&url(id, path))?;
            if to == "-" {
                std::io::stdout().write_all(&bytes)?;
            } else {
                std::fs::write(to, bytes).with_context(|| format!("cannot write {to}"))?;
            }
        }
        (None, Some((id, path))) => {
            let mut bytes = Vec::new();
            if from == "-" {
                std::io::stdin().read_to_end(&mut bytes)?;
            } else {
                bytes = std::fs::read(from).with_context(|| format!("cannot read {from}"))?;
            }
            client.put(&url(id, path), &bytes)?;
        }
        _ => bail!(
            "one side is WORLD:PATH and the other a file of this machine, or - for standard input or output"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Build the default image from Debian packages
    Build {
        /// Take the packages that the mirror has now, not the locked ones
        #[arg(long)]
        latest: bool,
        /// A folder of Python packages that the image has too
        #[arg(long, value_name = "FOLDER")]
        packages: Option<PathBuf>,
        /// Also what virtual machines begin with: a kernel, and the image as a disk
        #[arg(long)]
        vm: bool,
    },
    /// Take in an image in the OCI layout, as an archive
    Import {
        /// What to call it
        name: String,
        /// The archive
        archive: PathBuf,
    },
}

pub(crate) fn image(command: ImageCommand) -> Result<ExitCode> {
    let (_folder, process) = host::scratch(None, 0)?;
    let images = process.images();
    match command {
        ImageCommand::List { json } => {
            let all = images.list();
            if json {
                table::json(&all)?;
            } else {
                print::images(&all);
            }
        }
        ImageCommand::Build {
            latest,
            packages,
            vm,
        } => {
            let mut image = images.build(latest, &mut |step| eprintln!("{step}"))?;
            if let Some(folder) = packages {
                image = images.extend(&image, &folder)?;
            }
            if vm {
                process.build_machine(&image, &mut |step| eprintln!("{step}"))?;
            }
            println!("{} {}", image.name, image.digest);
        }
        ImageCommand::Import { name, archive } => {
            let image = images.import(&name, &archive)?;
            println!("{} {}", image.name, image.digest);
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Args)]
pub(crate) struct DoctorOptions {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn doctor(options: &DoctorOptions) -> Result<ExitCode> {
    use worldline_sandbox::{Backend, Report};
    // Folders for temporary files often let nobody open a jail's devices, and are no place for disks.
    let (folder, process) = host::scratch(Some(&host::cache()), 0)?;
    let firecracker = host::firecracker(&folder.machines(), true, 0).map(|open| open.report());
    let qemu = host::qemu(&folder.qemu()).map(|open| {
        let mut report = open.report();
        report.capabilities.extend(open.probe());
        report
    });
    let reports = [
        process.report(),
        firecracker.unwrap_or_else(|why| Report::closed("firecracker", why)),
        qemu.unwrap_or_else(|why| Report::closed("qemu", why)),
    ];
    if options.json {
        table::json(&reports)?;
    } else {
        reports.iter().for_each(print::report);
    }
    // What runs Python decides, as all else needs it.
    Ok(if reports[0].usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(crate) fn collect(server: &Server) -> Result<ExitCode> {
    let told = Client::new(server.server.as_deref()).post("/v1/worlds/gc", &json!({}))?;
    if server.json {
        table::json(&told)?;
    } else {
        println!(
            "{:.1} MB taken back",
            told["bytes"].as_f64().unwrap_or(0.0) / 1e6
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Asked {
        #[command(flatten)]
        new: New,
    }

    #[test]
    fn sizes_are_asked_for_and_what_no_world_can_have_is_refused() {
        let asked = |line: &str| Asked::try_parse_from(format!("new {line}").split(' '));
        let body = asked("--memory 600 --vcpus 2 --disk 300")
            .unwrap()
            .new
            .body();
        let body = body.unwrap();
        assert_eq!(
            (&body["memory"], &body["vcpus"], &body["disk_size"]),
            (&json!(600), &json!(2), &json!(300))
        );
        let body = asked("--disk 300").unwrap().new.body().unwrap();
        assert!(body["memory"].is_null() && body["vcpus"].is_null());
        for (line, why) in [
            ("--memory 63", "64..=1048576"),
            ("--vcpus 0", "1..=256"),
            ("--disk much", "much"),
        ] {
            let refused = asked(line).map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_place_inside_is_told_from_a_file_here() {
        assert_eq!(inside("morphvm_1:/a/b"), Some(("morphvm_1", "/a/b")));
        for here in ["file", "/a:b", "./x:y", ":x", "-"] {
            assert_eq!(inside(here), None, "{here}");
        }
    }
}
