//! Log events as documents for `OpenSearch` and Elasticsearch, with the field names that existing Kibana boards use.

use super::parse::Found;
use super::series::hex;
use digest::payload::Data;
use digest::{Dialect, Event};
use jiff::Timestamp;
use serde::Serialize;
use std::borrow::Cow;

/// Longer texts are cut: Lucene refuses a term of more than 32,766 bytes, and the document with it.
const LONGEST_TEXT: usize = 32_000;

/// A document and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Index, by log group and day.
    pub index: String,
    /// Of the log event, so that a redelivery takes the place of what it repeats.
    pub id: String,
    /// The document as JSON, on one line.
    pub source: Vec<u8>,
}

/// A template of an index name, such as `cwl{log_group}-{yyyy.mm.dd}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index(String);

impl Index {
    /// Reads a template.
    ///
    /// # Errors
    /// In words: the placeholder that is unknown, or what no index may have in its name.
    pub fn parse(template: &str) -> Result<Self, String> {
        let fixed = template.replace("{log_group}", "").replace("{yyyy.mm.dd}", "");
        if let Some(at) = fixed.find(['{', '}']) {
            let rest = fixed.get(at..).unwrap_or_default();
            return Err(format!(
                "unknown placeholder at `{rest}`; known are {{log_group}} and {{yyyy.mm.dd}}"
            ));
        }
        let wrong =
            |c: char| matches!(c, '\\' | '/' | '*' | '?' | '"' | '<' | '>' | '|' | ' ' | ',' | '#' | ':');
        if let Some(wrong) = fixed.chars().find(|c| wrong(*c) || c.is_uppercase()) {
            return Err(format!("{wrong:?} cannot stand in the name of an index"));
        }
        if template.starts_with(['-', '_', '+']) || template.is_empty() {
            return Err("the name of an index begins with a letter or digit".to_owned());
        }
        Ok(Self(template.to_owned()))
    }

    /// The index of an event: lower case, `/` becomes `-`, the day in UTC.
    fn name(&self, log_group: &str, time_ms: i64) -> String {
        let group: String = log_group
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '-' })
            .collect();
        let day = instant(time_ms).strftime("%Y.%m.%d").to_string();
        self.0.replace("{log_group}", &group).replace("{yyyy.mm.dd}", &day)
    }
}

/// The fields. What the log does not say is not there.
#[derive(Serialize)]
struct Fields<'a> {
    #[serde(rename = "@id")]
    id: &'a str,
    #[serde(rename = "@timestamp")]
    timestamp: String,
    #[serde(rename = "@owner")]
    owner: &'a str,
    #[serde(rename = "@log_group")]
    log_group: &'a str,
    #[serde(rename = "@log_stream")]
    log_stream: &'a str,
    #[serde(rename = "@message", skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'a, str>>,
    #[serde(rename = "Severity", skip_serializing_if = "Option::is_none")]
    severity: Option<&'a str>,
    #[serde(rename = "User@Host", skip_serializing_if = "Option::is_none")]
    user_at_host: Option<String>,
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    ip: Option<Cow<'a, str>>,
    #[serde(rename = "Host", skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
    #[serde(rename = "Database", skip_serializing_if = "Option::is_none")]
    database: Option<Cow<'a, str>>,
    #[serde(rename = "Query_time", skip_serializing_if = "Option::is_none")]
    query_time: Option<f64>,
    #[serde(rename = "Lock_time", skip_serializing_if = "Option::is_none")]
    lock_time: Option<f64>,
    #[serde(rename = "Rows_sent", skip_serializing_if = "Option::is_none")]
    rows_sent: Option<u64>,
    #[serde(rename = "Rows_examined", skip_serializing_if = "Option::is_none")]
    rows_examined: Option<u64>,
    #[serde(rename = "Query", skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(rename = "Fingerprint", skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(rename = "Statement", skip_serializing_if = "Option::is_none")]
    statement: Option<String>,
}

/// Makes the documents of one delivery.
#[derive(Debug)]
pub struct Maker<'a> {
    data: &'a Data<'a>,
    index: &'a Index,
    raw_text: bool,
    /// The event that the last entry began in, and how many began there.
    last: Option<(usize, usize)>,
}

impl<'a> Maker<'a> {
    /// For a delivery; with `raw_text` texts keep their literals.
    pub fn new(data: &'a Data<'a>, index: &'a Index, raw_text: bool) -> Self {
        Self { data, index, raw_text, last: None }
    }

    /// The document of an entry that begins in this event: `<event id>`, and `<event id>-<n>` for the n-th further one.
    pub fn entry(&mut self, at: usize, found: &Found<'_>) -> Option<Document> {
        let further = match self.last {
            Some((last, count)) if last == at => count,
            _ => 0,
        };
        self.last = Some((at, further + 1));
        let (severity, event, dialect) = match found {
            Found::SlowQuery(event) => (None, Some(*event), Dialect::MySql),
            Found::Message(severity, event) => (Some(severity.as_str()), *event, Dialect::Postgres),
        };
        self.document(at, further, severity, event.map(|event| (event, dialect)))
    }

    /// The document of an event as a whole, for plain text.
    pub fn plain(&self, at: usize) -> Option<Document> {
        self.document(at, 0, None, None)
    }

    fn document(
        &self,
        at: usize,
        further: usize,
        severity: Option<&str>,
        event: Option<(&Event<'_>, Dialect)>,
    ) -> Option<Document> {
        let log_event = self.data.events.get(at)?;
        let id = match further {
            0 => log_event.id.clone().into_owned(),
            n => format!("{}-{n}", log_event.id),
        };
        let text = |bytes: &Option<Cow<'_, [u8]>>| {
            let text = bytes.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            text.map(Cow::<str>::Owned)
        };
        let seconds = |micros: Option<u64>| micros.map(|micros| micros as f64 / 1e6);
        let (entry, dialect) = event.unzip();
        let sql = entry.map(|event| String::from_utf8_lossy(&event.query));
        let query = sql
            .as_deref()
            .zip(dialect)
            .map(|(sql, dialect)| if self.raw_text { sql.to_owned() } else { digest::mask(sql, dialect) });
        let host = entry.and_then(|event| text(&event.host).or_else(|| text(&event.ip)));
        let fields = Fields {
            id: &id,
            timestamp: instant(log_event.timestamp).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            owner: &self.data.owner,
            log_group: &self.data.log_group,
            log_stream: &self.data.log_stream,
            message: self.raw_text.then(|| cut(log_event.message.clone().into_owned()).into()),
            severity,
            user_at_host: entry.and_then(|event| text(&event.user)).map(|user| match &host {
                Some(host) => format!("{user}@{host}"),
                None => user.into_owned(),
            }),
            ip: entry.and_then(|event| text(&event.ip)),
            host: entry.and_then(|event| text(&event.host)),
            database: entry.and_then(|event| text(&event.db)),
            query_time: seconds(entry.and_then(|event| event.query_time)),
            lock_time: seconds(entry.and_then(|event| event.lock_time)),
            rows_sent: entry.and_then(|event| event.rows_sent),
            rows_examined: entry.and_then(|event| event.rows_examined),
            query: query.map(cut),
            fingerprint: entry.and_then(|event| event.fingerprint).map(hex),
            statement: entry.zip(dialect).map(|(event, dialect)| digest::statement(&event.query, dialect)),
        };
        let index = self.index.name(&self.data.log_group, log_event.timestamp);
        // Texts and numbers only: there is nothing that could fail.
        let source = serde_json::to_vec(&fields).ok()?;
        Some(Document { index, id, source })
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push('…');
    }
    text
}

/// The nearest instant that there is.
fn instant(time_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(time_ms).unwrap_or(if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::parse::parse;
    use crate::logs::routes::Parser;
    use digest::payload::LogEvent;
    use serde_json::{Value, json};

    const MESSAGE: &str = "# User@Host: app[app] @ web [10.0.0.1]\n# Query_time: 1.5  Lock_time: 0 Rows_sent: 1  Rows_examined: 2\nuse shop;\nSET timestamp=1;\nselect 'canary', 7;\n\
        # User@Host: app[app] @ web [10.0.0.1]\n# Query_time: 2  Lock_time: 0 Rows_sent: 1  Rows_examined: 2\nSET timestamp=1;\nselect 2;";

    fn documents(raw_text: bool) -> Vec<Document> {
        let event = LogEvent { id: "e7".into(), timestamp: 1_764_000_000_123, message: MESSAGE.into() };
        let (log_group, log_stream) = ("/aws/RDS/instance/a/slowquery".into(), "a".into());
        let data = Data { owner: "1".into(), log_group, log_stream, events: vec![event], broken: vec![] };
        let index = Index::parse("cwl{log_group}-{yyyy.mm.dd}").unwrap();
        let (mut maker, mut found) = (Maker::new(&data, &index, raw_text), Vec::new());
        parse(&data.events, [], &Parser::MySqlSlow, &mut |at, entry| found.extend(maker.entry(at, &entry)));
        found
    }

    #[test]
    fn the_fields_are_those_of_the_boards_and_hold_no_literal() {
        let found = documents(false);
        let names: Vec<_> = found.iter().map(|one| (one.index.as_str(), one.id.as_str())).collect();
        let index = "cwl-aws-rds-instance-a-slowquery-2025.11.24";
        assert_eq!(names, [(index, "e7"), (index, "e7-1")]);
        let first: Value = serde_json::from_slice(&found[0].source).unwrap();
        let fingerprint = hex(digest::fingerprint(b"select 'x', 1", Dialect::MySql));
        let expected = json!({
            "@id": "e7", "@timestamp": "2025-11-24T16:00:00.123Z", "@owner": "1",
            "@log_group": "/aws/RDS/instance/a/slowquery", "@log_stream": "a", "User@Host": "app@web", "IP": "10.0.0.1",
            "Host": "web", "Database": "shop", "Query_time": 1.5, "Lock_time": 0.0, "Rows_sent": 1, "Rows_examined": 2,
            "Query": "select ?, ?", "Fingerprint": fingerprint, "Statement": "SELECT"
        });
        assert_eq!(first, expected);
    }

    #[test]
    fn texts_are_raw_only_on_request() {
        let text = String::from_utf8(documents(true).remove(0).source).unwrap();
        assert!(text.contains("select 'canary', 7") && text.contains("@message"), "{text}");
    }

    #[test]
    fn an_index_is_named_as_elasticsearch_takes_it() {
        for (template, expected) in [
            ("cwl{log_group}-{yyyy.mm.dd}", ""),
            ("logs", ""),
            ("{day}", "unknown placeholder at `{day}`"),
            ("Logs", "'L' cannot stand in the name"),
            ("a b", "' ' cannot stand"),
            ("", "begins with a letter"),
            ("_a", "begins with a letter"),
        ] {
            let found = Index::parse(template).err().unwrap_or_default();
            assert!(
                found.contains(expected) && found.is_empty() == expected.is_empty(),
                "{template}: {found}"
            );
        }
    }
}
