//! Slow query logs of `MySQL` 5.x to 8.4, `MariaDB`, Percona Server and Aurora, entry by entry.
//!
//! The format is described only by its writers: <https://dev.mysql.com/doc/refman/8.4/en/slow-query-log.html>,
//! <https://mariadb.com/kb/en/slow-query-log-extended-statistics/>,
//! <https://docs.percona.com/percona-server/8.0/slow-extended.html>.
//!
//! Nothing is lost: each byte of a log is either part of an event or counted as skipped. Skipped are a byte order mark,
//! the banner a server writes when it starts or flushes its logs, what stands before the first header, the rest of an
//! entry that was cut, and headers without a statement. The events are the same in whatever pieces the bytes come.

mod ending;
mod header;
mod values;

use std::borrow::Cow;

use memchr::memchr;

use crate::event::{End, Event};
use crate::fingerprint::Templates;
use ending::{ENOUGH, Stop, Within, advance, end_of_open, next_stop_of_entry};
use header::{Header, Known, opens};

/// An entry that is longer, in bytes, is cut here; its rest is skipped.
pub const LARGEST_ENTRY: usize = 16 << 20;

/// Some editors and shells write it at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What stands at the start of the bytes at hand.
#[expect(
    clippy::large_enum_variant,
    reason = "one exists at a time, on the stack; a box would cost more than the copy"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// An entry.
    Event {
        /// What it says.
        event: Event<'a>,
        /// Its length with its header, in bytes; never 0.
        used: usize,
    },
    /// So many bytes that are no entry; 0 only when there were none.
    Skip(usize),
    /// It takes more bytes to tell: call again with the same bytes and more. Never with [`End::OfInput`].
    NeedMore,
}

/// What has to be known about one log from call to call; one for each log or stream.
///
/// An entry inherits nothing from the one before. `MySQL` writes `use` only when the database is another than that of the
/// last entry, but also nothing when there is none: without that line the database is not known.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The bytes begin within a line of which the start was skipped.
    within_line: bool,
    /// Up to here the bytes were searched for the end of the entry they begin with.
    searched: usize,
    /// With fewer bytes there is no use in trying again.
    wanted: usize,
    /// Statements of the log that came more than once.
    templates: Templates,
}

impl Session {
    fn event<'a>(&mut self, event: Event<'a>, used: usize) -> Step<'a> {
        (self.searched, self.wanted) = (0, 0);
        Step::Event { event, used }
    }

    fn skip<'a>(&mut self, count: usize) -> Step<'a> {
        (self.searched, self.wanted) = (0, 0);
        Step::Skip(count)
    }
}

/// Reads what stands at the start of the bytes. The caller then goes on behind it, in the same session.
///
/// Reading to the end takes time in proportion to the bytes, also when each `NeedMore` is answered with a few bytes.
pub fn next_entry<'a>(buffer: &'a [u8], end: End, session: &mut Session) -> Step<'a> {
    if end == End::OfPiece && (buffer.is_empty() || buffer.len() < session.wanted) {
        return Step::NeedMore;
    }
    if session.within_line {
        let line_break = memchr(b'\n', buffer);
        session.within_line = line_break.is_none() && end == End::OfPiece;
        return session.skip(line_break.map_or(buffer.len(), |at| at + 1));
    }
    match (opens(buffer, end), end) {
        (Known::Yes, _) => entry(buffer, end, session),
        (Known::NotYet, _) => Step::NeedMore,
        (Known::No, _) if buffer.starts_with(BYTE_ORDER_MARK) => session.skip(BYTE_ORDER_MARK.len()),
        (Known::No, End::OfPiece) if BYTE_ORDER_MARK.starts_with(buffer) => Step::NeedMore,
        (Known::No, _) => skip_to_header(buffer, end, session),
    }
}

/// Skips the lines that begin no entry, the last one as far as it is at hand.
fn skip_to_header<'a>(buffer: &'a [u8], end: End, session: &mut Session) -> Step<'a> {
    let mut at = 0;
    loop {
        let Some(length) = memchr(b'\n', buffer.get(at..).unwrap_or_default()) else {
            session.within_line = end == End::OfPiece;
            return session.skip(buffer.len());
        };
        at += length + 1;
        let rest = buffer.get(at..).unwrap_or_default();
        if opens(rest, end) != Known::No
            || rest.starts_with(BYTE_ORDER_MARK)
            || BYTE_ORDER_MARK.starts_with(rest)
        {
            return session.skip(at);
        }
    }
}

/// Reads an entry that begins with its header.
fn entry<'a>(buffer: &'a [u8], end: End, session: &mut Session) -> Step<'a> {
    let mut header = Header::default();
    if header.fill(buffer, end).is_none() {
        return Step::NeedMore;
    }
    let from = session.searched.max(header.length);
    let first = match next_stop_of_entry(buffer, header.length, from, end) {
        Stop::At(at) => at,
        Stop::AtEnd => buffer.len(),
        Stop::NotYet(searched) => {
            session.searched = searched;
            return Step::NeedMore;
        }
    };
    let mut used = first;
    let mut query = statement(buffer, header.length, used);
    if query.is_empty() {
        match header.take_statement() {
            Some(line) => query = without_end(line),
            None => return session.skip(used),
        }
    }
    let (mut fingerprint, whole) = session.templates.scan(query);
    if !whole && first < buffer.len() {
        let within = advance(buffer.get(header.length..first).unwrap_or_default(), Within::Nothing);
        used = match end_of_open(buffer, &header, first, within, end) {
            Stop::At(at) => at,
            Stop::AtEnd => buffer.len(),
            Stop::NotYet(_) => {
                // Each try starts over, so the bytes have to double between tries.
                session.searched = first;
                session.wanted = (2 * buffer.len()).min(ENOUGH).max(buffer.len() + 1);
                return Step::NeedMore;
            }
        };
        if used != first {
            query = statement(buffer, header.length, used);
            (fingerprint, _) = session.templates.scan(query);
        }
    }
    session.within_line = used == LARGEST_ENTRY
        && used < buffer.len()
        && !buffer.get(..used).is_some_and(|entry| entry.ends_with(b"\n"));
    session.event(event(&header, query, fingerprint), used)
}

fn event<'a>(header: &Header<'a>, query: &'a [u8], fingerprint: u64) -> Event<'a> {
    Event {
        time: header.logged_at(),
        user: header.user.map(Cow::Borrowed),
        host: header.host.map(Cow::Borrowed),
        ip: header.ip.map(Cow::Borrowed),
        db: header.schema.or(header.used).map(Cow::Borrowed),
        query_time: header.query_time,
        lock_time: header.lock_time,
        rows_sent: header.rows_sent,
        rows_examined: header.rows_examined,
        query: Cow::Borrowed(query),
        fingerprint: Some(fingerprint),
    }
}

fn statement(buffer: &[u8], from: usize, to: usize) -> &[u8] {
    without_end(buffer.get(from..to).unwrap_or_default())
}

/// A statement without the white space around it and the `;` that the server wrote.
fn without_end(statement: &[u8]) -> &[u8] {
    let statement = statement.trim_ascii();
    statement.strip_suffix(b";").unwrap_or(statement).trim_ascii_end()
}

#[cfg(test)]
mod tests;
