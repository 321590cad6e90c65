//! The lines before a statement: what the server says about it, its database, and its preamble.

use memchr::{memchr, memrchr_iter};

use super::End;
use super::values::{Stamp, micros, micros_at, stamp, whole_at};
use crate::eight;
use crate::fingerprint::ADMIN;

const TIME: &[u8] = b"# Time:";
const USER: &[u8] = b"# User@Host:";
const QUERY_TIME: &[u8] = b"# Query_time:";

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
    if [TIME, USER, QUERY_TIME].iter().any(|start| line.starts_with(start)) {
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
        let (text, end) = match text.get(..LARGEST_HEADER) {
            Some(start) => (start, End::OfInput),
            None => (text, end),
        };
        let mut header = Self::default();
        while let Some(next) = header.next_line(text, end)? {
            if !header.read_line(text, header.length, next) {
                break;
            }
            header.length = next;
        }
        while let Some(next) = header.next_line(text, end)? {
            let line = text.get(header.length..next).unwrap_or_default();
            if line.len() > LONGEST_PREAMBLE || !header.read_preamble(line.trim_ascii_end()) {
                break;
            }
            header.last_line = line;
            header.length = next;
        }
        Some(header)
    }

    /// Where the line at `length` ends, behind its line break. Inner `None`: there is none; outer: it is not in the text yet.
    #[expect(clippy::option_option, reason = "the outer one is passed on by `?`")]
    #[inline]
    fn next_line(&self, text: &[u8], end: End) -> Option<Option<usize>> {
        let rest = text.get(self.length..).unwrap_or_default();
        match (memchr(b'\n', rest), end) {
            (Some(at), _) => Some(Some(self.length + at + 1)),
            (None, End::OfInput) => Some(Some(text.len()).filter(|_| !rest.is_empty())),
            (None, End::OfPiece) if rest.len() > LONGEST_PREAMBLE && !rest.starts_with(b"#") => Some(None),
            (None, End::OfPiece) => None,
        }
    }

    /// Reads the line between two places; `false`: it is no line of a header, or one of the next entry.
    fn read_line(&mut self, text: &'a [u8], from: usize, to: usize) -> bool {
        let line = text.get(from..to).unwrap_or_default();
        match line {
            [b'#', b' ', b'T', ..] if line.starts_with(TIME) => {
                if self.has_time || self.has_user || self.has_query_time {
                    return false;
                }
                self.has_time = true;
                let time = line.get(TIME.len()..).unwrap_or_default();
                let user = memchr(b'#', time);
                self.time = stamp(user.and_then(|at| time.get(..at)).unwrap_or(time));
                let user = user.map(|at| from + TIME.len() + at);
                if let Some(user) = user
                    && text.get(user..to).is_some_and(|line| line.starts_with(USER))
                {
                    return self.read_line(text, user, to);
                }
            }
            [b'#', b' ', b'U', ..] if line.starts_with(USER) => {
                if self.has_user || self.has_query_time {
                    return false;
                }
                self.has_user = true;
                self.read_account(text, from + USER.len(), to);
            }
            [b'#', b' ', b'Q', ..] if line.starts_with(QUERY_TIME) => {
                if self.has_query_time {
                    return false;
                }
                self.has_query_time = true;
                self.read_attributes(text, from, to);
            }
            [b'#', b' ', b'a', ..] if line.starts_with(ADMIN.as_bytes()) => return false,
            [b'#', b' ', b'e', ..] if line.starts_with(b"# explain:") => {}
            [b'#', ..] => self.read_attributes(text, from, to),
            _ => return false,
        }
        true
    }

    /// `name[proxied] @ host [address]  Id: 1`; of a replication thread `[SQL_SLAVE] @  []`, brackets and all.
    fn read_account(&mut self, text: &'a [u8], from: usize, to: usize) {
        let line = text.get(from..to).unwrap_or_default();
        let mut signs = memrchr_iter(b'@', line).filter_map(|at| Some((line.get(..at)?, at + 1)));
        let Some((account, host_at)) = signs.find(|(before, behind)| {
            before.ends_with(b"] ") && line.get(*behind) == Some(&b' ')
        }) else {
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
        self.read_attributes(text, to - rest.len(), to);
    }

    /// `Name: value` any number of times between two places, some without a value. The first of a name counts.
    ///
    /// A name is a word that ends with a colon, so only what stands around colons is looked at.
    fn read_attributes(&mut self, text: &'a [u8], from: usize, to: usize) {
        let mut at = from;
        while let Some(colon) = eight::find(text, at, to, b':') {
            at = colon + 1;
            let before = text.get(from..colon).unwrap_or_default();
            let Some(end) = before.last_chunk::<8>() else { continue };
            let is = |name: &[u8]| {
                before.strip_suffix(name).and_then(<[u8]>::last).is_some_and(|byte| *byte <= b' ')
            };
            match u64::from_le_bytes(*end) {
                OF_QUERY_TIME if is(b"Query_time") => read(&mut self.query_time, micros_at, text, &mut at, to),
                OF_LOCK_TIME if is(b"Lock_time") => read(&mut self.lock_time, micros_at, text, &mut at, to),
                OF_ROWS_SENT if is(b"Rows_sent") => read(&mut self.rows_sent, whole_at, text, &mut at, to),
                OF_ROWS_EXAMINED if is(b"Rows_examined") => {
                    read(&mut self.rows_examined, whole_at, text, &mut at, to);
                }
                other if other >> 16 == OF_SCHEMA && is(b"Schema") => {
                    let word = text.get(at..to).and_then(value).unwrap_or_default();
                    if !word.ends_with(b":") {
                        self.schema = self.schema.or(trimmed(unquoted(word)));
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads `use shop;`, then `SET timestamp=5;`, each at most once; `false`: it is none of them.
    fn read_preamble(&mut self, line: &'a [u8]) -> bool {
        let Some(line) = line.strip_suffix(b";") else { return false };
        if self.start.is_some() {
            return false;
        }
        if let Some(name) = line.strip_prefix(b"use ") {
            let first = self.last_line.is_empty();
            if first {
                self.used = trimmed(unquoted(name.trim_ascii()));
            }
            return first;
        }
        let Some(settings) = line.strip_prefix(b"SET ") else { return false };
        if let Some(seconds) = settings.strip_prefix(b"timestamp=")
            && let Some((seconds, length)) = eight::number(seconds, 0)
            && length == settings.len() - b"timestamp=".len()
        {
            self.start = i64::try_from(seconds).ok();
            return true;
        }
        let mut start = None;
        for setting in settings.split(|byte| *byte == b',') {
            let number = |name: &[u8]| setting.trim_ascii().strip_prefix(name).and_then(micros);
            match number(b"timestamp=") {
                Some(micros) => start = i64::try_from(micros / 1_000_000).ok(),
                None if number(b"insert_id=").or(number(b"last_insert_id=")).is_some() => {}
                None => return false,
            }
        }
        self.start = start;
        true
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

/// Reads the value of a name, if there is none yet, and goes on to its end.
#[inline]
fn read(
    field: &mut Option<u64>,
    number: impl Fn(&[u8], usize, usize) -> Option<u64>,
    text: &[u8],
    at: &mut usize,
    to: usize,
) {
    while *at < to && text.get(*at).is_some_and(|byte| *byte <= b' ') {
        *at += 1;
    }
    *field = field.or_else(|| number(text, *at, to));
}

/// The first word.
fn value(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| *byte <= b' ').find(|word| !word.is_empty())
}

fn trimmed(text: &[u8]) -> Option<&[u8]> {
    Some(text.trim_ascii()).filter(|text| !text.is_empty())
}

/// A name without its backticks.
fn unquoted(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"`").and_then(|name| name.strip_suffix(b"`")).unwrap_or(name)
}
