//! `POST /logs/cloudwatch` and `POST /logs/firehose`: the doors of log deliveries.

use super::door::{Door, Pass, Receipt};
use crate::config::secret::Vault;
use crate::logs::firehose;
use crate::logs::intake::{Intake, NotTaken};
use crate::net::gzip;
use futures_util::FutureExt as _;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderMap};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// Firehose sends at most this, before compression.
const LARGEST_FIREHOSE: usize = 64 * 1024 * 1024;
/// A Lambda function gets at most 6 MB, and hands on at most that.
const LARGEST_CLOUDWATCH: usize = 16 * 1024 * 1024;
/// When what refused may be over.
const AGAIN: Duration = Duration::from_secs(5);
/// In which Firehose brings its key.
const FIREHOSE_KEY: &str = "X-Amz-Firehose-Access-Key";
const FIREHOSE_REQUEST: &str = "X-Amz-Firehose-Request-Id";
const JSON: &str = "application/json";

/// The doors of an intake.
pub fn doors(intake: &Arc<Intake>, vault: &Arc<Vault>) -> Vec<Door> {
    let door = |path, largest, kind: Kind| {
        let (to_admit, to_take, vault) = (Arc::clone(intake), Arc::clone(intake), Arc::clone(vault));
        Door {
            path,
            largest,
            admits: Arc::new(move |head| {
                admit(Arc::clone(&to_admit), Arc::clone(&vault), kind, head).boxed()
            }),
            take: Arc::new(move |head, body| take(Arc::clone(&to_take), kind, head, body).boxed()),
        }
    };
    vec![
        door("/logs/cloudwatch", LARGEST_CLOUDWATCH, Kind::CloudWatch),
        door("/logs/firehose", LARGEST_FIREHOSE, Kind::Firehose),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    CloudWatch,
    Firehose,
}

impl Kind {
    /// The answer in the sender's own format.
    fn answer(self, head: &HeaderMap, status: StatusCode, error: Option<&str>) -> Receipt {
        match self {
            Self::CloudWatch => Receipt::text(status, error.unwrap_or("taken")),
            Self::Firehose => {
                let id = head.get(FIREHOSE_REQUEST).and_then(|id| id.to_str().ok()).unwrap_or_default();
                let body = Bytes::from(firehose::answer(id, Timestamp::now(), error));
                Receipt { status, content_type: JSON, body, retry_after: None }
            }
        }
    }
}

async fn admit(intake: Arc<Intake>, vault: Arc<Vault>, kind: Kind, head: HeaderMap) -> Pass {
    let routing = intake.routing();
    if routing.access_keys.is_empty() {
        return Pass::Common;
    }
    let brought = brought(&head).unwrap_or_default();
    let mut known = false;
    for reference in &routing.access_keys {
        match vault.secret(reference).await {
            // All are compared, each in the same time whatever was brought.
            Ok(key) => known |= bool::from(key.expose().as_bytes().ct_eq(brought)) && !brought.is_empty(),
            Err(problem) => tracing::warn!(%problem, "an access key of the log doors could not be read"),
        }
    }
    if known {
        return Pass::Granted;
    }
    let words = "a log door wants an access key: X-Amz-Firehose-Access-Key or Authorization: Bearer";
    Pass::Refused(kind.answer(&head, StatusCode::UNAUTHORIZED, Some(words)))
}

/// The key that a delivery has with it.
fn brought(head: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = head.get(FIREHOSE_KEY) {
        return Some(key.as_bytes());
    }
    let (scheme, key) = head.get(AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
}

async fn take(intake: Arc<Intake>, kind: Kind, head: HeaderMap, body: Bytes) -> Receipt {
    let body = match head.get(CONTENT_ENCODING).map(hyper::http::HeaderValue::as_bytes) {
        Some(b"gzip") => match gzip::inflate(&body, LARGEST_FIREHOSE) {
            Ok(body) => Bytes::from(body),
            Err(error) => {
                let words = format!("the body is {error}");
                return kind.answer(&head, StatusCode::BAD_REQUEST, Some(&words));
            }
        },
        None | Some(b"identity" | b"") => body,
        Some(_) => {
            let words = "Content-Encoding has to be gzip or identity";
            return kind.answer(&head, StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(words));
        }
    };
    let taken = match kind {
        Kind::CloudWatch => intake.take(body.into(), Timestamp::now()).await,
        Kind::Firehose => match firehose::read(&body) {
            Ok(delivery) => records(&intake, delivery).await,
            Err(words) => return kind.answer(&head, StatusCode::BAD_REQUEST, Some(&words)),
        },
    };
    match taken {
        Ok(()) => kind.answer(&head, StatusCode::OK, None),
        Err(error @ NotTaken::Unreadable(_)) => {
            kind.answer(&head, StatusCode::BAD_REQUEST, Some(&error.to_string()))
        }
        Err(
            error @ (NotTaken::Refused(_)
            | NotTaken::NotIndexed(_)
            | NotTaken::Quarantine(_)
            | NotTaken::Panicked),
        ) => {
            tracing::warn!(%error, "a log delivery was refused; its sender has to repeat it");
            kind.answer(&head, StatusCode::SERVICE_UNAVAILABLE, Some(&error.to_string())).again(AGAIN)
        }
    }
}

/// Takes the records one after the other. One that cannot be read is in quarantine then, and does not harm its neighbours.
async fn records(intake: &Arc<Intake>, delivery: firehose::Delivery) -> Result<(), NotTaken> {
    for record in delivery.records {
        match intake.take(record.data.into_bytes(), Timestamp::now()).await {
            Ok(()) | Err(NotTaken::Unreadable(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
