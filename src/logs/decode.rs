//! Payloads of CloudWatch Logs subscriptions, in every wrapping that they come in.
//!
//! The payload is a JSON object, by itself or as gzip. A Lambda function gets that as base64 in `awslogs.data`, a Kinesis or
//! Firehose record as base64. Source: the subscription filters page of the CloudWatch Logs user guide.

use crate::net::gzip::{self, InflateError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Base64 in a Lambda event around gzip, in a delivery that is gzip again: there is no honest payload with more layers.
const MOST_LAYERS: usize = 5;

/// What one delivery holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// CloudWatch looks whether somebody listens. There is nothing in it.
    Control,
    /// Log events.
    Data(Data),
}

/// Log events of one stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Data {
    /// Account that the log belongs to.
    pub owner: String,
    /// Log group.
    pub log_group: String,
    /// Log stream; for RDS the instance.
    pub log_stream: String,
    /// In their order in the stream.
    pub events: Vec<LogEvent>,
}

/// One log event. A statement may have several, and one may hold several statements.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct LogEvent {
    /// The same in every delivery of it.
    pub id: String,
    /// Milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// The text.
    pub message: String,
}

/// Why a payload could not be read. Nothing of what it holds is in the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Gzip that is none, or is too large.
    #[error("{0}")]
    Gzip(#[from] InflateError),
    /// No base64.
    #[error("not base64: wrong at byte {0}")]
    Base64(usize),
    /// No JSON, or not of this shape.
    #[error("no subscription payload: {what} at line {line} column {column}")]
    Json {
        /// What is wrong with it.
        what: &'static str,
        /// Line of the JSON text.
        line: usize,
        /// Column of the JSON text.
        column: usize,
    },
    /// A `messageType` that is not documented.
    #[error("messageType is neither DATA_MESSAGE nor CONTROL_MESSAGE")]
    MessageType,
    /// Gzip in base64 in gzip, and so on.
    #[error("more than {MOST_LAYERS} wrappings around the payload")]
    Layers,
    /// Neither gzip, base64 nor JSON begins like this.
    #[error("neither JSON, base64 nor gzip")]
    Unknown,
}

/// Takes off the wrappings and reads the payload. No wrapping may hold more than `most` bytes.
pub fn decode(body: &[u8], most: usize) -> Result<Payload, DecodeError> {
    let mut unwrapped;
    let mut body = body.trim_ascii();
    for _ in 0..MOST_LAYERS {
        unwrapped = match body.first() {
            _ if body.starts_with(&gzip::MAGIC) => gzip::inflate(body, most)?,
            Some(b'{') => match object(body)? {
                Object::Payload(payload) => return Ok(payload),
                Object::Wrapped(data) => base64(data.as_bytes())?,
            },
            // Base64 of gzip begins with H4, of JSON with e or w.
            Some(first) if first.is_ascii_alphanumeric() => base64(body)?,
            _ => return Err(DecodeError::Unknown),
        };
        body = unwrapped.trim_ascii();
    }
    Err(DecodeError::Layers)
}

fn base64(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
    // A file of base64 is usually cut into lines.
    let joined: Vec<u8>;
    let text = if text.contains(&b'\n') {
        joined = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        joined.as_slice()
    } else {
        text
    };
    STANDARD.decode(text).map_err(|error| {
        DecodeError::Base64(match error {
            InvalidByte(at, _) | InvalidLastSymbol(at, _) => at,
            InvalidLength(_) | InvalidPadding => text.len(),
        })
    })
}

enum Object {
    Payload(Payload),
    /// The base64 of a Lambda event.
    Wrapped(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    awslogs: Option<Awslogs>,
    message_type: Option<String>,
    #[serde(default)]
    owner: String,
    log_group: Option<String>,
    log_stream: Option<String>,
    log_events: Option<Vec<LogEvent>>,
}

#[derive(Deserialize)]
struct Awslogs {
    data: String,
}

fn object(body: &[u8]) -> Result<Object, DecodeError> {
    let fields: Fields = serde_json::from_slice(body).map_err(|error| {
        // serde's words repeat what stands there, which may be anything.
        let what = match error.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Data => "a field is missing, twice there, or of another type",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
        };
        DecodeError::Json { what, line: error.line(), column: error.column() }
    })?;
    if let Some(Awslogs { data }) = fields.awslogs {
        return Ok(Object::Wrapped(data));
    }
    let payload = match fields.message_type.as_deref() {
        Some("CONTROL_MESSAGE") => Payload::Control,
        Some("DATA_MESSAGE") => {
            let (Some(log_group), Some(log_stream), Some(events)) =
                (fields.log_group, fields.log_stream, fields.log_events)
            else {
                let what = "logGroup, logStream or logEvents is missing";
                return Err(DecodeError::Json { what, line: 1, column: 1 });
            };
            Payload::Data(Data { owner: fields.owner, log_group, log_stream, events })
        }
        _ => return Err(DecodeError::MessageType),
    };
    Ok(Object::Payload(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"/aws/rds/instance/a/slowquery",
        "logStream":"a","subscriptionFilters":["all"],"logEvents":[{"id":"7","timestamp":1764000000123,"message":"é\n'x'"}]}"#;
    const CAP: usize = 100_000;

    fn expected() -> Payload {
        let event = LogEvent { id: "7".into(), timestamp: 1_764_000_000_123, message: "é\n'x'".into() };
        let log_group = "/aws/rds/instance/a/slowquery".into();
        Payload::Data(Data { owner: "1".into(), log_group, log_stream: "a".into(), events: vec![event] })
    }

    #[test]
    fn every_wrapping_that_senders_use_is_taken_off() {
        let packed = gzip::compress(PLAIN.as_bytes());
        let text = STANDARD.encode(&packed);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        let lambda = format!(r#"{{"awslogs":{{"data":"{text}"}}}}"#);
        let all: [&[u8]; 8] = [
            PLAIN.as_bytes(),
            format!("\n {PLAIN}\n").leak().as_bytes(),
            &packed,
            text.as_bytes(),
            lines.join("\n").leak().as_bytes(),
            lambda.as_bytes(),
            &gzip::compress(lambda.as_bytes()),
            STANDARD.encode(PLAIN).leak().as_bytes(),
        ];
        for (at, body) in all.into_iter().enumerate() {
            assert_eq!(decode(body, CAP), Ok(expected()), "wrapping {at}");
        }
    }

    #[test]
    fn a_control_message_holds_nothing() {
        let text = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","logEvents":[]}"#;
        assert_eq!(decode(text.as_bytes(), CAP), Ok(Payload::Control));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        let json = |what, column| DecodeError::Json { what, line: 1, column };
        let mut nested = PLAIN.as_bytes().to_vec();
        for _ in 0..MOST_LAYERS {
            nested = gzip::compress(&nested);
        }
        let cases: [(&[u8], DecodeError); 10] = [
            (b"", DecodeError::Unknown),
            (b"\xff\xfe", DecodeError::Unknown),
            (b"\x1f\x8bnot", DecodeError::Gzip(InflateError::Damaged)),
            (b"abc*", DecodeError::Base64(3)),
            (b"{\"a\"", json("it ends too early", 4)),
            (b"{\"messageType\":1}", json("a field is missing, twice there, or of another type", 16)),
            (b"{\"messageType\":\"X\"}", DecodeError::MessageType),
            (b"{}", DecodeError::MessageType),
            (b"{\"messageType\":\"DATA_MESSAGE\"}", json("logGroup, logStream or logEvents is missing", 1)),
            (&nested, DecodeError::Layers),
        ];
        for (body, error) in cases {
            assert_eq!(decode(body, CAP), Err(error), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_bomb_is_refused_in_every_layer() {
        let bomb = gzip::compress(&vec![b' '; 10 * CAP]);
        assert_eq!(decode(&bomb, CAP), Err(DecodeError::Gzip(InflateError::TooLarge(CAP))));
        let wrapped = gzip::compress(STANDARD.encode(&bomb).as_bytes());
        assert_eq!(decode(&wrapped, CAP), Err(DecodeError::Gzip(InflateError::TooLarge(CAP))));
    }

    #[test]
    fn nothing_of_a_payload_is_repeated_in_an_error() {
        for body in
            [&b"{\"messageType\":\"secret\"}"[..], b"secret!", b"{\"logEvents\":\"secret\"}", b"{secret}"]
        {
            assert!(!decode(body, CAP).unwrap_err().to_string().contains("secret"));
        }
    }
}
