//! `PostgreSQL` server logs as messages: the reader for all three formats, and what a message says about a statement.
//!
//! Formats: <https://www.postgresql.org/docs/current/runtime-config-logging.html>. The reader keeps no state: every call
//! looks at the start of what is left of the log. Words of severity are read in English only (`lc_messages`), and a line
//! in another language counts as skipped.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::event::{End, Event};
use crate::fingerprint::fingerprint;
use crate::lexer::Dialect;

mod csv;
mod escape;
mod joiner;
mod json;
mod prefix;
mod stderr;
mod time;
mod work;

pub use joiner::Joiner;
pub use prefix::Prefix;
pub use work::{Phase, Work};

/// A message of which the log holds more bytes than this is cut here (`stderr`), or skipped (`csvlog`, `jsonlog`): a
/// damaged log must not fill the memory. The caller's buffer has to have room for it.
pub const LARGEST_MESSAGE: usize = 16 << 20;

/// How the log is written (`log_destination`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines with a prefix; what RDS, Aurora and `CloudWatch` have.
    Stderr(Prefix),
    /// Comma-separated records: 23 columns up to `PostgreSQL` 12, 24 in 13, 26 since 14.
    Csv,
    /// A JSON object a line, since `PostgreSQL` 15.
    Json,
}

/// How severe a message is
/// (<https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-SEVERITY-LEVELS>).
///
/// It has no order, as there are two: for its log the server ranks `LOG` above `ERROR`, for clients below `INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// For developers; `DEBUG1` to `DEBUG5` too.
    Debug,
    /// Asked for by a user.
    Info,
    /// A help for users.
    Notice,
    /// Likely a fault of a user.
    Warning,
    /// The command ended.
    Error,
    /// For the administrator; statements and their durations too.
    Log,
    /// The session ended.
    Fatal,
    /// All sessions ended.
    Panic,
}

impl Severity {
    /// The server's own word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Log => "LOG",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
        }
    }

    fn from_word(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"LOG" => Self::Log,
            b"ERROR" => Self::Error,
            b"FATAL" => Self::Fatal,
            b"PANIC" => Self::Panic,
            b"WARNING" => Self::Warning,
            b"NOTICE" => Self::Notice,
            b"INFO" => Self::Info,
            b"DEBUG" | b"DEBUG1" | b"DEBUG2" | b"DEBUG3" | b"DEBUG4" | b"DEBUG5" => Self::Debug,
            _ => return None,
        })
    }
}

/// One message with all lines that belong to it. What the log does not say is `None`: `[unknown]` and empty names too.
/// Texts are bytes, as a log has the encodings of all its databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// When it was logged, in microseconds since 1970-01-01 UTC. `%t` has whole seconds, and the server takes them from a
    /// coarser clock: it may be a second before the other formats. `None` also if the log's time zone has an abbreviation
    /// of more than one meaning (`CST`, `IST`, `PST` and others).
    pub time: Option<i64>,
    /// How severe it is.
    pub severity: Severity,
    /// The server process.
    pub pid: Option<u32>,
    /// The account. In a `stderr` log `a@b@c` of `%u@%d` is user `a@b`, database `c`: nothing there tells more.
    pub user: Option<Cow<'a, [u8]>>,
    /// The database.
    pub db: Option<Cow<'a, [u8]>>,
    /// The client's address or host name, or `[local]`.
    pub host: Option<Cow<'a, [u8]>>,
    /// The client's port.
    pub port: Option<u16>,
    /// Five characters (<https://www.postgresql.org/docs/current/errcodes-appendix.html>). In `stderr` logs by `%e` or
    /// `log_error_verbosity = verbose` only.
    pub sqlstate: Option<Cow<'a, [u8]>>,
    /// The primary text, without ` at character 15`, which only `stderr` logs have in it.
    pub message: Cow<'a, [u8]>,
    /// More about it; parameters of prepared statements too, which are literals.
    pub detail: Option<Cow<'a, [u8]>>,
    /// What to do about it.
    pub hint: Option<Cow<'a, [u8]>>,
    /// Where it came from, such as lines of a function.
    pub context: Option<Cow<'a, [u8]>>,
    /// The statement that caused it (`log_min_error_statement`). Statements that were logged for their own sake stand in
    /// `message`: see [`Message::work`].
    pub statement: Option<Cow<'a, [u8]>>,
    /// `pg_stat_activity.query_id`, if it was computed.
    pub query_id: Option<i64>,
    /// It was longer than [`LARGEST_MESSAGE`] and is not whole.
    pub cut: bool,
}

/// Which line of a message it is (`DETAIL:  ...`), in a `stderr` log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `DETAIL`
    Detail,
    /// `HINT`
    Hint,
    /// `CONTEXT`
    Context,
    /// `STATEMENT`
    Statement,
    /// `QUERY`, the inner query of a function; [`Message`] does not keep it.
    Query,
    /// `LOCATION`, in the server's source text; [`Message`] does not keep it.
    Location,
    /// `BACKTRACE`; [`Message`] does not keep it.
    Backtrace,
}

/// A line that does not stand behind the message it belongs to: others came between, or the log begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest<'a> {
    /// The server process, whose last message it belongs to.
    pub pid: Option<u32>,
    /// Which line it is.
    pub field: Field,
    /// What it says.
    pub text: Cow<'a, [u8]>,
}

/// What stands at the start of the buffer. All `used` and skipped bytes of a log add up to its length, and the steps do not
/// depend on the pieces it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would cost an allocation a message"
)]
pub enum Step<'a> {
    /// A message.
    Message {
        /// The message.
        message: Message<'a>,
        /// Its length in the log, in bytes.
        used: usize,
    },
    /// A line of an earlier message, `stderr` only. For [`Joiner::add`]; without a joiner it counts as skipped.
    Rest {
        /// The line.
        rest: Rest<'a>,
        /// Its length in the log, in bytes.
        used: usize,
    },
    /// So many bytes are no message: a damaged line, the tail of a message whose start is missing or cut, another language.
    Skip(usize),
    /// It depends on what follows. Never with [`End::OfInput`], unless the buffer is empty.
    NeedMore,
}

/// Reads the first message of the buffer. It ends where the next one begins, so the last message of a piece comes with the
/// next piece, or with [`End::OfInput`].
///
/// Texts cannot forge messages, as line breaks in them are followed by a TAB (`stderr`), quoted (`csvlog`) or escaped
/// (`jsonlog`); names in the prefix of a `stderr` log can, since the server writes them as they are.
pub fn next_message<'a>(buffer: &'a [u8], end: End, format: &Format) -> Step<'a> {
    next_within(buffer, end, format, LARGEST_MESSAGE)
}

fn next_within<'a>(buffer: &'a [u8], end: End, format: &Format, limit: usize) -> Step<'a> {
    if buffer.is_empty() {
        return Step::NeedMore;
    }
    let text = Text {
        bytes: buffer.get(..limit).unwrap_or(buffer),
        last: end == End::OfInput || buffer.len() >= limit,
        full: buffer.len() >= limit,
    };
    match format {
        Format::Stderr(prefix) => stderr::next(text, prefix),
        Format::Csv => csv::next(text),
        Format::Json => json::next(text),
    }
}

/// What may be looked at: never more than the largest message, whatever the buffer holds, so that pieces make no difference.
#[derive(Clone, Copy)]
struct Text<'a> {
    bytes: &'a [u8],
    /// Nothing behind it will be looked at.
    last: bool,
    /// That is because it is as long as a message may be.
    full: bool,
}

impl<'a> Text<'a> {
    /// The line that begins at `from`, with its line feed; `None`: its end is not there yet, or nothing is.
    fn line(self, from: usize) -> Option<&'a [u8]> {
        let rest = self.bytes.get(from..).filter(|rest| !rest.is_empty())?;
        match memchr::memchr(b'\n', rest) {
            Some(at) => rest.get(..=at),
            None => self.last.then_some(rest),
        }
    }
}

impl Message<'_> {
    fn new(severity: Severity) -> Self {
        Self {
            time: None,
            severity,
            pid: None,
            user: None,
            db: None,
            host: None,
            port: None,
            sqlstate: None,
            message: Cow::Borrowed(b""),
            detail: None,
            hint: None,
            context: None,
            statement: None,
            query_id: None,
            cut: false,
        }
    }

    /// The message without the buffer it was read from.
    pub fn into_owned(self) -> Message<'static> {
        Message {
            time: self.time,
            severity: self.severity,
            pid: self.pid,
            user: owned(self.user),
            db: owned(self.db),
            host: owned(self.host),
            port: self.port,
            sqlstate: owned(self.sqlstate),
            message: Cow::Owned(self.message.into_owned()),
            detail: owned(self.detail),
            hint: owned(self.hint),
            context: owned(self.context),
            statement: owned(self.statement),
            query_id: self.query_id,
            cut: self.cut,
        }
    }

    /// What the message says about the work of a statement, if it is about that (`log_min_duration_statement`,
    /// `log_duration`, `log_statement`, `auto_explain`).
    pub fn work(&self) -> Option<Work<'_>> {
        let work = work::read(&self.message)?;
        // Functions can log what they like, but then the context tells; and plans of statements in functions have one too.
        let genuine = work.phase == Phase::Plan || (self.severity == Severity::Log && self.context.is_none());
        genuine.then_some(work)
    }

    /// The statement that the message is about with its duration, if it counts as one ([`Phase::is_query`]). Times of
    /// `parse` and `bind`, and plans, which repeat a statement, give none: see [`Message::event_of`].
    ///
    /// With `log_statement = all` the server logs a statement before it runs and then only the duration: neither gives one.
    pub fn event(&self) -> Option<Event<'_>> {
        let work = self.work().filter(|work| work.phase.is_query())?;
        self.event_of(work)
    }

    /// The same for any work with a duration and a text; for logs that have plans only (`auto_explain` without
    /// `log_min_duration_statement`), say. Placeholders (`$1`) stay.
    pub fn event_of<'b>(&'b self, work: Work<'b>) -> Option<Event<'b>> {
        let query_time = Some(work.duration?);
        let query = without_end(work.text?);
        let (mut host, mut ip) = (None, None);
        match self.host.as_deref() {
            Some(address) if is_ip(address) => ip = Some(Cow::Borrowed(address)),
            Some(b"[local]") | None => {}
            Some(name) => host = Some(Cow::Borrowed(name)),
        }
        let (user, db) = (self.user.as_deref().map(Cow::Borrowed), self.db.as_deref().map(Cow::Borrowed));
        let fingerprint = Some(fingerprint(&query, Dialect::Postgres));
        Some(Event {
            time: self.time,
            user,
            host,
            ip,
            db,
            query_time,
            query,
            fingerprint,
            ..Event::default()
        })
    }
}

fn owned(text: Option<Cow<'_, [u8]>>) -> Option<Cow<'static, [u8]>> {
    text.map(|text| Cow::Owned(text.into_owned()))
}

/// The statement without the spaces around it and its final `;`.
fn without_end(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(trimmed(text)),
        Cow::Owned(text) => Cow::Owned(trimmed(&text).to_vec()),
    }
}

fn trimmed(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    text.strip_suffix(b";").unwrap_or(text).trim_ascii_end()
}

/// Link-local addresses come with the network card: `fe80::1%eth0`.
fn is_ip(address: &[u8]) -> bool {
    let end = memchr::memchr(b'%', address).unwrap_or(address.len());
    let address = address.get(..end).and_then(|address| std::str::from_utf8(address).ok());
    address.is_some_and(|address| address.parse::<IpAddr>().is_ok())
}

/// A name or value that is there.
fn known(value: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    (!value.is_empty() && *value != *b"[unknown]").then_some(value)
}

/// A whole number in decimal digits.
fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All steps of a log that comes in pieces of this size, as the kind of the step and what it used.
    fn steps(
        log: &[u8],
        piece: usize,
        format: &Format,
        limit: usize,
    ) -> Vec<(Option<Message<'static>>, usize)> {
        let (mut found, mut at, mut seen) = (Vec::new(), 0, 0);
        loop {
            let end = if seen == log.len() { End::OfInput } else { End::OfPiece };
            match next_within(&log[at..seen], end, format, limit) {
                Step::Message { message, used } => {
                    found.push((Some(message.into_owned()), used));
                    at += used;
                }
                Step::Rest { used, .. } | Step::Skip(used) => {
                    assert!(used > 0);
                    found.push((None, used));
                    at += used;
                }
                Step::NeedMore if end == End::OfInput => break,
                Step::NeedMore => seen = (seen + piece).min(log.len()),
            }
        }
        assert_eq!(found.iter().map(|(_, used)| used).sum::<usize>(), log.len());
        found
    }

    /// Pieces that logs are made of, whole and damaged.
    fn fragment() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "2026-11-24 17:13:29 UTC:::1(5):we:ird@u@app:[7]:LOG:  duration: 1.000 ms  statement: select 1\n",
            "2026-11-24 17:13:29 UTC::@:[8]:ERROR: x at character 3\n",
            "2026-11-24 17:13:29 UTC::@:[8]:DETAIL:  y\n",
            "2026-11-24 17:13:29 UTC::@:[8]:STATEMENT:  z\n",
            "2026-11-24 17:13:29 UTC::@:[7]:LOCATION:  f, g.c:1\n",
            "2026-11-24 17:13:29 UTC,\"u\",\"d\",7,\"[local]\",s,4,\"\",t,3/0,0,LOG,00000,\"a\"\"b\nc\",,,,,,,,,,\n",
            "2026-11-24 17:13:29 UTC,,,7,,s,4,,t,,0,PANIC,XX000,\"\n2026-11-24 17:13:29 UTC,\"\",,,,,,,,,,,",
            "{\"timestamp\":\"2026-11-24 17:13:29 UTC\",\"error_severity\":\"LOG\",\"message\":\"a\\n\\\"b\"}\n",
            "{\"error_severity\":\"LOG\",\"message\":\"",
            "\tcontinued\n",
            "\t",
            "\n",
            "\"",
            ",",
            "text",
            "2026-11-24 17:13:29 UTC",
            "\u{e9}\r\n",
        ])
    }

    proptest! {
        #[test]
        fn every_byte_is_used_once_whatever_the_pieces(
            fragments in prop::collection::vec(fragment(), 0..24),
            piece in 1_usize..200,
            limit in prop::sample::select(vec![1, 50, 120, 300, LARGEST_MESSAGE]),
        ) {
            let log = fragments.concat().into_bytes();
            for format in [Format::Stderr(Prefix::rds()), Format::Csv, Format::Json] {
                let whole = steps(&log, usize::MAX >> 1, &format, limit);
                prop_assert_eq!(&steps(&log, piece, &format, limit), &whole);
                prop_assert_eq!(&steps(&log, 1, &format, limit), &whole);
            }
        }

        #[test]
        fn any_bytes_are_taken(log in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
            for format in [Format::Stderr(Prefix::parse("").unwrap()), Format::Csv, Format::Json] {
                prop_assert_eq!(steps(&log, piece, &format, 64), steps(&log, 1000, &format, 64));
            }
        }
    }

    fn texts(log: &str, limit: usize) -> Vec<String> {
        let steps = steps(log.as_bytes(), 7, &Format::Stderr(Prefix::parse("[%p] ").unwrap()), limit);
        let text = |(message, used): (Option<Message<'_>>, usize)| match message {
            Some(message) => {
                format!("{}{}", message.message.escape_ascii(), if message.cut { "|cut" } else { "" })
            }
            None => format!("-{used}"),
        };
        steps.into_iter().map(text).collect()
    }

    #[test]
    fn a_text_cannot_forge_a_message() {
        let log = "[1] LOG:  statement: select '\n\t[2] LOG:  fake\n\t\t[3] x\n\t'\n[4] LOG:  true\n";
        assert_eq!(texts(log, 1000), ["statement: select \\'\\n[2] LOG:  fake\\n\\t[3] x\\n\\'", "true"]);
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_and_the_rest_of_it_skipped() {
        let log = "[1] LOG:  0123456789\n\tabcdefghij\n\tklm\n[1] LOG:  x\n";
        assert_eq!(texts(log, 28), ["0123456789\\nabcdef|cut", "-5", "-5", "x"]);
        assert_eq!(texts(log, 33), ["0123456789\\nabcdefghij", "-5", "x"]);
        assert_eq!(texts(log, 16), ["012345|cut", "-5", "-12", "-5", "x"]);
    }

    #[test]
    fn an_event_says_what_the_log_says() {
        let check = |line: &str, expected: Option<(&str, u64)>| {
            let line = format!("2026-11-24 17:13:29 UTC:{line}");
            let format = Format::Stderr(Prefix::rds());
            let Step::Message { message, .. } = next_message(line.as_bytes(), End::OfInput, &format) else {
                panic!("{line}");
            };
            let found = message.event().map(|event| {
                let text = |text: &Option<Cow<'_, [u8]>>| match text {
                    Some(text) => text.escape_ascii().to_string(),
                    None => "-".to_owned(),
                };
                let query = Some(event.query.clone());
                let words = [&event.user, &event.db, &event.host, &event.ip, &query].map(text).join(" ");
                (words, event.query_time.unwrap())
            });
            assert_eq!(found, expected.map(|(words, time)| (words.to_owned(), time)), "{line}");
        };
        let me = "10.0.0.1(5):me@app:[7]:LOG:  duration: 12.345 ms ";
        check(&format!("{me} statement: a\n\t\tb; "), Some(("me app - 10.0.0.1 a\\n\\tb", 12_345)));
        check(&format!("{me} execute s/p: a $1;;"), Some(("me app - 10.0.0.1 a $1;", 12_345)));
        check(&format!("{me} parse s: a"), None);
        check(&format!("{me} bind s: a"), None);
        check(&format!("{me} plan:\n\tQuery Text: a"), None);
        check(
            "fe80::1%eth0(5):me@app:[7]:LOG:  duration: 0.001 ms  statement: a",
            Some(("me app - fe80::1%eth0 a", 1)),
        );
        check(
            "db.local(5):me@app:[7]:LOG:  duration: 0.001 ms  statement: a",
            Some(("me app db.local - a", 1)),
        );
        check("[local]:me@app:[7]:LOG:  duration: 0.001 ms  statement: a", Some(("me app - - a", 1)));
        check("[local]:me@app:[7]:LOG:  statement: a", None);
        check("[local]:me@app:[7]:NOTICE:  duration: 0.001 ms  statement: a", None);
        let raised = "[local]:me@app:[7]:LOG:  duration: 0.001 ms  statement: a\n2026-11-24 17:13:29 UTC:[local]:me@app:[7]:CONTEXT:  PL/pgSQL function f() line 1 at RAISE\n";
        check(raised, None);
    }
}
