//! Reading what a client sends, with errors that say which parameter is wrong.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use solana_account::{AccountSharedData, ReadableAccount};
use solana_address::Address;
use solana_transaction::versioned::VersionedTransaction;

use super::Failure;
use crate::limits::{FILTERS, TRANSACTION_BYTES};

/// Positional parameters, taken from the front.
pub(super) struct Params {
    values: std::vec::IntoIter<Value>,
}

impl Params {
    pub(super) fn new(values: Vec<Value>) -> Self {
        Self {
            values: values.into_iter(),
        }
    }

    pub(super) fn next(&mut self) -> Value {
        self.values.next().unwrap_or(Value::Null)
    }

    pub(super) fn string(&mut self, name: &str) -> Result<String, Failure> {
        match self.next() {
            Value::String(text) => Ok(text),
            _ => Err(Failure::params(format!(
                "Invalid params: {name} must be a string"
            ))),
        }
    }

    pub(super) fn u64(&mut self, name: &str) -> Result<u64, Failure> {
        let value = self.next();
        value.as_u64().ok_or_else(|| {
            Failure::params(format!("Invalid params: {name} must be a whole number"))
        })
    }

    /// A base58 address or signature.
    pub(super) fn base58<T: FromStr>(&mut self, name: &str) -> Result<T, Failure> {
        parse(&self.string(name)?, name)
    }

    pub(super) fn strings(&mut self, name: &str, most: usize) -> Result<Vec<String>, Failure> {
        let Value::Array(values) = self.next() else {
            return Err(Failure::params(format!(
                "Invalid params: {name} must be an array"
            )));
        };
        if values.len() > most {
            let message = format!("Too many inputs provided; max {most}");
            return Err(Failure::params(message));
        }
        let text = |value: Value| match value {
            Value::String(text) => Ok(text),
            _ => Err(Failure::params(format!(
                "Invalid params: {name} must hold strings"
            ))),
        };
        values.into_iter().map(text).collect()
    }

    /// The object with options that many methods take last; a bare string is an encoding.
    pub(super) fn config(&mut self) -> Result<Config, Failure> {
        match self.next() {
            Value::Null => Ok(Config(Map::new())),
            Value::Object(fields) => Ok(Config(fields)),
            Value::String(encoding) => {
                let fields = [("encoding".to_owned(), Value::String(encoding))];
                Ok(Config(fields.into_iter().collect()))
            }
            _ => Err(Failure::params(
                "Invalid params: the options must be an object",
            )),
        }
    }
}

/// Reads base58, or says which parameter is not.
pub(super) fn parse<T: FromStr>(text: &str, name: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| {
        Failure::params(format!(
            "Invalid param: {name} `{text}` is not base58 of the right length"
        ))
    })
}

/// Options of a request.
pub(super) struct Config(Map<String, Value>);

impl Config {
    /// Whether the client wants nothing that a crash could take back. So it does by default.
    pub(super) fn durable(&self) -> Result<bool, Failure> {
        self.durable_or("commitment", true)
    }

    pub(super) fn durable_or(&self, name: &str, default: bool) -> Result<bool, Failure> {
        match self.0.get(name).and_then(Value::as_str) {
            None => Ok(default),
            Some("processed" | "recent") => Ok(false),
            Some("confirmed" | "finalized" | "single" | "singleGossip" | "root" | "max") => {
                Ok(true)
            }
            Some(other) => Err(Failure::params(format!(
                "Invalid params: unknown commitment `{other}`"
            ))),
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Refuses to answer as of a block that is not there yet.
    pub(super) fn check_slot(&self, slot: u64) -> Result<(), Failure> {
        match self.number("minContextSlot") {
            Some(wanted) if wanted > slot => {
                let mut failure = Failure::new(
                    Failure::CONTEXT_SLOT,
                    "Minimum context slot has not been reached",
                );
                failure.data = serde_json::json!({ "contextSlot": slot });
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    /// How account data is to be shown.
    pub(super) fn view(&self) -> Result<View, Failure> {
        let encoding = match self.text("encoding") {
            None => Encoding::Legacy,
            Some("base58" | "binary") => Encoding::Base58,
            // Data that nobody here can parse is shown as the specification says: in base64.
            Some("base64" | "jsonParsed") => Encoding::Base64,
            Some("base64+zstd") => Encoding::Base64Zstd,
            Some(other) => {
                return Err(Failure::params(format!(
                    "Invalid params: unknown encoding `{other}`"
                )));
            }
        };
        let slice = match self.get("dataSlice") {
            None | Some(Value::Null) => None,
            Some(slice) => {
                let part = |name: &str| slice.get(name).and_then(Value::as_u64);
                let bad = || Failure::params("Invalid params: dataSlice needs offset and length");
                let offset = part("offset").ok_or_else(bad)?;
                let length = part("length").ok_or_else(bad)?;
                Some((offset as usize, length as usize))
            }
        };
        Ok(View { encoding, slice })
    }

    /// The filters of `getProgramAccounts`.
    pub(super) fn filters(&self) -> Result<Vec<Filter>, Failure> {
        let filters = match self.get("filters") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(filters)) if filters.len() <= FILTERS => filters,
            Some(Value::Array(_)) => {
                return Err(Failure::params(format!(
                    "Too many filters provided; max {FILTERS}"
                )));
            }
            Some(_) => return Err(Failure::params("Invalid params: filters must be an array")),
        };
        filters.iter().map(Filter::parse).collect()
    }
}

/// How account data is encoded in JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Encoding {
    /// A bare base58 string, when no encoding is named.
    Legacy,
    Base58,
    Base64,
    Base64Zstd,
}

/// How an account is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) encoding: Encoding,
    pub(super) slice: Option<(usize, usize)>,
}

/// A condition on an account's data.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    Size(u64),
    Equal { offset: usize, bytes: Vec<u8> },
    Token,
}

impl Filter {
    fn parse(value: &Value) -> Result<Self, Failure> {
        if value.as_str() == Some("tokenAccountState") {
            return Ok(Self::Token);
        }
        if let Some(size) = value.get("dataSize").and_then(Value::as_u64) {
            return Ok(Self::Size(size));
        }
        let bad = || {
            Failure::params(
                "Invalid params: a filter is {dataSize} or {memcmp: {offset, bytes, encoding}}",
            )
        };
        let compare = value.get("memcmp").ok_or_else(bad)?;
        let offset = compare
            .get("offset")
            .and_then(Value::as_u64)
            .ok_or_else(bad)?;
        let wanted = compare.get("bytes").ok_or_else(bad)?;
        let text = || wanted.as_str().ok_or_else(bad);
        let bytes = match compare.get("encoding").and_then(Value::as_str) {
            // Rust clients send numbers, with or without an encoding.
            _ if wanted.is_array() => serde_json::from_value(wanted.clone()).map_err(|_| bad())?,
            None | Some("base58" | "binary") => {
                bs58::decode(text()?).into_vec().map_err(|_| bad())?
            }
            Some("base64") => STANDARD.decode(text()?).map_err(|_| bad())?,
            Some(_) => return Err(bad()),
        };
        Ok(Self::Equal {
            offset: offset as usize,
            bytes,
        })
    }

    pub(super) fn admits(&self, account: &AccountSharedData) -> bool {
        let data = account.data();
        match self {
            Self::Size(size) => data.len() as u64 == *size,
            Self::Equal { offset, bytes } => data
                .get(*offset..)
                .is_some_and(|rest| rest.starts_with(bytes)),
            // A token account is 165 bytes with a state behind its first 108.
            Self::Token => data.len() >= 165 && data[108] != 0,
        }
    }
}

/// Reads a transaction in the encoding named, base58 by default.
pub(super) fn transaction(text: &str, config: &Config) -> Result<VersionedTransaction, Failure> {
    let bytes = match config.text("encoding") {
        None | Some("base58") => bs58::decode(text).into_vec().ok(),
        Some("base64") => STANDARD.decode(text).ok(),
        Some(other) => {
            return Err(Failure::params(format!(
                "unsupported encoding: {other}. Supported encodings: base58, base64"
            )));
        }
    };
    let bytes =
        bytes.ok_or_else(|| Failure::params("the transaction is not text of its encoding"))?;
    if bytes.len() > TRANSACTION_BYTES {
        return Err(Failure::params(format!(
            "decoded solana_transaction::versioned::VersionedTransaction too large: {} bytes (max: {TRANSACTION_BYTES} bytes)",
            bytes.len()
        )));
    }
    whole(&bytes, "transaction")
}

/// Reads a message and gives it empty signatures.
pub(super) fn message(text: &str) -> Result<VersionedTransaction, Failure> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Failure::params("the message is not base64"))?;
    let message: solana_message::VersionedMessage = whole(&bytes, "message")?;
    let signatures = usize::from(message.header().num_required_signatures);
    Ok(VersionedTransaction {
        signatures: vec![Default::default(); signatures],
        message,
    })
}

/// Reads all of `bytes`, and nothing that claims more than is there.
fn whole<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Failure> {
    use bincode::Options;
    bincode::DefaultOptions::new()
        .with_limit(TRANSACTION_BYTES as u64)
        .with_fixint_encoding()
        .reject_trailing_bytes()
        .deserialize(bytes)
        .map_err(|error| Failure::params(format!("failed to deserialize {what}: {error}")))
}

/// An address from JSON.
pub(super) fn address(value: &Value, name: &str) -> Result<Address, Failure> {
    let text = value.as_str();
    let text =
        text.ok_or_else(|| Failure::params(format!("Invalid params: {name} must be a string")))?;
    parse(text, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// MagicBlock's validator asks for its accounts with bytes as numbers, and ended over our refusal.
    #[test]
    fn a_filter_takes_its_bytes_in_every_form() {
        let expected = Filter::Equal {
            offset: 8,
            bytes: vec![1, 2, 3],
        };
        for memcmp in [
            json!({ "offset": 8, "bytes": "Ldp" }),
            json!({ "offset": 8, "bytes": "Ldp", "encoding": "base58" }),
            json!({ "offset": 8, "bytes": "AQID", "encoding": "base64" }),
            json!({ "offset": 8, "bytes": [1, 2, 3] }),
            json!({ "offset": 8, "bytes": [1, 2, 3], "encoding": "bytes" }),
        ] {
            let filter = Filter::parse(&json!({ "memcmp": memcmp }));
            assert_eq!(filter.ok().as_ref(), Some(&expected), "{memcmp}");
        }
        for wrong in [json!([1, 256]), json!(7), json!("0OIl")] {
            let memcmp = json!({ "offset": 8, "bytes": wrong });
            assert!(Filter::parse(&json!({ "memcmp": memcmp })).is_err());
        }
    }
}
