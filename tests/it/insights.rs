//! A strict fake of CloudWatch Logs Insights (JSON 1.1): it refuses what AWS refuses, and its queries take the way they are told.
//!
//! Limits and errors are those of the service model of botocore 1.44.5 (`logs/2014-03-28`). Stricter than AWS may
//! be is that times that can only be milliseconds, an end in the far future, an empty range and an empty query are refused here.

use crate::wire::{ACCOUNT, Again, Answer, Listener, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Result;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

/// What it answers; everything else of CloudWatch Logs is moto's.
pub(crate) const OPERATIONS: [&str; 3] = ["StartQuery", "GetQueryResults", "StopQuery"];
/// For [`Script::polls_until_complete`]: it runs until it is stopped, or until [`Insights::finish`].
pub(crate) const NEVER: usize = usize::MAX;
/// Queries at a time: 30 was the word of AWS for years, 100 is now; a client that keeps to 30 is well with both.
const CONCURRENT: usize = 30;
/// In seconds this is the year 5138, in milliseconds 1973.
const MILLISECONDS: i64 = 100_000_000_000;
/// Seconds ahead of now that an end may lie.
const AHEAD: i64 = 24 * 3600;
/// Rows of one answer, also without a limit.
const PAGE: usize = 10_000;
const MAX_LIMIT: i64 = 100_000;
const MAX_QUERY: usize = 10_000;
const MAX_GROUPS: usize = 50;

/// Fields with their values; a field that an event lacks is not there.
pub(crate) type Row = Vec<(String, String)>;

/// How a query goes.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// So many polls find it unfinished: the first one Scheduled, the others Running with the first half of the rows.
    pub(crate) polls_until_complete: usize,
    pub(crate) final_status: Status,
    /// `@ptr` is added, unless the query has `stats`.
    pub(crate) rows: Vec<Row>,
    pub(crate) bytes_scanned: u64,
}

/// The last state of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Complete,
    Failed,
    Cancelled,
    Timeout,
    Unknown,
}

impl Default for Script {
    /// Complete at once, without rows.
    fn default() -> Self {
        Self { polls_until_complete: 0, final_status: Status::Complete, rows: Vec::new(), bytes_scanned: 0 }
    }
}

/// A query that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) query: String,
    /// Seconds of the epoch.
    pub(crate) start_time: i64,
    pub(crate) end_time: i64,
    pub(crate) limit: Option<i64>,
    /// Names, also where ARNs were given.
    pub(crate) log_groups: Vec<String>,
}

/// The fake. Dropping it closes every connection.
#[derive(Debug)]
pub(crate) struct Insights {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeSet<String>,
    /// Scripts with a part of the queries that they are for; the latest that fits counts.
    scripts: Vec<(String, Script)>,
    queries: Vec<Query>,
    concurrent: usize,
}

#[derive(Debug)]
struct Query {
    started: Started,
    script: Script,
    polls: usize,
    stopped: bool,
}

impl Insights {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State { concurrent: CONCURRENT, ..State::default() }));
        let shared = Arc::clone(&state);
        let serve = move |request: &Request, stream: &TcpStream| serve(&shared, request, stream);
        Self { listener: Listener::start(serve), state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Makes a log group.
    pub(crate) fn group(&self, name: &str) {
        self.state().groups.insert(name.to_owned());
    }

    /// How queries go that are started from now on; without a word they are complete at once and without rows.
    pub(crate) fn answer(&self, script: Script) {
        self.answer_to("", script);
    }

    /// As `answer`, only for queries with this text in them.
    pub(crate) fn answer_to(&self, part: &str, script: Script) {
        self.state().scripts.push((part.to_owned(), script));
    }

    /// How many may run at a time; more are refused.
    pub(crate) fn at_most(&self, queries: usize) {
        self.state().concurrent = queries;
    }

    /// The next poll of every query that runs now finds its last state.
    pub(crate) fn finish(&self) {
        for query in self.state().queries.iter_mut().filter(|query| query.runs()) {
            query.polls = query.script.polls_until_complete;
        }
    }

    /// Queries that have neither ended nor been stopped.
    pub(crate) fn running(&self) -> usize {
        self.state().running()
    }

    pub(crate) fn started(&self) -> Vec<Started> {
        self.state().queries.iter().map(|query| query.started.clone()).collect()
    }

    /// The ids of those that were stopped.
    pub(crate) fn stopped(&self) -> Vec<String> {
        let state = self.state();
        state.queries.iter().filter(|query| query.stopped).map(|query| query.started.id.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// The type of an error and its message.
type Refusal = (&'static str, String);
type Reply<T> = std::result::Result<T, Refusal>;

fn serve(state: &Mutex<State>, request: &Request, stream: &TcpStream) -> Result<Again> {
    let answer = match state.lock().unwrap().answer(request) {
        Ok(body) => Answer::json(200, &body),
        Err((kind, message)) => Answer::json(400, &json!({"__type": kind, "message": message})),
    };
    answer.write(stream, answer.body.len()).map(|()| true)
}

impl State {
    fn answer(&mut self, request: &Request) -> Reply<Value> {
        let signature = request.signature();
        let signature = signature
            .ok_or(("MissingAuthenticationTokenException", "Missing Authentication Token".to_owned()))?;
        if signature.service != "logs" {
            let message = "Credential should be scoped to correct service: 'logs'. ";
            return Err(("InvalidSignatureException", message.to_owned()));
        }
        let target = request.header("x-amz-target").unwrap_or_default();
        let operation = target.strip_prefix("Logs_20140328.").unwrap_or_default();
        let plain = request.method == "POST" && request.path == "/";
        let kind = request.header("content-type").unwrap_or_default();
        if !plain || kind != "application/x-amz-json-1.1" || !OPERATIONS.contains(&operation) {
            return Err(("UnknownOperationException", String::new()));
        }
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        let Value::Object(_) = &body else { return Err(serialization("the body is no JSON object")) };
        match operation {
            "StartQuery" => self.start(&body),
            "GetQueryResults" => self.results(&body),
            _ => self.stop(&body),
        }
    }

    fn start(&mut self, body: &Value) -> Reply<Value> {
        let query = text(body, "queryString")?.ok_or_else(|| missing("queryString"))?;
        let (start, end) = (whole(body, "startTime")?, whole(body, "endTime")?);
        let (start, end) =
            (start.ok_or_else(|| missing("startTime"))?, end.ok_or_else(|| missing("endTime"))?);
        let limit = whole(body, "limit")?;
        if limit.is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit)) {
            return Err(invalid("limit", "Member must have value between 1 and 100000"));
        }
        if query.chars().count() > MAX_QUERY {
            return Err(invalid("queryString", "Member must have length less than or equal to 10000"));
        }
        if query.trim().is_empty() {
            return Err(("MalformedQueryException", "unexpected end of the query".to_owned()));
        }
        check_times(start, end)?;
        let log_groups = groups(body)?;
        if let Some(unknown) = log_groups.iter().find(|name| !self.groups.contains(*name)) {
            let message = format!("Log group '{unknown}' does not exist for account ID '{ACCOUNT}'");
            return Err(("ResourceNotFoundException", message));
        }
        if self.running() >= self.concurrent {
            let message =
                format!("Account maximum query concurrency limit of [{}] reached.", self.concurrent);
            return Err(("LimitExceededException", message));
        }
        let script = self.scripts.iter().rev().find(|(part, _)| query.contains(part.as_str()));
        let script = script.map(|(_, script)| script.clone()).unwrap_or_default();
        let id = format!("5a11ed00-0000-4000-8000-{:012}", self.queries.len());
        let query = query.to_owned();
        let started = Started { id: id.clone(), query, start_time: start, end_time: end, limit, log_groups };
        self.queries.push(Query { started, script, polls: 0, stopped: false });
        Ok(json!({"queryId": id}))
    }

    fn results(&mut self, body: &Value) -> Reply<Value> {
        let most = whole(body, "maxItems")?.unwrap_or(0);
        let most = usize::try_from(most).ok().filter(|most| *most <= PAGE);
        let most = most.ok_or_else(|| invalid("maxItems", "Member must have value between 0 and 10000"))?;
        let token = text(body, "nextToken")?.map(str::to_owned);
        let from = token
            .map_or(Ok(0), |token| token.parse())
            .map_err(|_unparsed| invalid("nextToken", "unknown"))?;
        let query = self.query(body)?;
        let (status, rows) = query.poll();
        let bytes = if status == "Scheduled" { 0 } else { query.script.bytes_scanned };
        let end = rows.len().min(from + if most == 0 { PAGE } else { most });
        let mut answer = json!({
            "queryLanguage": "CWLI",
            "results": rows.get(from..end).unwrap_or_default(),
            "statistics": {
                "recordsMatched": rows.len() as f64, "recordsScanned": rows.len() as f64, "bytesScanned": bytes as f64,
                "estimatedRecordsSkipped": 0.0, "estimatedBytesSkipped": 0.0,
                "logGroupsScanned": query.started.log_groups.len() as f64,
            },
            "status": status,
        });
        if end < rows.len() {
            answer["nextToken"] = json!(end.to_string());
        }
        Ok(answer)
    }

    fn stop(&mut self, body: &Value) -> Reply<Value> {
        let query = self.query(body)?;
        if !query.runs() {
            return Err(("InvalidParameterException", "the specified query is not running".to_owned()));
        }
        query.stopped = true;
        Ok(json!({"success": true}))
    }

    fn query(&mut self, body: &Value) -> Reply<&mut Query> {
        let id = text(body, "queryId")?.ok_or_else(|| missing("queryId"))?;
        let found = self.queries.iter_mut().find(|query| query.started.id == id);
        found.ok_or_else(|| ("ResourceNotFoundException", format!("Query {id} does not exist")))
    }

    fn running(&self) -> usize {
        self.queries.iter().filter(|query| query.runs()).count()
    }
}

impl Query {
    fn runs(&self) -> bool {
        !self.stopped && self.polls < self.script.polls_until_complete
    }

    /// The status that is told now, and its rows as they are sent.
    fn poll(&mut self) -> (String, Vec<Value>) {
        let runs = self.runs();
        self.polls = self.polls.saturating_add(usize::from(runs));
        let limit = self.started.limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE));
        let rows = &self.script.rows[..self.script.rows.len().min(limit)];
        let (status, count) = if runs {
            if self.polls == 1 {
                ("Scheduled".to_owned(), 0)
            } else {
                ("Running".to_owned(), rows.len().div_ceil(2))
            }
        } else if self.stopped {
            ("Cancelled".to_owned(), rows.len().div_ceil(2))
        } else {
            let last = self.script.final_status;
            // A query that timed out or was cancelled has found a part; nobody may take it for the whole.
            let count = match last {
                Status::Complete => rows.len(),
                Status::Cancelled | Status::Timeout => rows.len().div_ceil(2),
                Status::Failed | Status::Unknown => 0,
            };
            (format!("{last:?}"), count)
        };
        let aggregated = self.started.query.split('|').any(|part| part.trim_start().starts_with("stats"));
        let row = |(at, row): (usize, &Row)| {
            let pointer = (!aggregated).then(|| ("@ptr".to_owned(), format!("ptr-{at}")));
            let fields = row.iter().cloned().chain(pointer);
            fields.map(|(field, value)| json!({"field": field, "value": value})).collect()
        };
        (status, rows[..count].iter().enumerate().map(row).collect())
    }
}

fn check_times(start: i64, end: i64) -> Reply<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let refuse = |why: &str| Err(("InvalidParameterException", format!("{why}: {start} to {end}")));
    if start < 0 || end < 0 {
        return refuse("times must have value greater than or equal to 0");
    }
    if start > MILLISECONDS || end > MILLISECONDS {
        return refuse("time in milliseconds, wanted are seconds");
    }
    if start >= end {
        return refuse("the start must be before the end");
    }
    if end > i64::try_from(now).unwrap() + AHEAD {
        return refuse("the end is in the far future");
    }
    Ok(())
}

/// The names of the log groups: exactly one of three fields has them. An ARN may stand for a name in one of them.
fn groups(body: &Value) -> Reply<Vec<String>> {
    let fields = ["logGroupName", "logGroupNames", "logGroupIdentifiers"];
    let given: Vec<&str> = fields.into_iter().filter(|field| !body[*field].is_null()).collect();
    let [field] = given[..] else {
        let message =
            format!("exactly one of logGroupName, logGroupNames and logGroupIdentifiers, not {given:?}");
        return Err(("InvalidParameterException", message));
    };
    let list = match &body[field] {
        Value::String(name) if field == "logGroupName" => vec![json!(name)],
        Value::Array(list) if field != "logGroupName" => list.clone(),
        _ => return Err(serialization(field)),
    };
    if list.is_empty() || list.len() > MAX_GROUPS {
        return Err(invalid(field, "Member must have length between 1 and 50"));
    }
    let name = |value: &Value| {
        let whole = value.as_str().ok_or_else(|| serialization(field))?;
        let arn = field == "logGroupIdentifiers" && whole.starts_with("arn:aws:logs:");
        let name = if arn { whole.splitn(7, ':').nth(6).unwrap_or_default() } else { whole };
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "._-/#".contains(letter);
        let fits = (1..=512).contains(&name.len()) && name.chars().all(letter);
        if fits { Ok(name.to_owned()) } else { Err(invalid(field, "Member must satisfy the pattern")) }
    };
    list.iter().map(name).collect()
}

/// A whole number that may be missing. AWS takes no other type, and no fraction.
fn whole(body: &Value, field: &str) -> Reply<Option<i64>> {
    match &body[field] {
        Value::Null => Ok(None),
        value => value.as_i64().map(Some).ok_or_else(|| serialization(field)),
    }
}

fn text<'a>(body: &'a Value, field: &str) -> Reply<Option<&'a str>> {
    match &body[field] {
        Value::Null => Ok(None),
        value => value.as_str().map(Some).ok_or_else(|| serialization(field)),
    }
}

fn serialization(what: &str) -> Refusal {
    ("SerializationException", format!("cannot be read: {what}"))
}

fn missing(field: &str) -> Refusal {
    invalid(field, "Member must not be null")
}

fn invalid(field: &str, constraint: &str) -> Refusal {
    let message =
        format!("1 validation error detected: Value at '{field}' failed to satisfy constraint: {constraint}");
    ("InvalidParameterException", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moto::shared_moto;
    use crate::recorder::Recorder;
    use crate::wire::{json_call, send};

    fn ask(insights: &Insights, operation: &str, body: &Value) -> Answer {
        send(insights.port(), &json_call("logs", &format!("Logs_20140328.{operation}"), body)).unwrap()
    }

    fn poll(insights: &Insights, id: &Value) -> Value {
        ask(insights, "GetQueryResults", &json!({"queryId": id})).value()
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    /// A query that is taken, with some fields changed.
    fn query(changed: &Value) -> Value {
        let mut body = json!({
            "logGroupName": "app", "startTime": now() - 300, "endTime": now(), "queryString": "fields @message",
        });
        for (field, value) in changed.as_object().unwrap() {
            body[field] = value.clone();
        }
        body
    }

    fn started(insights: &Insights, changed: &Value) -> Value {
        ask(insights, "StartQuery", &query(changed)).value()["queryId"].take()
    }

    /// Fakes whose rows have one field.
    fn stage(polls_until_complete: usize, final_status: Status) -> Insights {
        let insights = Insights::start();
        insights.group("app");
        let row = |text: &str| vec![("@message".to_owned(), text.to_owned())];
        let rows = ["one", "two", "three"].map(row).to_vec();
        insights.answer(Script { polls_until_complete, final_status, rows, bytes_scanned: 4096 });
        insights
    }

    #[test]
    fn a_query_is_scheduled_then_gives_a_part_and_then_everything() {
        let insights = stage(2, Status::Complete);
        let id = started(&insights, &json!({"limit": 1000}));
        assert_eq!(insights.running(), 1);
        let seen = [(); 4].map(|()| poll(&insights, &id));
        let seen = seen.map(|answer| (answer["status"].clone(), answer["results"].as_array().unwrap().len()));
        let expected = [("Scheduled", 0), ("Running", 2), ("Complete", 3), ("Complete", 3)];
        assert_eq!(seen, expected.map(|(status, count)| (json!(status), count)));
        let last = poll(&insights, &id);
        let row = json!([{"field": "@message", "value": "one"}, {"field": "@ptr", "value": "ptr-0"}]);
        assert_eq!(last["results"][0], row);
        assert_eq!(
            (&last["statistics"]["recordsMatched"], &last["statistics"]["bytesScanned"]),
            (&json!(3.0), &json!(4096.0))
        );
        assert_eq!((insights.running(), insights.stopped().len()), (0, 0));
        let query = insights.started().remove(0);
        assert_eq!(
            (query.limit, query.log_groups, query.query.as_str()),
            (Some(1000), vec!["app".to_owned()], "fields @message")
        );
        assert_eq!((json!(query.id), query.end_time - query.start_time), (id, 300));
    }

    #[test]
    fn a_query_that_is_stopped_is_cancelled_and_an_ended_one_cannot_be_stopped() {
        let insights = stage(NEVER, Status::Complete);
        let (one, two) = (started(&insights, &json!({})), started(&insights, &json!({})));
        assert_eq!(poll(&insights, &one)["status"], "Scheduled");
        let stop = |id: &Value| ask(&insights, "StopQuery", &json!({"queryId": id}));
        assert_eq!(stop(&one).value(), json!({"success": true}));
        assert_eq!(poll(&insights, &one)["status"], "Cancelled");
        assert_eq!(stop(&one).error(), "InvalidParameterException");
        assert_eq!((insights.running(), insights.stopped()), (1, vec![one.as_str().unwrap().to_owned()]));
        insights.finish();
        assert_eq!((poll(&insights, &two)["status"].clone(), insights.running()), (json!("Complete"), 0));
        assert_eq!(stop(&two).error(), "InvalidParameterException");
        for operation in ["GetQueryResults", "StopQuery"] {
            let answer = ask(&insights, operation, &json!({"queryId": "nobody"}));
            assert_eq!((answer.status, answer.error().as_str()), (400, "ResourceNotFoundException"));
        }
    }

    #[test]
    fn every_last_state_is_told_and_only_a_complete_one_has_all_rows() {
        for (status, rows) in [
            (Status::Complete, 3),
            (Status::Failed, 0),
            (Status::Cancelled, 2),
            (Status::Timeout, 2),
            (Status::Unknown, 0),
        ] {
            let insights = stage(0, status);
            let id = started(&insights, &json!({}));
            let answer = poll(&insights, &id);
            assert_eq!(answer["status"], format!("{status:?}"));
            assert_eq!((answer["results"].as_array().unwrap().len(), insights.running()), (rows, 0));
        }
    }

    #[test]
    fn what_aws_refuses_is_refused() {
        let insights = stage(0, Status::Complete);
        let (now, names) = (now(), vec!["app"; 51]);
        let invalid = "InvalidParameterException";
        for (changed, error) in [
            (json!({"startTime": (now - 300) * 1000, "endTime": now * 1000}), invalid),
            (json!({"endTime": now * 1000}), invalid),
            (json!({"startTime": now, "endTime": now}), invalid),
            (json!({"startTime": now, "endTime": now - 1}), invalid),
            (json!({"startTime": -1}), invalid),
            (json!({"startTime": null}), invalid),
            (json!({"endTime": now + 30 * 24 * 3600}), invalid),
            (json!({"startTime": "0"}), "SerializationException"),
            (json!({"startTime": 0.5}), "SerializationException"),
            (json!({"limit": 0}), invalid),
            (json!({"limit": 100_001}), invalid),
            (json!({"queryString": null}), invalid),
            (json!({"queryString": " "}), "MalformedQueryException"),
            (json!({"queryString": "x".repeat(10_001)}), invalid),
            (json!({"logGroupName": null}), invalid),
            (json!({"logGroupNames": ["app"]}), invalid),
            (json!({"logGroupName": null, "logGroupNames": []}), invalid),
            (json!({"logGroupName": null, "logGroupNames": names}), invalid),
            (json!({"logGroupName": null, "logGroupNames": "app"}), "SerializationException"),
            (json!({"logGroupName": "no such letters: *"}), invalid),
            (json!({"logGroupName": "other"}), "ResourceNotFoundException"),
            (json!({"logGroupName": null, "logGroupNames": ["app", "other"]}), "ResourceNotFoundException"),
            (
                json!({"logGroupName": null, "logGroupIdentifiers": ["arn:aws:logs:eu-west-1:123456789012:log-group:app:*"]}),
                invalid,
            ),
        ] {
            let answer = ask(&insights, "StartQuery", &query(&changed));
            assert_eq!(
                (answer.status, answer.error().as_str()),
                (400, error),
                "{changed}: {}",
                answer.text()
            );
        }
        assert_eq!(insights.started().len(), 0);
        let seconds = ask(&insights, "StartQuery", &query(&json!({"endTime": now * 1000}))).text();
        assert!(seconds.contains("time in milliseconds"), "{seconds}");
        let arn = json!(["arn:aws:logs:eu-west-1:123456789012:log-group:app"]);
        started(&insights, &json!({"logGroupName": null, "logGroupIdentifiers": arn, "limit": 10_000}));
        started(&insights, &json!({"logGroupName": null, "logGroupNames": ["app"]}));
        assert!(insights.started().iter().all(|query| query.log_groups == ["app"]));
    }

    #[test]
    fn a_request_that_is_not_signed_for_logs_or_asks_for_something_else_is_refused() {
        let insights = stage(0, Status::Complete);
        let good = json_call("logs", "Logs_20140328.StartQuery", &query(&json!({})));
        let with = |name: &str, value: &str| {
            let mut request = good.clone();
            request.headers.retain(|(own, _)| own != name);
            request.headers.push((name.to_owned(), value.to_owned()));
            request
        };
        let elsewhere = json_call("athena", "Logs_20140328.StartQuery", &query(&json!({})));
        for (request, error) in [
            (with("Authorization", ""), "MissingAuthenticationTokenException"),
            (elsewhere, "InvalidSignatureException"),
            (with("X-Amz-Target", "Logs_20140328.FilterLogEvents"), "UnknownOperationException"),
            (with("X-Amz-Target", "StartQuery"), "UnknownOperationException"),
            (with("Content-Type", "application/json"), "UnknownOperationException"),
            (json_call("logs", "Logs_20140328.StartQuery", &json!([])), "SerializationException"),
        ] {
            assert_eq!(send(insights.port(), &request).unwrap().error(), error);
        }
        send(insights.port(), &good).unwrap().value();
    }

    #[test]
    fn more_queries_than_the_account_may_run_are_refused_until_one_ends() {
        let insights = stage(NEVER, Status::Complete);
        let start = || ask(&insights, "StartQuery", &query(&json!({})));
        for _ in 0..CONCURRENT {
            start().value();
        }
        assert_eq!(start().error(), "LimitExceededException");
        insights.finish();
        assert_eq!(insights.running(), 0);
        insights.at_most(1);
        start().value();
        assert_eq!(start().error(), "LimitExceededException");
    }

    #[test]
    fn a_script_is_found_by_a_part_of_the_query_and_a_limit_and_pages_cut_its_rows() {
        let insights = stage(0, Status::Complete);
        let rows = (0..10_001).map(|n| vec![("n".to_owned(), n.to_string())]).collect();
        insights.answer_to("count(*)", Script { rows, ..Script::default() });
        let few = started(&insights, &json!({"limit": 1}));
        assert_eq!(poll(&insights, &few)["results"].as_array().unwrap().len(), 1);
        let many =
            started(&insights, &json!({"queryString": "stats count(*) as n by user", "limit": 20_000}));
        let first = poll(&insights, &many);
        assert_eq!(first["results"][0], json!([{"field": "n", "value": "0"}]));
        let body = json!({"queryId": many, "nextToken": first["nextToken"]});
        let second = ask(&insights, "GetQueryResults", &body).value();
        let pages = [&first, &second].map(|page| page["results"].as_array().unwrap().len());
        assert_eq!((pages, &second["nextToken"]), ([10_000, 1], &Value::Null));
        assert_eq!(
            started(&insights, &json!({"queryString": "stats count(*)"})).as_str().map(str::len),
            Some(36)
        );
        let page = ask(&insights, "GetQueryResults", &json!({"queryId": many, "maxItems": 7})).value();
        assert_eq!(page["results"].as_array().unwrap().len(), 7);
    }

    #[test]
    fn behind_the_recorder_its_operations_are_its_and_all_others_are_motos() {
        let insights = stage(0, Status::Complete);
        let moto = shared_moto();
        moto.log_group("/insights/behind");
        let recorder = Recorder::start(moto.port());
        recorder.route(&OPERATIONS, insights.port());
        let ask = |operation: &str, body: &Value| {
            send(recorder.port(), &json_call("logs", &format!("Logs_20140328.{operation}"), body)).unwrap()
        };
        ask("StartQuery", &query(&json!({}))).value();
        let groups = ask("DescribeLogGroups", &json!({"logGroupNamePrefix": "/insights"})).value();
        assert_eq!(groups["logGroups"][0]["logGroupName"], "/insights/behind");
        assert_eq!((insights.started().len(), recorder.count("StartQuery")), (1, 1));
    }
}
