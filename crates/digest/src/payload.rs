//! The JSON of `CloudWatch` Logs subscriptions, read without copying what can stay where it is.
//!
//! Source: the subscription filters page of the `CloudWatch` Logs user guide. A Lambda function gets the payload as
//! base64 in `awslogs.data`. Structure, duplicates and depth are judged by `serde_json`; only texts with escapes are
//! copied, in one go, since nearly every message has line breaks. When that fails, the events are read one by one.

mod base64;
mod single;

pub use base64::decode_base64;

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use memchr::memchr;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Milliseconds since 1970 UTC that an event may have: `CloudWatch` takes none from before, and no calendar goes on.
pub const TIMES: RangeInclusive<i64> = 0..=253_402_207_200_999;

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
    /// Events that stood between these and could not be read, in their order.
    pub broken: Vec<BrokenEvent<'a>>,
}

/// A log event that can never be read. Its neighbours can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenEvent<'a> {
    /// What is wrong with it. Nothing of what it holds is in the words.
    pub why: &'static str,
    /// Its JSON; bytes that are no UTF-8 are U+FFFD.
    pub json: Cow<'a, str>,
    /// How many of the events that could be read stood before it.
    pub before: usize,
}

/// One log event. A statement may have several, and one may hold several statements.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogEvent<'a> {
    /// The same in every delivery of it, and never empty.
    #[serde(borrow, deserialize_with = "id")]
    pub id: Cow<'a, str>,
    /// Milliseconds since 1970 UTC, one of [`TIMES`].
    #[serde(deserialize_with = "timestamp")]
    pub timestamp: i64,
    /// The text; what is no character, such as half of a pair of surrogates, is U+FFFD.
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

/// Reads one JSON object. All keys but those below are ignored. A log event that is broken harms no other one.
pub fn payload(json: &[u8]) -> Result<Payload<'_>, PayloadError> {
    // To look at all bytes once is faster than text by text.
    let text = std::str::from_utf8(json);
    if let Ok(text) = text
        && let Ok(fields) = serde_json::from_str::<Fields<'_, LogEvent<'_>>>(text)
    {
        return fields.into_payload(|events| (events, Vec::new()));
    }
    // What is wrong around the events, also bytes that are no UTF-8, is the end of the payload. Within an event that is
    // the end of this event at most.
    serde_json::from_slice::<Fields<'_, IgnoredAny>>(json).map_err(|error| refusal(&error))?;
    match text {
        Ok(text) => one_by_one(text, false),
        Err(_) => one_by_one(&String::from_utf8_lossy(json), true).map(Payload::into_owned),
    }
}

/// `repaired`: there were bytes that are no UTF-8.
fn one_by_one(text: &str, repaired: bool) -> Result<Payload<'_>, PayloadError> {
    let fields: Fields<'_, &RawValue> = serde_json::from_str(text).map_err(|error| refusal(&error))?;
    fields.into_payload(|events| single::sort(events, repaired))
}

fn refusal(error: &serde_json::Error) -> PayloadError {
    // serde's words repeat what stands there, which may be anything.
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a field is missing, twice there, or of another type",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
    };
    PayloadError::Json { what, line: error.line(), column: error.column() }
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

impl<'a, E> Fields<'a, E> {
    /// `sort` tells events that can be read from those that are broken.
    fn into_payload(
        self,
        sort: impl FnOnce(Vec<E>) -> (Vec<LogEvent<'a>>, Vec<BrokenEvent<'a>>),
    ) -> Result<Payload<'a>, PayloadError> {
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
                let (events, broken) = sort(events);
                Ok(Payload::Data(Data { owner, log_group, log_stream, events, broken }))
            }
            _ => Err(PayloadError::MessageType),
        }
    }
}

impl Payload<'_> {
    fn into_owned(self) -> Payload<'static> {
        match self {
            Self::Control => Payload::Control,
            Self::Wrapped(text) => Payload::Wrapped(owned(text)),
            Self::Data(data) => Payload::Data(Data {
                owner: owned(data.owner),
                log_group: owned(data.log_group),
                log_stream: owned(data.log_stream),
                events: data.events.into_iter().map(LogEvent::into_owned).collect(),
                broken: data.broken.into_iter().map(BrokenEvent::into_owned).collect(),
            }),
        }
    }
}

impl LogEvent<'_> {
    fn into_owned(self) -> LogEvent<'static> {
        LogEvent { id: owned(self.id), timestamp: self.timestamp, message: owned(self.message) }
    }
}

impl BrokenEvent<'_> {
    fn into_owned(self) -> BrokenEvent<'static> {
        BrokenEvent { why: self.why, json: owned(self.json), before: self.before }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// Events without a name would all be one.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    let Text(id) = Text::deserialize(deserializer)?;
    if id.is_empty() { Err(D::Error::custom("empty")) } else { Ok(id) }
}

fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let timestamp = i64::deserialize(deserializer)?;
    if TIMES.contains(&timestamp) { Ok(timestamp) } else { Err(D::Error::custom("out of range")) }
}

/// A text of which `serde_json` finds only the end: that is twice as fast, as line breaks come as escapes.
fn message<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let text = raw.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    text.and_then(unescaped).ok_or_else(|| D::Error::custom("not a text"))
}

/// What stands between the quotes of a JSON text; `None`: it is none.
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
            "u" => unicode(behind)?,
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

/// What `\u` means, and what stands behind it.
fn unicode(text: &str) -> Option<(char, &str)> {
    let (first, behind) = hexadecimal(text)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, behind));
    }
    let pair = behind.strip_prefix("\\u").and_then(hexadecimal).and_then(|(second, behind)| {
        let units = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
        Some((char::decode_utf16(units).next()?.ok()?, behind))
    });
    // One half of a pair is no character; what stands beside it is not harmed.
    Some(pair.unwrap_or((char::REPLACEMENT_CHARACTER, behind)))
}

fn hexadecimal(text: &str) -> Option<(u32, &str)> {
    let (digits, behind) = text.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, behind))
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
    #[derive(Deserialize)]
    struct PlainEvent {
        id: String,
        timestamp: i64,
        message: String,
    }

    /// A payload without broken events, as `serde_json` alone reads it.
    fn plain(json: &[u8]) -> Option<Payload<'_>> {
        let fields: Fields<'_, PlainEvent> = serde_json::from_slice(json).ok()?;
        let event = |PlainEvent { id, timestamp, message }| LogEvent {
            id: id.into(),
            timestamp,
            message: message.into(),
        };
        let read = fields.into_payload(|events| (events.into_iter().map(event).collect(), Vec::new()));
        read.ok()
    }

    /// The messages that are read, and for each broken event why, and how many stood before it.
    fn sorted(events: &[&[u8]]) -> (Vec<String>, Vec<(&'static str, usize)>) {
        let head =
            br#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","logEvents":["#;
        let json = [head, events.join(&b","[..]).as_slice(), b"]}"].concat();
        match payload(&json) {
            Ok(Payload::Data(data)) => {
                assert_eq!((&*data.owner, &*data.log_group, &*data.log_stream), ("1", "g", "s"));
                let messages = data.events.into_iter().map(|event| event.message.into_owned()).collect();
                let broken = data.broken.into_iter().map(|event| {
                    assert!(!event.why.contains("secret"));
                    (event.why, event.before)
                });
                (messages, broken.collect())
            }
            other => panic!("{other:?}"),
        }
    }

    fn message_of(text: &str) -> Result<String, PayloadError> {
        let json = format!(
            r#"{{"messageType":"DATA_MESSAGE","logGroup":"","logStream":"","logEvents":[{{"id":"1","timestamp":0,"message":{text}}}]}}"#
        );
        match payload(json.as_bytes())? {
            Payload::Data(data) => Ok(data
                .events
                .first()
                .map_or("broken".to_owned(), |event| event.message.clone().into_owned())),
            Payload::Control | Payload::Wrapped(_) => panic!("other"),
        }
    }

    #[test]
    fn log_events_are_read_and_only_escapes_are_copied() {
        let Ok(Payload::Data(data)) = payload(PLAIN.as_bytes()) else { panic!("no data") };
        let event =
            LogEvent { id: "7".into(), timestamp: 1_764_000_000_123, message: Cow::Borrowed("é\n'x'") };
        let log_group = "/aws/rds/instance/a/slowquery".into();
        let expected = Data {
            owner: "1".into(),
            log_group,
            log_stream: "a".into(),
            events: vec![event],
            broken: vec![],
        };
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
        for (text, expected) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""a\ud83dx\n""#, "a\u{fffd}x\n"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            ("5", "broken"),
            ("null", "broken"),
            ("[\"a\"]", "broken"),
        ] {
            assert_eq!(message_of(text).as_deref(), Ok(expected), "{text}");
        }
        // Where such a message ends, and with it the event, nobody can say.
        for text in [r#""\x""#, r#""\u12""#, "\"a\nb\"", "\"a"] {
            assert!(message_of(text).is_err(), "{text}");
        }
    }

    /// Events that are broken, each in its own way, and what is said of them.
    const BROKEN: [(&[u8], &str); 16] = [
        (b"5", "the event is no JSON object, or has a key twice"),
        (b"null", "the event is no JSON object, or has a key twice"),
        (
            br#"{"id":"1","id":"2","timestamp":1,"message":"secret"}"#,
            "the event is no JSON object, or has a key twice",
        ),
        (br#"{"timestamp":1,"message":"secret"}"#, "the event has no id"),
        (br#"{"id":null,"timestamp":1,"message":"secret"}"#, "the event has no id"),
        (br#"{"id":"","timestamp":1,"message":"secret"}"#, "the event's id is no text, or empty"),
        (br#"{"id":7,"timestamp":1,"message":"secret"}"#, "the event's id is no text, or empty"),
        (br#"{"id":"\ud800","timestamp":1,"message":"secret"}"#, "the event's id is no text, or empty"),
        (b"{\"id\":\"\xff\",\"timestamp\":1,\"message\":\"secret\"}", "the event's id is no UTF-8"),
        (br#"{"id":"1","message":"secret"}"#, "the event has no timestamp"),
        (br#"{"id":"1","timestamp":"secret","message":""}"#, NO_TIME),
        (br#"{"id":"1","timestamp":1.5,"message":"secret"}"#, NO_TIME),
        (br#"{"id":"1","timestamp":-1,"message":"secret"}"#, NO_TIME),
        (br#"{"id":"1","timestamp":9223372036854775807,"message":"secret"}"#, NO_TIME),
        (br#"{"id":"1","timestamp":1}"#, "the event has no message"),
        (br#"{"id":"1","timestamp":1,"message":{"a":"secret"}}"#, "the event's message is no text"),
    ];
    const NOISE: [&[u8]; 8] = [b"a", b"\xff", b"\xc3\xa9", b"\xf0\x9f", br"\n", br"\ud800", b"'", br#"\""#];
    const NO_TIME: &str = "the event's timestamp is no number of milliseconds between 1970 and 9999";

    #[test]
    fn a_broken_event_is_named_and_its_neighbours_are_read() {
        let (one, two) = (
            &br#"{"id":"a","timestamp":0,"message":"one"}"#[..],
            &br#"{"id":"b","timestamp":1,"message":"two"}"#[..],
        );
        for (event, why) in BROKEN {
            let found = sorted(&[one, event, two, event]);
            let expected = (vec!["one".to_owned(), "two".to_owned()], vec![(why, 1), (why, 2)]);
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(event));
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced_in_a_message_and_refused_around_the_events() {
        let found = sorted(&[b"{\"id\":\"a\",\"timestamp\":0,\"message\":\"a\xff\xfe\xc3'\xc3\xa9'\"}"]);
        assert_eq!(found, (vec!["a\u{fffd}\u{fffd}\u{fffd}'é'".to_owned()], vec![]));
        // In a key that nobody reads.
        let found = sorted(&[b"{\"id\":\"a\",\"timestamp\":0,\"message\":\"a\",\"b\":\"\xff\"}"]);
        assert_eq!(found, (vec!["a".to_owned()], vec![]));
        let json =
            b"{\"messageType\":\"DATA_MESSAGE\",\"logGroup\":\"\xff\",\"logStream\":\"\",\"logEvents\":[]}";
        assert!(matches!(payload(json), Err(PayloadError::Json { what: "no JSON", .. })));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason_and_nothing_of_what_it_holds() {
        let json = |what, column| PayloadError::Json { what, line: 1, column };
        let another = "a field is missing, twice there, or of another type";
        let missing = "logGroup, logStream or logEvents is missing";
        let deep = format!("{{\"secret\":{}", "[".repeat(1000));
        let cases: [(&[u8], PayloadError); 14] = [
            (b"", json("it ends too early", 0)),
            (b"{\"a\"", json("it ends too early", 4)),
            (b"{secret}", json("no JSON", 2)),
            (b"{\"messageType\":1}", json(another, 16)),
            (b"{\"owner\":\"secret\",\"owner\":\"secret\"}", json(another, 25)),
            (b"{\"logEvents\":\"secret\"}", json(another, 21)),
            (b"{\"logEvents\":[{\"id\":\"secret\"},]}", json("no JSON", 31)),
            (b"{\"logEvents\":[{\"id\":\"secret\"}]}", PayloadError::MessageType),
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
                r#"{{{head}"messageType":"DATA_MESSAGE","logGroup":"g","logStream":"s","logEvents":[{{"id":"i","timestamp":1,"message":"{}"}}]}}"#,
                parts.concat()
            );
            let bytes = json.as_bytes().get(..json.len().saturating_sub(cut / 40)).unwrap();
            match (payload(bytes), plain(bytes)) {
                (Ok(Payload::Data(data)), None) => {
                    // The one thing that is read and that serde_json refuses: half of a pair.
                    prop_assert!(json.contains("\\ud83d") || json.contains("\\ude00"));
                    prop_assert!(data.events[0].message.contains(char::REPLACEMENT_CHARACTER) && data.broken.is_empty());
                }
                (found, expected) => prop_assert_eq!(found.ok(), expected, "{}", json),
            }
        }

        #[test]
        fn one_broken_event_never_loses_a_neighbour(
            count in 0_usize..20,
            at in 0_usize..20,
            which in 0..BROKEN.len(),
            noise in prop::collection::vec(
                select(&NOISE[..]),
                0..4,
            ),
        ) {
            let at = at.min(count);
            let event = |number: usize| {
                let head = format!(r#"{{"id":"e{number}","timestamp":{number},"message":"{number} "#);
                [head.as_bytes(), &noise.concat(), b"\"}"].concat()
            };
            let mut events: Vec<Vec<u8>> = (0..count).map(event).collect();
            let (messages, broken) = sorted(&events.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!((messages.len(), broken), (count, vec![]));
            let (json, why) = BROKEN[which];
            events.insert(at, json.to_vec());
            let found = sorted(&events.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(found, (messages, vec![(why, at)]));
        }
    }
}
