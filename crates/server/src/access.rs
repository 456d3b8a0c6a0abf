//! With what right someone is here.

use worldline_arena::Token;

/// On loopback, that of this machine's user; elsewhere, a token.
#[derive(Debug)]
pub(crate) struct Access {
    token: Option<Token>,
}

impl Access {
    /// With a fresh token, unless everyone who can come is at home here.
    pub(crate) fn new(loopback: bool) -> Self {
        Self {
            token: (!loopback).then(Token::random),
        }
    }

    /// The token to show, where one is needed.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Whether who shows this may come in.
    pub(crate) fn admits(&self, shown: &str) -> bool {
        self.token.as_ref().is_none_or(|token| token.matches(shown))
    }
}
