//! With what right someone is here.

use worldline_arena::Token;

#[cfg(feature = "worlds")]
use crate::worlds::Account;

/// On loopback, that of this machine's user; elsewhere, a token or a key that the user has made.
pub(crate) struct Access {
    token: Option<Token>,
    #[cfg(feature = "worlds")]
    account: Option<std::sync::Arc<Account>>,
}

impl Access {
    /// With a fresh token, unless everyone who can come is at home here.
    pub(crate) fn new(loopback: bool) -> Self {
        Self {
            token: (!loopback).then(Token::random),
            #[cfg(feature = "worlds")]
            account: None,
        }
    }

    /// The same, with the keys of an account.
    #[cfg(feature = "worlds")]
    pub(crate) fn with(self, account: Option<std::sync::Arc<Account>>) -> Self {
        Self { account, ..self }
    }

    /// The token to show, where one is needed.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Whether who shows this may come in.
    pub(crate) fn admits(&self, shown: &str) -> bool {
        #[cfg(feature = "worlds")]
        if let Some(account) = &self.account
            && account.has_key(shown)
        {
            return true;
        }
        self.token.as_ref().is_none_or(|token| token.matches(shown))
    }
}
