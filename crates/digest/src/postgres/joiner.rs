//! Messages put together whose lines do not stand behind each other.

use std::collections::VecDeque;

use super::{Field, Message, Rest};

/// Holds messages of a `stderr` log back until all their lines have come, although other processes wrote between them.
///
/// A server with a logging collector (RDS, Aurora) writes a message in one piece, so only logs that went line by line
/// through something else need it. A message leaves when its process logs the next one, when it is the oldest of too many,
/// or at [`Joiner::finish`]; so messages of one process keep their order, others may not. It holds `capacity` messages,
/// each with at most one more line of each kind.
#[derive(Debug)]
pub struct Joiner {
    pending: VecDeque<Message<'static>>,
    capacity: usize,
}

impl Joiner {
    /// A joiner that holds at most so many messages, one a process.
    pub fn new(capacity: usize) -> Self {
        Self { pending: VecDeque::new(), capacity }
    }

    /// Takes a message in; what comes back is complete. One without a pid comes back itself, as nothing can be joined to it.
    pub fn push(&mut self, message: Message<'_>) -> Option<Message<'static>> {
        if message.pid.is_none() || self.capacity == 0 {
            return Some(message.into_owned());
        }
        let before = self.pending.iter().position(|held| held.pid == message.pid);
        let oldest = (self.pending.len() >= self.capacity).then_some(0);
        let complete = before.or(oldest).and_then(|at| self.pending.remove(at));
        self.pending.push_back(message.into_owned());
        complete
    }

    /// Adds a line to the message of its process. `false`: none is held, or it has such a line; the line counts as skipped.
    pub fn add(&mut self, rest: Rest<'_>) -> bool {
        let held = self.pending.iter_mut().find(|held| rest.pid.is_some() && held.pid == rest.pid);
        let Some(message) = held else {
            return false;
        };
        let place = match rest.field {
            Field::Detail => &mut message.detail,
            Field::Hint => &mut message.hint,
            Field::Context => &mut message.context,
            Field::Statement => &mut message.statement,
            Field::Query | Field::Location | Field::Backtrace => return true,
        };
        if place.is_some() {
            return false;
        }
        *place = Some(rest.text.into_owned().into());
        true
    }

    /// All messages that are still held, the oldest first.
    pub fn finish(&mut self) -> impl Iterator<Item = Message<'static>> + '_ {
        self.pending.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{End, Format, Prefix, Step, next_message};
    use super::*;

    /// Messages as `pid message|detail|statement`, and the bytes that were skipped.
    fn check(capacity: usize, log: &str, expected: &[&str], expected_skipped: usize) {
        let format = Format::Stderr(Prefix::parse("[%p] ").unwrap());
        let mut joiner = Joiner::new(capacity);
        let (mut found, mut skipped, mut at) = (Vec::new(), 0, 0);
        while at < log.len() {
            at += match next_message(&log.as_bytes()[at..], End::OfInput, &format) {
                Step::Message { message, used } => {
                    found.extend(joiner.push(message));
                    used
                }
                Step::Rest { rest, used } => {
                    skipped += if joiner.add(rest) { 0 } else { used };
                    used
                }
                Step::Skip(used) => {
                    skipped += used;
                    used
                }
                Step::NeedMore => panic!("all is there"),
            };
        }
        found.extend(joiner.finish());
        let text = |text: &Option<std::borrow::Cow<'_, [u8]>>| {
            text.as_deref().map_or(String::new(), |text| String::from_utf8_lossy(text).into_owned())
        };
        let found: Vec<String> = found
            .iter()
            .map(|m| {
                let main = Some(m.message.clone());
                format!("{} {}|{}|{}", m.pid.unwrap(), text(&main), text(&m.detail), text(&m.statement))
            })
            .collect();
        assert_eq!((found, skipped), (expected.iter().map(ToString::to_string).collect(), expected_skipped));
    }

    #[test]
    fn lines_find_the_message_of_their_process() {
        let log = "[1] ERROR:  a\n[2] ERROR:  b\n[1] DETAIL:  x\n\ty\n[2] STATEMENT:  s\n[1] STATEMENT:  t\n[1] LOG:  c\n";
        check(8, log, &["1 a|x\ny|t", "2 b||s", "1 c||"], 0);
    }

    #[test]
    fn the_oldest_leaves_when_too_many_are_held() {
        let log = "[1] ERROR:  a\n[2] ERROR:  b\n[3] ERROR:  c\n[1] DETAIL:  x\n[3] DETAIL:  z\n";
        check(2, log, &["1 a||", "2 b||", "3 c|z|"], "[1] DETAIL:  x\n".len());
    }

    #[test]
    fn a_line_without_its_message_or_a_second_one_is_skipped() {
        let log = "[1] DETAIL:  x\n[1] ERROR:  a\n[2] LOG:  b\n[1] DETAIL:  y\n[1] DETAIL:  z\n";
        check(8, log, &["1 a|y|", "2 b||"], "[1] DETAIL:  x\n".len() + "[1] DETAIL:  z\n".len());
    }
}
