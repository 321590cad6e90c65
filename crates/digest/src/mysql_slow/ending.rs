//! Where a statement ends: before the next header, unless that stands in a literal or comment of the statement.
//!
//! A log may break off within a literal, when the server crashes or the disk is full, and true entries follow. Or a
//! literal holds lines of a slow log. Both look alike at first: a header where a literal is open. What decides:
//!
//! 1. A header that is not complete, or whose times disagree with each other or lie before those of the entry, is text.
//! 2. Else both readings go on to the first header at which the literal is closed in the first reading, or to the end of
//!    the input. If the statement can end there and only the second reading is within a literal, it was text.
//! 3. Else, and when there is no such header within [`LOOK_AHEAD`] bytes and [`MOST_HEADERS`], the log broke off before
//!    the first header.

use memchr::{memchr, memchr2, memrchr};

use super::header::{Header, Known, opens};
use super::{End, LARGEST_ENTRY};

/// How far the end of a literal with headers in it is looked for, in bytes.
const LOOK_AHEAD: usize = 256 << 10;

/// How many headers are passed on the way to it. Without this limit a log of short statements with open quotes, which
/// anybody can write by mistake, would be read a thousand times.
const MOST_HEADERS: usize = 64;

/// Longer than each start of a line that matters here, in bytes.
const LONGEST_START: usize = 64;

/// A server writes three lines when it starts and when its logs are flushed; the first ends so, the second begins so.
const BANNER: (&[u8], &[u8]) = (b"started with:", b"Tcp port:");

/// No buffer needs to be larger to decide, in bytes.
pub(super) const ENOUGH: usize = LARGEST_ENTRY + 2 * LOOK_AHEAD;

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Nothing,
    Quotes(u8),
    Comment,
    /// Behind the end of a comment that never began: it is no statement.
    Nonsense,
}

/// A place where an entry may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Before a header or a banner.
    At(usize),
    /// Where the text ends.
    AtEnd,
    /// Not in the text so far; the next search may begin here.
    NotYet(usize),
}

/// The next line at or behind `from` that ends an entry which has no open literal. Nothing before `floor` is looked at.
pub(super) fn next_stop(text: &[u8], floor: usize, from: usize, end: End) -> Stop {
    let mut at = from;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let begins_line =
            at == floor || at.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'\n');
        if begins_line {
            match opens(rest, end) {
                Known::Yes => return Stop::At(at),
                Known::NotYet => return Stop::NotYet(at),
                Known::No if rest.first() != BANNER.1.first() => {}
                Known::No => {
                    if let Some(banner) = banner_before(text, floor, at) {
                        return Stop::At(banner);
                    }
                    if end == End::OfPiece && BANNER.1.starts_with(rest) {
                        return Stop::NotYet(at);
                    }
                }
            }
        }
        match (memchr(b'\n', rest), end) {
            (Some(length), _) => at += length + 1,
            (None, End::OfInput) => return Stop::AtEnd,
            (None, End::OfPiece) => return Stop::NotYet(text.len()),
        }
    }
}

/// Where a banner begins whose second line begins at `at`.
fn banner_before(text: &[u8], floor: usize, at: usize) -> Option<usize> {
    if !text.get(at..)?.starts_with(BANNER.1) {
        return None;
    }
    let line_break = at.checked_sub(1).filter(|line_break| *line_break >= floor)?;
    let before = text.get(floor..line_break)?;
    let start = memrchr(b'\n', before).map_or(0, |at| at + 1);
    before.get(start..)?.trim_ascii_end().ends_with(BANNER.0).then_some(floor + start)
}

/// As [`next_stop`], but an entry that grows too large is cut.
pub(super) fn next_stop_of_entry(text: &[u8], floor: usize, from: usize, end: End) -> Stop {
    let (window, end) = match text.get(..LARGEST_ENTRY + LONGEST_START) {
        Some(window) => (window, End::OfInput),
        None => (text, end),
    };
    match next_stop(window, floor, from, end) {
        Stop::At(at) if at > LARGEST_ENTRY => Stop::At(LARGEST_ENTRY),
        Stop::AtEnd if window.len() > LARGEST_ENTRY => Stop::At(LARGEST_ENTRY),
        stop => stop,
    }
}

/// Where an entry ends whose statement has an open literal or comment at `first`. `NotYet`: more bytes are needed.
pub(super) fn end_of_open(text: &[u8], entry: &Header<'_>, first: usize, within: Within, end: End) -> Stop {
    let mut stop = first;
    let mut within = within;
    let mut banner = None;
    loop {
        if within == Within::Nothing || stop >= LARGEST_ENTRY {
            return Stop::At(stop);
        }
        let here = text.get(stop..).unwrap_or_default();
        if opens(here, end) == Known::Yes {
            let Some(header) = Header::read(here, end) else { return Stop::NotYet(stop) };
            if header.follows(entry) {
                return match close_of_literal(text, stop, within, end) {
                    Stop::At(at) if at == stop => Stop::At(banner.unwrap_or(stop)),
                    decided => decided,
                };
            }
            banner = None;
        } else {
            // After a crash a server begins with a banner; the entry ends before it if it ends before the header.
            banner = Some(stop);
        }
        // The line here has been looked at.
        let Some(next_line) = memchr(b'\n', here).map(|length| stop + length + 1) else {
            return if end == End::OfInput { Stop::AtEnd } else { Stop::NotYet(stop) };
        };
        match next_stop_of_entry(text, next_line, next_line, end) {
            Stop::At(next) => {
                within = advance(text.get(stop..next).unwrap_or_default(), within);
                stop = next;
            }
            Stop::AtEnd => return Stop::AtEnd,
            Stop::NotYet(at) => return Stop::NotYet(at),
        }
    }
}

/// Decides about a header at `first`, which seems to be a true one though a literal is open.
fn close_of_literal(text: &[u8], first: usize, within: Within, end: End) -> Stop {
    let (window, end) = match text.get(..first + LOOK_AHEAD) {
        Some(window) => (window, None),
        None => (text, Some(end)),
    };
    let mut as_text = within;
    let mut as_entries = Within::Nothing;
    let mut at = first;
    for _ in 0..MOST_HEADERS {
        let next_line = memchr(b'\n', window.get(at..).unwrap_or_default()).map(|length| at + length + 1);
        let from = next_line.unwrap_or(window.len());
        let next = match (next_stop(window, from, from, end.unwrap_or(End::OfInput)), end) {
            (Stop::At(next), _) => next,
            (Stop::NotYet(at), _) => return Stop::NotYet(at),
            (Stop::AtEnd, None) => return Stop::At(first),
            (Stop::AtEnd, Some(_)) => window.len(),
        };
        let passed = window.get(at..next).unwrap_or_default();
        as_text = advance(passed, as_text);
        as_entries = advance(passed, as_entries);
        if as_text == Within::Nothing || next == window.len() {
            let may_end = next == window.len() || passed.trim_ascii_end().ends_with(b";");
            let was_text = as_text == Within::Nothing && as_entries != Within::Nothing && may_end;
            return Stop::At(if was_text { next } else { first });
        }
        at = next;
    }
    Stop::At(first)
}

/// Where a `MySQL` text stands behind this part of it. Parts end at the ends of lines.
pub(super) fn advance(part: &[u8], within: Within) -> Within {
    let mut within = within;
    let mut rest = part;
    while let Some((first, behind)) = to_next(rest, within).split_first() {
        rest = behind;
        let second = behind.first().copied();
        match (within, *first) {
            (Within::Nothing, b'\'' | b'"' | b'`') => within = Within::Quotes(*first),
            (Within::Nothing, b'/') if second == Some(b'*') => {
                within = Within::Comment;
                rest = behind.get(1..).unwrap_or_default();
            }
            (Within::Nothing, b'*') if second == Some(b'/') && behind.get(1) != Some(&b'*') => {
                return Within::Nonsense;
            }
            (Within::Nothing, b'#') => rest = next_line(behind),
            (Within::Nothing, b'-')
                if second == Some(b'-') && behind.get(1).is_none_or(|byte| *byte <= b' ') =>
            {
                rest = next_line(behind);
            }
            (Within::Quotes(b'\'' | b'"'), b'\\') => rest = behind.get(1..).unwrap_or_default(),
            // A doubled quote ends one literal and opens another: it comes to the same.
            (Within::Quotes(quote), byte) if byte == quote => within = Within::Nothing,
            (Within::Comment, b'*') if second == Some(b'/') => {
                within = Within::Nothing;
                rest = behind.get(1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    within
}

/// What begins with the next byte that matters.
fn to_next(rest: &[u8], within: Within) -> &[u8] {
    let at = match within {
        Within::Quotes(quote) => memchr2(quote, b'\\', rest),
        Within::Comment => memchr(b'*', rest),
        Within::Nothing | Within::Nonsense => return rest,
    };
    at.and_then(|at| rest.get(at..)).unwrap_or_default()
}

fn next_line(text: &[u8]) -> &[u8] {
    memchr(b'\n', text).and_then(|at| text.get(at..)).unwrap_or_default()
}
