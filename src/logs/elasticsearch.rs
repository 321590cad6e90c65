//! The `_bulk` API of `OpenSearch` and Elasticsearch: an outlet that has a delivery durably before it is confirmed.
//!
//! <https://docs.opensearch.org/latest/api-reference/document-apis/bulk/>

use super::documents::{Document, Index};
use crate::config::secret::{Reference, Vault};
use crate::net::https::{Client, Reply, Url};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// What is sent at once: small enough for every server's limit, large enough that the round trip does not count.
const MOST_DOCUMENTS: usize = 1_000;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How long a delivery tries; then its sender does.
const LONGEST: Duration = Duration::from_secs(30);
/// The first pause after a refusal, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where documents go.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlet {
    /// The server.
    pub url: Url,
    /// Which index each document goes to.
    pub index: Index,
    /// Account, for basic auth.
    pub user: Option<String>,
    /// Where its password is kept.
    pub password: Option<Reference>,
    /// Certificate authorities, when the system's are not the right ones.
    pub ca: Option<PathBuf>,
}

/// Why documents were not taken. The sender has to repeat the delivery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("documents were not taken: {0}")]
pub struct NotIndexed(pub String);

/// A document that can never be taken, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The document.
    pub document: Document,
    /// The server's words for it, without anything of the document.
    pub why: String,
}

/// Sends documents; one connection a server, kept.
#[derive(Debug)]
pub struct Bulk {
    vault: Arc<Vault>,
    clients: Mutex<BTreeMap<String, Arc<Mutex<Client>>>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    items: Vec<BTreeMap<String, Item>>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    r#type: String,
}

/// What one request came to.
enum Sent {
    /// What is to be sent again, and what can never be.
    Answered(Vec<Document>, Vec<Rejected>),
    /// All of it again, after this at least.
    Again(String, Option<Duration>),
    /// The body is too large for the server.
    TooLarge,
}

impl Bulk {
    /// Passwords come from the vault.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self { vault, clients: Mutex::default() }
    }

    /// Sends documents until each is indexed or rejected for good; gives the rejected ones.
    ///
    /// # Errors
    /// When some are neither after half a minute, or the server refuses all of them.
    pub async fn send(&self, outlet: &Outlet, documents: Vec<Document>) -> Result<Vec<Rejected>, NotIndexed> {
        let until = Instant::now() + LONGEST;
        let mut rejected = Vec::new();
        let mut waiting = batches(documents);
        let mut pause = FIRST_PAUSE;
        while let Some(batch) = waiting.pop() {
            let (words, after) = match self.once(outlet, &batch, until).await? {
                Sent::Answered(again, never) => {
                    rejected.extend(never);
                    if again.is_empty() {
                        pause = FIRST_PAUSE;
                        continue;
                    }
                    waiting.push(again);
                    ("the server has no room for some of them".to_owned(), None)
                }
                Sent::TooLarge if batch.len() > 1 => {
                    let (one, two) = batch.split_at(batch.len() / 2);
                    waiting.extend([one.to_vec(), two.to_vec()]);
                    continue;
                }
                Sent::TooLarge => {
                    let why = "larger than the server takes".to_owned();
                    rejected
                        .extend(batch.into_iter().map(|document| Rejected { document, why: why.clone() }));
                    continue;
                }
                Sent::Again(words, after) => {
                    waiting.push(batch);
                    (words, after)
                }
            };
            let rest = after.unwrap_or(pause).min(LONGEST_PAUSE);
            if Instant::now() + rest >= until {
                return Err(NotIndexed(words));
            }
            sleep(rest).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        Ok(rejected)
    }

    async fn once(&self, outlet: &Outlet, batch: &[Document], until: Instant) -> Result<Sent, NotIndexed> {
        let mut body = Vec::new();
        for document in batch {
            let action = json!({"index": {"_index": document.index, "_id": document.id}});
            body.extend(action.to_string().bytes());
            body.push(b'\n');
            body.extend(&document.source);
            body.push(b'\n');
        }
        let headers = self.headers(outlet).await?;
        let path = format!(
            "{}/_bulk?filter_path=errors,items.*.status,items.*.error.type",
            outlet.url.path().trim_end_matches('/')
        );
        let client = self.client(outlet).await;
        let posted = client.lock().await.post(&path, &headers, body, until).await;
        match posted {
            Err(problem) => Ok(Sent::Again(problem.to_string(), None)),
            Ok(reply) => judge(&reply, batch),
        }
    }

    async fn headers(&self, outlet: &Outlet) -> Result<HeaderMap, NotIndexed> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        if let (Some(user), Some(password)) = (&outlet.user, &outlet.password) {
            let password = self.vault.secret(password).await;
            let password = password.map_err(|problem| NotIndexed(problem.to_string()))?;
            let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
            let value = HeaderValue::from_str(&format!("Basic {pair}"));
            let mut value =
                value.map_err(|_error| NotIndexed("the user cannot stand in a header".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    async fn client(&self, outlet: &Outlet) -> Arc<Mutex<Client>> {
        let key = format!("{} {:?}", outlet.url, outlet.ca);
        let mut clients = self.clients.lock().await;
        let new = || Arc::new(Mutex::new(Client::new(&outlet.url, outlet.ca.clone())));
        Arc::clone(clients.entry(key).or_insert_with(new))
    }
}

/// In the order of the documents, the first batch at the end.
fn batches(documents: Vec<Document>) -> Vec<Vec<Document>> {
    let mut batches: Vec<Vec<Document>> = Vec::new();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for document in documents {
        bytes += document.source.len();
        batch.push(document);
        if batch.len() >= MOST_DOCUMENTS || bytes >= MOST_BYTES {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches.reverse();
    batches
}

fn judge(reply: &Reply, batch: &[Document]) -> Result<Sent, NotIndexed> {
    let status = reply.status;
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Ok(Sent::TooLarge);
    }
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        let words = format!("the server answered {}", status.as_u16());
        return Ok(Sent::Again(words, reply.retry_after(Timestamp::now())));
    }
    if !status.is_success() {
        return Err(NotIndexed(format!(
            "the server answered {}; look at url, user, password and the rights to write and create the index",
            status.as_u16()
        )));
    }
    let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_error| {
        NotIndexed("the server's answer is none of the _bulk API; look at url".to_owned())
    })?;
    if !answer.errors {
        return Ok(Sent::Answered(Vec::new(), Vec::new()));
    }
    if answer.items.len() != batch.len() {
        return Err(NotIndexed("the server answered for another number of documents".to_owned()));
    }
    let (mut again, mut never) = (Vec::new(), Vec::new());
    for (item, document) in answer.items.iter().zip(batch) {
        let Some(item) = item.values().next() else { continue };
        match item.status {
            200..=299 => {}
            429 | 500..=599 => again.push(document.clone()),
            status => {
                let kind = item.error.as_ref().map_or("no reason", |error| error.r#type.as_str());
                let why = format!("Elasticsearch answered {status}: {kind}");
                never.push(Rejected { document: document.clone(), why });
            }
        }
    }
    Ok(Sent::Answered(again, never))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(id: &str) -> Document {
        Document { index: "i".into(), id: id.into(), source: b"{}".to_vec() }
    }

    fn check(status: u16, body: &str, expected: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        let reply = Reply { status, headers: HeaderMap::new(), body: body.to_owned().into() };
        let ids = |documents: Vec<Document>| documents.into_iter().map(|one| one.id).collect::<String>();
        let found = match judge(&reply, &[document("a"), document("b"), document("c")]) {
            Err(error) => error.to_string(),
            Ok(Sent::TooLarge) => "too large".to_owned(),
            Ok(Sent::Again(words, _)) => format!("again: {words}"),
            Ok(Sent::Answered(again, never)) => {
                let never = never.into_iter().map(|one| format!("{} {}", one.document.id, one.why));
                format!("again {} never {}", ids(again), never.collect::<Vec<_>>().join(","))
            }
        };
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn what_can_be_is_sent_again_and_what_cannot_be_is_put_aside() {
        check(200, r#"{"errors":false}"#, "again  never ");
        let mixed = r#"{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":429,"error":{"type":"es_rejected_execution_exception"}}},
            {"index":{"status":400,"error":{"type":"mapper_parsing_exception"}}}]}"#;
        check(200, mixed, "again b never c Elasticsearch answered 400: mapper_parsing_exception");
        check(200, r#"{"errors":true,"items":[]}"#, "another number of documents");
        check(200, "<html>", "none of the _bulk API");
        check(413, "", "too large");
        check(429, "", "again: the server answered 429");
        check(503, "", "again: the server answered 503");
        check(401, "", "the server answered 401; look at url, user");
    }

    #[test]
    fn batches_keep_the_order_and_their_limits() {
        let documents: Vec<Document> = (0..2_500).map(|id| document(&id.to_string())).collect();
        let mut found = batches(documents.clone());
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [500, 1_000, 1_000]);
        found.reverse();
        assert_eq!(found.concat(), documents);
    }
}
