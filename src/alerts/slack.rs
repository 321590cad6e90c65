//! The few calls of Slack's Web API that the desk makes, and what became of each: done, later, refused, or nobody knows.
//! <https://docs.slack.dev/apis/web-api>

use super::message::Message;
use crate::check::{Problem, Reason};
use crate::config::secret::{Reference, Vault};
use crate::net::https::{Client, Reply, Url, quoted};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One call; Slack answers in well under a second.
const CALL: Duration = Duration::from_secs(10);
/// One upload of the bytes of a file.
const UPLOAD: Duration = Duration::from_secs(30);
/// Pages of a channel that are looked through for a message: 200 messages each.
const MOST_PAGES: usize = 5;
/// When Slack asks for patience without a number.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than this nobody is made to wait; then it is tried once.
const LONGEST_PATIENCE: Duration = Duration::from_mins(10);
/// The name of our events in the metadata of a message.
const EVENT: &str = "datapulse_incident";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json; charset=utf-8";

/// The way to one workspace: a connection, and where its token is kept.
#[derive(Debug)]
pub struct Slack {
    client: Client,
    url: Url,
    token: Reference,
    vault: Arc<Vault>,
    /// What the token may do, as the last answer said.
    scopes: Option<String>,
}

/// Whom a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bot {
    /// Its name.
    pub user: String,
    /// Its workspace.
    pub team: String,
    /// Its scopes, when Slack says them.
    pub scopes: Option<Vec<String>>,
}

/// A message or reply that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// The channel's id, which changes of the message want.
    pub channel: String,
    /// The message's name in it.
    pub ts: String,
}

/// A file for a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Its name, such as `errors.json`.
    pub name: String,
    /// What stands above it.
    pub title: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it shows, for those who do not see it; for pictures.
    pub alt: Option<String>,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The message that it answers.
    pub thread: Option<&'a str>,
    /// Whether a reply is shown in the channel too.
    pub broadcast: bool,
}

/// Why a call is not done.
#[derive(Debug)]
pub enum Trouble {
    /// Slack asks to wait so long.
    Later(Duration),
    /// Slack says no: its word, and ours.
    Refused(String, Reason),
    /// It was surely not sent.
    Unsent(Problem),
    /// It may have been done: the answer is lost, or says that something broke.
    Unknown(Problem),
}

/// What became of a call.
pub type Sent<T> = Result<T, Trouble>;

impl Slack {
    /// A client of this API; nothing is sent yet.
    pub fn new(url: &Url, token: &Reference, vault: &Arc<Vault>) -> Self {
        Self {
            client: Client::new(url, None),
            url: url.clone(),
            token: token.clone(),
            vault: Arc::clone(vault),
            scopes: None,
        }
    }

    /// Asks whom the token belongs to. Nothing is seen of that.
    pub async fn bot(&mut self) -> Sent<Bot> {
        let answer = self.form("auth.test", &[]).await?;
        let text = |name: &str| quoted(answer.get(name).and_then(Value::as_str).unwrap_or("?"));
        let (user, team) = (text("user"), text("team"));
        let scopes = self.scopes.as_deref().map(|scopes| {
            scopes.split(',').map(str::trim).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
        });
        Ok(Bot { user, team, scopes })
    }

    /// Reads one message of a channel, to see that it can be reached. Nothing is seen of that.
    pub async fn reach(&mut self, channel: &str) -> Sent<()> {
        self.form("conversations.history", &[("channel", channel), ("limit", "1")]).await.map(drop)
    }

    /// Posts a message. `id` goes into its metadata, by which it is found again.
    pub async fn post(&mut self, place: Place<'_>, message: &Message, id: &str) -> Sent<Posted> {
        let mut body = body(place.channel, message, id);
        if let Some(thread) = place.thread {
            body.insert("thread_ts".to_owned(), json!(thread));
            body.insert("reply_broadcast".to_owned(), json!(place.broadcast));
        }
        let answer = self.json("chat.postMessage", body).await?;
        posted(&answer, place.channel).ok_or_else(|| Trouble::Unknown(without("chat.postMessage", "ts")))
    }

    /// Changes a message.
    pub async fn update(&mut self, at: &Posted, message: &Message, id: &str) -> Sent<()> {
        let mut body = body(&at.channel, message, id);
        body.insert("ts".to_owned(), json!(at.ts));
        self.json("chat.update", body).await.map(drop)
    }

    /// Looks for a message with this id in its metadata, posted after a moment.
    pub async fn find(&mut self, place: Place<'_>, id: &str, after: Timestamp) -> Sent<Option<Posted>> {
        let ours = |message: &Value| {
            message.pointer("/metadata/event_payload/id").and_then(Value::as_str) == Some(id)
        };
        self.look(place, after, ours).await
    }

    /// Looks for a file in a thread, by its id or its name.
    pub async fn find_file(&mut self, place: Place<'_>, file: &str, after: Timestamp) -> Sent<bool> {
        let ours = |message: &Value| {
            let files = message.get("files").and_then(Value::as_array);
            files.is_some_and(|files| {
                let is = |one: &Value, key: &str| one.get(key).and_then(Value::as_str) == Some(file);
                files.iter().any(|one| is(one, "id") || is(one, "name"))
            })
        };
        self.look(place, after, ours).await.map(|found| found.is_some())
    }

    async fn look(
        &mut self,
        place: Place<'_>,
        after: Timestamp,
        ours: impl Fn(&Value) -> bool,
    ) -> Sent<Option<Posted>> {
        let method = if place.thread.is_some() { "conversations.replies" } else { "conversations.history" };
        let mut cursor = String::new();
        for _ in 0..MOST_PAGES {
            // Slack's clock and ours differ.
            let oldest = after.as_second().saturating_sub(120).to_string();
            let mut fields = vec![
                ("channel", place.channel),
                ("limit", "200"),
                ("include_all_metadata", "true"),
                ("oldest", oldest.as_str()),
                ("inclusive", "true"),
            ];
            fields.extend(place.thread.map(|thread| ("ts", thread)));
            if !cursor.is_empty() {
                fields.push(("cursor", cursor.as_str()));
            }
            let answer = self.form(method, &fields).await?;
            let messages = answer.get("messages").and_then(Value::as_array);
            let messages = messages.ok_or_else(|| Trouble::Unknown(without(method, "messages")))?;
            if let Some(found) = messages.iter().find(|message| ours(message)) {
                return Ok(posted(found, place.channel));
            }
            let next = answer.pointer("/response_metadata/next_cursor").and_then(Value::as_str);
            match next.filter(|next| !next.is_empty()) {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        Ok(None)
    }

    /// Uploads a file in the first two of the three steps; gives its id. It is not seen before [`Slack::share`].
    /// <https://docs.slack.dev/messaging/working-with-files#uploading_files>
    pub async fn upload(&mut self, file: &File) -> Sent<String> {
        let length = file.bytes.len().to_string();
        let mut fields = vec![("filename", file.name.as_str()), ("length", length.as_str())];
        fields.extend(file.alt.as_deref().map(|alt| ("alt_txt", alt)));
        let answer = self.form("files.getUploadURLExternal", &fields).await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        let (id, address) = (text("file_id").to_owned(), text("upload_url"));
        let (url, path) = self.upload_address(address)?;
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let deadline = Instant::now() + UPLOAD;
        let reply = Client::new(&url, None).post(&path, &headers, file.bytes.clone(), deadline).await;
        let reply = reply.map_err(Trouble::Unsent)?;
        if reply.status.is_success() && !id.is_empty() {
            return Ok(id);
        }
        let what = format!("the upload of {} was answered with status {}", file.name, reply.status.as_u16());
        Err(Trouble::Unsent(Problem::new(Reason::Io, what)))
    }

    /// Shows an uploaded file in a thread: the third step.
    pub async fn share(&mut self, place: Place<'_>, id: &str, title: &str) -> Sent<()> {
        let mut body = Map::new();
        body.insert("files".to_owned(), json!([{ "id": id, "title": title }]));
        body.insert("channel_id".to_owned(), json!(place.channel));
        if let Some(thread) = place.thread {
            body.insert("thread_ts".to_owned(), json!(thread));
        }
        self.json("files.completeUploadExternal", body).await.map(drop)
    }

    /// Where the bytes go. The address comes from Slack, and stays at Slack.
    fn upload_address(&self, address: &str) -> Sent<(Url, String)> {
        let unfit = || {
            let what = "files.getUploadURLExternal gave no address of Slack to upload to";
            Trouble::Refused("upload_url".to_owned(), Problem::new(Reason::Protocol, what).reason)
        };
        let (base, query) = address.split_once('?').unwrap_or((address, ""));
        let url: Url = base.parse().map_err(|_why: String| unfit())?;
        if !url.is_at(&self.url) && !url.is_below(&["slack.com", "slack-gov.com"]) {
            return Err(unfit());
        }
        let path = if query.is_empty() { url.path().to_owned() } else { format!("{}?{query}", url.path()) };
        Ok((url, path))
    }

    async fn json(&mut self, method: &str, body: Map<String, Value>) -> Sent<Value> {
        self.call(method, JSON, Value::Object(body).to_string()).await
    }

    async fn form(&mut self, method: &str, fields: &[(&str, &str)]) -> Sent<Value> {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.call(method, FORM, pairs.join("&")).await
    }

    async fn call(&mut self, method: &str, kind: &'static str, body: String) -> Sent<Value> {
        let mut answer = self.once(method, kind, body.clone()).await;
        // A token that was changed is read again, at most once a minute; nothing was done with the old one.
        if matches!(&answer, Err(Trouble::Refused(_, Reason::Auth))) && self.vault.distrust(&self.token).await
        {
            answer = self.once(method, kind, body).await;
        }
        answer
    }

    async fn once(&mut self, method: &str, kind: &'static str, body: String) -> Sent<Value> {
        let token = self.vault.secret(&self.token).await.map_err(Trouble::Unsent)?;
        let unfit =
            |_unfit| Trouble::Unsent(Problem::new(Reason::Secret, "the token of Slack is no header value"));
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", token.expose().trim())).map_err(unfit)?;
        bearer.set_sensitive(true);
        let headers =
            HeaderMap::from_iter([(AUTHORIZATION, bearer), (CONTENT_TYPE, HeaderValue::from_static(kind))]);
        let path = format!("{}/{method}", self.url.path().trim_end_matches('/'));
        let reply = self.client.post(&path, &headers, body, Instant::now() + CALL).await;
        if let Ok(reply) = &reply {
            let scopes = reply.headers.get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok());
            self.scopes = scopes.map(str::to_owned);
        }
        match reply {
            Ok(reply) => judge(method, &reply, Timestamp::now()),
            Err(problem) => Err(match problem.reason {
                Reason::Dns | Reason::Connect | Reason::ConnectTimeout | Reason::Tls => {
                    Trouble::Unsent(problem)
                }
                _ => Trouble::Unknown(problem),
            }),
        }
    }
}

/// What an answer means.
fn judge(method: &str, reply: &Reply, now: Timestamp) -> Sent<Value> {
    let status = reply.status.as_u16();
    if status == 429 {
        let wait = reply.retry_after(now).unwrap_or(PATIENCE);
        return Err(Trouble::Later(wait.clamp(Duration::from_secs(1), LONGEST_PATIENCE)));
    }
    let lost = |what: String| Err(Trouble::Unknown(Problem::new(Reason::Io, what)));
    if status >= 500 {
        return lost(format!("{method} was answered with status {status}"));
    }
    let Some(answer) = serde_json::from_slice::<Value>(&reply.body).ok().filter(Value::is_object) else {
        return lost(format!("{method} was answered with status {status} and no JSON: {}", reply.excerpt()));
    };
    if answer.get("ok").and_then(Value::as_bool) == Some(true) && reply.status.is_success() {
        return Ok(answer);
    }
    let word = quoted(answer.get("error").and_then(Value::as_str).unwrap_or("no reason given"));
    Err(match word.as_str() {
        "ratelimited" | "rate_limited" => Trouble::Later(reply.retry_after(now).unwrap_or(PATIENCE)),
        // Slack says of these that a part may have been done.
        "fatal_error"
        | "internal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org" => {
            Trouble::Unknown(Problem::new(Reason::Io, format!("{method} failed inside Slack: {word}")))
        }
        _ => {
            let reason = reason(&word);
            Trouble::Refused(word, reason)
        }
    })
}

/// Slack's word as one of our closed set. <https://docs.slack.dev/reference/methods/chat.postMessage#errors>
fn reason(word: &str) -> Reason {
    match word {
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => {
            Reason::Auth
        }
        "msg_too_long" | "msg_blocks_too_long" | "invalid_blocks" | "too_many_attachments" => {
            Reason::TooLarge
        }
        "missing_scope"
        | "no_permission"
        | "not_in_channel"
        | "channel_not_found"
        | "is_archived"
        | "restricted_action"
        | "access_denied"
        | "cannot_reply_to_message" => Reason::Permission,
        _ => Reason::Query,
    }
}

/// Whether another channel could take the message.
pub fn is_about_channel(word: &str) -> bool {
    matches!(word, "channel_not_found" | "not_in_channel" | "is_archived" | "restricted_action")
}

/// Whether a message of another form could be taken.
pub fn is_about_form(word: &str) -> bool {
    matches!(
        word,
        "msg_too_long" | "msg_blocks_too_long" | "invalid_blocks" | "invalid_blocks_format" | "no_text"
    )
}

fn body(channel: &str, message: &Message, id: &str) -> Map<String, Value> {
    let metadata = json!({ "event_type": EVENT, "event_payload": { "id": id } });
    let mut body = Map::new();
    let fields = [
        ("channel", json!(channel)),
        ("text", json!(message.text)),
        ("metadata", metadata),
        ("unfurl_links", json!(false)),
        ("unfurl_media", json!(false)),
    ];
    body.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    if !message.blocks.is_empty() {
        body.insert("blocks".to_owned(), json!(message.blocks));
    }
    body
}

/// Channel and name; an entry of a history does not say its channel.
fn posted(message: &Value, channel: &str) -> Option<Posted> {
    let ts = message.get("ts").and_then(Value::as_str)?.to_owned();
    let channel = message.get("channel").and_then(Value::as_str).unwrap_or(channel);
    Some(Posted { channel: channel.to_owned(), ts })
}

fn without(method: &str, field: &str) -> Problem {
    Problem::new(Reason::Protocol, format!("the answer of {method} has no {field}"))
}

fn encoded(text: &str) -> String {
    crate::net::aws::encoded(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::https::double::{Act, Double, answer};

    fn slack(server: &Double) -> Slack {
        let vault = Vault::new(Arc::new(|_| Some("xoxb-canary".to_owned())), std::path::Path::new("/"));
        let url = format!("http://127.0.0.1:{}/api", server.port).parse().unwrap();
        Slack::new(&url, &Reference::Env("T".into()), &Arc::new(vault))
    }

    fn message() -> Message {
        Message { text: "t".into(), blocks: vec![json!({"type": "divider"})] }
    }

    const PLACE: Place<'static> = Place { channel: "C1", thread: None, broadcast: false };

    type Script = Box<dyn Fn(usize) -> Act + Send + Sync>;

    async fn post(act: impl Fn(usize) -> Act + Send + Sync + 'static) -> (Sent<Posted>, Double) {
        let server = Double::start(act).await;
        let sent = slack(&server).post(PLACE, &message(), "i1").await;
        (sent, server)
    }

    #[tokio::test]
    async fn a_message_carries_its_token_and_its_name_and_comes_back_with_its_place() {
        let (sent, server) =
            post(|_| Act::Say(answer(200, "", br#"{"ok":true,"channel":"C77","ts":"1.2"}"#))).await;
        assert_eq!(sent.unwrap(), Posted { channel: "C77".into(), ts: "1.2".into() });
        let seen = &server.seen()[0];
        assert!(seen.head.starts_with("post /api/chat.postmessage http/1.1\r\n"), "{}", seen.head);
        assert!(seen.head.contains("authorization: bearer xoxb-canary\r\n"));
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(body["metadata"]["event_payload"]["id"], "i1");
        assert_eq!((body["channel"].as_str(), body["text"].as_str()), (Some("C1"), Some("t")));
    }

    #[tokio::test]
    async fn every_answer_has_one_meaning() {
        let say = |status: u16, head: &'static str, body: &'static [u8]| {
            Box::new(move |_| Act::Say(answer(status, head, body)))
        };
        let cases: Vec<(Script, &str)> = vec![
            (say(429, "Retry-After: 7\r\n", b"{}"), "later 7"),
            (say(429, "", b""), "later 30"),
            (say(500, "", b"oops"), "unknown"),
            (say(200, "", b"<html>"), "unknown"),
            (say(200, "", b""), "unknown"),
            (say(200, "", br#"{"ok":true}"#), "unknown"),
            (say(200, "", br#"{"ok":false,"error":"fatal_error"}"#), "unknown"),
            (say(200, "", br#"{"ok":false,"error":"invalid_auth"}"#), "refused auth"),
            (say(200, "", br#"{"ok":false,"error":"channel_not_found"}"#), "refused permission"),
            (say(200, "", br#"{"ok":false,"error":"msg_blocks_too_long"}"#), "refused too_large"),
            (say(200, "", br#"{"ok":false,"error":"something_new"}"#), "refused query"),
            (Box::new(|_| Act::Close), "unknown"),
        ];
        for (script, expected) in cases {
            let (sent, _server) = post(script).await;
            let words = match sent.unwrap_err() {
                Trouble::Later(wait) => format!("later {}", wait.as_secs()),
                Trouble::Refused(_, reason) => format!("refused {}", reason.as_str()),
                Trouble::Unsent(_) => "unsent".to_owned(),
                Trouble::Unknown(problem) => {
                    assert!(!problem.to_string().contains("canary"), "{problem}");
                    "unknown".to_owned()
                }
            };
            assert_eq!(words, expected);
        }
        let nobody = "http://127.0.0.1:1/api".parse().unwrap();
        let vault = Arc::new(Vault::new(Arc::new(|_| Some("x".to_owned())), std::path::Path::new("/")));
        let sent =
            Slack::new(&nobody, &Reference::Env("T".into()), &vault).post(PLACE, &message(), "i").await;
        assert!(matches!(sent, Err(Trouble::Unsent(_))), "{sent:?}");
    }

    #[tokio::test]
    async fn a_message_is_found_by_its_name_over_pages() {
        let server = Double::start(|number| {
            Act::Say(match number {
                0 => answer(
                    200,
                    "",
                    br#"{"ok":true,"messages":[{"ts":"1"}],"response_metadata":{"next_cursor":"a=b"}}"#,
                ),
                _ => answer(
                    200,
                    "",
                    br#"{"ok":true,"messages":[{"ts":"2","metadata":{"event_payload":{"id":"i1"}}}]}"#,
                ),
            })
        })
        .await;
        let after = Timestamp::from_second(1000).unwrap();
        let found = slack(&server).find(PLACE, "i1", after).await.unwrap();
        assert_eq!(found, Some(Posted { channel: "C1".into(), ts: "2".into() }));
        let bodies: Vec<String> =
            server.seen().iter().map(|seen| String::from_utf8(seen.body.clone()).unwrap()).collect();
        assert!(bodies[0].contains("oldest=880") && bodies[1].ends_with("&cursor=a%3Db"), "{bodies:?}");
    }

    #[tokio::test]
    async fn bytes_are_uploaded_to_slack_and_nowhere_else() {
        for (address, good) in [
            ("{own}/up/1?sig=x", true),
            ("http://127.0.0.2:9/up", false),
            ("http://slack.com.evil.example/up", false),
        ] {
            let server = Double::start(|_| Act::Close).await;
            let slack = slack(&server);
            let address = address.replace("{own}", &format!("http://127.0.0.1:{}", server.port));
            assert_eq!(slack.upload_address(&address).is_ok(), good, "{address}");
        }
        let server = Double::start(|_| Act::Close).await;
        let (_, path) = slack(&server).upload_address("https://files.slack.com/upload/v1/A?x=1").unwrap();
        assert_eq!(path, "/upload/v1/A?x=1");
    }
}
