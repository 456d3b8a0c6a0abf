//! `cargo xtask bench`: runs the benchmarks, and keeps what they printed with where they ran.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::env::{self, Outcome};
use crate::{elf, interop, play, python, run, site, test, worlds};

const HELP: &str = "\
cargo xtask bench [NAME…]

Runs `worldline bench NAME --json` in a release build, for each of physics and sessions unless
told otherwise, and keeps the output under benches/runs/ beside the command, the processor and
the load of the machine. Eight more by name:

  branch       keeping and branching code worlds, beside a bubblewrap start of the same image; builds
               the command with code worlds, and takes minutes; of machines under a monitor:
               branch-firecracker, branch-qemu
  cabinet      matches on our own chains: a frame as a transaction, ten matches at once, how soon a pad
               is answered; beside it MagicBlock's own validator, where it can be had
  baselines    compares with PyTorch and ONNX Runtime; needs Python, and installs both into a
               virtual environment in the cache folder
  cu           compute units of a frame and its parts in Solana's virtual machine; builds the
               program with its measuring instruction, see `cargo xtask elf --help`
  python       what the Python package costs to build, with nothing built before, and to use
  first-frame  clones the project and plays it with every cache empty, and measures how long that
               takes; needs Chromium";

/// What runs when nothing is named.
const NAMES: [&str; 2] = ["physics", "sessions"];

pub(crate) fn main(arguments: &[String]) -> Outcome {
    if arguments
        .iter()
        .any(|argument| argument == "-h" || argument == "--help")
    {
        println!("{HELP}");
        return Ok(());
    }
    let mut names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(NAMES);
    }
    for name in names {
        let mut command = match name {
            "cabinet" => {
                run::step(name, cabinet)?;
                continue;
            }
            "baselines" => baselines()?,
            "first-frame" => first_frame()?,
            "cu" => compute_units()?,
            "python" => python::bench()?,
            "branch" => branch("process")?,
            "branch-firecracker" => branch("firecracker")?,
            "branch-qemu" => branch("qemu")?,
            _ => {
                let mut command = Command::new(play::build(&[])?);
                command.args(["bench", name, "--json"]);
                command
            }
        };
        run::step(name, || record(name, &mut command))?;
    }
    Ok(())
}

/// Runs the command and keeps what it prints.
fn record(name: &str, command: &mut Command) -> Outcome {
    let before = load();
    let (text, success) = run::follow(command)?;
    if !success {
        return Err(format!("`{}` failed", run::show(command)));
    }
    keep(name, &format!("cargo xtask bench {name}"), &before, &text)
}

/// Writes `benches/runs/NAME-SECONDS.json`: what `command` printed, and how busy the machine was before.
pub(crate) fn keep(name: &str, command: &str, load_before: &str, output: &str) -> Outcome {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let folder = env::root().join("benches").join("runs");
    let path = folder.join(format!("{name}-{seconds}.json"));
    let document = format!(
        "{{\n\"command\": {},\n\"processor\": {},\n\"cores\": {},\n\"load_before\": {},\n\
         \"load_after\": {},\n\"commit\": {},\n\"output\": {}\n}}\n",
        quote(command),
        quote(&processor()),
        std::thread::available_parallelism().map_or(1, usize::from),
        quote(load_before),
        quote(&load()),
        quote(&commit()),
        output.trim(),
    );
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, document))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("kept in {}", path.display());
    Ok(())
}

/// Worlds of a backend.
fn branch(backend: &str) -> Outcome<Command> {
    let mut command = Command::new(worlds::build()?);
    command.args(["bench", "branch", "--json", "--backend", backend]);
    if backend == "firecracker" {
        command.env("WORLDLINE_FIRECRACKER", worlds::firecracker()?);
    }
    Ok(command)
}

/// The program's measuring build, and the example that drives it.
fn compute_units() -> Outcome<Command> {
    let elf = elf::measuring()?;
    let build = ["build", "--release", "--locked"];
    let example = ["--package", "worldline-program-tests", "--example", "units"];
    // Built by itself: what runs below may not be silent for as long as compilers are.
    run::step("cu: build", || {
        run::finish(env::cargo(&build)?.args(example))
    })?;
    let mut command = Command::new(env::target()?.join("release/examples/units"));
    command.env("WORLD_MODEL_ELF", elf);
    Ok(command)
}

/// Matches on our own chains, whose L1 needs the delegation program, beside MagicBlock's validator.
fn cabinet() -> Outcome {
    run::step("delegation program", || site::install(&play::delegation()))?;
    let mut command = Command::new(play::build(&[])?);
    command
        .args(["bench", "cabinet", "--json"])
        .current_dir(env::root());
    match interop::stock()? {
        Ok(variables) => {
            command.envs(variables);
            command.args(["--beside", "cd tests/interop && exec node stock.mjs"]);
        }
        Err(reason) => {
            println!("── SKIPPED beside it: MagicBlock's validator cannot be had here: {reason}");
        }
    }
    record("cabinet", &mut command)
}

/// The comparison with PyTorch and ONNX Runtime, in its own Python environment.
fn baselines() -> Outcome<Command> {
    let worldline = play::build(&[])?;
    let folder = env::root().join("benches").join("baselines");
    let venv = env::cache()?.join("baselines");
    let python = venv.join("bin").join("python");
    let requirements = folder.join("requirements.txt");
    if !python.is_file() {
        let system = env::on_path(&["python3", "python"]).ok_or("Python 3 is needed")?;
        run::finish(Command::new(system).args(["-m", "venv"]).arg(&venv))?;
    }
    let mut install = Command::new(&python);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
    ]);
    run::finish(install.arg(requirements))?;
    let mut command = Command::new(python);
    command
        .arg(folder.join("compare.py"))
        .arg("--worldline")
        .arg(worldline);
    Ok(command)
}

/// From a clone with empty caches to a match's first frame in a browser.
fn first_frame() -> Outcome<Command> {
    let folder = test::browser_folder();
    site::install(&folder)?;
    let mut command = Command::new("node");
    command
        .arg("first-frame.mjs")
        .current_dir(folder)
        .env("CHROMIUM", test::chromium()?);
    Ok(command)
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    name.map_or_else(
        || "unknown".into(),
        |name| name.trim_matches([' ', '\t', ':']).to_owned(),
    )
}

/// The one, five and fifteen minute load averages.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn commit() -> String {
    let root = env::root().to_string_lossy().into_owned();
    let said = env::printed("git", &["-C", &root, "describe", "--always", "--dirty"]);
    said.unwrap_or_default().trim().to_owned()
}

/// A text as JSON has it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn text_becomes_json() {
        assert_eq!(quote("a \"b\"\n"), r#""a \"b\" ""#);
    }
}
