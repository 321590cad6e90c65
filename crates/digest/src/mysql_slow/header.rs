//! The lines before a statement: what the server says about it, its database, and its preamble.

use memchr::{memchr, memrchr_iter};

use super::End;
use super::values::{Stamp, micros, micros_at, stamp, whole_at};
use crate::eight;
use crate::fingerprint::ADMIN;

const TIME: &[u8] = b"# Time:";
const USER: &[u8] = b"# User@Host:";
const QUERY_TIME: &[u8] = b"# Query_time:";

/// Nearly every preamble begins so, or is only this.
const TIMESTAMP: &[u8] = b"SET timestamp=";

/// Longer headers are text of the statement: a file without line breaks must not fill the memory.
const LARGEST_HEADER: usize = 64 << 10;

/// A line of the preamble is shorter: names have at most 64 characters, numbers 20 digits.
const LONGEST_PREAMBLE: usize = 512;

/// The last eight bytes of the names that are read, and all six of the shortest.
const OF_QUERY_TIME: u64 = u64::from_le_bytes(*b"ery_time");
const OF_LOCK_TIME: u64 = u64::from_le_bytes(*b"ock_time");
const OF_ROWS_SENT: u64 = u64::from_le_bytes(*b"ows_sent");
const OF_ROWS_EXAMINED: u64 = u64::from_le_bytes(*b"examined");
const OF_SCHEMA: u64 = u64::from_le_bytes(*b"Schema\0\0");

/// 2000-01-01, in seconds since 1970-01-01: no slow log with a preamble is older.
const FIRST_SECOND: i64 = 946_684_800;

/// A statement that begins earlier than it is logged does not do so by more, in seconds, time zones included.
pub(super) const DAY: i64 = 86_400;

/// Whether something is so, if the bytes at hand tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Yes,
    No,
    /// More bytes will tell.
    NotYet,
}

/// Whether a line that begins here begins the lines before a statement.
#[inline]
pub(super) fn opens(line: &[u8], end: End) -> Known {
    // Most lines of a log are no such lines, and two bytes tell.
    match line {
        [] | [b'#'] | [b'#', b' ', ..] => opens_by_name(line, end),
        _ => Known::No,
    }
}

fn opens_by_name(line: &[u8], end: End) -> Known {
    if line.starts_with(TIME) || line.starts_with(USER) || line.starts_with(QUERY_TIME) {
        return Known::Yes;
    }
    match end {
        End::OfPiece if [TIME, USER, QUERY_TIME].iter().any(|start| start.starts_with(line)) => Known::NotYet,
        End::OfPiece | End::OfInput => Known::No,
    }
}

/// What stands before a statement. Texts are never empty.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    pub(super) time: Option<Stamp>,
    pub(super) user: Option<&'a [u8]>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) ip: Option<&'a [u8]>,
    pub(super) schema: Option<&'a [u8]>,
    /// In microseconds, as the next.
    pub(super) query_time: Option<u64>,
    pub(super) lock_time: Option<u64>,
    pub(super) rows_sent: Option<u64>,
    pub(super) rows_examined: Option<u64>,
    /// Database of the `use` line.
    pub(super) used: Option<&'a [u8]>,
    /// Of `SET timestamp`, in seconds since 1970-01-01 UTC.
    pub(super) start: Option<i64>,
    /// The last line of the preamble. If nothing follows, it may be the statement.
    pub(super) last_line: &'a [u8],
    /// Where the statement begins.
    pub(super) length: usize,
    has_time: bool,
    has_user: bool,
    has_query_time: bool,
}

impl<'a> Header<'a> {
    /// Reads the lines at the start of a text that [`opens`]; `None`: their end is not in the text yet.
    pub(super) fn read(text: &'a [u8], end: End) -> Option<Self> {
        let mut header = Self::default();
        header.fill(text, end)?;
        Some(header)
    }

    /// The same in its place, as it is large.
    pub(super) fn fill(&mut self, text: &'a [u8], end: End) -> Option<()> {
        let (text, end) = match text.get(..LARGEST_HEADER) {
            Some(start) => (start, End::OfInput),
            None => (text, end),
        };
        while let Some(next) = self.read_line(text, self.length, end)? {
            self.length = next;
        }
        // Nothing follows the second of the start.
        while self.start.is_none()
            && let Some(next) = self.read_preamble(text, self.length, end)?
        {
            self.last_line = text.get(self.length..next).unwrap_or_default();
            self.length = next;
        }
        Some(())
    }

    /// Reads the line at a place, and tells where the next one begins. Inner `None`: it is no line of a header, or one
    /// of the next entry; outer: its end is not in the text yet.
    #[expect(clippy::option_option, reason = "the outer one is passed on by `?`")]
    fn read_line(&mut self, text: &'a [u8], at: usize, end: End) -> Option<Option<usize>> {
        let line = text.get(at..).unwrap_or_default();
        match line {
            [b'#', b' ', b'T', ..] if line.starts_with(TIME) => {
                let next = line_end(text, at, end)?;
                if self.has_time || self.has_user || self.has_query_time {
                    return Some(None);
                }
                self.has_time = true;
                let time_at = at + TIME.len();
                let time = text.get(time_at..next).unwrap_or_default();
                let user = memchr(b'#', time);
                self.time = stamp(user.and_then(|length| time.get(..length)).unwrap_or(time));
                match user.and_then(|length| time.get(length..)) {
                    Some(user) if user.starts_with(USER) => self.read_line(text, next - user.len(), end),
                    _ => Some(Some(next)),
                }
            }
            [b'#', b' ', b'U', ..] if line.starts_with(USER) => {
                let next = line_end(text, at, end)?;
                if self.has_user || self.has_query_time {
                    return Some(None);
                }
                self.has_user = true;
                self.read_account(text, at + USER.len(), next);
                Some(Some(next))
            }
            [b'#', b' ', b'Q', ..] if line.starts_with(QUERY_TIME) => {
                if self.has_query_time {
                    return Some(None);
                }
                self.has_query_time = true;
                self.read_attributes(text, at, end).map(Some)
            }
            [b'#', b' ', b'a', ..] if line.starts_with(ADMIN.as_bytes()) => Some(None),
            [b'#', b' ', b'e', ..] if line.starts_with(b"# explain:") => line_end(text, at, end).map(Some),
            [b'#', ..] => self.read_attributes(text, at, end).map(Some),
            _ => Some(None),
        }
    }

    /// `name[proxied] @ host [address]  Id: 1`; of a replication thread `[SQL_SLAVE] @  []`, brackets and all.
    fn read_account(&mut self, text: &'a [u8], from: usize, to: usize) {
        let line = text.get(from..to).unwrap_or_default();
        let mut signs = memrchr_iter(b'@', line).filter_map(|at| Some((line.get(..at)?, at + 1)));
        let Some((account, host_at)) =
            signs.find(|(before, behind)| before.ends_with(b"] ") && line.get(*behind) == Some(&b' '))
        else {
            return;
        };
        let account = account.trim_ascii();
        let name = match memchr(b'[', account) {
            None | Some(0) => account,
            Some(at) => account.get(..at).unwrap_or_default(),
        };
        self.user = trimmed(name);
        let rest = line.get(host_at..).unwrap_or_default();
        let (host, rest) = memchr(b'[', rest).and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, b""));
        self.host = trimmed(host);
        let (ip, rest) = memchr(b']', rest).and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, b""));
        self.ip = trimmed(ip.get(1..).unwrap_or_default());
        self.read_attributes(text, to - rest.len(), End::OfInput);
    }

    /// `Name: value` any number of times up to the end of the line, some without a value. The first of a name counts.
    /// Tells where the next line begins.
    ///
    /// A name is a word that ends with a colon, so only what stands around colons is looked at.
    #[inline]
    fn read_attributes(&mut self, text: &'a [u8], from: usize, end: End) -> Option<usize> {
        let mut at = from;
        while let Some(found) = eight::find(text, at, b':', b'\n') {
            at = found + 1;
            if text.get(found) == Some(&b'\n') {
                return Some(at);
            }
            let before = text.get(from..found).unwrap_or_default();
            let Some(last) = before.last_chunk::<8>() else { continue };
            let is = |name: &[u8]| {
                before.strip_suffix(name).and_then(<[u8]>::last).is_some_and(|byte| *byte <= b' ')
            };
            match u64::from_le_bytes(*last) {
                OF_QUERY_TIME if is(b"Query_time") => at = read(&mut self.query_time, micros_at, text, at),
                OF_LOCK_TIME if is(b"Lock_time") => at = read(&mut self.lock_time, micros_at, text, at),
                OF_ROWS_SENT if is(b"Rows_sent") => at = read(&mut self.rows_sent, whole_at, text, at),
                OF_ROWS_EXAMINED if is(b"Rows_examined") => {
                    at = read(&mut self.rows_examined, whole_at, text, at);
                }
                other if other >> 16 == OF_SCHEMA && is(b"Schema") => {
                    let value = value_at(text, at).unwrap_or_default();
                    if !value.ends_with(b":") {
                        self.schema = self.schema.or(trimmed(unquoted(value)));
                    }
                }
                _ => {}
            }
        }
        (end == End::OfInput).then_some(text.len())
    }

    /// Reads `use shop;`, then `SET timestamp=5;`, each at most once; answers as [`Self::read_line`] does.
    #[expect(clippy::option_option, reason = "the outer one is passed on by `?`")]
    #[inline]
    fn read_preamble(&mut self, text: &'a [u8], at: usize, end: End) -> Option<Option<usize>> {
        let rest = text.get(at..).unwrap_or_default();
        if rest.starts_with(TIMESTAMP)
            && let Some((seconds, digits)) = eight::number(text, at + TIMESTAMP.len())
            && text.get(at + TIMESTAMP.len() + digits..).is_some_and(|rest| rest.starts_with(b";\n"))
        {
            self.start = i64::try_from(seconds).ok();
            return Some(Some(at + TIMESTAMP.len() + digits + 2));
        }
        match (memchr(b'\n', rest), end) {
            (Some(length), _) => Some(self.other_preamble(text, at, at + length + 1)),
            (None, End::OfInput) => Some(self.other_preamble(text, at, text.len())),
            (None, End::OfPiece) if rest.len() > LONGEST_PREAMBLE => Some(None),
            (None, End::OfPiece) => None,
        }
    }

    fn other_preamble(&mut self, text: &'a [u8], at: usize, next: usize) -> Option<usize> {
        let line = text.get(at..next).filter(|line| line.len() <= LONGEST_PREAMBLE)?;
        let line = line.trim_ascii_end().strip_suffix(b";")?;
        if let Some(name) = line.strip_prefix(b"use ") {
            let first = self.last_line.is_empty();
            if first {
                self.used = trimmed(unquoted(name.trim_ascii()));
            }
            return first.then_some(next);
        }
        let mut start = None;
        for setting in line.strip_prefix(b"SET ")?.split(|byte| *byte == b',') {
            let number = |name: &[u8]| setting.trim_ascii().strip_prefix(name).and_then(micros);
            match number(b"timestamp=") {
                Some(micros) => start = i64::try_from(micros / 1_000_000).ok(),
                None => _ = number(b"insert_id=").or(number(b"last_insert_id="))?,
            }
        }
        self.start = start;
        Some(next)
    }

    /// When the statement was logged, in microseconds since 1970-01-01 UTC.
    ///
    /// A time without zone is local time of the server. Then, and when there is none, the second in which the statement
    /// began is nearer to the truth; without that, the local time is taken for UTC.
    pub(super) fn logged_at(&self) -> Option<i64> {
        match (self.time, self.start) {
            (Some(Stamp::Exact(micros)), _) | (Some(Stamp::Local(micros)), None) => Some(micros),
            (_, Some(second)) => second.checked_mul(1_000_000),
            (None, None) => None,
        }
    }

    /// If nothing follows the preamble: its last line, if that is the statement of a user and not of the server.
    pub(super) fn take_statement(&mut self) -> Option<&'a [u8]> {
        match self.start {
            Some(second) if second >= FIRST_SECOND && self.agrees_with_own_time(second) => return None,
            Some(_) => self.start = None,
            None if self.last_line.starts_with(b"use ") => self.used = None,
            None if self.last_line.is_empty() => return None,
            None => {}
        }
        Some(self.last_line)
    }

    /// Whether these are all the lines that a server writes before a statement, and their times agree with each other
    /// and with those of the entry before them.
    pub(super) fn follows(&self, before: &Self) -> bool {
        let Some(second) = self.start else { return false };
        let earlier = before.start.or(before.time.map(|time| time.micros() / 1_000_000));
        // The text behind `# Time:` in a literal and a true header behind the literal would be taken for one header.
        let true_time = !self.has_time || self.time.is_some();
        (self.has_time || self.has_user)
            && true_time
            && self.has_query_time
            && self.agrees_with_own_time(second)
            && earlier.is_none_or(|earlier| second >= earlier - DAY)
    }

    fn agrees_with_own_time(&self, second: i64) -> bool {
        self.time.is_none_or(|time| (time.micros() / 1_000_000).abs_diff(second) <= DAY.unsigned_abs())
    }
}

/// Where the next line begins; `None`: that is not in the text yet.
#[inline]
fn line_end(text: &[u8], at: usize, end: End) -> Option<usize> {
    match memchr(b'\n', text.get(at..).unwrap_or_default()) {
        Some(length) => Some(at + length + 1),
        None => (end == End::OfInput).then_some(text.len()),
    }
}

/// Reads the value that follows on a line, if there is none yet, and tells where to go on.
#[inline]
fn read(
    field: &mut Option<u64>,
    number: impl Fn(&[u8], usize) -> Option<(u64, usize)>,
    text: &[u8],
    at: usize,
) -> usize {
    let mut at = at;
    while text.get(at).is_some_and(|byte| *byte <= b' ' && *byte != b'\n') {
        at += 1;
    }
    let Some((value, next)) = number(text, at) else { return at };
    *field = field.or(Some(value));
    next
}

/// The next word of the line.
fn value_at(text: &[u8], at: usize) -> Option<&[u8]> {
    let line = text.get(at..)?.split(|byte| *byte == b'\n').next()?;
    line.split(|byte| *byte <= b' ').find(|word| !word.is_empty())
}

fn trimmed(text: &[u8]) -> Option<&[u8]> {
    Some(text.trim_ascii()).filter(|text| !text.is_empty())
}

/// A name without its backticks.
fn unquoted(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"`").and_then(|name| name.strip_suffix(b"`")).unwrap_or(name)
}
