//! Daily files of log lines: which file a line belongs to, how it is written there, and when its day is over.

pub(crate) mod files;

use crate::logs::keyed_hash::keyed_hash;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;

/// Longer file names are refused by file systems (255 bytes), and a hash has to fit behind them.
const LONGEST_NAME: usize = 200;
/// A path has at most 4,096 bytes, and `dir` needs room too.
const LONGEST_FOLDER: usize = 1_000;
/// Real log groups have five levels; every one costs a sync when a file is opened.
const DEEPEST_FOLDER: usize = 16;
/// What `line` may name.
const PLACEHOLDERS: &str = "{message}, {time}, {log_group}, {log_stream} and {id}";

/// Where the lines of a route are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The directory that holds a folder for each log group.
    pub dir: PathBuf,
    /// Whose midnight begins a new file.
    pub zone: TimeZone,
    /// How a line is written.
    pub line: Line,
    /// How long after its end a day waits for late lines before its file is sealed.
    pub seal_after: SignedDuration,
}

/// A template of a line, without its line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Message,
    Time,
    LogGroup,
    LogStream,
    Id,
}

/// What a template can show of an event.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Bytes as they came.
    pub message: &'a [u8],
    /// The event's own time, in milliseconds since 1970.
    pub time_ms: i64,
    /// As CloudWatch names it.
    pub log_group: &'a str,
    /// As CloudWatch names it.
    pub log_stream: &'a str,
    /// The event's id.
    pub id: &'a str,
}

/// The directory of an archive, written by this process alone as long as this is kept.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Archive {
    /// The day of an event in the archive's zone, by the event's own time. Times beyond the years 0 to 9999 count to the
    /// first or last of these days.
    pub fn day(&self, time_ms: i64) -> Date {
        let earliest = Date::constant(0, 1, 1);
        let day = instant(time_ms).to_zoned(self.zone.clone()).date();
        day.max(earliest)
    }

    /// Whether a day has ended and its late lines have had their time.
    pub fn is_over(&self, day: Date, now: Timestamp) -> bool {
        let end = day.tomorrow().and_then(|next| next.to_zoned(self.zone.clone()));
        let sealed = end.and_then(|end| end.timestamp().checked_add(self.seal_after));
        sealed.is_ok_and(|sealed| sealed <= now)
    }

    /// Makes the directory and holds it.
    ///
    /// # Errors
    /// In words: that another process holds it, or why it cannot be used.
    pub fn lock(&self) -> Result<Lock, String> {
        let problem = |what: &str, error: &io::Error| {
            let dir = self.dir.display();
            format!(
                "archive: could not {what} {dir}: {error}; it has to be a directory that datapulse may write"
            )
        };
        fs::create_dir_all(&self.dir).map_err(|error| problem("make", &error))?;
        // No folder of a log group begins with a full stop.
        let path = self.dir.join(".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| problem("open the lock of", &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "archive: {} is in use by another process; stop it, or give this one a dir of its own",
                self.dir.display()
            )),
            Err(TryLockError::Error(error)) => Err(problem("lock", &error)),
        }
    }
}

impl Line {
    /// Reads a template; `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// In words: the placeholder that is unknown, and those that are not.
    pub fn parse(template: &str) -> Result<Self, String> {
        if template.contains(['\n', '\r']) {
            return Err("a line of an archive cannot have a line break in it".to_owned());
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            text.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                text.push('{');
                rest = after;
                continue;
            }
            let Some(inside) = brace.strip_prefix('{') else {
                text.push('}');
                rest = brace.strip_prefix("}}").or_else(|| brace.strip_prefix('}')).unwrap_or_default();
                continue;
            };
            let Some((name, after)) = inside.split_once('}') else {
                return Err(format!("`{{` without `}}`; write `{{{{` for a brace, or one of {PLACEHOLDERS}"));
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::named(name)?);
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }

    /// Writes an event as one line with its line break. Line breaks inside are written as `\n` and `\r`.
    pub fn write(&self, event: Shown<'_>, zone: &TimeZone, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend(text.as_bytes()),
                Part::Message => write_flat(event.message, out),
                Part::Time => out.extend(local_time(event.time_ms, zone).as_bytes()),
                Part::LogGroup => write_flat(event.log_group.as_bytes(), out),
                Part::LogStream => write_flat(event.log_stream.as_bytes(), out),
                Part::Id => write_flat(event.id.as_bytes(), out),
            }
        }
        out.push(b'\n');
    }
}

impl Part {
    fn named(name: &str) -> Result<Self, String> {
        match name {
            "message" => Ok(Self::Message),
            "time" => Ok(Self::Time),
            "log_group" => Ok(Self::LogGroup),
            "log_stream" => Ok(Self::LogStream),
            "id" => Ok(Self::Id),
            _ => Err(format!(
                "unknown placeholder {{{name}}}; known are {PLACEHOLDERS}; write `{{{{` for a brace"
            )),
        }
    }
}

fn write_flat(bytes: &[u8], out: &mut Vec<u8>) {
    for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        match piece.split_last() {
            Some((b'\n', before)) => {
                out.extend(before);
                out.extend(b"\\n");
            }
            Some((b'\r', before)) => {
                out.extend(before);
                out.extend(b"\\r");
            }
            _ => out.extend(piece),
        }
    }
}

/// An instant that every calendar can show; what is beyond is the nearest that can.
fn instant(time_ms: i64) -> Timestamp {
    let end = if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(time_ms).unwrap_or(end)
}

fn local_time(time_ms: i64, zone: &TimeZone) -> String {
    instant(time_ms).to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string()
}

/// The folder of a log group below the directory of its archive: no name leads out of it, and no two names share one.
///
/// `/a/b` becomes `a/b`. Of a name without a slash at its beginning, and of one with no other slash, the first slash is
/// written `%2f`, like all bytes that are no letter, digit, `-`, `_`, `#` or `.`; an empty level is `%`.
pub fn folder(log_group: &str) -> String {
    let second_slash = log_group.match_indices('/').nth(1);
    let levels: Vec<&str> = match (log_group.strip_prefix('/'), second_slash) {
        (_, None) => vec![log_group],
        (Some(rest), Some(_)) => rest.split('/').collect(),
        (None, Some((at, _))) => {
            let (first, rest) = log_group.split_at(at);
            std::iter::once(first).chain(rest.split('/').skip(1)).collect()
        }
    };
    let names: Vec<String> = levels.iter().map(|level| level_name(level)).collect();
    let folder = names.join("/");
    if folder.len() <= LONGEST_FOLDER && names.len() <= DEEPEST_FOLDER {
        return folder;
    }
    let flat = folder.replace('/', "+");
    format!("{}~~{}", flat.get(..LONGEST_NAME - 40).unwrap_or(&flat), long_hash(log_group))
}

fn level_name(level: &str) -> String {
    if level.is_empty() {
        return "%".to_owned();
    }
    // A level that looks like a day's file could be one.
    let like_a_file = match level.rsplit_once('.') {
        Some((stem, "open" | "log")) => Some(stem.len()),
        _ => None,
    };
    let mut name = String::new();
    for (at, byte) in level.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'#');
        if plain || (byte == b'.' && at > 0 && like_a_file != Some(at)) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    if name.len() > LONGEST_NAME {
        name = format!("{}~{}", name.get(..LONGEST_NAME - 40).unwrap_or_default(), long_hash(level));
    }
    name
}

/// 128 bits, the same in every version: names are found again by them.
fn long_hash(text: &str) -> String {
    let (one, two) = (keyed_hash([0, 0], text.as_bytes()), keyed_hash([1, 1], text.as_bytes()));
    format!("{one:016x}{two:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn archive(zone: &str) -> Archive {
        Archive {
            dir: PathBuf::from("/archive"),
            zone: TimeZone::get(zone).unwrap(),
            line: Line::parse("{message}").unwrap(),
            seal_after: SignedDuration::from_mins(10),
        }
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_line_belongs_to_the_day_of_its_own_time_in_the_zone() {
        let check = |zone: &str, time: &str, day: &str| {
            assert_eq!(archive(zone).day(ms(time)).to_string(), day, "{time} in {zone}");
        };
        check("Asia/Tokyo", "2026-11-23T14:59:59.999Z", "2026-11-23");
        check("Asia/Tokyo", "2026-11-23T15:00:00.000Z", "2026-11-24");
        check("Asia/Tokyo", "2026-11-23T15:00:00.001Z", "2026-11-24");
        check("UTC", "2026-11-23T23:59:59.999Z", "2026-11-23");
        // The day has 25 hours, then 23.
        check("America/New_York", "2026-11-01T04:00:00Z", "2026-11-01");
        check("America/New_York", "2026-11-02T04:59:59.999Z", "2026-11-01");
        check("America/New_York", "2026-11-02T05:00:00Z", "2026-11-02");
        check("America/New_York", "2026-03-09T03:59:59.999Z", "2026-03-08");
        check("America/New_York", "2026-03-09T04:00:00Z", "2026-03-09");
        // This day began at 01:00.
        check("America/Sao_Paulo", "2018-11-04T02:59:59.999Z", "2018-11-03");
        check("America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-04");
        let tokyo = archive("Asia/Tokyo");
        assert_eq!(tokyo.day(i64::MAX).to_string(), "9999-12-31");
        assert_eq!(tokyo.day(i64::MIN).to_string(), "0000-01-01");
    }

    #[test]
    fn a_day_is_over_when_its_late_lines_have_had_their_time() {
        let check = |zone: &str, day: &str, now: &str, over: bool| {
            let now = now.parse().unwrap();
            assert_eq!(archive(zone).is_over(day.parse().unwrap(), now), over, "{day} in {zone} at {now}");
        };
        check("Asia/Tokyo", "2026-11-23", "2026-11-23T15:09:59.999Z", false);
        check("Asia/Tokyo", "2026-11-23", "2026-11-23T15:10:00Z", true);
        check("America/New_York", "2026-11-01", "2026-11-02T05:09:59Z", false);
        check("America/New_York", "2026-11-01", "2026-11-02T05:10:00Z", true);
        check("America/Sao_Paulo", "2018-11-03", "2018-11-04T03:09:59Z", false);
        check("America/Sao_Paulo", "2018-11-03", "2018-11-04T03:10:00Z", true);
        check("UTC", "9999-12-31", "2026-11-02T05:10:00Z", false);
    }

    #[test]
    fn a_template_writes_one_line() {
        let check = |template: &str, message: &str, expected: &str| {
            let event = Shown {
                message: message.as_bytes(),
                time_ms: ms("2026-11-23T15:00:00.007Z"),
                log_group: "/aws/x\ny",
                log_stream: "s",
                id: "42",
            };
            let mut out = Vec::new();
            Line::parse(template).unwrap().write(event, &TimeZone::get("Asia/Tokyo").unwrap(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("HOGE,HOGE,1,HOGEHOGE,{message}", "a,b", "HOGE,HOGE,1,HOGEHOGE,a,b\n");
        check("{message}", "", "\n");
        check("", "gone", "\n");
        check("{message}", "a\nb\r\nc\\nd\\", "a\\nb\\r\\nc\\nd\\\n");
        check("{time} {log_group}|{log_stream}|{id}", "", "2026-11-24T00:00:00.007+09:00 /aws/x\\ny|s|42\n");
        check("{{\"m\":\"{message}\"}}", "x", "{\"m\":\"x\"}\n");
        check("}{message}}", "ü\0", "}ü\0}\n");
    }

    #[test]
    fn an_unknown_placeholder_is_refused_with_the_known_ones() {
        let check = |template: &str, expected: &str| {
            let refused = Line::parse(template).unwrap_err();
            assert!(refused.contains(expected) && !refused.contains('\n'), "{refused}");
        };
        check(
            "{msg}",
            "unknown placeholder {msg}; known are {message}, {time}, {log_group}, {log_stream} and {id}",
        );
        check("{}", "unknown placeholder {}");
        check("a{message", "`{` without `}`");
        check("{message}\n", "line break");
    }

    #[test]
    fn ordinary_log_groups_stay_readable() {
        assert_eq!(folder("/aws/rds/instance/x/slowquery"), "aws/rds/instance/x/slowquery");
        assert_eq!(folder("RDSOSMetrics"), "RDSOSMetrics");
        assert_eq!(folder("API-Gateway_x/prod"), "API-Gateway_x%2fprod");
        assert_eq!(folder("a/b/c"), "a%2fb/c");
        assert_eq!(folder("/ecs"), "%2fecs");
    }

    #[test]
    fn no_log_group_leads_out_of_the_directory_and_no_two_share_a_folder() {
        let long = "x".repeat(512);
        let longer = "x".repeat(513);
        let (slashes, more_slashes) = ("/".repeat(512), "/".repeat(511));
        let wide = format!("/a/{}", "ü".repeat(509));
        let names = [
            "",
            ".",
            "..",
            "/",
            "//",
            "///",
            "/.",
            "/..",
            "../..",
            "/../../etc/passwd",
            "a",
            "/a",
            "a/",
            "/a/",
            "a/b",
            "/a/b",
            "//a/b",
            "/a//b",
            "a%2fb",
            "a/b/c",
            "/a/b/c",
            "a\0b",
            "a\nb",
            "a b",
            "a%20b",
            "%",
            "/%/%",
            "/%/",
            "ü",
            "%c3%bc",
            "/x/2026-11-24.log",
            "/x/2026-11-24%2elog",
            "/x/2026-11-24.late.log",
            "/x/2026-11-24.open",
            "/x/.lock",
            ".lock",
            "C:\\x",
            &long,
            &longer,
            &slashes,
            &more_slashes,
            &wide,
        ];
        let mut folders = BTreeMap::new();
        for name in names {
            let folder = folder(name);
            assert!(
                folder.len() <= LONGEST_FOLDER && !folder.starts_with('/') && !folder.is_empty(),
                "{name:?}"
            );
            for level in folder.split('/') {
                assert!(
                    !level.is_empty() && level.len() <= LONGEST_NAME && !level.starts_with('.'),
                    "{name:?}: {folder}"
                );
                let extension = Path::new(level).extension();
                assert!(
                    extension.is_none_or(|found| found != "log" && found != "open"),
                    "{name:?}: {folder}"
                );
                assert!(
                    level.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\:*?\"<>|".contains(&byte)),
                    "{folder}"
                );
            }
            if let Some(other) = folders.insert(folder.clone(), name) {
                panic!("{name:?} and {other:?} share {folder}");
            }
        }
    }

    #[test]
    fn a_second_process_is_told_that_the_directory_is_in_use() {
        let mut archive = archive("UTC");
        archive.dir = std::env::temp_dir().join(format!("datapulse-archive-{}", std::process::id()));
        let first = archive.lock().unwrap();
        let refused = archive.lock().unwrap_err();
        assert!(refused.contains("is in use by another process"), "{refused}");
        drop(first);
        archive.lock().unwrap();
        fs::remove_dir_all(&archive.dir).unwrap();
    }
}
