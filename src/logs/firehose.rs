//! Deliveries of Amazon Data Firehose to an HTTP endpoint, and the answers that it understands.
//!
//! <https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html>

use serde::{Deserialize, Serialize};

/// Of an answer Firehose keeps so much.
const LONGEST_WORDS: usize = 8_192;

/// A delivery.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The same over retries; the answer has to have it.
    pub request_id: String,
    /// Each by itself: CloudWatch puts one payload into each.
    pub records: Vec<Record>,
}

/// One record.
#[derive(Debug, Deserialize)]
pub struct Record {
    /// Base64 of at most 1,024,000 bytes.
    pub data: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    request_id: &'a str,
    /// Milliseconds since 1970.
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
}

/// Reads a delivery.
///
/// # Errors
/// In words, without anything of the body.
pub fn read(body: &[u8]) -> Result<Delivery, String> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("no Firehose delivery: wrong JSON, or a field is missing, at line {line} column {column}")
    })
}

/// The body of an answer; `error` says what went wrong, and the status says the same.
pub fn answer(request_id: &str, now: jiff::Timestamp, error: Option<&str>) -> Vec<u8> {
    let error_message = error.map(|words| words.get(..LONGEST_WORDS).unwrap_or(words));
    let answer = Answer { request_id, timestamp: now.as_millisecond(), error_message };
    // Texts and numbers only: there is nothing that could fail.
    serde_json::to_vec(&answer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_id_of_the_request() {
        let now = jiff::Timestamp::from_millisecond(1_764_000_000_123).unwrap();
        let check = |error, expected: &str| {
            assert_eq!(String::from_utf8(answer("r-1", now, error)).unwrap(), expected);
        };
        check(None, r#"{"requestId":"r-1","timestamp":1764000000123}"#);
        check(Some("no"), r#"{"requestId":"r-1","timestamp":1764000000123,"errorMessage":"no"}"#);
    }

    #[test]
    fn what_is_no_delivery_is_refused_without_its_words() {
        for body in [
            "",
            "{",
            r#"{"requestId":"secret"}"#,
            r#"{"requestId":1,"records":[]}"#,
            r#"{"records":["secret"]}"#,
        ] {
            let words = read(body.as_bytes()).unwrap_err();
            assert!(!words.contains("secret"), "{words}");
        }
        let delivery = read(br#"{"requestId":"r","timestamp":1,"records":[{"data":"YQ=="}]}"#).unwrap();
        assert_eq!((delivery.request_id.as_str(), delivery.records.len()), ("r", 1));
    }
}
