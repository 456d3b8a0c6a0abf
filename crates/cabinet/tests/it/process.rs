//! Chains in processes of their own, which can be killed.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::client::Client;
use crate::counter;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// MagicBlock's delegation program, from npm.
pub(crate) fn delegation_program() -> PathBuf {
    let package = "programs/delegation/node_modules/@magicblock-labs/ephemeral-validator";
    let path = root()
        .join(package)
        .join(worldline_cabinet::L1Config::DELEGATION_ELF);
    assert!(
        path.exists(),
        "run `npm ci` in programs/delegation first (cargo xtask test does)"
    );
    path
}

pub(crate) struct Process {
    child: Child,
    /// The command ends when this does.
    _input: ChildStdin,
    pub(crate) info: Value,
}

impl Process {
    fn start(arguments: &[&str], fault: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worldline-cabinet"));
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(fault) = fault {
            command.env("WORLDLINE_FAULT", fault).stderr(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let info = serde_json::from_str(&line);
        Self {
            child,
            _input: input,
            info: info.unwrap_or_else(|_| panic!("{arguments:?} ended at once")),
        }
    }

    /// A box with the delegation program and the counter.
    pub(crate) fn l1(ledger: &Path, listen: &str, fault: Option<&str>) -> Self {
        let program = format!("{}={}", counter::PROGRAM, counter::elf().display());
        let delegation = delegation_program();
        let arguments = [
            "l1",
            "--ledger",
            ledger.to_str().unwrap(),
            "--listen",
            listen,
            "--delegation-program",
            delegation.to_str().unwrap(),
            "--program",
            &program,
            // Somewhat more than the programs take, so that tests see a journal folded.
            "--journal-bytes",
            "500000",
        ];
        Self::start(&arguments, fault)
    }

    /// A rollup over a box whose ledger is `l1_ledger`.
    pub(crate) fn rollup(ledger: &Path, l1: &str, l1_ledger: &Path, fault: Option<&str>) -> Self {
        let admin = l1_ledger.join("authority.json");
        let arguments = [
            "rollup",
            "--ledger",
            ledger.to_str().unwrap(),
            "--l1",
            l1,
            "--admin",
            admin.to_str().unwrap(),
        ];
        Self::start(&arguments, fault)
    }

    pub(crate) fn url(&self) -> &str {
        self.info["rpc"].as_str().unwrap()
    }

    /// `ADDRESS:PORT`, to start the same again.
    pub(crate) fn listen(&self) -> &str {
        self.url().strip_prefix("http://").unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.url())
    }

    /// As `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its death, and returns what it said to standard error.
    pub(crate) fn last_words(mut self) -> String {
        self.child.wait().unwrap();
        let mut words = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut words)
            .unwrap();
        words
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
