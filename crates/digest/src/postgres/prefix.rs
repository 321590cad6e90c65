//! `log_line_prefix`, compiled, and the start of a `stderr` line read by it.

use super::escape::{Escape, Values, read};
use super::{Field, Severity, number};

/// How the lines of a `stderr` log begin
/// (<https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-LOG-LINE-PREFIX>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// What stands before the first free part.
    start: Vec<Fixed>,
    free: Vec<Free>,
}

/// A part whose end is known from itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fixed {
    Literal(Vec<u8>),
    /// An escape and its width: `%10p` fills up with spaces on the left, `%-10p` on the right.
    Escape(Escape, i16),
    /// `%q`: processes without a session stop here.
    SessionsOnly,
}

/// A part that may hold anything, and the fixed parts behind it, which tell its end; the first is a literal. The last part
/// of a prefix needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Free {
    name: Name,
    width: i16,
    then: Vec<Fixed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    User,
    Database,
    Other,
}

/// What follows the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Severity(Severity),
    Field(Field),
}

/// What a line begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) values: Values<'a>,
    pub(super) level: Level,
    /// Where the text begins in the line.
    pub(super) text: usize,
}

/// How far the fixed parts went.
enum Reached<'a> {
    /// Through the prefix.
    Level(Level, &'a [u8]),
    /// Up to a free part.
    Free(&'a [u8]),
}

/// Names and addresses that fill a prefix are shorter; a line without a prefix is given up here.
const LONGEST_PREFIX: usize = 1024;

impl Prefix {
    /// Compiles the setting as the server has it (`show log_line_prefix`).
    ///
    /// Refuses what cannot be read back: unknown escapes, and names (`%u %d %a %b %i`) with something else than fixed text
    /// behind them. A name may be the last.
    pub fn parse(setting: &str) -> Result<Self, String> {
        let mut prefix = Self { start: Vec::new(), free: Vec::new() };
        let mut rest = setting.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte != b'%' {
                prefix.literal(*byte);
                continue;
            }
            let width;
            (width, rest) = padding(rest, setting)?;
            let Some((escape, after)) = rest.split_first() else {
                return Err(format!("log_line_prefix `{setting}` ends with a lone %; a literal one is %%"));
            };
            rest = after;
            let escape = match escape {
                b'%' => {
                    prefix.literal(b'%');
                    continue;
                }
                b'q' => {
                    prefix.last().push(Fixed::SessionsOnly);
                    continue;
                }
                b'u' | b'd' | b'a' | b'b' | b'i' => {
                    prefix.name(*escape, width, setting)?;
                    continue;
                }
                b't' | b'm' => Escape::Time,
                b'n' => Escape::Epoch,
                b's' => Escape::SessionStart,
                b'r' => Escape::Remote,
                b'h' | b'L' => Escape::Host,
                b'p' => Escape::Pid,
                b'e' => Escape::SqlState,
                b'Q' => Escape::QueryId,
                b'l' | b'x' | b'P' => Escape::Number,
                b'c' | b'v' => Escape::Session,
                _ => {
                    let escape = char::from(*escape);
                    return Err(format!("log_line_prefix `{setting}` has the unknown escape %{escape}"));
                }
            };
            prefix.last().push(Fixed::Escape(escape, width));
        }
        match prefix.free.last().map(|free| free.then.as_slice()) {
            Some([]) | None => {}
            Some(_) => prefix.check(setting)?,
        }
        Ok(prefix)
    }

    /// That of RDS and Aurora: `%t:%r:%u@%d:[%p]:`.
    pub fn rds() -> Self {
        let literal = |text: &[u8]| Fixed::Literal(text.to_vec());
        let escape = |escape| Fixed::Escape(escape, 0);
        let user = Free { name: Name::User, width: 0, then: vec![literal(b"@")] };
        let then = vec![literal(b":["), escape(Escape::Pid), literal(b"]:")];
        let db = Free { name: Name::Database, width: 0, then };
        let start = vec![escape(Escape::Time), literal(b":"), escape(Escape::Remote), literal(b":")];
        Self { start, free: vec![user, db] }
    }

    fn last(&mut self) -> &mut Vec<Fixed> {
        match self.free.last_mut() {
            Some(free) => &mut free.then,
            None => &mut self.start,
        }
    }

    fn literal(&mut self, byte: u8) {
        match self.last().last_mut() {
            Some(Fixed::Literal(text)) => text.push(byte),
            _ => self.last().push(Fixed::Literal(vec![byte])),
        }
    }

    fn name(&mut self, escape: u8, width: i16, setting: &str) -> Result<(), String> {
        self.check(setting)?;
        let name = match escape {
            b'u' => Name::User,
            b'd' => Name::Database,
            _ => Name::Other,
        };
        self.free.push(Free { name, width, then: Vec::new() });
        Ok(())
    }

    /// The last name, if there is one, has a literal behind it.
    fn check(&self, setting: &str) -> Result<(), String> {
        match self.free.last().map(|free| free.then.first()) {
            None | Some(Some(Fixed::Literal(_))) => Ok(()),
            Some(_) => Err(format!(
                "log_line_prefix `{setting}` has a name that nothing ends: put a space behind each name"
            )),
        }
    }

    /// Reads the start of a line; `None`: it does not begin like this.
    ///
    /// A name ends where all fixed parts behind it fit for the first time. Only between `%u` and a later `%d` the last
    /// separator counts, as accounts are called like mail addresses more often than databases are.
    pub(super) fn head<'a>(&self, line: &'a [u8]) -> Option<Head<'a>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.get(..LONGEST_PREFIX).unwrap_or(line);
        let mut values = Values::default();
        let mut reached = through(&self.start, line, self.free.is_empty(), &mut values)?;
        let mut user_from: &[u8] = b"";
        let mut names = self.free.iter().enumerate();
        loop {
            let rest = match reached {
                Reached::Level(level, rest) => {
                    return Some(Head { values, level, text: line.len() - rest.len() });
                }
                Reached::Free(rest) => rest,
            };
            let (at, free) = names.next()?;
            let value;
            (value, reached) = named(free, rest, at + 1 == self.free.len(), &mut values)?;
            match free.name {
                Name::User => (values.user, user_from) = (value, rest),
                Name::Database => {
                    values.db = value;
                    let before = at.checked_sub(1).and_then(|before| self.free.get(before));
                    if let Some((user, db)) =
                        before.and_then(|before| split_later(before, value, &values, user_from))
                    {
                        (values.user, values.db) = (user, db);
                    }
                }
                Name::Other => {}
            }
        }
    }
}

fn padding<'a>(text: &'a [u8], setting: &str) -> Result<(i16, &'a [u8]), String> {
    let end = text.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b'-')).unwrap_or(text.len());
    let (width, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    if width.is_empty() {
        return Ok((0, rest));
    }
    let width: Option<i16> = number(width).filter(|width| (-255..=255).contains(width));
    width
        .map(|width| (width, rest))
        .ok_or_else(|| format!("log_line_prefix `{setting}` has a width that is no number"))
}

/// Reads fixed parts, and after the last of them the level.
fn through<'a>(parts: &[Fixed], text: &'a [u8], last: bool, values: &mut Values<'a>) -> Option<Reached<'a>> {
    let mut rest = text;
    for part in parts {
        rest = match part {
            Fixed::Literal(literal) => rest.strip_prefix(literal.as_slice())?,
            Fixed::Escape(escape, width) => read(*escape, *width, rest, values)?,
            Fixed::SessionsOnly => {
                if let Some((level, rest)) = level(rest) {
                    return Some(Reached::Level(level, rest));
                }
                rest
            }
        };
    }
    if !last {
        return Some(Reached::Free(rest));
    }
    level(rest).map(|(level, rest)| Reached::Level(level, rest))
}

/// The name up to where the fixed parts behind it fit.
fn named<'a>(
    free: &Free,
    text: &'a [u8],
    last: bool,
    values: &mut Values<'a>,
) -> Option<(&'a [u8], Reached<'a>)> {
    let first = match free.then.first() {
        Some(Fixed::Literal(literal)) => literal.first(),
        Some(_) | None => None,
    };
    let mut from = usize::from(free.width.unsigned_abs());
    loop {
        if let Some(first) = first {
            from += memchr::memchr(*first, text.get(from..)?)?;
        }
        let (value, rest) = text.split_at_checked(from)?;
        if let Some(reached) = through(&free.then, rest, last, values) {
            let value = match free.width {
                0 => value,
                _ => value.trim_ascii(),
            };
            return Some((value, reached));
        }
        from += 1;
    }
}

/// User and database again, parted by the last separator between them, if there are several.
fn split_later<'a>(
    user: &Free,
    db: &'a [u8],
    values: &Values<'a>,
    user_from: &'a [u8],
) -> Option<(&'a [u8], &'a [u8])> {
    let ([Fixed::Literal(separator)], Name::User, 0) = (user.then.as_slice(), user.name, user.width) else {
        return None;
    };
    let at = memchr::memmem::rfind(db, separator)?;
    let before = values.user.len() + separator.len() + at;
    Some((user_from.get(..before)?, db.get(at + separator.len()..)?))
}

/// `LOG:  ` with what follows it; log shippers leave one of the two spaces, or none at the end of a line.
fn level(text: &[u8]) -> Option<(Level, &[u8])> {
    let colon = text.iter().take(10).position(|byte| *byte == b':')?;
    let (word, rest) = text.split_at_checked(colon)?;
    let level = match Severity::from_word(word) {
        Some(severity) => Level::Severity(severity),
        None => Level::Field(match word {
            b"DETAIL" => Field::Detail,
            b"HINT" => Field::Hint,
            b"QUERY" => Field::Query,
            b"CONTEXT" => Field::Context,
            b"STATEMENT" => Field::Statement,
            b"LOCATION" => Field::Location,
            b"BACKTRACE" => Field::Backtrace,
            _ => return None,
        }),
    };
    let rest = rest.strip_prefix(b":")?;
    match rest.strip_prefix(b" ") {
        Some(rest) => Some((level, rest.strip_prefix(b" ").unwrap_or(rest))),
        None => rest.is_empty().then_some((level, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the line; `expected` is `time pid user|db host port sqlstate query_id text`, `-` for what is absent.
    fn check(setting: &str, line: &str, expected: Option<&str>) {
        let prefix = Prefix::parse(setting).unwrap();
        let found = prefix.head(line.as_bytes()).map(|head| {
            let v = head.values;
            let or = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            format!(
                "{} {} {}|{} {} {} {} {} {}",
                or(v.time.map(|time| time.to_string())),
                or(v.pid.map(|pid| pid.to_string())),
                text(v.user),
                text(v.db),
                or(Some(text(v.host)).filter(|host| !host.is_empty())),
                or(v.port.map(|port| port.to_string())),
                or(Some(text(v.sqlstate)).filter(|state| !state.is_empty())),
                or(v.query_id.map(|id| id.to_string())),
                &line[head.text..],
            )
        });
        assert_eq!(found.as_deref(), expected, "{setting} {line}");
    }

    #[test]
    fn the_prefix_of_rds_is_read_from_both_ends() {
        let table = [
            ("10.0.0.1(5432):bob@app:[7]:LOG:  x", Some("7 bob|app 10.0.0.1 5432 - - x")),
            ("10.0.0.1(5432):we:ird@user@app:[7]:LOG:  x", Some("7 we:ird@user|app 10.0.0.1 5432 - - x")),
            ("::1(41424):bob@a:b:[7]:ERROR: x", Some("7 bob|a:b ::1 41424 - - x")),
            ("fe80::1%eth0(1):bob@app:[7]:DETAIL:  x", Some("7 bob|app fe80::1%eth0 1 - - x")),
            ("host-1.example.com(1):bob@app:[7]:LOG:  x", Some("7 bob|app host-1.example.com 1 - - x")),
            ("[local]:[unknown]@[unknown]:[7]:LOG:   x", Some("7 [unknown]|[unknown] [local] - - -  x")),
            (":@:[7]:LOG:  @a:[8]:LOG:  y", Some("7 | - - - - @a:[8]:LOG:  y")),
            ("10.0.0.1(5432):a:[x]:@b:[7]:LOG:  x", Some("7 a:[x]:|b 10.0.0.1 5432 - - x")),
            ("10.0.0.1(5432):bob@app:[7]:FEHLER:  x", None),
            ("10.0.0.1(5432):bob@app:[7]:LOG:x", None),
            ("10.0.0.1(5432):bob@app", None),
            (":@:[7]:LOG:", Some("7 | - - - - ")),
        ];
        for (line, expected) in table {
            let expected = expected.map(|expected| format!("1795540409000000 {expected}"));
            let line = format!("2026-11-24 17:13:29 UTC:{line}");
            check("%t:%r:%u@%d:[%p]:", &line, expected.as_deref());
        }
        check("%t:%r:%u@%d:[%p]:", "2026-11-24 17:13:29 UTC", None);
        assert_eq!(Prefix::parse("%t:%r:%u@%d:[%p]:"), Ok(Prefix::rds()));
    }

    #[test]
    fn processes_without_a_session_stop_at_q() {
        let setting = "%m [%p] %q%u@%d/%a ";
        let time = 1_795_540_409_985_000_i64;
        check(setting, "2026-11-24 17:13:29.985 UTC [7] LOG:  x", Some(&format!("{time} 7 | - - - - x")));
        let line = "2026-11-24 17:13:29.985 UTC [7] a@b@c/pgAdmin 4 - DB:x LOG:  y";
        check(setting, line, Some(&format!("{time} 7 a@b|c - - - - y")));
        check(setting, "2026-11-24 17:13:29.985 UTC [7] bob@app LOG:  y", None);
    }

    #[test]
    fn the_long_prefix_for_rds_is_read() {
        let setting = "%m:%r:%u@%d:[%p]:%l:%e:%s:%v:%x:%c:%q%a:";
        let start = "2026-11-24 17:13:29.985 UTC:";
        let of_session = "::1(5):a@b@c:[7]:4:00000:2026-11-24 17:13:29 UTC:3/7:0:6b05c5b9.18d1:pg:LOG:  x";
        let expected = "1795540409985000 7 a@b|c ::1 5 00000 - x";
        check(setting, &format!("{start}{of_session}"), Some(expected));
        let of_server = ":@:[7]:4:00000:2026-11-24 17:13:29 UTC::0:6b05c5b9.18d1:LOG:  x";
        check(setting, &format!("{start}{of_server}"), Some("1795540409985000 7 | - - 00000 - x"));
    }

    #[test]
    fn every_escape_is_read() {
        let table = [
            ("%n %p ", "1763632800.123 7 LOG:  x", Some("1763632800123000 7 | - - - - x")),
            ("%h:%u:", "::1:bob:LOG:  x", Some("- - bob| ::1 - - - x")),
            ("%h:%u:", "10.1.1.1:bob:LOG:  x", Some("- - bob| 10.1.1.1 - - - x")),
            ("%h %L ", "[local] [local] LOG:  x", Some("- - | [local] - - - x")),
            ("%e %Q ", "42P01 -12 LOG:  x", Some("- - | - - 42P01 -12 x")),
            ("%c %l %v %x %s %P ", "6b.18 5 3/7 0 2026-11-24 17:13:29 UTC  LOG:  x", Some("- - | - - - - x")),
            ("%i,%b,", "CREATE TABLE,client backend,LOG:  x", Some("- - | - - - - x")),
            ("[%5p] %-6u|", "[    7] bob   |LOG:  x", Some("- 7 bob| - - - - x")),
            ("[%-5p]%%", "[7    ]%LOG:  x", Some("- 7 | - - - - x")),
            ("[%-5p]", "[7   x]LOG:  x", None),
            ("", "LOG:  x", Some("- - | - - - - x")),
            ("%p:%q%a", "7:LOG:  x", Some("- 7 | - - - - x")),
            ("%p:%q%u", "7:LOGGERLOG:  x LOG:  y", Some("- 7 LOGGER| - - - - x LOG:  y")),
            ("db=%d,user=%u ", "db=app,user=a@b LOG:  x", Some("- - a@b|app - - - - x")),
        ];
        for (setting, line, expected) in table {
            check(setting, line, expected);
        }
    }

    #[test]
    fn what_cannot_be_read_back_is_refused() {
        for setting in ["%u%d ", "%u%q", "%z ", "%", "%-x", "%99999p", "%u%p "] {
            assert!(Prefix::parse(setting).is_err(), "{setting}");
        }
    }

    #[test]
    fn a_line_without_a_prefix_costs_no_more_than_its_start() {
        let line = format!("2026-11-24 17:13:29 UTC:{}", "@:[1]:".repeat(1 << 16));
        check("%t:%r:%u@%d:[%p]:", &line, None);
    }
}
