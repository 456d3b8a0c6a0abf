//! Errors as clients see them: `{"error_code": …, "detail": …}`.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use worldline_arena::{BadId, CreateError, EnterError, SeatError, StoreError};

/// An error with a name for programs and words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiError {
    #[serde(skip)]
    pub(crate) status: StatusCode,
    /// A short name that programs can rely on.
    pub error_code: &'static str,
    /// What was tried, what went wrong, what to do.
    pub detail: String,
}

impl ApiError {
    /// An error of the request itself.
    pub(crate) fn new(
        status: StatusCode,
        error_code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            error_code,
            detail: detail.into(),
        }
    }

    /// The body is not what this call takes.
    pub(crate) fn bad_json(error: &serde_json::Error) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_json",
            format!("the message is not what this call takes: {error}"),
        )
    }

    /// This host refused, or a defect.
    #[cfg(feature = "worlds")]
    pub(crate) fn host(error: std::io::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "host", error.to_string())
    }

    /// Nothing is served at this address.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this address",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<BytesRejection> for ApiError {
    fn from(error: BytesRejection) -> Self {
        let code = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            _ => "bad_body",
        };
        Self::new(error.status(), code, error.body_text())
    }
}

impl From<BadId> for ApiError {
    fn from(error: BadId) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_id", error.to_string())
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        let status = match error {
            CreateError::Full => StatusCode::SERVICE_UNAVAILABLE,
            CreateError::UnknownWorld(_) => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<SeatError> for ApiError {
    fn from(error: SeatError) -> Self {
        let status = match error {
            SeatError::BadToken | SeatError::Watching(_) => StatusCode::FORBIDDEN,
            SeatError::SeatTaken(_) | SeatError::SeatBusy | SeatError::Phase { .. } => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<EnterError> for ApiError {
    fn from(error: EnterError) -> Self {
        match error {
            EnterError::Seat(error) => error.into(),
            EnterError::Unknown(_) => {
                Self::new(StatusCode::NOT_FOUND, error.code(), error.to_string())
            }
            EnterError::NotBegun(_) => {
                Self::new(StatusCode::CONFLICT, error.code(), error.to_string())
            }
            EnterError::BadKey => {
                Self::new(StatusCode::BAD_REQUEST, error.code(), error.to_string())
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let (status, code) = match error {
            StoreError::NoReplay(_) => (StatusCode::NOT_FOUND, "unknown_replay"),
            StoreError::Replay(..) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_replay"),
            StoreError::Io { .. } | StoreError::Locked(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "storage")
            }
        };
        Self::new(status, code, error.to_string())
    }
}
