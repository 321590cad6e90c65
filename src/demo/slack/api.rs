//! The methods of the Web API, with its refusals. <https://docs.slack.dev/reference/methods>

use super::{File, Inner, Message, Trouble, Workspace};
use serde_json::{Map, Value, json};
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// What is said to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A status and JSON, with the seconds of `Retry-After`.
    Say(u16, Value, Option<u64>),
    /// Nothing: the connection closes.
    Silence,
}

fn refused(word: &str) -> Answer {
    Answer::Say(200, json!({ "ok": false, "error": word }), None)
}

fn done(mut answer: Value) -> Answer {
    if let Some(object) = answer.as_object_mut() {
        object.insert("ok".to_owned(), json!(true));
    }
    Answer::Say(200, answer, None)
}

impl Workspace {
    /// Answers a call. `fields` are those of the form or of the JSON; `own` is the address of this workspace.
    pub fn call(
        &self,
        method: &str,
        bearer: Option<&str>,
        fields: &Map<String, Value>,
        own: &str,
        seconds: i64,
    ) -> Answer {
        let mut inner = self.inner();
        *inner.counts.calls.entry(method.to_owned()).or_default() += 1;
        let trouble = inner.draw(method);
        let channel = text(fields, "channel").to_owned();
        match trouble {
            Some(Trouble::Limited(patience)) => {
                let until = Instant::now() + Duration::from_secs(patience);
                if let Some(pace) = inner.paces.get_mut(&channel) {
                    pace.patience = Some(until);
                }
                return Answer::Say(429, json!({ "ok": false, "error": "ratelimited" }), Some(patience));
            }
            Some(Trouble::Broken) => return Answer::Say(500, json!("broken"), None),
            Some(Trouble::Refused(word)) => return refused(word),
            Some(Trouble::Lost) | None => {}
        }
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = match bearer {
            None => refused("not_authed"),
            Some(bearer) if bearer != token => refused("invalid_auth"),
            Some(_) => self.method(&mut inner, method, fields, own, seconds),
        };
        if trouble == Some(Trouble::Lost) { Answer::Silence } else { answer }
    }

    fn method(
        &self,
        inner: &mut Inner,
        method: &str,
        fields: &Map<String, Value>,
        own: &str,
        seconds: i64,
    ) -> Answer {
        let channel = [text(fields, "channel"), text(fields, "channel_id")].concat();
        let needs_channel = method != "files.getUploadURLExternal" && method != "auth.test";
        if needs_channel && !self.channels.contains_key(&channel) {
            return refused("channel_not_found");
        }
        let scope = match method {
            "auth.test" => None,
            "conversations.history" | "conversations.replies" => Some("channels:history"),
            "files.getUploadURLExternal" | "files.completeUploadExternal" => Some("files:write"),
            _ => Some("chat:write"),
        };
        if scope.is_some_and(|scope| inner.lacking.contains(scope)) {
            return refused("missing_scope");
        }
        if needs_channel && inner.outside.contains(&channel) {
            return refused("not_in_channel");
        }
        match method {
            "auth.test" => done(json!({ "user": "datapulse", "team": "demo" })),
            "chat.postMessage" => post(inner, &channel, fields, seconds),
            "chat.update" => update(inner, &channel, fields),
            "conversations.history" => page(inner, fields, |message| {
                message.channel == channel && (message.thread.is_none() || message.broadcast)
            }),
            "conversations.replies" => {
                let thread = text(fields, "ts").to_owned();
                if !inner.messages.iter().any(|message| message.ts == thread) {
                    return refused("thread_not_found");
                }
                let ours =
                    |message: &Message| message.ts == thread || message.thread.as_ref() == Some(&thread);
                page(inner, fields, |message| message.channel == channel && ours(message))
            }
            "files.getUploadURLExternal" => upload(inner, fields, own),
            "files.completeUploadExternal" => complete(inner, channel, fields, seconds),
            _ => refused("unknown_method"),
        }
    }

    /// Takes the bytes of a file.
    pub fn receive(&self, id: &str, bytes: Vec<u8>) -> u16 {
        let mut inner = self.inner();
        if inner.draw("upload").is_some() {
            return 500;
        }
        match inner.files.get_mut(id) {
            Some(file) if file.length == bytes.len() => {
                file.bytes = Some(bytes);
                200
            }
            Some(_) => 400,
            None => 404,
        }
    }

    /// Takes what an incoming webhook has, as Alertmanager's own notifier sends it, into the first channel.
    pub fn hook(&self, body: &Value, seconds: i64) {
        let mut inner = self.inner();
        let Some(channel) = self.channels.keys().next_back().cloned() else { return };
        let attachments = body.get("attachments").and_then(Value::as_array).into_iter().flatten();
        let texts = attachments.flat_map(|one| [one.get("title"), one.get("text")]).flatten();
        let texts: Vec<&str> = texts.chain(body.get("text")).filter_map(Value::as_str).collect();
        let ts = inner.name(seconds);
        let message = Message { channel, ts, text: texts.join("\n"), ..empty() };
        inner.messages.push(message);
    }
}

fn empty() -> Message {
    Message {
        channel: String::new(),
        ts: String::new(),
        thread: None,
        broadcast: false,
        text: String::new(),
        blocks: Vec::new(),
        metadata: Value::Null,
        files: Vec::new(),
        edits: 0,
        at: Instant::now(),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn post(inner: &mut Inner, channel: &str, fields: &Map<String, Value>, seconds: i64) -> Answer {
    if let Err(patience) = inner.take(channel, Instant::now()) {
        return Answer::Say(429, json!({ "ok": false, "error": "ratelimited" }), Some(patience));
    }
    let blocks = match blocks(fields) {
        Ok(blocks) => blocks,
        Err(word) => return refused(word),
    };
    let thread = Some(text(fields, "thread_ts").to_owned()).filter(|ts| !ts.is_empty());
    if thread.as_ref().is_some_and(|thread| !inner.messages.iter().any(|message| message.ts == *thread)) {
        return refused("thread_not_found");
    }
    let ts = inner.name(seconds);
    inner.messages.push(Message {
        channel: channel.to_owned(),
        ts: ts.clone(),
        thread,
        broadcast: fields.get("reply_broadcast").and_then(Value::as_bool).unwrap_or(false),
        text: text(fields, "text").to_owned(),
        blocks,
        metadata: fields.get("metadata").cloned().unwrap_or_default(),
        ..empty()
    });
    done(json!({ "channel": channel, "ts": ts }))
}

fn update(inner: &mut Inner, channel: &str, fields: &Map<String, Value>) -> Answer {
    let blocks = match blocks(fields) {
        Ok(blocks) => blocks,
        Err(word) => return refused(word),
    };
    let ts = text(fields, "ts");
    let found = inner.messages.iter_mut().find(|message| message.ts == ts && message.channel == channel);
    let Some(message) = found else { return refused("message_not_found") };
    text(fields, "text").clone_into(&mut message.text);
    message.blocks = blocks;
    message.metadata = fields.get("metadata").cloned().unwrap_or_default();
    message.edits += 1;
    done(json!({ "channel": channel, "ts": ts }))
}

/// The blocks of a message, if Slack would take them.
fn blocks(fields: &Map<String, Value>) -> Result<Vec<Value>, &'static str> {
    let found = fields.get("blocks").and_then(Value::as_array).cloned().unwrap_or_default();
    let words = text(fields, "text").chars().count();
    if words > 40_000 {
        return Err("msg_too_long");
    }
    if words == 0 && found.is_empty() {
        return Err("no_text");
    }
    if found.len() > 50 {
        return Err("invalid_blocks");
    }
    let mut all = 0;
    for block in &found {
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
        let several = block.get("fields").or_else(|| block.get("elements")).and_then(Value::as_array);
        let longest = match (kind, several.is_some()) {
            ("header", _) => 150,
            ("section", false) => 3000,
            ("section" | "context", true) => 2000,
            ("divider", _) => continue,
            _ => return Err("invalid_blocks"),
        };
        if several.is_some_and(|parts| parts.is_empty() || parts.len() > 10) {
            return Err("invalid_blocks");
        }
        let texts = several.into_iter().flatten().chain(block.get("text"));
        for part in texts {
            let length = part.get("text").and_then(Value::as_str).unwrap_or_default().chars().count();
            if length == 0 || length > longest {
                return Err("invalid_blocks");
            }
            all += length;
        }
    }
    // Not in its documents, but seen.
    if all > 13_200 { Err("msg_blocks_too_long") } else { Ok(found) }
}

fn page(inner: &Inner, fields: &Map<String, Value>, ours: impl Fn(&Message) -> bool) -> Answer {
    let number = |name: &str| text(fields, name).parse::<f64>().ok();
    let oldest = number("oldest").unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let (limit, from) =
        (number("limit").unwrap_or(100.0) as usize, number("cursor").unwrap_or_default() as usize);
    let newer = |message: &&Message| message.ts.parse::<f64>().unwrap_or_default() >= oldest;
    let found: Vec<&Message> = inner.messages.iter().rev().filter(|one| ours(one)).filter(newer).collect();
    let shown = found.iter().skip(from).take(limit);
    let messages: Vec<Value> = shown
        .map(|message| {
            let files = message.files.iter().map(|id| {
                json!({ "id": id, "name": inner.files.get(id).map(|file| file.name.clone()) })
            });
            json!({ "ts": message.ts, "text": message.text, "thread_ts": message.thread, "metadata": message.metadata,
                    "files": files.collect::<Vec<_>>() })
        })
        .collect();
    let next = if from + limit < found.len() { (from + limit).to_string() } else { String::new() };
    done(json!({ "messages": messages, "response_metadata": { "next_cursor": next } }))
}

fn upload(inner: &mut Inner, fields: &Map<String, Value>, own: &str) -> Answer {
    let (name, length) = (text(fields, "filename"), text(fields, "length").parse().unwrap_or(0));
    if name.is_empty() || length == 0 {
        return refused("invalid_arguments");
    }
    inner.made += 1;
    let id = format!("F{:08}", inner.made);
    let (name, alt) = (name.to_owned(), text(fields, "alt_txt").to_owned());
    inner.files.insert(id.clone(), File { name, title: String::new(), alt, bytes: None, length });
    done(json!({ "upload_url": format!("{own}/upload/{id}"), "file_id": id }))
}

fn complete(inner: &mut Inner, channel: String, fields: &Map<String, Value>, seconds: i64) -> Answer {
    let thread = Some(text(fields, "thread_ts").to_owned()).filter(|ts| !ts.is_empty());
    let mut ids = Vec::new();
    for one in fields.get("files").and_then(Value::as_array).into_iter().flatten() {
        let id = one.get("id").and_then(Value::as_str).unwrap_or_default();
        let Some(file) = inner.files.get_mut(id).filter(|file| file.bytes.is_some()) else {
            return refused("file_update_failed");
        };
        one.get("title").and_then(Value::as_str).unwrap_or_default().clone_into(&mut file.title);
        ids.push(id.to_owned());
    }
    if ids.is_empty() {
        return refused("invalid_arguments");
    }
    let ts = inner.name(seconds);
    let files = json!(ids);
    inner.messages.push(Message { channel, ts, thread, files: ids, ..empty() });
    done(json!({ "files": files }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(workspace: &Workspace, method: &str, fields: Value) -> Value {
        let Value::Object(fields) = fields else { panic!("{fields}") };
        match workspace.call(method, Some("t"), &fields, "http://own", 1000) {
            Answer::Say(_, answer, _) => answer,
            Answer::Silence => json!("silence"),
        }
    }

    #[tokio::test]
    async fn what_slack_refuses_is_refused() {
        let workspace = Workspace::new("t", &[("C1", "one")]);
        let section =
            |length| json!({"type": "section", "text": {"type": "mrkdwn", "text": "x".repeat(length)}});
        for (fields, word) in [
            (json!({"channel": "C2", "text": "x"}), "channel_not_found"),
            (json!({"channel": "C1"}), "no_text"),
            (json!({"channel": "C1", "text": "x".repeat(40_001)}), "msg_too_long"),
            (json!({"channel": "C1", "blocks": vec![section(1); 51]}), "invalid_blocks"),
            (json!({"channel": "C1", "blocks": [section(3001)]}), "invalid_blocks"),
            (json!({"channel": "C1", "blocks": [section(0)]}), "invalid_blocks"),
            (json!({"channel": "C1", "blocks": vec![section(3000); 5]}), "msg_blocks_too_long"),
            (json!({"channel": "C1", "text": "x", "thread_ts": "9"}), "thread_not_found"),
        ] {
            workspace.inner().paces.clear();
            assert_eq!(call(&workspace, "chat.postMessage", fields)["error"], word);
        }
        let Answer::Say(_, answer, _) = workspace.call("auth.test", Some("x"), &Map::new(), "", 1) else {
            panic!()
        };
        assert_eq!(answer["error"], "invalid_auth");
        workspace.inner().paces.clear();
        for _ in 0..4 {
            call(&workspace, "chat.postMessage", json!({"channel": "C1", "text": "x"}));
        }
        assert_eq!(workspace.posts().len(), 3, "the fourth is too fast");
    }

    #[tokio::test]
    async fn a_file_takes_three_steps() {
        let workspace = Workspace::new("t", &[("C1", "one")]);
        let ts = call(&workspace, "chat.postMessage", json!({"channel": "C1", "text": "x"}))["ts"].clone();
        let ticket =
            call(&workspace, "files.getUploadURLExternal", json!({"filename": "a.txt", "length": "2"}));
        let id = ticket["file_id"].as_str().unwrap();
        let last = json!({"channel_id": "C1", "thread_ts": ts, "files": [{"id": id, "title": "T"}]});
        assert_eq!(
            call(&workspace, "files.completeUploadExternal", last.clone())["error"],
            "file_update_failed"
        );
        assert_eq!(
            (workspace.receive(id, b"abc".to_vec()), workspace.receive(id, b"ab".to_vec())),
            (400, 200)
        );
        assert_eq!(call(&workspace, "files.completeUploadExternal", last)["ok"], true);
        let thread = call(&workspace, "conversations.replies", json!({"channel": "C1", "ts": ts}));
        assert_eq!(thread["messages"][0]["files"][0]["name"], "a.txt");
        workspace.trouble(100, &[Trouble::Lost]);
        assert_eq!(
            call(&workspace, "chat.postMessage", json!({"channel": "C1", "text": "y"})),
            json!("silence")
        );
        assert_eq!(workspace.posts().len(), 2, "it is there all the same");
    }
}
