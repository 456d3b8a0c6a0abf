//! What belongs to the user of this server: keys for its calls, keys for SSH, secrets. They stand in one
//! file that its owner alone may read; of a key for calls it has the digest only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use russh::keys::PublicKey;
use russh::keys::ssh_key::HashAlg;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use worldline_arena::{Token, hex, random_bytes};
use worldline_runtime::Metadata;

use super::request::{Body, Query, done, optional};
use super::{Answer, Api};
use crate::error::ApiError;
use crate::limits::{MAX_SECRET, MAX_USER_ENTRIES, MAX_USER_NAME};

/// Letters of a key that its list shows.
const PREFIX: usize = 8;
/// The name of the one key that clients of old know.
const LEGACY: &str = "default";
/// The days that usage is told of unless others are asked for.
const USAGE_DAYS: i64 = 30;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn fresh(kind: &str) -> String {
    format!("{kind}_{}", hex(&random_bytes::<8>()))
}

fn digest(key: &str) -> String {
    hex(&Sha256::digest(key))
}

fn bad(code: &'static str, detail: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, code, detail)
}

fn missing(what: &str) -> ApiError {
    let detail = format!("there is no {what}: it may have been removed, or its name is mistyped");
    ApiError::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// A key for this server's calls.
#[derive(Clone, Serialize, Deserialize)]
struct CallKey {
    id: String,
    digest: String,
    prefix: String,
    created: u64,
}

/// A key for SSH into any world.
#[derive(Clone, Serialize, Deserialize)]
struct SshKey {
    id: String,
    name: String,
    public_key: String,
    created: u64,
    updated: u64,
    expires: Option<u64>,
}

/// Kept for the user's programs; worlds are not given it.
#[derive(Clone, Serialize, Deserialize)]
struct Secret {
    id: String,
    name: String,
    value: String,
    description: Option<String>,
    metadata: Metadata,
    created: u64,
    updated: u64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    call_keys: Vec<CallKey>,
    ssh_keys: Vec<SshKey>,
    secrets: Vec<Secret>,
}

/// The file, and what it says.
pub(crate) struct Account {
    file: PathBuf,
    kept: Mutex<Kept>,
}

impl Account {
    /// Reads the file, if there is one.
    pub(crate) fn open(file: PathBuf) -> io::Result<Self> {
        let kept = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            file,
            kept: Mutex::new(kept),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is kept, on the disk first.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Kept) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut kept = self.kept();
        let mut next = kept.clone();
        let told = change(&mut next)?;
        let entries = next.call_keys.len() + next.ssh_keys.len() + next.secrets.len();
        if entries > MAX_USER_ENTRIES {
            let detail = format!("{MAX_USER_ENTRIES} keys and secrets are the most: remove some");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "full", detail));
        }
        self.write(&next).map_err(ApiError::host)?;
        *kept = next;
        Ok(told)
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        const OWNER: u32 = 0o600;
        let part = self.file.with_extension("part");
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(OWNER)
            .open(&part)?;
        file.write_all(&serde_json::to_vec_pretty(kept)?)?;
        file.sync_all()?;
        fs::rename(part, &self.file)
    }

    /// Whether this is a key for calls.
    pub(crate) fn has_key(&self, shown: &str) -> bool {
        // What is compared are digests, so that the time it takes says nothing of a key.
        let shown = digest(shown);
        self.kept().call_keys.iter().any(|key| key.digest == shown)
    }

    /// Whether this is one of the user's keys for SSH.
    pub(crate) fn knows(&self, shown: &PublicKey) -> bool {
        let kept = self.kept();
        let mut valid = kept.ssh_keys.iter().filter(|key| !key.is_expired());
        valid.any(|key| {
            key.parsed()
                .is_some_and(|key| key.key_data() == shown.key_data())
        })
    }
}

impl SshKey {
    fn new(name: String, public_key: &str, expires: Option<u64>) -> Result<Self, ApiError> {
        let parsed = PublicKey::from_openssh(public_key.trim()).map_err(|error| {
            bad(
                "bad_key",
                &format!("this is no public key as OpenSSH writes one: {error}"),
            )
        })?;
        Ok(Self {
            id: fresh("sshkey"),
            name: named(name)?,
            public_key: parsed
                .to_openssh()
                .map_err(|error| ApiError::host(io::Error::other(error)))?,
            created: now(),
            updated: now(),
            expires,
        })
    }

    fn parsed(&self) -> Option<PublicKey> {
        PublicKey::from_openssh(&self.public_key).ok()
    }

    fn is_expired(&self) -> bool {
        self.expires.is_some_and(|at| at <= now())
    }

    fn view(&self) -> Value {
        let parsed = self.parsed();
        let fingerprint = parsed
            .as_ref()
            .map(|key| key.fingerprint(HashAlg::Sha256).to_string());
        let algorithm = parsed.map(|key| key.algorithm().to_string());
        json!({
            "object": "user_ssh_key",
            "id": self.id,
            "name": self.name,
            "public_key": self.public_key,
            "fingerprint": fingerprint.unwrap_or_default(),
            "algorithm": algorithm.unwrap_or_default(),
            "created": self.created,
            "updated": self.updated,
            "expires": self.expires,
            "status": if self.is_expired() { "expired" } else { "active" },
        })
    }
}

impl Secret {
    /// All but its value, which is not told again.
    fn view(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "metadata": self.metadata,
            "created": self.created,
            "updated": self.updated,
        })
    }
}

fn named(name: String) -> Result<String, ApiError> {
    if (1..=MAX_USER_NAME).contains(&name.chars().count()) {
        Ok(name)
    } else {
        Err(bad(
            "bad_name",
            &format!("a name has 1 to {MAX_USER_NAME} characters"),
        ))
    }
}

fn list(all: Vec<Value>) -> Answer {
    Ok(Json(json!({ "object": "list", "data": all })))
}

/// Takes one out of a list, by what is so about it.
fn take<T>(from: &mut Vec<T>, what: &str, is: impl Fn(&T) -> bool) -> Result<T, ApiError> {
    let at = from.iter().position(is).ok_or_else(|| missing(what))?;
    Ok(from.remove(at))
}

impl Api {
    /// Asks the account, off the async threads.
    async fn kept<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Kept) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let account = self.account.clone();
        crate::api::blocking(move || Ok(ask(&account.kept()))).await
    }

    /// Changes the account, off the async threads.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Kept) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let account = self.account.clone();
        crate::api::blocking(move || account.change(change)).await
    }
}

/// `GET /user/api-key`
pub(super) async fn call_keys(State(api): State<Api>) -> Answer {
    let view =
        |key: &CallKey| json!({ "id": key.id, "key_prefix": key.prefix, "created": key.created });
    list(
        api.kept(move |kept| kept.call_keys.iter().map(view).collect())
            .await?,
    )
}

/// `POST /user/api-key`: the only time that the key itself is told.
pub(super) async fn new_call_key(State(api): State<Api>) -> Answer {
    let key = format!("worldline_{}", Token::random().as_str());
    let made = CallKey {
        id: fresh("key"),
        digest: digest(&key),
        prefix: key.chars().take("worldline_".len() + PREFIX).collect(),
        created: now(),
    };
    let told =
        json!({ "id": made.id, "key": key, "key_prefix": made.prefix, "created": made.created });
    api.change(move |kept| {
        kept.call_keys.push(made);
        Ok(Json(told))
    })
    .await
}

/// `DELETE /user/api-key/{id}`
pub(super) async fn remove_call_key(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.change(move |kept| {
        take(&mut kept.call_keys, "such key", |key| key.id == id).map(|_| done())
    })
    .await
}

/// `GET /user/ssh-keys`
pub(super) async fn ssh_keys(State(api): State<Api>) -> Answer {
    list(
        api.kept(|kept| kept.ssh_keys.iter().map(SshKey::view).collect())
            .await?,
    )
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NewSshKey {
    name: String,
    public_key: String,
    expires: Option<u64>,
}

/// `POST /user/ssh-keys`
pub(super) async fn new_ssh_key(State(api): State<Api>, body: Body) -> Answer {
    let asked: NewSshKey = optional(&body?)?;
    let key = SshKey::new(asked.name, &asked.public_key, asked.expires)?;
    api.change(move |kept| {
        if kept
            .ssh_keys
            .iter()
            .any(|other| other.public_key == key.public_key)
        {
            let detail = "this key is there already: change that one, or remove it first";
            return Err(ApiError::new(StatusCode::CONFLICT, "key_exists", detail));
        }
        let told = key.view();
        kept.ssh_keys.push(key);
        Ok(Json(told))
    })
    .await
}

/// `GET /user/ssh-keys/{id}`
pub(super) async fn ssh_key(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    let find = move |kept: &Kept| {
        let found = kept.ssh_keys.iter().find(|key| key.id == id);
        found.map(SshKey::view)
    };
    let found = api.kept(find).await?;
    found.map(Json).ok_or_else(|| missing("such SSH key"))
}

/// What is left out stays; `null` is something else.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Changed {
    name: Option<String>,
    #[serde(deserialize_with = "given")]
    expires: Option<Option<u64>>,
}

/// `PATCH /user/ssh-keys/{id}`
pub(super) async fn change_ssh_key(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    let asked: Changed = optional(&body?)?;
    api.change(move |kept| {
        let found = kept.ssh_keys.iter_mut().find(|key| key.id == id);
        let key = found.ok_or_else(|| missing("such SSH key"))?;
        if let Some(name) = asked.name {
            key.name = named(name)?;
        }
        if let Some(expires) = asked.expires {
            key.expires = expires;
        }
        key.updated = now();
        Ok(Json(key.view()))
    })
    .await
}

/// `DELETE /user/ssh-keys/{id}`
pub(super) async fn remove_ssh_key(State(api): State<Api>, Path(id): Path<String>) -> Answer {
    api.change(move |kept| {
        take(&mut kept.ssh_keys, "such SSH key", |key| key.id == id).map(|_| done())
    })
    .await
}

fn legacy(key: &SshKey) -> Json<Value> {
    Json(json!({ "public_key": key.public_key, "created": key.created }))
}

/// `GET /user/ssh-key`: as clients of old know it, of which there is one.
pub(super) async fn legacy_ssh_key(State(api): State<Api>) -> Answer {
    let find = |kept: &Kept| {
        let found = kept.ssh_keys.iter().find(|key| key.name == LEGACY);
        found.map(legacy)
    };
    let found = api.kept(find).await?;
    found.ok_or_else(|| missing("SSH key of this kind"))
}

/// `PUT /user/ssh-key`
pub(super) async fn set_legacy_ssh_key(State(api): State<Api>, body: Body) -> Answer {
    let asked: NewSshKey = optional(&body?)?;
    let key = SshKey::new(LEGACY.into(), &asked.public_key, None)?;
    api.change(move |kept| {
        kept.ssh_keys
            .retain(|other| other.name != LEGACY && other.public_key != key.public_key);
        let told = legacy(&key);
        kept.ssh_keys.push(key);
        Ok(told)
    })
    .await
}

/// `GET /user/secret`
pub(super) async fn secrets(State(api): State<Api>) -> Answer {
    list(
        api.kept(|kept| kept.secrets.iter().map(Secret::view).collect())
            .await?,
    )
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NewSecret {
    name: String,
    value: String,
    description: Option<String>,
    #[serde(deserialize_with = "super::request::words")]
    metadata: Metadata,
}

/// `POST /user/secret`: one of the same name makes room for it.
pub(super) async fn new_secret(State(api): State<Api>, body: Body) -> Answer {
    let asked: NewSecret = optional(&body?)?;
    let words = asked
        .metadata
        .iter()
        .map(|(key, value)| key.len() + value.len());
    let size = asked.value.len()
        + asked.description.as_ref().map_or(0, String::len)
        + words.sum::<usize>();
    if size > MAX_SECRET {
        return Err(bad(
            "too_long",
            &format!("a secret has at most {MAX_SECRET} bytes"),
        ));
    }
    let name = named(asked.name)?;
    api.change(move |kept| {
        let former = take(&mut kept.secrets, "such secret", |secret| {
            secret.name == name
        })
        .ok();
        let secret = Secret {
            id: former
                .as_ref()
                .map_or_else(|| fresh("secret"), |former| former.id.clone()),
            created: former.map_or_else(now, |former| former.created),
            name,
            value: asked.value,
            description: asked.description,
            metadata: asked.metadata,
            updated: now(),
        };
        let told = secret.view();
        kept.secrets.push(secret);
        Ok(Json(told))
    })
    .await
}

/// `DELETE /user/secret/{name}`
pub(super) async fn remove_secret(State(api): State<Api>, Path(name): Path<String>) -> Answer {
    api.change(move |kept| {
        take(&mut kept.secrets, "such secret", |secret| {
            secret.name == name
        })
        .map(|_| done())
    })
    .await
}

/// Days of an interval, as `7d`, `24h` or `60m`.
fn days(interval: &str) -> Option<f64> {
    let (number, unit) = interval.split_at_checked(interval.len().checked_sub(1)?)?;
    let number: f64 = number
        .parse()
        .ok()
        .filter(|number| (0.0..1e6).contains(number))?;
    match unit {
        "d" => Some(number),
        "h" => Some(number / 24.0),
        "m" => Some(number / 1440.0),
        _ => None,
    }
}

/// `GET /user/usage?interval=`: what worlds were given, and for how long, in seconds of a processor and of
/// a MiB. Snapshots are counted with what their worlds were given.
pub(super) async fn usage(State(api): State<Api>, query: Query) -> Answer {
    let days = match query.get("interval") {
        None => USAGE_DAYS as f64,
        Some(interval) => days(interval).ok_or_else(|| {
            bad(
                "bad_query",
                "an interval is a number of days, hours or minutes, as 7d, 24h or 60m",
            )
        })?,
    };
    let end = now();
    let begin = end.saturating_sub((days * 86_400.0) as u64);
    let times = format!(
        "SELECT starts_with(entity_id, 'snapshot_'), sum(vcpu_count * seconds)::BIGINT, \
         sum(memory_mib * seconds)::BIGINT FROM (SELECT entity_id, vcpu_count, memory_mib, greatest(0, \
         coalesce(epoch(resolved_at), {end}) - greatest(epoch(created_at), {begin})) AS seconds \
         FROM world_runtime_entities) GROUP BY ALL"
    );
    let rows = api.blocking(move |worlds| worlds.sql(&times)).await?;
    let sum = |snapshots: bool, column: usize| -> i64 {
        let of = rows
            .rows
            .iter()
            .filter(|row| (row[1].to_string() == "true") == snapshots);
        of.filter_map(|row| row[column].int()).sum()
    };
    let period = json!({ "period_start": begin, "period_end": end });
    let with = |mut value: Value| {
        value["period_start"] = period["period_start"].clone();
        value["period_end"] = period["period_end"].clone();
        value
    };
    Ok(Json(json!({
        "instance": [with(json!({ "instance_cpu_time": sum(false, 1), "instance_memory_time": sum(false, 2), "instance_disk_time": 0 }))],
        "snapshot": [with(json!({ "snapshot_memory_time": sum(true, 2), "snapshot_disk_time": 0 }))],
        "items": [],
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_again_and_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("user.json");
        let account = Account::open(file.clone()).unwrap();
        let key = CallKey {
            id: "key_1".into(),
            digest: digest("worldline_k"),
            prefix: "worldline".into(),
            created: 1,
        };
        let added = account.change(|kept| {
            kept.call_keys.push(key);
            Ok(())
        });
        assert!(added.is_ok());
        assert!(account.change(|_| Err::<(), _>(missing("thing"))).is_err());
        let again = Account::open(file.clone()).unwrap();
        assert!(again.has_key("worldline_k") && !again.has_key("worldline_") && !again.has_key(""));
        let meta = fs::metadata(&file).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&file).unwrap().contains("worldline_k"));
    }

    #[test]
    fn intervals_are_days_hours_and_minutes() {
        assert_eq!(
            (days("7d"), days("12h"), days("720m")),
            (Some(7.0), Some(0.5), Some(0.5))
        );
        for wrong in ["", "d", "7", "-1d", "1e99d", "7w", "NaNd", "ü"] {
            assert_eq!(days(wrong), None, "{wrong}");
        }
    }
}
