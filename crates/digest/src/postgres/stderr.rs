//! `stderr` logs: lines with a prefix; a line that begins with a TAB continues the one before it.
//!
//! <https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-LOG-LINE-PREFIX>

use std::borrow::Cow;

use super::escape::Values;
use super::prefix::{Head, Level};
use super::{Field, Message, Prefix, Rest, Step, Text};

pub(super) fn next<'a>(text: Text<'a>, prefix: &Prefix) -> Step<'a> {
    let Some(line) = text.line(0) else {
        return Step::NeedMore;
    };
    let Some(head) = prefix.head(line) else {
        return Step::Skip(line.len());
    };
    let Some(used) = continued(text, line.len()) else {
        return Step::NeedMore;
    };
    let main = unfolded(text.bytes.get(head.text..used).unwrap_or_default());
    match head.level {
        Level::Field(field) => Step::Rest { rest: Rest { pid: head.values.pid, field, text: main }, used },
        Level::Severity(severity) => {
            let mut message = Message::new(severity);
            message.message = main;
            with_values(&mut message, &head);
            with_lines(message, used, text, prefix)
        }
    }
}

/// Where the lines that continue the one before `from` end.
fn continued(text: Text<'_>, mut from: usize) -> Option<usize> {
    loop {
        match text.bytes.get(from) {
            Some(b'\t') => from += text.line(from)?.len(),
            Some(_) => return Some(from),
            None => return text.last.then_some(from),
        }
    }
}

/// Takes the lines behind the message in that belong to it.
fn with_lines<'a>(mut message: Message<'a>, from: usize, text: Text<'a>, prefix: &Prefix) -> Step<'a> {
    let (mut used, mut query, mut location) = (from, false, false);
    loop {
        let Some(line) = text.line(used) else {
            if text.last {
                break;
            }
            return Step::NeedMore;
        };
        let Some(Head { values, level: Level::Field(field), text: start }) = prefix.head(line) else {
            break;
        };
        if values.pid != message.pid {
            break;
        }
        let Some(end) = continued(text, used + line.len()) else {
            return Step::NeedMore;
        };
        let value = Some(unfolded(text.bytes.get(used + start..end).unwrap_or_default()));
        match field {
            Field::Detail => message.detail = value,
            Field::Hint => message.hint = value,
            Field::Context => message.context = value,
            Field::Statement => message.statement = value,
            Field::Query => query = true,
            Field::Location => location = true,
            Field::Backtrace => {}
        }
        used = end;
    }
    message.cut = text.full && used == text.bytes.len() && !text.bytes.ends_with(b"\n");
    if query || message.statement.is_some() {
        without_position(&mut message.message);
    }
    if location {
        with_sqlstate(&mut message);
    }
    Step::Message { message, used }
}

fn with_values<'a>(message: &mut Message<'a>, head: &Head<'a>) {
    let values = head.values;
    message.time = values.time;
    message.pid = values.pid;
    message.user = Values::known(values.user);
    message.db = Values::known(values.db);
    message.host = Values::known(values.host);
    message.port = values.port;
    message.sqlstate = Values::known(values.sqlstate);
    message.query_id = values.query_id;
}

/// A text as it was before the server put a TAB behind each line break.
fn unfolded(text: &[u8]) -> Cow<'_, [u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if memchr::memchr(b'\n', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = memchr::memchr(b'\n', rest).and_then(|at| rest.split_at_checked(at + 1))
    {
        out.extend_from_slice(before);
        rest = after.strip_prefix(b"\t").unwrap_or(after);
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// Removes ` at character 15`, which the other formats have apart. Only errors in a statement have it.
fn without_position(message: &mut Cow<'_, [u8]>) {
    let key = b" at character ";
    let digits = message.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let end = message.len() - digits;
    if digits == 0 || !message.get(..end).is_some_and(|text| text.ends_with(key)) {
        return;
    }
    match message {
        Cow::Borrowed(text) => *text = text.get(..end - key.len()).unwrap_or(text),
        Cow::Owned(text) => text.truncate(end - key.len()),
    }
}

/// `log_error_verbosity = verbose` puts the SQLSTATE before the text, `42P01: `, and adds a line `LOCATION`.
fn with_sqlstate(message: &mut Message<'_>) {
    let Some((state, rest)) = message.message.split_at_checked(5) else {
        return;
    };
    if !state.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        || !rest.starts_with(b": ")
    {
        return;
    }
    match &mut message.message {
        Cow::Borrowed(text) => {
            message.sqlstate = text.get(..5).map(Cow::Borrowed);
            *text = text.get(7..).unwrap_or_default();
        }
        Cow::Owned(text) => {
            message.sqlstate = text.get(..5).map(|state| Cow::Owned(state.to_vec()));
            text.drain(..7);
        }
    }
}
