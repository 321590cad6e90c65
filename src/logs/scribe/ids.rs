//! The ids of recent events as keyed 64-bit hashes, in two generations, so that forgetting costs nothing.

use crate::logs::keyed_hash::keyed_hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// A generation ends at this age. An id is known for one to two of them; senders repeat for 24 h at most.
const GENERATION_MS: i64 = 13 * 3600 * 1000;

/// The ids of the last 13 to 26 hours, or of a shorter time when there are too many.
#[derive(Debug)]
pub(crate) struct Ids {
    key: [u64; 2],
    older: Option<Generation>,
    newer: Generation,
    /// In each generation.
    most: usize,
    /// Before this some may be missing, because a part of the ledger was damaged.
    sure_since_ms: i64,
}

#[derive(Debug)]
struct Generation {
    /// From this instant on all ids are here (or in the next generation); in milliseconds since 1970.
    since_ms: i64,
    hashes: HashSet<u64, BuildHasherDefault<AsItIs>>,
}

impl Ids {
    /// Knows no id, at most so many, and has a new random key.
    pub(crate) fn new(most: usize, now_ms: i64) -> Self {
        let random = RandomState::new();
        Self::with_key([random.hash_one(0), random.hash_one(1)], most, now_ms)
    }

    pub(crate) fn with_key(key: [u64; 2], most: usize, now_ms: i64) -> Self {
        Self {
            key,
            older: None,
            newer: Generation::new(now_ms),
            most: (most / 2).max(1),
            sure_since_ms: i64::MIN,
        }
    }

    pub(crate) fn key(&self) -> [u64; 2] {
        self.key
    }

    /// The hash under which an id is known.
    /// Senders may count their ids in each log group.
    pub(crate) fn hash(&self, log_group: &str, id: &str) -> u64 {
        keyed_hash(self.key, &[log_group.as_bytes(), b"\n", id.as_bytes()].concat())
    }

    pub(crate) fn contains(&self, hash: u64) -> bool {
        let older = self.older.as_ref().is_some_and(|older| older.hashes.contains(&hash));
        older || self.newer.hashes.contains(&hash)
    }

    pub(crate) fn add(&mut self, hashes: &[u64]) {
        self.newer.hashes.extend(hashes);
    }

    /// Forgets the older generation when the newer one is old, or has no room for so many more.
    pub(crate) fn turn_if_due(&mut self, more: usize, now_ms: i64) -> bool {
        let full = !self.newer.hashes.is_empty() && self.newer.hashes.len() + more > self.most;
        if !full && now_ms.saturating_sub(self.newer.since_ms) < GENERATION_MS {
            return false;
        }
        self.turn(now_ms);
        true
    }

    pub(crate) fn turn(&mut self, now_ms: i64) {
        self.older = Some(std::mem::replace(&mut self.newer, Generation::new(now_ms)));
    }

    /// Since when all ids are known, in milliseconds since 1970.
    pub(crate) fn known_since_ms(&self) -> i64 {
        self.older.as_ref().unwrap_or(&self.newer).since_ms.max(self.sure_since_ms)
    }

    pub(crate) fn sure_since_ms(&self) -> i64 {
        self.sure_since_ms
    }

    /// Ids from before this instant may be missing.
    pub(crate) fn doubt(&mut self, before_ms: i64) {
        self.sure_since_ms = self.sure_since_ms.max(before_ms);
    }

    /// The generations, older first: since when, and the hashes in pieces of at most so many.
    pub(crate) fn pieces(&self, most: usize) -> impl Iterator<Item = (i64, Packed)> {
        let generations = self.older.iter().chain([&self.newer]);
        generations.flat_map(move |generation| {
            let mut hashes = generation.hashes.iter().copied();
            let pieces = generation.hashes.len().div_ceil(most).max(1);
            (0..pieces).map(move |_| (generation.since_ms, Packed(hashes.by_ref().take(most).collect())))
        })
    }

    /// Takes back what [`Ids::pieces`] gave, piece by piece.
    pub(crate) fn restore(&mut self, since_ms: i64, hashes: &[u64]) {
        if self.newer.since_ms != since_ms {
            if !self.newer.hashes.is_empty() || self.newer.since_ms != i64::MIN {
                self.turn(since_ms);
            }
            self.newer.since_ms = since_ms;
        }
        self.add(hashes);
    }
}

impl Generation {
    fn new(since_ms: i64) -> Self {
        Self { since_ms, hashes: HashSet::default() }
    }
}

/// Hashes as text: 11 characters each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed(pub(crate) Vec<u64>);

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let (hashes, []) = bytes.as_chunks() else {
            return Err(D::Error::custom("not a multiple of 8 bytes"));
        };
        Ok(Self(hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect()))
    }
}

/// The hashes are keyed already: hashing them again gains nothing.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_for_one_to_two_generations_and_the_window_says_so() {
        let mut ids = Ids::new(100, 1_000);
        let (first, second) = (ids.hash("g", "a"), ids.hash("g", "b"));
        ids.add(&[first]);
        assert!(!ids.turn_if_due(1, 1_000 + GENERATION_MS - 1));
        assert_eq!(ids.known_since_ms(), 1_000);
        assert!(ids.turn_if_due(1, 1_000 + GENERATION_MS));
        ids.add(&[second]);
        assert!(ids.contains(first) && ids.contains(second));
        assert_eq!(ids.known_since_ms(), 1_000);
        assert!(ids.turn_if_due(1, 1_000 + 2 * GENERATION_MS));
        assert!(!ids.contains(first) && ids.contains(second));
        assert_eq!(ids.known_since_ms(), 1_000 + GENERATION_MS);
    }

    #[test]
    fn too_many_ids_shorten_the_window_and_nothing_else() {
        let mut ids = Ids::new(20, 0);
        for number in 0..100_u64 {
            ids.turn_if_due(1, i64::try_from(number).unwrap());
            ids.add(&[number]);
            assert!(ids.contains(number) && (number == 0 || ids.contains(number - 1)));
        }
        assert_eq!((0..100).filter(|number| ids.contains(*number)).count(), 20);
        assert_eq!(ids.known_since_ms(), 80);
    }

    #[test]
    fn pieces_put_together_are_the_same_ids() {
        for sizes in [[0, 0], [0, 5], [5, 0], [7, 9]] {
            let mut ids = Ids::new(1000, 5);
            for (generation, size) in sizes.into_iter().enumerate() {
                if generation > 0 {
                    ids.turn(9);
                }
                ids.add(&(0..size).map(|number| number * 2 + generation as u64).collect::<Vec<_>>());
            }
            let mut again = Ids::with_key(ids.key(), 1000, i64::MIN);
            for (since_ms, piece) in ids.pieces(3) {
                let text = serde_json::to_string(&piece).unwrap();
                let piece: Packed = serde_json::from_str(&text).unwrap();
                again.restore(since_ms, &piece.0);
            }
            assert_eq!(again.known_since_ms(), 5);
            assert_eq!(again.newer.since_ms, 9);
            for number in 0..30 {
                assert_eq!(again.contains(number), ids.contains(number), "{sizes:?} {number}");
            }
        }
    }

    #[test]
    fn an_id_takes_at_most_20_bytes_when_there_are_2_million() {
        let mut ids = Ids::new(2_000_000, 0);
        ids.add(
            &(0..1_000_000).map(|number| keyed_hash([1, 2], &u64::to_le_bytes(number))).collect::<Vec<_>>(),
        );
        // One byte of control and eight of hash for each place; an eighth of the places is always free.
        let places = ids.newer.hashes.capacity() * 8 / 7;
        assert!(places * 9 <= 20 * 1_000_000, "{places}");
    }
}
