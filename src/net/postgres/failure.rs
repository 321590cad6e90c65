//! What went wrong, in the contract's words: from the driver's errors and the server's codes to a problem with its cure.

use super::login::Open;
use super::{ANSWER_LIMIT, ROW_LIMIT};
use crate::check::{Problem, Reason};
use crate::net::words::{certificate, certificate_error, rustls_error, tame};
use std::error::Error as _;
use std::io;
use tokio_postgres::Error;

/// Why an answer did not come to its end.
#[derive(Debug)]
pub(super) enum Failure {
    Driver(Error),
    TooManyRows,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

/// Closes the connection of a failed question and says why it failed.
pub(super) async fn ended(what: String, failure: Failure, open: Option<Open>) -> Problem {
    let mut exceeded = false;
    let mut own = None;
    if let Some(open) = open {
        exceeded = open.limit.exceeded();
        own = open.close().await;
    }
    match failure {
        Failure::TooManyRows => Problem::new(Reason::RowLimit, what)
            .because(format!("more than {ROW_LIMIT} rows"))
            .hint("group or limit in the statement"),
        // The client knows only that the connection is gone; why, knows the task that held it.
        Failure::Driver(error) if error.is_closed() => {
            problem(what, own.as_ref().unwrap_or(&error), exceeded)
        }
        Failure::Driver(error) => problem(what, &error, exceeded),
    }
}

/// The problem behind an error of the driver. `exceeded`: more came in than allowed, which is then the reason for all that follows.
pub(super) fn problem(what: String, error: &Error, exceeded: bool) -> Problem {
    if exceeded {
        return Problem::new(Reason::TooLarge, what)
            .because(format!("the answer has more than {ANSWER_LIMIT} bytes"))
            .hint("read fewer rows, or shorter texts");
    }
    let (reason, hint) = match error.as_db_error() {
        Some(refusal) => by_code(refusal.code().code()),
        None => by_kind(error),
    };
    let mut problem = Problem::new(reason, what).because(words(error));
    problem.hint = hint.map(Into::into);
    problem
}

/// An error of the driver in one line. Its own words are only `db error`.
pub(super) fn words(error: &Error) -> String {
    if let Some(refusal) = error.as_db_error() {
        let code = refusal.code().code();
        return format!("{} ({code})", tame(refusal.message(), code));
    }
    if error.is_closed() {
        return "the server closed the connection".to_owned();
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    if let Some(source) = error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        if let Some(wrong) = certificate_error(source) {
            return certificate(wrong).0;
        }
        // The driver's words for half a message are `bytes remaining on stream`, those of TLS are a page to read.
        if source.kind() == io::ErrorKind::UnexpectedEof || source.to_string() == "bytes remaining on stream"
        {
            return "the server closed the connection in the middle of a message".to_owned();
        }
    }
    tame(&deepest.to_string(), "")
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn by_code(code: &str) -> (Reason, Option<&'static str>) {
    match code {
        "28P01" => (Reason::Auth, Some("check user and password of the target")),
        _ if code.starts_with("28") => (
            Reason::Auth,
            Some(
                "the server's pg_hba.conf has to allow this user, database, address and kind of connection (tls)",
            ),
        ),
        "42501" => (
            Reason::Permission,
            Some("grant the login role what it reads; `datapulse doctor` names what a check needs"),
        ),
        "57P03" => (Reason::Starting, None),
        "53300" => (
            Reason::TooMany,
            Some("raise max_connections or the role's limit, or end sessions that nobody needs"),
        ),
        "57014" => (Reason::Timeout, Some("raise the timeout of the check, or make the statement cheaper")),
        "55P03" => (Reason::LockTimeout, Some("another session holds the lock: see pg_locks")),
        "57P01" | "57P02" | "57P05" | "25P03" => (Reason::Shutdown, None),
        // Every session of ours is read-only, so this code tells nothing about the role of the server.
        "22021" => {
            (Reason::Decode, Some("a text on the server is not in the encoding that its database says"))
        }
        "25006" => (Reason::Query, Some("datapulse only reads: take out of the statement what writes")),
        "3D000" => (Reason::Query, Some("database: has to name a database of this server")),
        "42P01" | "42703" | "42883" => {
            (Reason::Query, Some("check the statement, and that database: names the right one"))
        }
        _ if code.starts_with("08") => (Reason::Protocol, None),
        _ => (Reason::Query, None),
    }
}

fn by_kind(error: &Error) -> (Reason, Option<&'static str>) {
    // The driver keeps its kinds to itself; its words are the only way to tell them apart. Each has a test with a server that causes it.
    match error.to_string().as_str() {
        "error performing TLS handshake" if is_cut(error) => (Reason::Io, None),
        "error performing TLS handshake" => (Reason::Tls, tls_hint(error)),
        "authentication error" => (
            Reason::Auth,
            Some("the server wants a way to log in that datapulse does not have: use scram-sha-256"),
        ),
        "invalid configuration" => {
            (Reason::Auth, Some("the server asks for a password: set password: of the target"))
        }
        "error parsing response from server" | "unexpected message from server" => {
            (Reason::Protocol, Some("is this really a PostgreSQL or Redshift server"))
        }
        "error communicating with the server" => {
            match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
                Some(source) if rustls_error(source).is_some() => (Reason::Tls, None),
                Some(source)
                    if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) =>
                {
                    (Reason::Protocol, Some("is this really a PostgreSQL or Redshift server"))
                }
                _ => (Reason::Io, None),
            }
        }
        _ => (Reason::Io, None),
    }
}

/// The connection broke, and nobody had a complaint about the handshake itself.
fn is_cut(error: &Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof))
}

fn tls_hint(error: &Error) -> Option<&'static str> {
    match error.source()?.downcast_ref::<io::Error>() {
        Some(source) => certificate_error(source).map(|wrong| certificate(wrong).1),
        None => Some("turn TLS on at the server; tls: disable sends everything in clear text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_reason() {
        for (code, reason) in [
            ("28P01", Reason::Auth),
            ("28000", Reason::Auth),
            ("42501", Reason::Permission),
            ("57P03", Reason::Starting),
            ("53300", Reason::TooMany),
            ("53200", Reason::Query),
            ("57014", Reason::Timeout),
            ("55P03", Reason::LockTimeout),
            ("57P01", Reason::Shutdown),
            ("57P02", Reason::Shutdown),
            ("57P05", Reason::Shutdown),
            ("25006", Reason::Query),
            ("3D000", Reason::Query),
            ("42P01", Reason::Query),
            ("08P01", Reason::Protocol),
            ("XX000", Reason::Query),
            ("", Reason::Query),
        ] {
            assert_eq!(by_code(code).0, reason, "{code}");
        }
    }
}
