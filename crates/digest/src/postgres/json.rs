//! `jsonlog`: a JSON object a line (<https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-JSONLOG>).
//!
//! Read by hand, as a log has texts in the encodings of all its databases, and JSON libraries refuse what is not UTF-8.

use std::borrow::Cow;

use super::{Message, Severity, Step, Text, known, number, time};

/// A value of the object. The server writes no other kinds.
enum Value<'a> {
    /// Between the quotes; `true`: with escapes.
    Text(&'a [u8], bool),
    /// A number, or a word.
    Bare(&'a [u8]),
}

pub(super) fn next(text: Text<'_>) -> Step<'_> {
    let Some(line) = text.line(0) else {
        return Step::NeedMore;
    };
    match message(line) {
        Some(message) => Step::Message { message, used: line.len() },
        None => Step::Skip(line.len()),
    }
}

fn message(line: &[u8]) -> Option<Message<'_>> {
    let mut rest = spaces(line).strip_prefix(b"{")?;
    let (mut message, mut severity) = (Message::new(Severity::Log), None);
    loop {
        let (key, _, after) = string(spaces(rest).strip_prefix(b"\"")?)?;
        let (value, after) = value(spaces(spaces(after).strip_prefix(b":")?))?;
        fill(&mut message, &mut severity, key, &value)?;
        rest = match spaces(after).split_first()? {
            (b',', after) => after,
            (b'}', after) if spaces(after).is_empty() => break,
            _ => return None,
        };
    }
    message.severity = severity?;
    // The server leaves out the code of success, and only that one.
    message.sqlstate.get_or_insert(Cow::Borrowed(b"00000"));
    Some(message)
}

/// Puts a value into its place. `None`: it is not what this key has.
fn fill<'a>(
    message: &mut Message<'a>,
    severity: &mut Option<Severity>,
    key: &[u8],
    value: &Value<'a>,
) -> Option<()> {
    match key {
        b"timestamp" => message.time = time::log_time(&value.text()?)?.0,
        b"pid" => message.pid = Some(number(value.bare()?)?),
        b"user" => message.user = known(value.text()?),
        b"dbname" => message.db = known(value.text()?),
        b"remote_host" => message.host = known(value.text()?),
        // A number since 15, but a text is no harm.
        b"remote_port" => message.port = number(&value.text()?),
        b"error_severity" => *severity = Some(Severity::from_word(&value.text()?)?),
        b"state_code" => message.sqlstate = known(value.text()?),
        b"message" => message.message = value.text()?,
        b"detail" => message.detail = Some(value.text()?),
        b"hint" => message.hint = Some(value.text()?),
        b"context" => message.context = Some(value.text()?),
        b"statement" => message.statement = Some(value.text()?),
        b"query_id" => message.query_id = number(value.bare()?).filter(|id| *id != 0),
        _ => {}
    }
    Some(())
}

impl<'a> Value<'a> {
    fn text(&self) -> Option<Cow<'a, [u8]>> {
        match *self {
            Self::Text(text, true) => unescaped(text).map(Cow::Owned),
            Self::Text(text, false) | Self::Bare(text) => Some(Cow::Borrowed(text)),
        }
    }

    fn bare(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bare(text) => Some(text),
            Self::Text(..) => None,
        }
    }
}

/// The text that begins behind a quote.
pub(super) fn text(behind_quote: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (text, escapes, _) = string(behind_quote)?;
    Value::Text(text, escapes).text()
}

fn value(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    if let Some(text) = text.strip_prefix(b"\"") {
        let (text, escapes, rest) = string(text)?;
        return Some((Value::Text(text, escapes), rest));
    }
    let bare = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    let end = text.iter().position(|byte| !bare(byte)).unwrap_or(text.len());
    let (text, rest) = text.split_at_checked(end)?;
    (!text.is_empty()).then_some((Value::Bare(text), rest))
}

/// The text up to its quote, whether it has escapes, and what follows the quote.
fn string(text: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (mut at, mut escapes) = (0, false);
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some((text.get(..at)?, escapes, text.get(at + 1..)?));
        }
        escapes = true;
        at += 2;
    }
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at_checked(at)?;
        out.extend_from_slice(plain);
        rest = match *escape {
            [_, b'u', ref digits @ ..] => code_point(digits, &mut out)?,
            [_, escaped, ref after @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'b' => 8,
                    b'f' => 12,
                    b'"' | b'\\' | b'/' => escaped,
                    _ => return None,
                });
                after
            }
            _ => return None,
        };
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// `00e9`, or two surrogates: `d83d\ude00`. A lone one is no character.
fn code_point<'a>(digits: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (mut code, mut rest) = hex(digits)?;
    if (0xD800..0xDC00).contains(&code)
        && let Some((low, after)) = rest.strip_prefix(b"\\u").and_then(hex)
        && (0xDC00..0xE000).contains(&low)
    {
        code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        rest = after;
    }
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn hex(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut code = 0;
    for digit in digits {
        code = code * 16 + char::from(*digit).to_digit(16)?;
    }
    Some((code, rest))
}

fn spaces(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::super::{End, Format, next_message};
    use super::*;

    fn read(line: &str) -> Step<'_> {
        next_message(line.as_bytes(), End::OfInput, &Format::Json)
    }

    fn check(members: &str, expected: &str) {
        let line = format!("{{\"error_severity\":\"LOG\",{members}}}\n");
        let Step::Message { message, used } = read(&line) else { panic!("{line}") };
        assert_eq!((String::from_utf8_lossy(&message.message).as_ref(), used), (expected, line.len()));
    }

    #[test]
    fn texts_lose_their_escapes() {
        check(r#""message":"""#, "");
        check(r#""message" : "a\"b\\c\/d\n\t\r\b\f" , "pid" : 5 "#, "a\"b\\c/d\n\t\r\u{8}\u{c}");
        check(r#""message":"\u0001\u00e9\uD83D\uDE00|\ud83d|\ud83d\u0041""#, "\u{1}é😀|\u{fffd}|\u{fffd}A");
        check(r#""message":"{\"error_severity\":\"ERROR\"}""#, "{\"error_severity\":\"ERROR\"}");
        check(r#""message":"x\\","hint":"\\\"""#, "x\\");
        check(r#""other":null,"ps":true,"line_num":-1.5e+3,"message":"x""#, "x");
    }

    #[test]
    fn what_is_not_a_message_is_skipped_as_a_line() {
        for line in [
            "\n",
            "{}\n",
            "{\"message\":\"no severity\"}\n",
            "{\"error_severity\":\"FEHLER\",\"message\":\"x\"}\n",
            "{\"error_severity\":\"LOG\",\"message\":\"cut\n",
            "{\"error_severity\":\"LOG\",\"message\":\"\\x\"}\n",
            "{\"error_severity\":\"LOG\",\"pid\":\"5\"}\n",
            "{\"error_severity\":\"LOG\"} x\n",
            "{\"error_severity\":\"LOG\",}\n",
            "{\"error_severity\":\"LOG\",\"a\":{}}\n",
            "text\n",
            "{\"error_severity\":\"LOG\",\"message\":\"\\",
        ] {
            let log =
                format!("{line}{}", if line.ends_with('\n') { "{\"error_severity\":\"LOG\"}\n" } else { "" });
            assert_eq!(read(&log), Step::Skip(line.len()), "{line}");
        }
    }
}
