//! What a collector's answer means for the body that was sent.

use super::wire::{Fields, Value};
use crate::check::{Problem, Reason};
use crate::net::https::{Reply, Url, quoted};
use jiff::Timestamp;
use std::time::Duration;

/// What an attempt means for its body.
pub(super) enum Verdict {
    /// Over, but for some points.
    Taken {
        /// How many points were not taken.
        rejected: u64,
        /// Why not.
        problem: Option<Problem>,
    },
    /// Try again, after what the collector said, else after a pause of our own.
    Again(Problem, Option<Duration>),
    /// Trying again now is of no use, but somebody may mend it.
    NotNow(Problem),
    /// It will never be taken.
    Never(Problem),
}

/// What an answer means. <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>
pub(super) fn judge(reply: &Reply, collector: &Url) -> Verdict {
    let status = reply.status;
    if status.is_success() {
        let (rejected, message) = partial_success(&reply.body);
        let problem = (rejected > 0).then(|| {
            let what = format!("{collector} rejected {rejected} points: {message}");
            Problem::new(Reason::Query, what)
        });
        return Verdict::Taken { rejected, problem };
    }
    let what = format!("{collector} answered {}: {}", status.as_u16(), reply.excerpt());
    let problem = |reason| Problem::new(reason, what.trim_end_matches([':', ' ']));
    match status.as_u16() {
        429 | 503 => Verdict::Again(problem(Reason::Throttled), reply.retry_after(Timestamp::now())),
        502 | 504 => Verdict::Again(problem(Reason::Io), reply.retry_after(Timestamp::now())),
        401 => Verdict::NotNow(
            problem(Reason::Auth).hint("outputs.otlp.headers has to carry the right credentials"),
        ),
        403 => Verdict::NotNow(problem(Reason::Permission)),
        404 => Verdict::Never(
            problem(Reason::Query).hint("is this the base address of an OTLP receiver over HTTP"),
        ),
        413 => {
            Verdict::Never(problem(Reason::TooLarge).hint("the collector has to accept requests of 4 MiB"))
        }
        _ => Verdict::Never(problem(Reason::Query)),
    }
}

/// Rejected points and why, from an `ExportMetricsServiceResponse`; an answer that is none rejects nothing.
fn partial_success(answer: &[u8]) -> (u64, String) {
    let Some((_, Value::Bytes(partial))) = Fields(answer).find(|(number, _)| *number == 1) else {
        return (0, String::new());
    };
    let (mut rejected, mut message) = (0, String::new());
    for field in Fields(partial) {
        match field {
            (1, Value::Number(count)) => rejected = count,
            (2, Value::Bytes(text)) => message = quoted(&String::from_utf8_lossy(text)),
            _ => {}
        }
    }
    (rejected, message)
}
