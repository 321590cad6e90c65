//! What happened in this demo: the last events, for the page and the terminal.

use jiff::Timestamp;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Older events are forgotten.
const KEPT: usize = 40;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something was broken on request.
    Broken,
    /// Everything was repaired on request.
    Healed,
    /// An order could not be carried out.
    Failed,
    /// An alert fires.
    Firing,
    /// An alert that fired is gone.
    Gone,
}

impl Kind {
    /// A word for people; also a class of the style sheet.
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Healed => "healed",
            Self::Failed => "failed",
            Self::Firing => "firing",
            Self::Gone => "gone",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What kind of thing.
    pub kind: Kind,
    /// In words.
    pub text: String,
    /// Seconds since something was last broken or healed; for what Prometheus does.
    pub after: Option<f64>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {:<7} {}", self.at.strftime("%H:%M:%S"), self.kind.word(), self.text)?;
        self.after.map_or(Ok(()), |seconds| write!(f, " ({seconds:.0} s later)"))
    }
}

/// The last events.
pub struct Diary {
    events: Mutex<VecDeque<Event>>,
    tell: Box<dyn Fn(&Event) + Send + Sync>,
}

impl Diary {
    /// An empty diary; each event is also told to `tell`.
    pub fn new(tell: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self { events: Mutex::default(), tell: Box::new(tell) }
    }

    /// Writes an event down.
    pub fn note(&self, at: Timestamp, kind: Kind, text: String) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = events.iter().rev().find(|event| matches!(event.kind, Kind::Broken | Kind::Healed));
        let after = match kind {
            Kind::Firing | Kind::Gone => cause.map(|cause| at.duration_since(cause.at).as_secs_f64()),
            Kind::Broken | Kind::Healed | Kind::Failed => None,
        };
        let event = Event { at, kind, text, after };
        (self.tell)(&event);
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The events, newest first.
    pub fn newest(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

impl fmt::Debug for Diary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diary").field("events", &self.events).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_prometheus_does_is_timed_from_the_last_order() {
        let diary = Diary::new(|_| {});
        diary.note(at(5), Kind::Firing, "of its own".to_owned());
        diary.note(at(10), Kind::Broken, "disable".to_owned());
        diary.note(at(21), Kind::Firing, "Disabled".to_owned());
        diary.note(at(30), Kind::Healed, "all".to_owned());
        diary.note(at(65), Kind::Gone, "Disabled".to_owned());
        let after: Vec<_> = diary.newest().iter().map(|event| event.after).collect();
        assert_eq!(after, [Some(35.0), None, Some(11.0), None, None]);
        assert_eq!(diary.newest()[2].to_string(), "00:00:21  firing  Disabled (11 s later)");
    }

    #[test]
    fn old_events_are_forgotten() {
        let diary = Diary::new(|_| {});
        for second in 0..100 {
            diary.note(at(second), Kind::Failed, String::new());
        }
        assert_eq!((diary.newest().len(), diary.newest()[0].at), (KEPT, at(99)));
    }
}
