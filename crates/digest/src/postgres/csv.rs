//! `csvlog`: comma-separated records (<https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-CSVLOG>).

use std::borrow::Cow;

use super::{Message, Severity, Step, Text, known, number, time};

/// Columns since `PostgreSQL` 14; those that a later version appends are of no use here.
const COLUMNS: usize = 26;
/// Columns up to `PostgreSQL` 12. Version 13 appended `backend_type`, 14 `leader_pid` and `query_id`.
const FEWEST: usize = 23;

/// A field without its quotes.
#[derive(Clone, Copy, Default)]
struct Raw<'a> {
    text: &'a [u8],
    /// It holds quotes, which are doubled.
    doubled: bool,
}

/// How a record ended.
enum End {
    /// With so many fields, so many bytes long.
    Whole {
        count: usize,
        used: usize,
    },
    Broken,
    NeedMore,
}

/// A line that does not begin with a time is no record: it is the tail of one whose start is missing. So after a record
/// that is broken or too long, reading goes on at the next line with a time, which might stand inside that record.
pub(super) fn next(text: Text<'_>) -> Step<'_> {
    let Some(line) = text.line(0) else {
        return Step::NeedMore;
    };
    let Some((time, _)) = time::log_time(line).filter(|(_, rest)| rest.starts_with(b",")) else {
        return Step::Skip(line.len());
    };
    let mut fields = [Raw::default(); COLUMNS];
    match record(text, &mut fields) {
        End::NeedMore => Step::NeedMore,
        End::Whole { count, used } if count >= FEWEST => match message(&fields, time) {
            Some(message) => Step::Message { message, used },
            None => Step::Skip(used),
        },
        End::Whole { .. } | End::Broken => Step::Skip(line.len()),
    }
}

fn record<'a>(text: Text<'a>, fields: &mut [Raw<'a>; COLUMNS]) -> End {
    let (mut count, mut at) = (0, 0);
    loop {
        let Some(rest) = text.bytes.get(at..) else {
            return End::Broken;
        };
        let quoted = rest.first() == Some(&b'"');
        let found = if quoted { quoted_field(rest, text.last) } else { bare_field(rest, text.last) };
        let Some((field, length)) = found else {
            return if text.last { End::Broken } else { End::NeedMore };
        };
        if let Some(place) = fields.get_mut(count) {
            *place = field;
        }
        count += 1;
        at += length;
        match text.bytes.get(at) {
            Some(b',') => at += 1,
            Some(b'\n') => return End::Whole { count, used: at + 1 },
            // The end of the log; a record at the limit is cut.
            None if !text.full => return End::Whole { count, used: at },
            Some(_) | None => return End::Broken,
        }
    }
}

/// The field and its length with both quotes; `None`: its end is not there.
fn quoted_field(rest: &[u8], last: bool) -> Option<(Raw<'_>, usize)> {
    let (mut at, mut doubled) = (1, false);
    loop {
        at += memchr::memchr(b'"', rest.get(at..)?)?;
        match rest.get(at + 1) {
            Some(b'"') => doubled = true,
            None if !last => return None,
            Some(_) | None => return Some((Raw { text: rest.get(1..at)?, doubled }, at + 1)),
        }
        at += 2;
    }
}

/// Short all of them, so that a plain loop is the fastest.
fn bare_field(rest: &[u8], last: bool) -> Option<(Raw<'_>, usize)> {
    let end = rest.iter().position(|byte| matches!(byte, b',' | b'\n')).or(last.then_some(rest.len()))?;
    Some((Raw { text: rest.get(..end)?, doubled: false }, end))
}

fn message<'a>(fields: &[Raw<'a>; COLUMNS], time: Option<i64>) -> Option<Message<'a>> {
    // The columns in their order, as the manual lists them; `_` are those without a use.
    let [
        _,
        user,
        db,
        pid,
        connection,
        _,
        _,
        _,
        _,
        _,
        _,
        severity,
        sqlstate,
        main,
        detail,
        hint,
        _,
        _,
        context,
        statement,
        _,
        _,
        _,
        _,
        _,
        query_id,
    ] = *fields;
    let mut message = Message::new(Severity::from_word(severity.text)?);
    let (host, port) = host_and_port(connection.text);
    message.time = time;
    message.pid = number(pid.text);
    message.user = known(user.value());
    message.db = known(db.value());
    message.host = known(Cow::Borrowed(host));
    message.port = port;
    message.sqlstate = known(sqlstate.value());
    message.message = main.value();
    message.detail = detail.present();
    message.hint = hint.present();
    message.context = context.present();
    message.statement = statement.present();
    message.query_id = number(query_id.text).filter(|id| *id != 0);
    Some(message)
}

/// `::1:5432`, `10.0.0.1:5432`, `[local]`.
fn host_and_port(text: &[u8]) -> (&[u8], Option<u16>) {
    let split = memchr::memrchr(b':', text).and_then(|at| text.split_at_checked(at));
    match split.map(|(host, port)| (host, port.strip_prefix(b":").and_then(number))) {
        Some((host, Some(port))) => (host, Some(port)),
        Some((_, None)) | None => (text, None),
    }
}

impl<'a> Raw<'a> {
    fn value(self) -> Cow<'a, [u8]> {
        if !self.doubled {
            return Cow::Borrowed(self.text);
        }
        let mut value = Vec::with_capacity(self.text.len());
        let mut rest = self.text;
        while let Some((before, after)) =
            memchr::memchr(b'"', rest).and_then(|at| rest.split_at_checked(at + 1))
        {
            value.extend_from_slice(before);
            rest = after.strip_prefix(b"\"").unwrap_or(after);
        }
        value.extend_from_slice(rest);
        Cow::Owned(value)
    }

    /// A text that the message has: the server leaves out what it has not, and never writes an empty one.
    fn present(self) -> Option<Cow<'a, [u8]>> {
        (!self.text.is_empty()).then(|| self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{End, Format, next_message};
    use super::Step;

    const START: &str = "2026-11-24 17:13:29.985 UTC,";

    fn read(log: &str, end: End) -> Step<'_> {
        next_message(log.as_bytes(), end, &Format::Csv)
    }

    /// A record with this text as its message and so many columns.
    fn record(main: &str, columns: usize) -> String {
        let more = ",".repeat(columns - 14);
        format!(
            "{START}\"u\",\"d\",7,\"::1:54\",6b.18,4,\"SELECT\",2026-11-24 17:13:29 UTC,3/0,0,LOG,00000,{main}{more}\n"
        )
    }

    #[test]
    fn a_record_is_read_in_every_version() {
        for columns in [23, 24, 26, 27] {
            let log = record("\"a \"\"b\"\", c\nd\"\"\"", columns) + START;
            let Step::Message { message, used } = read(&log, End::OfPiece) else { panic!("{log}") };
            assert_eq!(used, log.len() - START.len());
            assert_eq!(message.message.as_ref(), b"a \"b\", c\nd\"");
            assert_eq!((message.user.as_deref(), message.db.as_deref()), (Some(&b"u"[..]), Some(&b"d"[..])));
            assert_eq!((message.host.as_deref(), message.port), (Some(&b"::1"[..]), Some(54)));
            assert_eq!((message.pid, message.sqlstate.as_deref()), (Some(7), Some(&b"00000"[..])));
            assert_eq!((message.time, message.detail), (Some(1_795_540_409_985_000), None));
        }
    }

    #[test]
    fn what_is_no_record_is_skipped_up_to_the_next_line() {
        let good = record("\"x\"", 26);
        let cut = "2026-11-24 17:13:29.985 UTC,\"u\",\"d\",7,\"[local]\",6b.18,4,\"SELECT";
        let short = record("\"x\"", 22);
        for bad in ["tail of a text\",,,\n", "\n", &format!("{cut}\n"), &short] {
            let log = format!("{bad}{good}");
            assert_eq!(read(&log, End::OfInput), Step::Skip(bad.len()), "{bad}");
        }
        let localised = record("\"x\"", 26).replace("LOG", "LOGG");
        assert_eq!(read(&localised, End::OfInput), Step::Skip(localised.len()));
        assert_eq!(read(cut, End::OfInput), Step::Skip(cut.len()));
    }

    #[test]
    fn a_record_needs_its_end() {
        let whole = record("\"x\"\"y\"", 26);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end], End::OfPiece), Step::NeedMore, "{}", &whole[..end]);
        }
    }
}
