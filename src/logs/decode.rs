//! Payloads of CloudWatch Logs subscriptions, in every wrapping that they come in.
//!
//! The payload is a JSON object, by itself or as gzip. A Lambda function gets that as base64 in `awslogs.data`, a Kinesis or
//! Firehose record as base64. Source: the subscription filters page of the CloudWatch Logs user guide.

use crate::net::gzip::{self, InflateError};
use digest::payload::{Payload, PayloadError, decode_base64, payload};

/// Base64 in a Lambda event around gzip, in a delivery that is gzip again: there is no honest payload with more layers.
const MOST_LAYERS: usize = 5;

/// Why a payload could not be read. Nothing of what it holds is in the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Gzip that is none, or is too large.
    #[error("{0}")]
    Gzip(#[from] InflateError),
    /// No base64.
    #[error("not base64: wrong at byte {0}")]
    Base64(usize),
    /// No JSON, or not of the documented shape.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Gzip in base64 in gzip, and so on.
    #[error("more than {MOST_LAYERS} wrappings around the payload")]
    Layers,
    /// Neither gzip, base64 nor JSON begins like this.
    #[error("neither JSON, base64 nor gzip")]
    Unknown,
}

/// Takes off the wrappings and hands on the payload. No wrapping may hold more than `most` bytes.
///
/// # Errors
/// When it cannot be read. Then nothing is handed on.
pub fn decode<T>(body: &[u8], most: usize, take: impl FnOnce(Payload<'_>) -> T) -> Result<T, DecodeError> {
    unwrap(body, most, MOST_LAYERS, take)
}

/// Each layer stays in memory while the payload borrows from it.
fn unwrap<T>(
    body: &[u8],
    most: usize,
    layers: usize,
    take: impl FnOnce(Payload<'_>) -> T,
) -> Result<T, DecodeError> {
    let body = body.trim_ascii();
    let Some(layers) = layers.checked_sub(1) else { return Err(DecodeError::Layers) };
    let unwrapped = match body.first() {
        _ if body.starts_with(&gzip::MAGIC) => gzip::inflate(body, most)?,
        Some(b'{') => match payload(body)? {
            Payload::Wrapped(data) => base64(data.as_bytes())?,
            payload => return Ok(take(payload)),
        },
        // Base64 of gzip begins with H4, of JSON with e or w.
        Some(first) if first.is_ascii_alphanumeric() => base64(body)?,
        _ => return Err(DecodeError::Unknown),
    };
    // Without the box each layer would be a function of its own, without end.
    let take: Box<dyn FnOnce(Payload<'_>) -> T + '_> = Box::new(take);
    unwrap(&unwrapped, most, layers, take)
}

fn base64(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    decode_base64(text).map_err(DecodeError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use digest::payload::{Data, LogEvent};

    const PLAIN: &str = r#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"/aws/rds/instance/a/slowquery",
        "logStream":"a","subscriptionFilters":["all"],"logEvents":[{"id":"7","timestamp":1764000000123,"message":"é\n'x'"}]}"#;
    const CAP: usize = 100_000;

    /// What a body holds, as text.
    fn read(body: &[u8]) -> Result<String, DecodeError> {
        decode(body, CAP, |payload| format!("{payload:?}"))
    }

    fn expected() -> String {
        let event = LogEvent { id: "7".into(), timestamp: 1_764_000_000_123, message: "é\n'x'".into() };
        let log_group = "/aws/rds/instance/a/slowquery".into();
        let data = Data {
            owner: "1".into(),
            log_group,
            log_stream: "a".into(),
            events: vec![event],
            broken: vec![],
        };
        format!("{:?}", Payload::Data(data))
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
            assert_eq!(read(body), Ok(expected()), "wrapping {at}");
        }
    }

    #[test]
    fn a_control_message_holds_nothing() {
        let text = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","logEvents":[]}"#;
        assert_eq!(read(text.as_bytes()), Ok("Control".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        let json = |what, column| DecodeError::Payload(PayloadError::Json { what, line: 1, column });
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
            (b"{\"messageType\":\"X\"}", DecodeError::Payload(PayloadError::MessageType)),
            (b"{}", DecodeError::Payload(PayloadError::MessageType)),
            (b"{\"messageType\":\"DATA_MESSAGE\"}", json("logGroup, logStream or logEvents is missing", 1)),
            (&nested, DecodeError::Layers),
        ];
        for (body, error) in cases {
            assert_eq!(read(body), Err(error), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_bomb_is_refused_in_every_layer() {
        let bomb = gzip::compress(&vec![b' '; 10 * CAP]);
        assert_eq!(read(&bomb), Err(DecodeError::Gzip(InflateError::TooLarge(CAP))));
        let wrapped = gzip::compress(STANDARD.encode(&bomb).as_bytes());
        assert_eq!(read(&wrapped), Err(DecodeError::Gzip(InflateError::TooLarge(CAP))));
    }

    #[test]
    fn nothing_of_a_payload_is_repeated_in_an_error() {
        for body in
            [&b"{\"messageType\":\"secret\"}"[..], b"secret!", b"{\"logEvents\":\"secret\"}", b"{secret}"]
        {
            assert!(!read(body).unwrap_err().to_string().contains("secret"));
        }
    }
}
