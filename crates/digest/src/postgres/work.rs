//! What a message says about the work of a statement.

use std::borrow::Cow;

use memchr::memmem;

use super::{json, number};

/// Which part of a statement's life a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// A statement of the simple protocol, whole.
    Statement,
    /// Parsing a statement of the extended protocol.
    Parse,
    /// Planning it and taking its parameters.
    Bind,
    /// Running it.
    Execute,
    /// Running it on for more rows.
    Fetch,
    /// A function called by its number, the old way.
    Call,
    /// The plan of a statement, by `auto_explain`. Its own message repeats the statement, if that is logged too.
    Plan,
    /// Only that something took so long: its statement was logged before it, or is not logged (`log_duration`).
    Duration,
}

impl Phase {
    /// Whether it counts as a query. `Parse` and `Bind` take time of their own for a statement that `Execute` counts, `Fetch`
    /// continues one that was counted, `Plan` and `Duration` repeat it.
    pub fn is_query(self) -> bool {
        match self {
            Self::Statement | Self::Execute => true,
            Self::Parse | Self::Bind | Self::Fetch | Self::Call | Self::Plan | Self::Duration => false,
        }
    }
}

/// What a message such as `duration: 0.377 ms  bind P_0: select 1` says
/// (<https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-LOG-MIN-DURATION-STATEMENT>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work<'a> {
    /// Which part it is about.
    pub phase: Phase,
    /// How long that part took, in microseconds. `None`: `log_statement`, before it began.
    pub duration: Option<u64>,
    /// The prepared statement, with `/` and the portal if that has a name; `<unnamed>` as the server says it.
    pub name: Option<&'a [u8]>,
    /// The statement as it came. A plan has it in the formats text, JSON and YAML.
    pub text: Option<Cow<'a, [u8]>>,
}

/// Reads the primary text of a message.
pub(super) fn read(message: &[u8]) -> Option<Work<'_>> {
    let Some(rest) = message.strip_prefix(b"duration: ") else {
        let work = phase(message)?;
        // Nothing else is logged without its duration, so it is some other message.
        return matches!(work.phase, Phase::Statement | Phase::Execute | Phase::Fetch | Phase::Call)
            .then_some(work);
    };
    let (duration, rest) = milliseconds(rest)?;
    let work = match rest.strip_prefix(b"  ") {
        Some(rest) => phase(rest)?,
        None if rest.is_empty() => Work { phase: Phase::Duration, duration: None, name: None, text: None },
        None => return None,
    };
    Some(Work { duration: Some(duration), ..work })
}

/// `0.377 ms` as microseconds. The server always writes three decimals, so nothing is rounded.
fn milliseconds(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = memchr::memchr(b' ', text)?;
    let (figure, rest) = text.split_at_checked(end)?;
    let rest = rest.strip_prefix(b" ms")?;
    let point = memchr::memchr(b'.', figure)?;
    let (whole, decimals) = figure.split_at_checked(point)?;
    let decimals = decimals.strip_prefix(b".").filter(|decimals| decimals.len() == 3)?;
    let whole: u64 = number(whole)?;
    Some((whole.checked_mul(1000)?.checked_add(number(decimals)?)?, rest))
}

fn phase(text: &[u8]) -> Option<Work<'_>> {
    let work = |phase, name, text| Some(Work { phase, duration: None, name, text });
    if let Some(plan) = text.strip_prefix(b"plan:") {
        return work(Phase::Plan, None, planned(plan.trim_ascii_start()));
    }
    if text.starts_with(b"fastpath function call: ") {
        return work(Phase::Call, None, None);
    }
    if let Some(statement) = text.strip_prefix(b"statement: ") {
        return work(Phase::Statement, None, Some(Cow::Borrowed(statement)));
    }
    let named = [
        (&b"parse "[..], Phase::Parse),
        (b"bind ", Phase::Bind),
        (b"execute fetch from ", Phase::Fetch),
        (b"execute ", Phase::Execute),
    ];
    let (rest, phase) =
        named.iter().find_map(|(start, phase)| text.strip_prefix(*start).map(|rest| (rest, *phase)))?;
    let end = memmem::find(rest, b": ")?;
    work(phase, rest.get(..end), rest.get(end + 2..).map(Cow::Borrowed))
}

/// The statement of a plan (<https://www.postgresql.org/docs/current/auto-explain.html>).
fn planned(plan: &[u8]) -> Option<Cow<'_, [u8]>> {
    if plan.starts_with(b"{") {
        let key = b"\"Query Text\": \"";
        let at = memmem::find(plan, key)? + key.len();
        return json::text(plan.get(at..)?);
    }
    let rest = plan.strip_prefix(b"Query Text: ")?;
    // YAML; no SQL begins with a quoted name.
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        return json::text(quoted);
    }
    // The text format does not say where the statement ends: there its parameters begin, or the costs of the first node.
    let mut end = 0;
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        if end > 0 && (line.starts_with(b"Query Parameters: ") || memmem::find(line, b"  (cost=").is_some()) {
            break;
        }
        end += line.len();
    }
    rest.get(..end).map(|text| Cow::Borrowed(text.trim_ascii_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, phase: Phase, duration: Option<u64>, name: Option<&str>, text: Option<&str>) {
        let text = text.map(|text| Cow::Borrowed(text.as_bytes()));
        let expected = Work { phase, duration, name: name.map(str::as_bytes), text };
        assert_eq!(read(message.as_bytes()), Some(expected), "{message}");
    }

    #[test]
    fn every_wording_of_the_server_is_read() {
        check("duration: 0.377 ms  statement: select 1", Phase::Statement, Some(377), None, Some("select 1"));
        check("duration: 7384000.001 ms", Phase::Duration, Some(7_384_000_001), None, None);
        check("statement: a: b", Phase::Statement, None, None, Some("a: b"));
        check("duration: 1.000 ms  parse P_0: x: y", Phase::Parse, Some(1000), Some("P_0"), Some("x: y"));
        check("duration: 1.000 ms  bind s/c: x", Phase::Bind, Some(1000), Some("s/c"), Some("x"));
        check("execute <unnamed>: x", Phase::Execute, None, Some("<unnamed>"), Some("x"));
        check(
            "duration: 0.010 ms  execute fetch from s/c: x",
            Phase::Fetch,
            Some(10),
            Some("s/c"),
            Some("x"),
        );
        check("duration: 0.010 ms  fastpath function call: \"f\" (OID 7)", Phase::Call, Some(10), None, None);
    }

    #[test]
    fn plans_give_their_statement() {
        let plan = |plan: &str, text: Option<&str>| {
            check(&format!("duration: 0.010 ms  plan:\n{plan}"), Phase::Plan, Some(10), None, text);
        };
        plan(
            "{\n  \"Query Text\": \"select \\\"a\\\"\\n, 2\",\n  \"Plan\": {}\n}",
            Some("select \"a\"\n, 2"),
        );
        plan("Query Text: \"select \\\"a\\\"\"\nPlan: \n", Some("select \"a\""));
        plan(
            "Query Text: select 1\nfrom t;\nSeq Scan on t  (cost=0..1 rows=1 width=4)\n",
            Some("select 1\nfrom t;"),
        );
        plan("Query Text: select $1\nQuery Parameters: $1 = 'x'\nResult  (cost=0..1)", Some("select $1"));
        plan("<explain>\n  <Query-Text>select 1</Query-Text>", None);
        plan("{\n  \"Query Text\": \"cut", None);
    }

    #[test]
    fn other_messages_are_no_work() {
        for message in [
            "",
            "duration: ",
            "duration: 5 ms",
            "duration: x.123 ms",
            "duration: 1.000 ms statement: x",
            "duration: 1.000 ms  other: x",
            "duration: 99999999999999999999.000 ms",
            "parse error: x",
            "plan: x",
            "execute x",
            "connection received: host=[local]",
        ] {
            assert_eq!(read(message.as_bytes()), None, "{message}");
        }
    }
}
