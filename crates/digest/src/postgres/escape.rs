//! The escapes of `log_line_prefix` and the values they stand for
//! (<https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-LOG-LINE-PREFIX>).

use std::borrow::Cow;
use std::net::IpAddr;

use super::{number, time};

/// An escape whose end is known from its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    Time,
    Epoch,
    SessionStart,
    Remote,
    Host,
    Pid,
    SqlState,
    QueryId,
    Number,
    Session,
}

/// What a prefix says; what it has no escape for is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Values<'a> {
    pub(super) time: Option<i64>,
    pub(super) pid: Option<u32>,
    pub(super) user: &'a [u8],
    pub(super) db: &'a [u8],
    pub(super) host: &'a [u8],
    pub(super) port: Option<u16>,
    pub(super) sqlstate: &'a [u8],
    pub(super) query_id: Option<i64>,
}

impl<'a> Values<'a> {
    /// A name or value as messages have it.
    pub(super) fn known(value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        super::known(Cow::Borrowed(value))
    }
}

/// Reads the value at the start of a text into its place, with the spaces that fill it up to its width: what follows it.
pub(super) fn read<'a>(
    escape: Escape,
    width: i16,
    text: &'a [u8],
    values: &mut Values<'a>,
) -> Option<&'a [u8]> {
    if width == 0 {
        return value(escape, text, values);
    }
    let start = if width > 0 { text.trim_ascii_start() } else { text };
    let rest = value(escape, start, values)?;
    let missing = usize::from(width.unsigned_abs()).saturating_sub(start.len() - rest.len());
    if width > 0 || missing == 0 {
        return Some(rest);
    }
    let (spaces, rest) = rest.split_at_checked(missing)?;
    spaces.iter().all(|byte| *byte == b' ').then_some(rest)
}

fn value<'a>(escape: Escape, text: &'a [u8], values: &mut Values<'a>) -> Option<&'a [u8]> {
    match escape {
        Escape::Time => {
            let (time, rest) = time::log_time(text)?;
            values.time = time;
            Some(rest)
        }
        Escape::Epoch => {
            let (time, rest) = time::epoch(text)?;
            values.time = time;
            Some(rest)
        }
        Escape::SessionStart => Some(time::log_time(text)?.1),
        Escape::Remote => remote(text, values),
        Escape::Host => {
            let (host, rest) = host(text)?;
            values.host = host;
            Some(rest)
        }
        Escape::Pid => {
            let (pid, rest) = span(text, |byte| byte.is_ascii_digit())?;
            values.pid = Some(number(pid)?);
            Some(rest)
        }
        Escape::SqlState => {
            let (state, rest) = text.split_at_checked(5)?;
            values.sqlstate = state;
            state.iter().all(u8::is_ascii_alphanumeric).then_some(rest)
        }
        Escape::QueryId => {
            let (id, rest) = span(text, |byte| byte.is_ascii_digit() || byte == b'-')?;
            values.query_id = number(id).filter(|id| *id != 0);
            Some(rest)
        }
        // `%P` is empty in processes without a leader.
        Escape::Number => Some(span(text, |byte| byte.is_ascii_digit())?.1),
        Escape::Session => {
            Some(span(text, |byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b'/' | b'-'))?.1)
        }
    }
}

/// `%r`: `10.0.0.1(5432)`, `::1(5432)`, `db.example.com(5432)`, `[local]`, or nothing in processes without a client.
fn remote<'a>(text: &'a [u8], values: &mut Values<'a>) -> Option<&'a [u8]> {
    if let Some(rest) = text.strip_prefix(b"[local]") {
        values.host = text.get(..b"[local]".len())?;
        return Some(rest);
    }
    let (host, rest) = span(text, in_host)?;
    let port = rest.strip_prefix(b"(").and_then(|rest| span(rest, |byte| byte.is_ascii_digit()));
    let Some((port, rest)) = port.and_then(|(port, rest)| Some((port, rest.strip_prefix(b")")?))) else {
        (values.host, values.port) = (b"", None);
        return Some(text);
    };
    (values.host, values.port) = (host, number(port));
    Some(rest)
}

/// `%h`. A prefix may have a colon behind it, so of an address with colons the longest valid one counts.
fn host(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.starts_with(b"[local]") {
        return text.split_at_checked(b"[local]".len());
    }
    let (mut host, _) = span(text, in_host)?;
    while let Some(colon) = memchr::memrchr(b':', host) {
        let address = std::str::from_utf8(host).ok().and_then(|host| host.parse::<IpAddr>().ok());
        if address.is_some() {
            break;
        }
        host = host.get(..colon)?;
    }
    text.split_at_checked(host.len())
}

fn in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_' | b'%')
}

fn span(text: &[u8], belongs: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| !belongs(*byte)).unwrap_or(text.len());
    text.split_at_checked(end)
}
