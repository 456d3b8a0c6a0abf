//! Short match ids that people can read to each other, and secret seat tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const LENGTH: usize = 6;

/// A match's id: six characters without look-alikes, also the name of its replay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MatchId([u8; LENGTH]);

/// The text is not a match id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a session id: six letters and digits, for example K7WQ2M")]
pub struct BadId(String);

impl MatchId {
    /// A new random id.
    pub fn random() -> Self {
        Self(random_bytes::<LENGTH>().map(|byte| ALPHABET[byte as usize % ALPHABET.len()]))
    }

    /// The id as 16 bytes, zero-padded: what a player's signature covers.
    pub fn padded(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..LENGTH].copy_from_slice(&self.0);
        bytes
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl FromStr for MatchId {
    type Err = BadId;

    /// Reads an id as people type it: any case.
    fn from_str(text: &str) -> Result<Self, BadId> {
        let upper = text.trim().to_ascii_uppercase();
        match <[u8; LENGTH]>::try_from(upper.as_bytes()) {
            Ok(bytes) if bytes.iter().all(|byte| ALPHABET.contains(byte)) => Ok(Self(bytes)),
            _ => Err(BadId(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for MatchId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<MatchId> for String {
    fn from(id: MatchId) -> Self {
        id.as_str().into()
    }
}

impl fmt::Display for MatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The secret that proves who sits in a seat: 128 random bits. Never shown, never in a replay.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token(String);

impl Token {
    /// A new random token.
    pub fn random() -> Self {
        Self(hex(&random_bytes::<16>()))
    }

    /// The token as text, for the one player it belongs to.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in time that does not depend on where the texts differ.
    pub fn matches(&self, text: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), text.as_bytes());
        own.len() == other.len() && own.iter().zip(other).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Random bytes of the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads exactly `N` bytes of hexadecimal.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|two| two[0] << 4 | two.get(1).unwrap_or(&0))
        .collect();
    (digits.len() == 2 * N)
        .then(|| bytes.try_into().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_people_type_them() {
        let id: MatchId = " k7wq2m\n".parse().unwrap();
        assert_eq!(id.to_string(), "K7WQ2M");
        assert_eq!(&id.padded(), b"K7WQ2M\0\0\0\0\0\0\0\0\0\0");
        for bad in ["", "K7WQ2", "K7WQ2MM", "K7WQ0M", "../../", "ÄÄÄ"] {
            assert!(bad.parse::<MatchId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hexadecimal_there_and_back() {
        assert_eq!(unhex::<3>(&hex(&[0, 171, 255])), Some([0, 171, 255]));
        for bad in ["0", "00ff0", "00ff000", "00ffgg", "0x00ff"] {
            assert_eq!(unhex::<3>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_matches_only_itself() {
        let token = Token::random();
        assert!(token.matches(token.as_str()));
        assert!(!token.matches(Token::random().as_str()) && !token.matches(""));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
