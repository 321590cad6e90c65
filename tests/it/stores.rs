//! A strict fake of what moto lacks of MemoryDB (JSON 1.1) and ElastiCache (query protocol): it refuses what AWS refuses.
//!
//! Names, limits and errors are those of the service models of botocore 1.44.5 (`memorydb/2021-01-01`, `elasticache/2015-02-02`). Its pages
//! are short, so that a client which reads only the first is noticed.

use crate::wire::{Again, Answer, Listener, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Result;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// Items of a page.
const PAGE: usize = 2;
/// Minutes that events are kept.
const LONGEST: i64 = 20_160;
/// Operations of MemoryDB with the list that they give and the field that asks for details.
const MEMORYDB: [(&str, &str, &str); 3] = [
    ("DescribeClusters", "Clusters", "ShowShardDetails"),
    ("DescribeSnapshots", "Snapshots", "ShowDetail"),
    ("DescribeEvents", "Events", ""),
];
/// Actions of ElastiCache with the list that they give and the name of its items.
const ELASTICACHE: [(&str, &str, &str); 5] = [
    ("DescribeReplicationGroups", "ReplicationGroups", "ReplicationGroup"),
    ("DescribeCacheClusters", "CacheClusters", "CacheCluster"),
    ("DescribeUpdateActions", "UpdateActions", "UpdateAction"),
    ("DescribeSnapshots", "Snapshots", "Snapshot"),
    ("DescribeEvents", "Events", "Event"),
];

/// The fake. Dropping it closes every connection.
#[derive(Debug)]
pub(crate) struct Stores {
    listener: Listener,
    state: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
}

impl Stores {
    pub(crate) fn start() -> Self {
        let state: Arc<Mutex<BTreeMap<String, Vec<Value>>>> = Arc::default();
        let shared = Arc::clone(&state);
        let serve = move |request: &Request, stream: &TcpStream| -> Result<Again> {
            let answer = answer(&shared.lock().unwrap(), request);
            answer.write(stream, answer.body.len()).map(|()| true)
        };
        Self { listener: Listener::start(serve), state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port()
    }

    /// What there is of a list, such as `Clusters`; of ElastiCache an object becomes elements.
    pub(crate) fn put(&self, list: &str, items: Vec<Value>) {
        self.state.lock().unwrap().insert(list.to_owned(), items);
    }

    pub(crate) fn add(&self, list: &str, item: Value) {
        self.state.lock().unwrap().entry(list.to_owned()).or_default().push(item);
    }
}

fn answer(state: &BTreeMap<String, Vec<Value>>, request: &Request) -> Answer {
    let refuse = |kind: &str, message: &str| Answer::json(400, &json!({"__type": kind, "message": message}));
    let Some(signature) = request.signature() else {
        return refuse("MissingAuthenticationTokenException", "Missing Authentication Token");
    };
    if request.method != "POST" || request.path != "/" {
        return refuse("UnknownOperationException", "");
    }
    match signature.service.as_str() {
        "memorydb" => memorydb(state, request)
            .map_or_else(|(kind, message)| refuse(kind, &message), |body| Answer::json(200, &body)),
        "elasticache" => elasticache(state, request).map_or_else(
            |(kind, message)| {
                let xml = format!("<ErrorResponse><Error><Type>Sender</Type><Code>{kind}</Code><Message>{message}</Message></Error></ErrorResponse>");
                Answer::new(400, "text/xml", xml)
            },
            |xml| Answer::new(200, "text/xml", xml),
        ),
        other => refuse("InvalidSignatureException", &format!("Credential is scoped to '{other}'")),
    }
}

/// The type of an error and its message.
type Refusal = (&'static str, String);

fn memorydb(state: &BTreeMap<String, Vec<Value>>, request: &Request) -> std::result::Result<Value, Refusal> {
    let kind = request.header("content-type").unwrap_or_default();
    let target = request.header("x-amz-target").unwrap_or_default();
    let operation = target.strip_prefix("AmazonMemoryDB.").unwrap_or_default();
    let Some((_, list, details)) = MEMORYDB.iter().find(|(name, ..)| *name == operation) else {
        return Err(("UnknownOperationException", operation.to_owned()));
    };
    let Ok(Value::Object(body)) = serde_json::from_slice(&request.body) else {
        return Err(("SerializationException", "the body is no JSON object".to_owned()));
    };
    if kind != "application/x-amz-json-1.1" {
        return Err(("UnknownOperationException", kind.to_owned()));
    }
    for (name, value) in &body {
        let fits = match name.as_str() {
            "MaxResults" | "Duration" => value.is_i64() && *list == "Events",
            "NextToken" => value.is_string(),
            name => name == *details && value.is_boolean(),
        };
        if !fits {
            return Err(("SerializationException", format!("{name} is no field of {operation}")));
        }
    }
    check_duration(body.get("Duration").and_then(Value::as_i64))?;
    let from = body.get("NextToken").and_then(Value::as_str);
    let (items, next) = page(state, list, from)?;
    let mut items = items.to_vec();
    // What nobody asked for is not told.
    if !details.is_empty() && body.get(*details) != Some(&json!(true)) {
        for item in &mut items {
            item.as_object_mut().unwrap().remove("Shards");
            if let Some(Value::Object(configuration)) = item.get_mut("ClusterConfiguration") {
                configuration.remove("Shards");
            }
        }
    }
    let mut answer = json!({*list: items});
    if let Some(next) = next {
        answer["NextToken"] = json!(next);
    }
    Ok(answer)
}

fn elasticache(
    state: &BTreeMap<String, Vec<Value>>,
    request: &Request,
) -> std::result::Result<String, Refusal> {
    let body = String::from_utf8_lossy(&request.body);
    let fields: BTreeMap<&str, &str> = body.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let action = fields.get("Action").copied().unwrap_or_default();
    let Some((_, list, name)) = ELASTICACHE.iter().find(|(known, ..)| *known == action) else {
        return Err(("InvalidAction", action.to_owned()));
    };
    if fields.get("Version") != Some(&"2015-02-02") {
        return Err(("InvalidAction", "Version".to_owned()));
    }
    let own = |name: &str| {
        matches!(name, "Action" | "Version" | "Marker") || name == "Duration" && *list == "Events"
    };
    if let Some(unknown) = fields.keys().find(|name| !own(name)) {
        return Err(("InvalidParameterValue", format!("{unknown} is no field of {action}")));
    }
    check_duration(fields.get("Duration").map(|minutes| minutes.parse().unwrap_or(-1)))?;
    let (items, next) = page(state, list, fields.get("Marker").copied())?;
    let marker = next.map(|next| format!("<Marker>{next}</Marker>")).unwrap_or_default();
    let items: String = items.iter().map(|item| element(name, item)).collect();
    Ok(format!(
        "<{action}Response><{action}Result><{list}>{items}</{list}>{marker}</{action}Result></{action}Response>"
    ))
}

fn check_duration(minutes: Option<i64>) -> std::result::Result<(), Refusal> {
    match minutes {
        Some(minutes) if !(1..=LONGEST).contains(&minutes) => Err((
            "InvalidParameterValueException",
            format!("Duration {minutes} is not between 1 and {LONGEST}"),
        )),
        _ => Ok(()),
    }
}

type Page<'a> = (&'a [Value], Option<String>);

fn page<'a>(
    state: &'a BTreeMap<String, Vec<Value>>,
    list: &str,
    from: Option<&str>,
) -> std::result::Result<Page<'a>, Refusal> {
    let items = state.get(list).map(Vec::as_slice).unwrap_or_default();
    let from: usize = from
        .map_or(Ok(0), str::parse)
        .map_err(|_none| ("InvalidParameterValueException", "the token is none that was given".to_owned()))?;
    let end = items.len().min(from + PAGE);
    Ok((items.get(from..end).unwrap_or_default(), (end < items.len()).then(|| end.to_string())))
}

/// An object as elements; a list of one name stands in an object.
fn xml(value: &Value) -> String {
    match value {
        Value::Object(map) => map.iter().map(|(name, inside)| element(name, inside)).collect(),
        Value::String(text) => text.replace('&', "&amp;").replace('<', "&lt;"),
        other => other.to_string(),
    }
}

fn element(name: &str, value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(|item| element(name, item)).collect(),
        other => format!("<{name}>{}</{name}>", xml(other)),
    }
}
