//! Keys: the gateway's own, which stays in the data folder, and one of each world that was asked for.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData, PrivateKey};
use russh::keys::ssh_key::{LineEnding, PublicKey};
use serde::Serialize;
use worldline_arena::{Token, random_bytes};

fn fresh(comment: &str) -> io::Result<PrivateKey> {
    let pair = Ed25519Keypair::from_seed(&random_bytes());
    PrivateKey::new(KeypairData::Ed25519(pair), comment).map_err(io::Error::other)
}

/// The key of a file, which is made if it is not there: clients remember it.
pub(crate) fn host_key(file: &Path) -> io::Result<PrivateKey> {
    const OWNER: u32 = 0o600;
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    match fs::read(file) {
        Ok(pem) => PrivateKey::from_openssh(pem).map_err(|error| named(io::Error::other(error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = fresh("worldline")?;
            let pem = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(OWNER)
                .open(file);
            file.and_then(|mut file| file.write_all(pem.as_bytes()))
                .map_err(named)?;
            Ok(key)
        }
        Err(error) => Err(named(error)),
    }
}

/// What opens one world over SSH, in Morph Cloud's words.
#[derive(Clone, Serialize)]
pub(crate) struct InstanceKey {
    object: &'static str,
    private_key: String,
    public_key: String,
    password: Token,
}

/// Keys of worlds. They last as long as the worlds do: until this program ends.
#[derive(Default)]
pub(crate) struct InstanceKeys(Mutex<HashMap<String, InstanceKey>>);

impl InstanceKeys {
    fn all(&self) -> MutexGuard<'_, HashMap<String, InstanceKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A world's key; a new one if it has none, or if the former is to be of no use any more.
    pub(crate) fn get(&self, world: &str, anew: bool) -> io::Result<InstanceKey> {
        if let Some(key) = self.all().get(world).filter(|_| !anew) {
            return Ok(key.clone());
        }
        let key = fresh(world)?;
        let told = InstanceKey {
            object: "instance_ssh_key",
            private_key: key
                .to_openssh(LineEnding::LF)
                .map_err(io::Error::other)?
                .to_string(),
            public_key: key.public_key().to_openssh().map_err(io::Error::other)?,
            password: Token::random(),
        };
        self.all().insert(world.into(), told.clone());
        Ok(told)
    }

    /// Forgets a world that has ended.
    pub(crate) fn forget(&self, world: &str) {
        self.all().remove(world);
    }

    /// Whether this is the world's own key.
    pub(crate) fn opens(&self, world: &str, shown: &PublicKey) -> bool {
        let all = self.all();
        let own = all
            .get(world)
            .and_then(|key| PublicKey::from_openssh(&key.public_key).ok());
        own.is_some_and(|own| own.key_data() == shown.key_data())
    }

    /// Whether this is the world's own password.
    pub(crate) fn is_password(&self, world: &str, shown: &str) -> bool {
        self.all()
            .get(world)
            .is_some_and(|key| key.password.matches(shown))
    }
}
