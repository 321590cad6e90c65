//! The JSON of `CloudWatch` Logs subscriptions, read without copying what can stay where it is.
//!
//! Source: the subscription filters page of the `CloudWatch` Logs user guide. A Lambda function gets the payload as
//! base64 in `awslogs.data`. Structure, duplicates and depth are judged by `serde_json`; only texts with escapes are
//! copied, in one go, since nearly every message has line breaks.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What one JSON object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// `CloudWatch` looks whether somebody listens. There is nothing in it.
    Control,
    /// Log events.
    Data(Data<'a>),
    /// The base64 of an event of a Lambda function: what is in it is yet to be unpacked.
    Wrapped(Cow<'a, str>),
}

/// Log events of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Account that the log belongs to.
    pub owner: Cow<'a, str>,
    /// Log group.
    pub log_group: Cow<'a, str>,
    /// Log stream; for RDS the instance.
    pub log_stream: Cow<'a, str>,
    /// In their order in the stream.
    pub events: Vec<LogEvent<'a>>,
}

/// One log event. A statement may have several, and one may hold several statements.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogEvent<'a> {
    /// The same in every delivery of it.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// The text.
    #[serde(borrow, deserialize_with = "message")]
    pub message: Cow<'a, str>,
}

/// Why a payload could not be read. Nothing of what it holds is in the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// No JSON, or not of this shape.
    Json {
        /// What is wrong with it.
        what: &'static str,
        /// Line of the JSON text.
        line: usize,
        /// Column of the JSON text.
        column: usize,
    },
    /// A `messageType` that is not documented.
    MessageType,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { what, line, column } => {
                write!(f, "no subscription payload: {what} at line {line} column {column}")
            }
            Self::MessageType => f.write_str("messageType is neither DATA_MESSAGE nor CONTROL_MESSAGE"),
        }
    }
}

impl std::error::Error for PayloadError {}

/// Reads one JSON object. All keys but those below are ignored.
pub fn payload(json: &[u8]) -> Result<Payload<'_>, PayloadError> {
    // To look at all bytes once is faster than text by text.
    if let Ok(text) = std::str::from_utf8(json)
        && let Ok(fields) = serde_json::from_str::<Fields<'_, LogEvent<'_>>>(text)
    {
        return fields.into_payload();
    }
    // The words and the place are those of serde_json without any of the short cuts.
    let fields: Fields<'_, PlainEvent<'_>> = serde_json::from_slice(json).map_err(|error| {
        // serde's words repeat what stands there, which may be anything.
        let what = match error.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Data => "a field is missing, twice there, or of another type",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
        };
        PayloadError::Json { what, line: error.line(), column: error.column() }
    })?;
    fields.into_payload()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a, E> {
    #[serde(borrow)]
    awslogs: Option<Awslogs<'a>>,
    #[serde(borrow)]
    message_type: Option<Text<'a>>,
    #[serde(borrow)]
    owner: Option<Text<'a>>,
    #[serde(borrow)]
    log_group: Option<Text<'a>>,
    #[serde(borrow)]
    log_stream: Option<Text<'a>>,
    log_events: Option<Vec<E>>,
}

#[derive(Deserialize)]
struct Awslogs<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// In an `Option`, serde borrows only what has a name.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// As `serde_json` reads it.
#[derive(Deserialize)]
struct PlainEvent<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    timestamp: i64,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl<'a> From<PlainEvent<'a>> for LogEvent<'a> {
    fn from(event: PlainEvent<'a>) -> Self {
        Self { id: event.id, timestamp: event.timestamp, message: event.message }
    }
}

impl<'a, E: Into<LogEvent<'a>>> Fields<'a, E> {
    fn into_payload(self) -> Result<Payload<'a>, PayloadError> {
        if let Some(Awslogs { data }) = self.awslogs {
            return Ok(Payload::Wrapped(data));
        }
        match self.message_type.as_ref().map(|Text(text)| text.as_ref()) {
            Some("CONTROL_MESSAGE") => Ok(Payload::Control),
            Some("DATA_MESSAGE") => {
                let (Some(Text(log_group)), Some(Text(log_stream)), Some(events)) =
                    (self.log_group, self.log_stream, self.log_events)
                else {
                    let what = "logGroup, logStream or logEvents is missing";
                    return Err(PayloadError::Json { what, line: 1, column: 1 });
                };
                let owner = self.owner.map(|Text(owner)| owner).unwrap_or_default();
                let events = events.into_iter().map(E::into).collect();
                Ok(Payload::Data(Data { owner, log_group, log_stream, events }))
            }
            _ => Err(PayloadError::MessageType),
        }
    }
}

/// A text of which `serde_json` finds only the end: that is twice as fast, as line breaks come as escapes.
fn message<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let text = raw.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    text.and_then(unescaped).ok_or_else(|| D::Error::custom("not a text"))
}

/// What stands between the quotes of a JSON text; `None`: it is none, or has an escape that is hardly ever used.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    let Some((first, mut rest)) = split_at_escape(text) else { return Some(Cow::Borrowed(text)) };
    let mut plain = String::with_capacity(text.len());
    plain.push_str(first);
    loop {
        let (escape, behind) = rest.split_at_checked(1)?;
        let (character, behind) = match escape {
            "n" => ('\n', behind),
            "t" => ('\t', behind),
            "r" => ('\r', behind),
            "b" => ('\u{8}', behind),
            "f" => ('\u{c}', behind),
            "\"" => ('"', behind),
            "\\" => ('\\', behind),
            "/" => ('/', behind),
            "u" => {
                let (digits, behind) = behind.split_at_checked(4)?;
                // One half of a pair is no character.
                (char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, behind)
            }
            _ => return None,
        };
        plain.push(character);
        let Some((before, next)) = split_at_escape(behind) else {
            plain.push_str(behind);
            return Some(Cow::Owned(plain));
        };
        plain.push_str(before);
        rest = next;
    }
}

/// What stands before the next backslash, and behind it.
fn split_at_escape(text: &str) -> Option<(&str, &str)> {
    let at = memchr(b'\\', text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const PLAIN: &str = r#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"/aws/rds/instance/a/slowquery",
        "logStream":"a","subscriptionFilters":["all"],"logEvents":[{"id":"7","timestamp":1764000000123,"message":"é\n'x'"}]}"#;

    /// As `serde_json` alone reads it.
    fn plain(json: &[u8]) -> Option<Payload<'_>> {
        let fields: Result<Fields<'_, PlainEvent<'_>>, _> = serde_json::from_slice(json);
        fields.ok()?.into_payload().ok()
    }

    fn message_of(text: &str) -> Result<String, PayloadError> {
        let json = format!(
            r#"{{"messageType":"DATA_MESSAGE","logGroup":"","logStream":"","logEvents":[{{"id":"","timestamp":0,"message":{text}}}]}}"#
        );
        match payload(json.as_bytes())? {
            Payload::Data(data) => Ok(data.events[0].message.clone().into_owned()),
            Payload::Control | Payload::Wrapped(_) => panic!("other"),
        }
    }

    #[test]
    fn log_events_are_read_and_only_escapes_are_copied() {
        let Ok(Payload::Data(data)) = payload(PLAIN.as_bytes()) else { panic!("no data") };
        let event =
            LogEvent { id: "7".into(), timestamp: 1_764_000_000_123, message: Cow::Borrowed("é\n'x'") };
        let log_group = "/aws/rds/instance/a/slowquery".into();
        let expected = Data { owner: "1".into(), log_group, log_stream: "a".into(), events: vec![event] };
        assert_eq!(data, expected);
        assert!(matches!(data.events[0].message, Cow::Owned(_)));
        for text in [&data.owner, &data.log_group, &data.log_stream, &data.events[0].id] {
            assert!(matches!(text, Cow::Borrowed(_)));
        }
        let json = PLAIN.replace("\\n", "");
        let Ok(Payload::Data(data)) = payload(json.as_bytes()) else { panic!("no data") };
        assert!(matches!(data.events[0].message, Cow::Borrowed("é'x'")));
    }

    #[test]
    fn control_messages_and_lambda_events_are_told_apart() {
        let json = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","logEvents":[]}"#;
        assert_eq!(payload(json.as_bytes()), Ok(Payload::Control));
        let json = r#" {"awslogs":{"data":"H4sI\u0041", "more": [1]}} "#;
        assert_eq!(payload(json.as_bytes()), Ok(Payload::Wrapped("H4sIA".into())));
    }

    #[test]
    fn every_escape_is_read_as_serde_json_reads_it() {
        for text in [
            r#""""#,
            r#""a""#,
            r#""\n\t\r\b\f\"\\\/""#,
            r#""a\nb\n""#,
            r#""\u00e9\u0000""#,
            r#""\ud83d\ude00x""#,
            r#""\\n""#,
            r#""\"""#,
        ] {
            assert_eq!(message_of(text), Ok(serde_json::from_str::<String>(text).unwrap()), "{text}");
        }
        for text in
            [r#""\ud83d""#, r#""\ude00""#, r#""\x""#, r#""\u12""#, "5", "null", "[\"a\"]", "\"a\nb\"", "\"a"]
        {
            assert!(message_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason_and_nothing_of_what_it_holds() {
        let json = |what, column| PayloadError::Json { what, line: 1, column };
        let another = "a field is missing, twice there, or of another type";
        let missing = "logGroup, logStream or logEvents is missing";
        let deep = format!("{{\"secret\":{}", "[".repeat(1000));
        let cases: [(&[u8], PayloadError); 13] = [
            (b"", json("it ends too early", 0)),
            (b"{\"a\"", json("it ends too early", 4)),
            (b"{secret}", json("no JSON", 2)),
            (b"{\"messageType\":1}", json(another, 16)),
            (b"{\"owner\":\"secret\",\"owner\":\"secret\"}", json(another, 25)),
            (b"{\"logEvents\":\"secret\"}", json(another, 21)),
            (b"{\"logEvents\":[{\"id\":\"secret\"}]}", json(another, 29)),
            (b"{\"owner\":\"\xff secret\"}", json("no JSON", 11)),
            (b"{} secret", json("no JSON", 4)),
            (deep.as_bytes(), json("it ends too early", 1010)),
            (b"{\"messageType\":\"secret\"}", PayloadError::MessageType),
            (b"{}", PayloadError::MessageType),
            (b"{\"messageType\":\"DATA_MESSAGE\"}", json(missing, 1)),
        ];
        for (body, error) in cases {
            assert_eq!(payload(body), Err(error), "{}", String::from_utf8_lossy(body));
            assert!(!error.to_string().contains("secret"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn all_is_read_as_serde_json_reads_it(
            head in select(&["", "\"awslogs\":null,", "\"owner\":\"\",", "\"logEvents\":[],", "\"x\":{\"id\":[1e9]},"][..]),
            parts in prop::collection::vec(
                select(&["a", "é", "\\", "\\n", "\\\"", "\"", "\\u", "\\ud83d", "\\ude00", "0041", "00", "\n", "\u{1}", ","][..]),
                0..8,
            ),
            cut in 0_usize..400,
        ) {
            let json = format!(
                r#"{{{head}"messageType":"DATA_MESSAGE","logGroup":"g","logStream":"s","logEvents":[{{"id":"i","timestamp":-1,"message":"{}"}}]}}"#,
                parts.concat()
            );
            let bytes = json.as_bytes().get(..json.len().saturating_sub(cut / 40)).unwrap();
            prop_assert_eq!(payload(bytes).ok(), plain(bytes), "{}", json);
        }
    }
}
