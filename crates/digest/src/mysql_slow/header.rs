//! The lines before a statement: what the server says about it, its database, and its preamble.

use memchr::{memchr, memrchr_iter};

use super::End;
use super::values::{Stamp, micros, stamp, whole};
use crate::fingerprint::ADMIN;

const TIME: &[u8] = b"# Time:";
const USER: &[u8] = b"# User@Host:";
const QUERY_TIME: &[u8] = b"# Query_time:";

/// Longer headers are text of the statement: a file without line breaks must not fill the memory.
const LARGEST_HEADER: usize = 64 << 10;

/// A line of the preamble is shorter: names have at most 64 characters, numbers 20 digits.
const LONGEST_PREAMBLE: usize = 512;

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
pub(super) fn opens(line: &[u8], end: End) -> Known {
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
        while let Some(line) = header.next_line(text, end)? {
            if !line.starts_with(b"#") || line.starts_with(ADMIN.as_bytes()) || !header.read_line(line) {
                break;
            }
            header.length += line.len();
        }
        while let Some(line) = header.next_line(text, end)? {
            if line.len() > LONGEST_PREAMBLE || !header.read_preamble(line.trim_ascii_end()) {
                break;
            }
            header.last_line = line;
            header.length += line.len();
        }
        Some(header)
    }

    /// The line at `length` with its line break. Inner `None`: there is none; outer: it is not in the text yet.
    #[expect(clippy::option_option, reason = "the outer one is passed on by `?`")]
    fn next_line(&self, text: &'a [u8], end: End) -> Option<Option<&'a [u8]>> {
        let rest = text.get(self.length..).unwrap_or_default();
        match (memchr(b'\n', rest), end) {
            (Some(at), _) => Some(rest.get(..=at)),
            (None, End::OfInput) => Some(Some(rest).filter(|rest| !rest.is_empty())),
            (None, End::OfPiece) if rest.len() > LONGEST_PREAMBLE && !rest.starts_with(b"#") => Some(None),
            (None, End::OfPiece) => None,
        }
    }

    /// Reads a line that begins with `#`; `false`: it belongs to the next entry.
    fn read_line(&mut self, line: &'a [u8]) -> bool {
        if let Some(rest) = line.strip_prefix(TIME) {
            if self.has_time || self.has_user || self.has_query_time {
                return false;
            }
            self.has_time = true;
            let (time, user) =
                memchr(b'#', rest).and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, b""));
            self.time = stamp(time);
            if user.starts_with(USER) {
                return self.read_line(user);
            }
        } else if let Some(rest) = line.strip_prefix(USER) {
            if self.has_user || self.has_query_time {
                return false;
            }
            self.has_user = true;
            self.read_account(rest.trim_ascii());
        } else {
            let of_query = line.starts_with(QUERY_TIME);
            if of_query && self.has_query_time {
                return false;
            }
            self.has_query_time |= of_query;
            if !line.starts_with(b"# explain:") {
                self.read_attributes(line);
            }
        }
        true
    }

    /// `name[proxied] @ host [address]  Id: 1`; of a replication thread `[SQL_SLAVE] @  []`, brackets and all.
    fn read_account(&mut self, line: &'a [u8]) {
        let mut signs =
            memrchr_iter(b'@', line).filter_map(|at| Some((line.get(..at)?, line.get(at + 1..)?)));
        let Some((account, rest)) =
            signs.find(|(before, behind)| before.ends_with(b"] ") && behind.starts_with(b" "))
        else {
            return;
        };
        let account = account.trim_ascii_end();
        let name = match memchr(b'[', account) {
            None | Some(0) => account,
            Some(at) => account.get(..at).unwrap_or_default(),
        };
        self.user = text(name);
        let (host, rest) = memchr(b'[', rest).and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, b""));
        self.host = text(host);
        let (ip, rest) = memchr(b']', rest).and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, b""));
        self.ip = text(ip.get(1..).unwrap_or_default());
        self.read_attributes(rest);
    }

    /// `Name: value` any number of times, some without a value. The first of a name counts.
    fn read_attributes(&mut self, line: &'a [u8]) {
        let mut name: &[u8] = b"";
        for word in line.split(|byte| *byte <= b' ').filter(|word| !word.is_empty()) {
            if let Some(next) = word.strip_suffix(b":") {
                name = next;
                continue;
            }
            match std::mem::take(&mut name) {
                b"Query_time" => self.query_time = self.query_time.or(micros(word)),
                b"Lock_time" => self.lock_time = self.lock_time.or(micros(word)),
                b"Rows_sent" => self.rows_sent = self.rows_sent.or(whole(word)),
                b"Rows_examined" => self.rows_examined = self.rows_examined.or(whole(word)),
                b"Schema" => self.schema = self.schema.or(text(unquoted(word))),
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
                self.used = text(unquoted(name.trim_ascii()));
            }
            return first;
        }
        let Some(settings) = line.strip_prefix(b"SET ") else { return false };
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

fn text(text: &[u8]) -> Option<&[u8]> {
    Some(text.trim_ascii()).filter(|text| !text.is_empty())
}

/// A name without its backticks.
fn unquoted(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"`").and_then(|name| name.strip_suffix(b"`")).unwrap_or(name)
}
