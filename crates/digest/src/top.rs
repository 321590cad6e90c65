//! Which statements of a log have a series of their own: as many as there are slots, and those that take the most time.
//!
//! A newcomer takes a free slot, that of a statement that was idle for a day, or that of the lightest one when its own time
//! in the last hour is twice as much. So slots change hands seldom, and a statement that becomes slow gets one soon.

use std::collections::{BTreeMap, HashMap};

/// A statement that was not seen for so long gives its slot to the next newcomer, in milliseconds.
const IDLE_MS: i64 = 24 * 3600 * 1000;
/// Of the last hour ten minutes are counted together.
const PART_MS: i64 = 600_000;
const PARTS: usize = 6;
const PARTS_OF_TIME: i64 = 6;
/// Newcomers whose time is watched, for each slot.
const WATCHED_PER_SLOT: usize = 10;

/// The slots of one log.
#[derive(Clone, Debug)]
pub struct Top {
    most: usize,
    slots: BTreeMap<u64, Recent>,
    /// Statements without a slot.
    watched: HashMap<u64, Recent>,
}

/// Whether a statement has a series of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has.
    Own,
    /// It has from now on; the one that had the slot before, if there was one, has none any more.
    New(Option<u64>),
    /// It counts as other.
    Other,
}

/// Time of the last hour, and when it was last seen.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// Microseconds by part of an hour.
    parts: [u64; PARTS],
    /// Which part was written last, counted since 1970.
    part: i64,
    seen_ms: i64,
}

impl Recent {
    fn add(&mut self, micros: u64, now_ms: i64) {
        self.turn(now_ms);
        self.seen_ms = self.seen_ms.max(now_ms);
        if let Some(part) = self.parts.get_mut(index(self.part)) {
            *part = part.saturating_add(micros);
        }
    }

    /// Empties the parts that are older than an hour.
    fn turn(&mut self, now_ms: i64) {
        let now = now_ms.div_euclid(PART_MS);
        for part in (self.part + 1..=now).rev().take(PARTS) {
            if let Some(part) = self.parts.get_mut(index(part)) {
                *part = 0;
            }
        }
        self.part = self.part.max(now);
    }

    fn micros(&self, now_ms: i64) -> u64 {
        let mut now = *self;
        now.turn(now_ms);
        now.parts.iter().fold(0, |sum: u64, part| sum.saturating_add(*part))
    }
}

fn index(part: i64) -> usize {
    usize::try_from(part.rem_euclid(PARTS_OF_TIME)).unwrap_or_default()
}

impl Top {
    /// So many slots, of which these statements have one already.
    pub fn new(most: usize, known: impl IntoIterator<Item = u64>, now_ms: i64) -> Self {
        let recent = Recent { part: now_ms.div_euclid(PART_MS), seen_ms: now_ms, ..Recent::default() };
        let slots = known.into_iter().take(most).map(|fingerprint| (fingerprint, recent)).collect();
        Self { most, slots, watched: HashMap::new() }
    }

    /// Whether the statement has a slot.
    pub fn has(&self, fingerprint: u64) -> bool {
        self.slots.contains_key(&fingerprint)
    }

    /// Counts a call, and says where it belongs.
    pub fn place(&mut self, fingerprint: u64, micros: u64, now_ms: i64) -> Place {
        if let Some(recent) = self.slots.get_mut(&fingerprint) {
            recent.add(micros, now_ms);
            return Place::Own;
        }
        let mut recent = self
            .watched
            .remove(&fingerprint)
            .unwrap_or(Recent { part: now_ms.div_euclid(PART_MS), ..Recent::default() });
        recent.add(micros, now_ms);
        if self.slots.len() < self.most {
            self.slots.insert(fingerprint, recent);
            return Place::New(None);
        }
        let idle = self.slots.iter().min_by_key(|(_, slot)| slot.seen_ms);
        let idle = idle.filter(|(_, slot)| now_ms.saturating_sub(slot.seen_ms) >= IDLE_MS);
        let lightest = || self.slots.iter().min_by_key(|(_, slot)| slot.micros(now_ms));
        let lighter = |(_, slot): &(&u64, &Recent)| {
            recent.micros(now_ms) >= slot.micros(now_ms).saturating_mul(2).max(1)
        };
        let given = idle.or_else(|| lightest().filter(lighter)).map(|(fingerprint, _)| *fingerprint);
        if let Some(given) = given {
            self.slots.remove(&given);
            self.slots.insert(fingerprint, recent);
            return Place::New(Some(given));
        }
        self.watch(fingerprint, recent, now_ms);
        Place::Other
    }

    /// Remembers a newcomer. When there are too many, those of little time are forgotten, half of all at once.
    fn watch(&mut self, fingerprint: u64, recent: Recent, now_ms: i64) {
        self.watched.insert(fingerprint, recent);
        let most = self.most * WATCHED_PER_SLOT;
        if self.watched.len() > most {
            let mut times: Vec<u64> = self.watched.values().map(|recent| recent.micros(now_ms)).collect();
            let (_, middle, _) = times.select_nth_unstable(most / 2);
            let middle = *middle;
            self.watched.retain(|_, recent| recent.micros(now_ms) > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn free_slots_are_taken_and_then_only_from_lighter_ones() {
        let mut top = Top::new(2, [], 0);
        assert_eq!(top.place(1, 100, 0), Place::New(None));
        assert_eq!(top.place(2, 300, 0), Place::New(None));
        assert_eq!(top.place(1, 0, 0), Place::Own);
        assert_eq!(top.place(3, 150, 0), Place::Other);
        assert_eq!(top.place(3, 49, 1), Place::Other);
        assert_eq!(top.place(3, 1, 2), Place::New(Some(1)), "200 is twice 100");
        assert_eq!(top.place(1, 100, 3), Place::Other, "who lost a slot is a newcomer again");
        assert!(top.has(3) && !top.has(1));
    }

    #[test]
    fn only_the_last_hour_counts() {
        let mut top = Top::new(1, [], 0);
        top.place(1, 1_000, 0);
        assert_eq!(top.place(2, 10, HOUR - PART_MS), Place::Other);
        assert_eq!(top.place(2, 10, HOUR + PART_MS), Place::New(Some(1)), "1 was idle for an hour");
    }

    #[test]
    fn a_day_without_a_call_gives_the_slot_away() {
        let mut top = Top::new(2, [7, 8], 0);
        top.place(7, 5_000, 24 * HOUR - 1);
        assert_eq!(top.place(9, 0, 24 * HOUR), Place::New(Some(8)));
        assert_eq!(top.place(10, 0, 24 * HOUR), Place::Other, "no time at all is no reason");
    }

    #[test]
    fn many_newcomers_are_forgotten_but_the_heavy_ones() {
        let mut top = Top::new(1, [], 0);
        top.place(1, 1_000_000, 0);
        top.place(2, 1_000, 0);
        for fingerprint in 100..10_000 {
            top.place(fingerprint, 1, 0);
        }
        assert!(top.watched.len() <= WATCHED_PER_SLOT);
        assert_eq!(top.place(2, 1_999_000, 0), Place::New(Some(1)), "its time was not forgotten");
    }
}
