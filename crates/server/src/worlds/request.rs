//! What clients send.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use worldline_runtime::{Metadata, NewInstance, Note, Runtime, SizesAsked, TtlAction};

use super::{Answer, Api};
use crate::error::ApiError;

/// What setters and removers answer.
pub(super) fn done() -> axum::Json<Value> {
    axum::Json(serde_json::json!({}))
}

/// A body as it came, or why it did not.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// Reads a body that may be left out.
pub(super) fn optional<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let read: Option<T> =
        serde_json::from_slice(body).map_err(|error| ApiError::bad_json(&error))?;
    Ok(read.unwrap_or_default())
}

/// Reads metadata: a flat map whose values become text.
pub(super) fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Metadata, D::Error> {
    let map: Option<serde_json::Map<String, Value>> = Option::deserialize(from)?;
    let text = |(key, value)| match value {
        Value::String(text) => Ok((key, text)),
        Value::Number(number) => Ok((key, number.to_string())),
        Value::Bool(truth) => Ok((key, truth.to_string())),
        _ => Err(D::Error::custom(format!(
            "the value of metadata `{key}` is not text"
        ))),
    };
    map.unwrap_or_default().into_iter().map(text).collect()
}

/// Reads what is asked of a network: `"none"`, or names that a world may reach. An address for a name,
/// which could be one of this host's own, is not taken from callers.
fn network<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Listed {
        allow: Vec<String>,
    }
    const HELP: &str = "a world reaches the names that it is given and nothing else: \"network\": {\"allow\": [\"NAME\", \"NAME:PORT\"]}, or \"none\"";
    let Some(asked) = Option::<Value>::deserialize(from)? else {
        return Ok(None);
    };
    if asked == "none" {
        return Ok(Some(Vec::new()));
    }
    let listed: Listed = serde_json::from_value(asked).map_err(|_| D::Error::custom(HELP))?;
    match listed.allow.iter().any(|name| name.contains('=')) {
        true => Err(D::Error::custom(HELP)),
        false => Ok(Some(listed.allow)),
    }
}

/// The body of a call that replaces all metadata.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Words(#[serde(deserialize_with = "words")] pub(super) Metadata);

/// The body of a call that sets a time to live; a snapshot has no action.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Life {
    pub(super) ttl_seconds: Option<u64>,
    pub(super) ttl_action: Option<TtlAction>,
}

/// Everything that a snapshot or world is made with; each call looks at its part.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Making {
    pub(super) image_id: Option<String>,
    pub(super) snapshot_id: Option<String>,
    vcpus: Option<u32>,
    memory: Option<u32>,
    disk_size: Option<u32>,
    digest: Option<String>,
    #[serde(deserialize_with = "words")]
    metadata: Metadata,
    #[serde(deserialize_with = "words")]
    snapshot_metadata: Metadata,
    #[serde(deserialize_with = "words")]
    instance_metadata: Metadata,
    ttl_seconds: Option<u64>,
    ttl_action: Option<TtlAction>,
    seed: Option<u64>,
    #[serde(deserialize_with = "network")]
    pub(super) network: Option<Vec<String>>,
    pub(super) trits: Option<Vec<i8>>,
    pub(super) name: Option<String>,
}

impl Making {
    pub(super) fn sizes(&self) -> SizesAsked {
        SizesAsked {
            vcpus: self.vcpus,
            memory_mib: self.memory,
            disk_mib: self.disk_size,
        }
    }

    /// What is said of a snapshot; its digest may come in the query.
    pub(super) fn note(&self, query: &Query) -> Note {
        let digest = query
            .get("digest")
            .map(str::to_owned)
            .or_else(|| self.digest.clone());
        let mut metadata = self.metadata.clone();
        metadata.extend(self.snapshot_metadata.clone());
        if let Some(name) = &self.name {
            metadata.insert("name".into(), name.clone());
        }
        Note {
            digest,
            metadata,
            ttl_seconds: self.ttl_seconds,
        }
    }

    pub(super) fn instance(&self) -> NewInstance {
        NewInstance {
            sizes: self.sizes(),
            metadata: self.metadata.clone(),
            ttl_seconds: self.ttl_seconds,
            ttl_action: self.ttl_action,
            seed: self.seed,
            network: self.network.clone(),
        }
    }

    /// What the children of a branching are.
    pub(super) fn children(&self) -> NewInstance {
        NewInstance {
            metadata: self.instance_metadata.clone(),
            sizes: SizesAsked::default(),
            ttl_seconds: None,
            ttl_action: None,
            seed: self.seed,
            network: self.network.clone(),
        }
    }
}

/// A request's query.
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl Query {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn required(&self, name: &'static str) -> Result<String, ApiError> {
        self.get(name)
            .map(str::to_owned)
            .ok_or_else(|| bad_query(format!("`{name}` is missing")))
    }

    pub(super) fn number<T: std::str::FromStr>(
        &self,
        name: &str,
        default: T,
    ) -> Result<T, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        text.parse()
            .map_err(|_| bad_query(format!("`{name}={text}` is not a number that fits")))
    }

    /// `metadata[key]=value`, any number of times.
    pub(super) fn metadata(&self) -> Metadata {
        let pair = |(key, value): &(String, String)| {
            let key = key.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some((key.to_owned(), value.clone()))
        };
        self.0.iter().filter_map(pair).collect()
    }
}

fn bad_query(detail: String) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "bad_query",
        format!("the query of this address makes no sense: {detail}"),
    )
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, ApiError> {
        let pairs = axum::extract::Query::try_from_uri(&parts.uri);
        pairs
            .map(|axum::extract::Query(pairs)| Self(pairs))
            .map_err(|error| bad_query(error.body_text()))
    }
}

impl Api {
    /// Sets what a body says, and answers nothing more.
    pub(super) async fn set<T: DeserializeOwned + Default + Send + 'static>(
        &self,
        body: Body,
        work: impl FnOnce(&Runtime, T) -> Result<(), worldline_runtime::WorldError> + Send + 'static,
    ) -> Answer {
        let asked: T = optional(&body?)?;
        self.blocking(move |worlds| work(worlds, asked)).await?;
        Ok(done())
    }

    /// Makes something, once for each idempotency key: the same key and request get the same answer.
    pub(super) async fn once(
        &self,
        headers: &HeaderMap,
        request: String,
        work: impl FnOnce(&Runtime) -> Result<Value, worldline_runtime::WorldError> + Send + 'static,
    ) -> Answer {
        let Some(key) = headers.get("idempotency-key") else {
            return Ok(axum::Json(self.blocking(work).await?));
        };
        let key = key
            .to_str()
            .map_err(|_| bad_query("the idempotency key is not text".into()))?
            .to_owned();
        let answer = self.blocking(move |worlds| {
            if let Some(former) = worlds.begin(&key, &request)? {
                return Ok(serde_json::from_str(&former).unwrap_or_default());
            }
            let done = work(worlds);
            worlds.finish(&key, done.as_ref().ok().map(Value::to_string).as_deref())?;
            done
        });
        Ok(axum::Json(answer.await?))
    }
}

/// What tells one request from another, for its idempotency key.
pub(super) fn fingerprint(call: &str, query: &Query, body: &[u8]) -> String {
    format!("{call} {:?} {}", query.0, String::from_utf8_lossy(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_may_be_missing_empty_or_null() {
        for body in [
            "",
            "  ",
            "null",
            "{}",
            r#"{"metadata":null,"ttl_seconds":null}"#,
        ] {
            let making: Making =
                optional(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error:?}"));
            assert_eq!(making.instance(), NewInstance::default(), "{body}");
        }
    }

    #[test]
    fn metadata_becomes_text_and_nested_values_are_refused() {
        let making: Making =
            optional(br#"{"metadata":{"trit":1,"x":true,"verse":"nash"}}"#).unwrap();
        let words: Vec<_> = making.metadata.into_iter().collect();
        let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            words,
            [text("trit", "1"), text("verse", "nash"), text("x", "true")]
        );
        assert!(optional::<Words>(br#"{"a":{"b":1}}"#).is_err());
        assert!(optional::<Words>(b"[1]").is_err());
    }

    #[test]
    fn a_network_is_a_list_of_names_or_refused_in_words() {
        let names = |body: &str| optional::<Making>(body.as_bytes()).map(|asked| asked.network);
        assert_eq!(names("{}").unwrap(), None);
        assert_eq!(names(r#"{"network":null}"#).unwrap(), None);
        assert_eq!(names(r#"{"network":"none"}"#).unwrap(), Some(Vec::new()));
        assert_eq!(
            names(r#"{"network":{"allow":["example.org"]}}"#).unwrap(),
            Some(vec!["example.org".into()])
        );
        for body in [
            r#"{"network":{"allow":["example.org:7777=127.0.0.1"]}}"#,
            r#"{"network":{"allow":["example.org"],"deny":[]}}"#,
            r#"{"network":"nat"}"#,
        ] {
            let refused = names(body).err().unwrap();
            assert!(
                refused.detail.contains("nothing else"),
                "{}",
                refused.detail
            );
        }
    }

    #[test]
    fn metadata_stands_in_the_query_in_brackets() {
        let query = Query(vec![
            ("metadata[a]".into(), "1".into()),
            ("page".into(), "2".into()),
            ("metadata[".into(), "x".into()),
        ]);
        assert_eq!(
            query.metadata().into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), "1".to_owned())]
        );
        assert_eq!(query.number("page", 1u32).unwrap(), 2);
        assert!(
            Query(vec![("page".into(), "-1".into())])
                .number("page", 1u32)
                .is_err()
        );
    }
}
