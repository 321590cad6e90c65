//! Reads the log events of one delivery as one log, and tells in which event each entry begins.

use super::routes::Parser;
use digest::mysql_slow::{self, Session};
use digest::payload::LogEvent;
use digest::postgres::{self, Severity};
use digest::{End, Event};

/// What a parser found.
#[derive(Debug)]
pub enum Found<'a> {
    /// A statement of a slow query log of `MySQL`.
    SlowQuery(&'a Event<'a>),
    /// A message of a `PostgreSQL` log, with the statement if it gives the duration of one.
    Message(Severity, Option<&'a Event<'a>>),
}

/// Reads the events of one stream in their order. An entry may have several events, and an event several entries:
/// `each` gets the number of the event that an entry begins in. Gives for each event whether an entry has a part of it.
/// `gaps` are the numbers of the events that stand behind a missing one: what goes on behind a gap is not put together
/// with what stands before it, since a literal could begin in what is missing.
pub fn parse(
    events: &[LogEvent<'_>],
    gaps: impl IntoIterator<Item = usize>,
    parser: &Parser,
    each: &mut dyn FnMut(usize, Found<'_>),
) -> Vec<bool> {
    let mut parsed = Vec::with_capacity(events.len());
    for end in gaps.into_iter().chain([events.len()]) {
        let first = parsed.len();
        let part = events.get(first..end).unwrap_or_default();
        parsed.extend(without_gap(part, parser, &mut |at, found| each(first + at, found)));
    }
    parsed
}

fn without_gap(
    events: &[LogEvent<'_>],
    parser: &Parser,
    each: &mut dyn FnMut(usize, Found<'_>),
) -> Vec<bool> {
    match parser {
        Parser::Plain => vec![true; events.len()],
        Parser::MySqlSlow => {
            let mut parsed = Vec::with_capacity(events.len());
            // One for all: it remembers statements that came before, and reads those again faster.
            let mut session = Session::default();
            // What begins with a header begins an entry, whatever stands open before it.
            for part in events.chunk_by(|_, next| !opens(&next.message)) {
                let first = parsed.len();
                let joined = Joined::new(part);
                slow_log(&joined, &mut session, &mut parsed, &mut |at, event| {
                    each(first + at, Found::SlowQuery(event));
                });
            }
            parsed
        }
        Parser::Postgres(prefix) => {
            let (joined, mut parsed) = (Joined::new(events), Vec::with_capacity(events.len()));
            let format = postgres::Format::Stderr(prefix.clone());
            server_log(&joined, &format, &mut parsed, each);
            parsed
        }
    }
}

fn opens(message: &str) -> bool {
    message.starts_with("# Time: ") || message.starts_with("# User@Host: ")
}

/// Messages behind each other, each with its line break.
struct Joined<'a> {
    text: std::borrow::Cow<'a, [u8]>,
    /// Where each message ends.
    ends: Vec<usize>,
}

impl<'a> Joined<'a> {
    fn new(events: &'a [LogEvent<'_>]) -> Self {
        if let [one] = events {
            let text = one.message.as_bytes();
            return Self { text: text.into(), ends: vec![text.len()] };
        }
        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(events.len()));
        for event in events {
            text.extend_from_slice(event.message.as_bytes());
            if !event.message.ends_with('\n') {
                text.push(b'\n');
            }
            ends.push(text.len());
        }
        Self { text: text.into(), ends }
    }

    fn from(&self, at: usize) -> &[u8] {
        self.text.get(at..).unwrap_or_default()
    }

    /// The message that the byte is in.
    fn message(&self, at: usize) -> usize {
        self.ends.partition_point(|end| *end <= at)
    }

    /// Notes that the messages of these bytes have a part in an entry.
    fn mark(&self, from: usize, to: usize, parsed: &mut [bool]) {
        let last = self.message(to.saturating_sub(1)).min(parsed.len().saturating_sub(1));
        parsed.iter_mut().take(last + 1).skip(self.message(from)).for_each(|parsed| *parsed = true);
    }
}

fn slow_log(
    joined: &Joined<'_>,
    session: &mut Session,
    parsed: &mut Vec<bool>,
    each: &mut dyn FnMut(usize, &Event<'_>),
) {
    let first = parsed.len();
    parsed.resize(first + joined.ends.len(), false);
    let parsed = parsed.get_mut(first..).unwrap_or_default();
    let mut at = 0;
    loop {
        match mysql_slow::next_entry(joined.from(at), End::OfInput, session) {
            mysql_slow::Step::Event { event, used } => {
                joined.mark(at, at + used, parsed);
                each(joined.message(at), &event);
                at += used;
            }
            mysql_slow::Step::Skip(0) | mysql_slow::Step::NeedMore => return,
            mysql_slow::Step::Skip(count) => at += count,
        }
    }
}

fn server_log(
    joined: &Joined<'_>,
    format: &postgres::Format,
    parsed: &mut Vec<bool>,
    each: &mut dyn FnMut(usize, Found<'_>),
) {
    parsed.resize(joined.ends.len(), false);
    let mut at = 0;
    loop {
        at += match postgres::next_message(joined.from(at), End::OfInput, format) {
            postgres::Step::Message { message, used } => {
                joined.mark(at, at + used, parsed);
                each(joined.message(at), Found::Message(message.severity, message.event().as_ref()));
                used
            }
            postgres::Step::Rest { used, .. } => {
                joined.mark(at, at + used, parsed);
                used
            }
            postgres::Step::Skip(0) | postgres::Step::NeedMore => return,
            postgres::Step::Skip(count) => count,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use digest::postgres::Prefix;

    fn check(parser: &Parser, messages: &[&str], expected: &[&str], expected_parsed: &[bool]) {
        check_with_gaps(parser, messages, &[], expected, expected_parsed);
    }

    fn check_with_gaps(
        parser: &Parser,
        messages: &[&str],
        gaps: &[usize],
        expected: &[&str],
        expected_parsed: &[bool],
    ) {
        let event = |(at, message): (usize, &&str)| LogEvent {
            id: at.to_string().into(),
            timestamp: 0,
            message: (*message).to_owned().into(),
        };
        let events: Vec<LogEvent<'_>> = messages.iter().enumerate().map(event).collect();
        let mut found = Vec::new();
        let parsed = parse(&events, gaps.iter().copied(), parser, &mut |at, entry| {
            let text = |event: &Event<'_>| event.query.escape_ascii().to_string();
            found.push(match entry {
                Found::SlowQuery(event) => format!("{at} {}", text(event)),
                Found::Message(severity, event) => {
                    format!("{at} {} {}", severity.as_str(), event.map_or_else(String::new, text))
                }
            });
        });
        assert_eq!(found, expected);
        assert_eq!(parsed, expected_parsed);
    }

    const HEAD: &str =
        "# User@Host: a[a] @ b []\n# Query_time: 1.5  Lock_time: 0 Rows_sent: 1  Rows_examined: 2\n";

    #[test]
    fn entries_are_found_whatever_messages_they_come_in() {
        let one = format!("{HEAD}SET timestamp=1;\nselect 1;");
        let two = format!("{one}\n{one}");
        let (head, tail) = one.split_at(HEAD.len());
        let open = format!("{HEAD}select 'not closed");
        check(&Parser::MySqlSlow, &[&one], &["0 select 1"], &[true]);
        check(&Parser::MySqlSlow, &[&two, &one], &["0 select 1", "0 select 1", "1 select 1"], &[true, true]);
        check(
            &Parser::MySqlSlow,
            &["rest of something;", head.trim_end(), tail, &one],
            &["1 select 1", "3 select 1"],
            &[false, true, true, true],
        );
        check(&Parser::MySqlSlow, &[&open, &one], &["0 select \\'not closed", "1 select 1"], &[true, true]);
        check(&Parser::MySqlSlow, &["", "x"], &[], &[false, false]);
        check(&Parser::Plain, &["", "x"], &[], &[true, true]);
    }

    #[test]
    fn nothing_is_put_together_over_a_gap() {
        let head = format!("{HEAD}SET timestamp=1;\nselect a");
        let tail = "secret' from b;";
        let one = format!("{HEAD}select 2;");
        let messages = [head.as_str(), tail, &one];
        check_with_gaps(
            &Parser::MySqlSlow,
            &messages,
            &[1],
            &["0 select a", "2 select 2"],
            &[true, false, true],
        );
        let expected = ["0 select a", "2 select 2"];
        check_with_gaps(&Parser::MySqlSlow, &messages, &[0, 1, 1, 3], &expected, &[true, false, true]);
        let message =
            "2026-11-24 17:13:29 UTC:10.0.0.1(5):me@app:[7]:LOG:  duration: 12.345 ms  statement: select a";
        let postgres = Parser::Postgres(Prefix::rds());
        check_with_gaps(&postgres, &[message, "\tsecret'"], &[1], &["0 LOG select a"], &[true, false]);
        check_with_gaps(&Parser::Plain, &["a", "b"], &[1], &[], &[true, true]);
        check_with_gaps(&Parser::Plain, &[], &[0, 0], &[], &[]);
    }

    #[test]
    fn lines_behind_a_message_of_postgres_belong_to_it() {
        let prefix = "2026-11-24 17:13:29 UTC:10.0.0.1(5):me@app:[7]:";
        check(
            &Parser::Postgres(Prefix::rds()),
            &[
                "\ttail",
                &format!("{prefix}LOG:  duration: 12.345 ms  statement: select"),
                "\t1",
                &format!("{prefix}ERROR:  no"),
                &format!("{prefix}STATEMENT:  select no"),
            ],
            &["1 LOG select\\n1", "3 ERROR "],
            &[false, true, true, true, true],
        );
    }
}
