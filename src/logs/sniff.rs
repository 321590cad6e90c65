//! Tells from the first lines how a log is written.

use super::read::Format;
use crate::net::gzip;
use digest::postgres;

/// What a file is.
#[derive(Debug)]
pub enum Sniffed {
    /// A log.
    Log(Format),
    /// A subscription payload of CloudWatch Logs; see [`super::decode`].
    CloudWatch,
    /// Nothing that is known.
    Unknown,
}

/// Lines that are looked at; a log may begin in the middle of an entry.
const LINES: usize = 200;

/// Looks at the first bytes of a log, inflated. A few hundred lines are enough.
pub fn sniff(start: &[u8]) -> Sniffed {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    if start.starts_with(b"{") {
        // A payload is one object on one line, or spread over several; jsonlog has an object a line with names of its own.
        return match contains(start, b"\"error_severity\"") {
            true => Sniffed::Log(Format::Postgres(postgres::Format::Json)),
            false if contains(start, b"\"messageType\"") || contains(start, b"\"awslogs\"") => {
                Sniffed::CloudWatch
            }
            false => Sniffed::Unknown,
        };
    }
    if start.starts_with(&gzip::MAGIC) || start.starts_with(b"H4sI") || start.starts_with(b"eyJ") {
        return Sniffed::CloudWatch;
    }
    for line in start.split(|byte| *byte == b'\n').take(LINES) {
        if slow_log(line) {
            return Sniffed::Log(Format::MySqlSlow);
        }
        if csv(line) {
            return Sniffed::Log(Format::Postgres(postgres::Format::Csv));
        }
        if SEVERITIES.iter().any(|severity| contains(line, severity.as_bytes())) {
            return Sniffed::Log(Format::postgres_on_rds());
        }
    }
    Sniffed::Unknown
}

const SEVERITIES: [&str; 8] =
    ["LOG:  ", "LOG: ", "ERROR: ", "FATAL: ", "PANIC: ", "WARNING: ", "NOTICE: ", "STATEMENT: "];

fn slow_log(line: &[u8]) -> bool {
    ["# Time: ", "# User@Host: ", "# Query_time: "].iter().any(|start| line.starts_with(start.as_bytes()))
        || line.ends_with(b"started with:")
        || line.ends_with(b"started with:\r")
}

/// csvlog: a time, then the user in quotes or nothing.
fn csv(line: &[u8]) -> bool {
    let digits = line.iter().take(4).filter(|byte| byte.is_ascii_digit()).count();
    let mut fields = line.split(|byte| *byte == b',');
    let time = fields.next().unwrap_or_default();
    let user = fields.next().unwrap_or_default();
    digits == 4
        && (19..40).contains(&time.len())
        && time.contains(&b':')
        && (user.is_empty() || user.starts_with(b"\""))
        && fields.count() >= 10
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(start: &str) -> &'static str {
        match sniff(start.as_bytes()) {
            Sniffed::Log(Format::MySqlSlow) => "mysql",
            Sniffed::Log(Format::Postgres(postgres::Format::Csv)) => "csv",
            Sniffed::Log(Format::Postgres(postgres::Format::Json)) => "json",
            Sniffed::Log(Format::Postgres(postgres::Format::Stderr(_))) => "stderr",
            Sniffed::CloudWatch => "cloudwatch",
            Sniffed::Unknown => "unknown",
        }
    }

    #[test]
    fn a_log_is_known_by_its_first_lines() {
        for (start, expected) in [
            ("", "unknown"),
            ("hello\nworld\n", "unknown"),
            ("# Time: 2026-11-20T00:00:00.1Z\n", "mysql"),
            ("\u{feff}\n# User@Host: a[a] @ b []\n", "mysql"),
            ("where a = 1;\n# Time: 071015 21:43:52\n", "mysql"),
            ("/usr/sbin/mysqld, Version: 8.0.36 (MySQL). started with:\n", "mysql"),
            ("2026-11-20 00:00:00 UTC:10.0.0.1(5):u@d:[7]:LOG:  duration: 1 ms\n", "stderr"),
            ("\tfrom t\n2026-11-20 00:00:00 UTC::@:[7]:ERROR:  x\n", "stderr"),
            (
                "2026-11-20 00:00:00.000 UTC,\"u\",\"d\",7,\"h:5\",a.b,1,\"SELECT\",2026-11-20 00:00:00 UTC,3/4,0,LOG,00000\n",
                "csv",
            ),
            ("2026-11-20 00:00:00.000 UTC,,,7,,a.b,1,,2026-11-20 00:00:00 UTC,,0,LOG,00000,\"x\"\n", "csv"),
            ("{\"timestamp\":\"2026\",\"error_severity\":\"LOG\"}\n", "json"),
            ("{\"messageType\":\"DATA_MESSAGE\"}", "cloudwatch"),
            ("{\n \"awslogs\": {}}", "cloudwatch"),
            ("H4sIAAAA", "cloudwatch"),
            ("{\"a\":1}", "unknown"),
        ] {
            assert_eq!(name(start), expected, "{start}");
        }
    }
}
