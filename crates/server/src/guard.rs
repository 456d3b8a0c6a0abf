//! Who may talk to the arcade: pages of the arcade itself, and, when it is open to the network,
//! those who have its token.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::access::Access;
use crate::error::ApiError;

const COOKIE_NAME: &str = "worldline_access";
/// The query parameter of a link that carries the token.
pub(crate) const QUERY_NAME: &str = "access";

/// Refuses other sites' pages, and strangers.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    if let Err(error) = same_site(request.headers(), app.access.token().is_none()) {
        return error.into_response();
    }
    let access = &app.access;
    let Some(token) = access.token() else {
        return next.run(request).await;
    };
    let link = query(request.uri().query().unwrap_or_default(), QUERY_NAME)
        .is_some_and(|shown| access.admits(shown));
    if link && request.uri().path() == "/" {
        let cookie = format!(
            "{COOKIE_NAME}={}; Path=/; HttpOnly; Secure; SameSite=Lax",
            token.as_str()
        );
        return (
            StatusCode::SEE_OTHER,
            [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)],
        )
            .into_response();
    }
    if link || carries(request.headers(), access) {
        return next.run(request).await;
    }
    let detail = "this arcade is open to the network and needs its token: use the link that it printed at its start, or one of its invite links";
    ApiError::new(StatusCode::UNAUTHORIZED, "no_access", detail).into_response()
}

/// A page of another site must not play here, even in the browser of someone who may.
fn same_site(headers: &HeaderMap, loopback: bool) -> Result<(), ApiError> {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let refuse = |what: &str| {
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            format!("{what}: open the arcade at the address it printed"),
        ))
    };
    if loopback && !is_loopback_name(host) {
        return refuse("this arcade answers to localhost only");
    }
    match headers
        .get(ORIGIN)
        .map(|origin| origin.to_str().unwrap_or_default())
    {
        Some(origin) if origin.split_once("://").is_none_or(|(_, of)| of != host) => {
            refuse("the request comes from a page of another site")
        }
        _ => Ok(()),
    }
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

fn carries(headers: &HeaderMap, access: &Access) -> bool {
    let text = |name| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
    };
    let cookies = text(COOKIE).flat_map(|line| line.split("; "));
    let cookie = cookies.filter_map(|pair| pair.strip_prefix(COOKIE_NAME)?.strip_prefix('='));
    let bearer = text(AUTHORIZATION).filter_map(|line| line.strip_prefix("Bearer "));
    cookie.chain(bearer).any(|shown| access.admits(shown))
}

fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(axum::http::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_the_arcades_own_pages_are_answered() {
        let own = headers(&[(HOST, "localhost:4000"), (ORIGIN, "http://localhost:4000")]);
        assert!(same_site(&own, true).is_ok());
        assert!(same_site(&headers(&[(HOST, "[::1]:4000")]), true).is_ok());
        for origin in ["http://evil.example", "null", "http://localhost:4001"] {
            assert!(
                same_site(
                    &headers(&[(HOST, "localhost:4000"), (ORIGIN, origin)]),
                    true
                )
                .is_err(),
                "{origin}"
            );
        }
        let rebound = headers(&[(HOST, "evil.example:4000")]);
        assert!(same_site(&rebound, true).is_err() && same_site(&rebound, false).is_ok());
    }

    #[test]
    fn the_token_comes_as_cookie_or_bearer() {
        let access = Access::new(false);
        let token = access.token().unwrap();
        let cookie = format!("a=b; {COOKIE_NAME}={}", token.as_str());
        assert!(carries(&headers(&[(COOKIE, &cookie)]), &access));
        assert!(carries(
            &headers(&[(AUTHORIZATION, &format!("Bearer {}", token.as_str()))]),
            &access
        ));
        assert!(!carries(
            &headers(&[(COOKIE, "worldline_access=")]),
            &access
        ));
        assert!(!carries(&headers(&[]), &access));
    }
}
