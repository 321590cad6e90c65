//! What went wrong, in the contract's words: from the driver's errors and the server's codes to a problem with its cure.

use super::ANSWER_LIMIT;
use crate::check::{Problem, Reason};
use crate::net::words::{certificate, certificate_error, rustls_error, tame};
use ::redis::{ErrorKind, RedisError};
use std::fmt::Display;
use std::io;

/// The problem behind a failed question. `exceeded`: more came in than allowed, which is then the reason for all that follows.
pub(super) fn problem(node: impl Display, error: &RedisError, exceeded: bool) -> Problem {
    let what = format!("could not read from {node}");
    if exceeded {
        return Problem::new(Reason::TooLarge, what)
            .because(format!("the answers have more than {ANSWER_LIMIT} bytes"));
    }
    let Some(code) = code(error) else { return by_kind(what, error) };
    let message = tame(error.detail().unwrap_or_default(), "");
    let (reason, hint) = by_code(&code, &message);
    let words = if message.is_empty() { code } else { format!("{code} {message}") };
    let problem = Problem::new(reason, what).because(words);
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// A refused login. The server's own words are left out where they could repeat what was sent.
pub(super) fn refused_login(node: impl Display, error: &RedisError, exceeded: bool) -> Problem {
    let mut problem = problem(&node, error, exceeded);
    problem.what = format!("could not log in to {node}");
    // `ERR AUTH <password> called without any password configured for the default user`, and what proxies say in its place.
    if problem.reason == Reason::Query {
        problem.reason = Reason::Auth;
        let passwordless = error.detail().is_some_and(|detail| detail.contains("without any password"));
        let (why, hint) = if passwordless {
            ("the server has no password", "leave out user: and password: of the target")
        } else {
            ("the server refused AUTH", "Redis before 6 knows no users: leave out user: of the target")
        };
        problem.source = Some(why.into());
        problem = problem.hint(hint);
    }
    problem
}

/// A failed TLS handshake.
pub(super) fn handshake(node: impl Display, error: &io::Error) -> Problem {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let what = format!("could not speak TLS with {node}");
    if let Some(wrong) = certificate_error(error) {
        let (words, hint) = certificate(wrong);
        return Problem::new(Reason::Tls, what).because(words).hint(hint);
    }
    if matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe) {
        return Problem::new(Reason::Tls, what)
            .because("the server closed the connection")
            .hint("does this port speak TLS; tls: disable sends everything in clear text");
    }
    let problem = Problem::new(Reason::Tls, what).because(tame(&error.to_string(), ""));
    match rustls_error(error) {
        Some(rustls::Error::InvalidMessage(_)) => {
            problem.hint("does this port speak TLS; tls: disable sends everything in clear text")
        }
        _ => problem,
    }
}

/// Whether after this error nothing can be asked on the connection.
pub(super) fn ends_all(error: &RedisError, reason: Reason) -> bool {
    code(error).is_none() || matches!(reason, Reason::Auth | Reason::TooMany | Reason::TooLarge)
}

/// The first word of an error that the server itself gave.
fn code(error: &RedisError) -> Option<String> {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => error.code().map(str::to_owned),
        _ => None,
    }
}

/// <https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>
fn by_code(code: &str, message: &str) -> (Reason, Option<&'static str>) {
    match code {
        "NOAUTH" => (Reason::Auth, Some("set user: and password: of the target")),
        "WRONGPASS" => (Reason::Auth, Some("check user and password of the target")),
        "DENIED" => (
            Reason::Auth,
            Some("protected mode: give the server a password, or bind it to an address of this network"),
        ),
        "NOPERM" => (
            Reason::Permission,
            Some("give the user this command by ACL SETUSER; `datapulse doctor` names what a check needs"),
        ),
        "LOADING" => (Reason::Starting, None),
        "ERR" if message.contains("max number of clients") => {
            (Reason::TooMany, Some("raise maxclients, or end connections that nobody needs"))
        }
        _ => (Reason::Query, None),
    }
}

fn by_kind(what: String, error: &RedisError) -> Problem {
    match error.kind() {
        ErrorKind::Parse => Problem::new(Reason::Protocol, what)
            .because("the answer is none of Redis")
            .hint("is this really a Redis or Valkey server, and does this port speak TLS"),
        _ if error.is_connection_dropped() => {
            Problem::new(Reason::Io, what).because("the server closed the connection")
        }
        _ => Problem::new(Reason::Io, what).because(tame(&error.to_string(), "")),
    }
}
