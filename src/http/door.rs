//! Doors: paths that take deliveries by POST, with their own caps and, where they have them, their own keys.

use super::LARGEST_ANSWER_WORDS;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use std::sync::Arc;
use std::time::Duration;

/// A path that takes deliveries.
pub struct Door {
    /// Its path, such as `/logs/firehose`.
    pub path: &'static str,
    /// The longest body, in bytes.
    pub largest: usize,
    /// Looks at the head, before anything of the body is read.
    pub admits: Admits,
    /// Takes a delivery.
    pub take: Take,
}

/// Looks at a head.
pub type Admits = Arc<dyn Fn(HeaderMap) -> BoxFuture<'static, Pass> + Send + Sync>;
/// Takes a head and a body.
pub type Take = Arc<dyn Fn(HeaderMap, Bytes) -> BoxFuture<'static, Receipt> + Send + Sync>;

/// Whether a delivery may come in.
pub enum Pass {
    /// As everything else: under basic auth, where that is configured.
    Common,
    /// It has a key of the door.
    Granted,
    /// It has none.
    Refused(Receipt),
}

/// The answer to a delivery.
pub struct Receipt {
    /// 200 when everything is kept.
    pub status: StatusCode,
    /// Of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// When to come again.
    pub retry_after: Option<Duration>,
}

impl Receipt {
    /// An answer in words.
    pub fn text(status: StatusCode, words: impl Into<String>) -> Self {
        let mut words: String = words.into();
        words.truncate(words.floor_char_boundary(LARGEST_ANSWER_WORDS));
        words.push('\n');
        Self { status, content_type: super::TEXT, body: Bytes::from(words), retry_after: None }
    }

    /// Asks the sender to come again after a while.
    #[must_use]
    pub fn again(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}
