//! Basic auth against bcrypt hashes: slow for a guess, free for a scrape that has been let in before.

use crate::task;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Names and their bcrypt hashes.
pub(super) type Users = BTreeMap<String, String>;

/// A hash of cost 12 keeps a core busy for a quarter of a second: guesses must not take all cores.
const AT_ONCE: usize = 2;

/// Only successes are remembered, one per user and password change, so this is never reached by chance.
const REMEMBERED: usize = 1024;

/// Decides who is let in.
#[derive(Debug)]
pub(super) struct Gate {
    slots: Arc<Semaphore>,
    seen: Mutex<HashSet<u128>>,
    /// Keys of this process: what `seen` holds is of no use to anybody else.
    keys: [RandomState; 2],
}

impl Default for Gate {
    fn default() -> Self {
        let keys = [RandomState::new(), RandomState::new()];
        Self { slots: Arc::new(Semaphore::new(AT_ONCE)), seen: Mutex::default(), keys }
    }
}

impl Gate {
    /// Whether the header names a user with the right password. An unknown user takes as long as a wrong password.
    pub(super) async fn admits(&self, users: &Users, header: Option<&HeaderValue>) -> bool {
        let Some((user, password)) = header.and_then(credentials) else { return false };
        let known = users.get(user.as_str());
        // With the user unknown another one's hash is worked through for its time only.
        let Some(hash) = known.or_else(|| users.values().max_by_key(|hash| cost(hash))) else { return false };
        let ticket = self.ticket(&user, &password, hash);
        if known.is_some() && self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&ticket) {
            return true;
        }
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return false };
        let stored = hash.clone();
        // The slot goes with the work: a client that hangs up does not free it.
        let work = move || {
            let right = bcrypt::verify(password, &stored).unwrap_or(false);
            drop(slot);
            right
        };
        let right = task::blocking(work).await.unwrap_or(false) && known.is_some();
        if right {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
            seen.insert(ticket);
        }
        right
    }

    /// A keyed hash of the three parts, each with its length: no two logins share a ticket by where one part ends
    /// (that was CVE-2022-46146). With the hash in it, a changed password ends what was remembered.
    fn ticket(&self, user: &str, password: &[u8], hash: &str) -> u128 {
        let parts = (user.as_bytes(), password, hash.as_bytes());
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(parts)));
        high << 64 | low
    }
}

/// User and password of an `Authorization: Basic` header (RFC 7617).
fn credentials(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, packed) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut user = STANDARD.decode(packed.trim()).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    Some((String::from_utf8(user).ok()?, password))
}

/// The cost of a bcrypt hash; `None` when the text is none.
pub(super) fn cost(hash: &str) -> Option<u32> {
    hash.parse::<bcrypt::HashParts>().ok().map(|parts| parts.get_cost())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        [("ann", "right"), ("bob", "other")]
            .map(|(user, password)| (user.to_owned(), bcrypt::hash(password, 4).unwrap()))
            .into()
    }

    fn header(text: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_of_the_right_user_is_let_in() {
        let (gate, users) = (Gate::default(), users());
        for (login, expected) in [
            ("ann:right", true),
            ("ann:wrong", false),
            ("ann:other", false),
            ("bob:other", true),
            ("eve:right", false),
            ("eve:other", false),
            ("ann:", false),
            (":right", false),
            ("ann", false),
            ("ann:right:", false),
        ] {
            for _ in 0..2 {
                assert_eq!(gate.admits(&users, Some(&header(login))).await, expected, "{login}");
            }
        }
        assert!(!gate.admits(&users, None).await);
        assert!(!gate.admits(&users, Some(&HeaderValue::from_static("Bearer abc"))).await);
        assert!(!gate.admits(&users, Some(&HeaderValue::from_static("Basic ###"))).await);
        assert_eq!(gate.seen.lock().unwrap().len(), 2, "failures are not remembered");
    }

    #[tokio::test]
    async fn a_remembered_login_needs_no_slot_and_ends_with_the_password() {
        let (gate, mut users) = (Gate::default(), users());
        assert!(gate.admits(&users, Some(&header("ann:right"))).await);
        let held = gate.slots.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
        assert!(gate.admits(&users, Some(&header("ann:right"))).await, "no bcrypt for a login seen before");
        drop(held);
        users.insert("ann".to_owned(), bcrypt::hash("new", 4).unwrap());
        assert!(!gate.admits(&users, Some(&header("ann:right"))).await);
    }

    #[test]
    fn tickets_do_not_depend_on_where_a_part_ends() {
        let gate = Gate::default();
        assert_ne!(gate.ticket("a", b"bc", "h"), gate.ticket("ab", b"c", "h"));
        assert_ne!(gate.ticket("a", b"b", "ch"), gate.ticket("a", b"bc", "h"));
        assert_eq!(gate.ticket("a", b"b", "h"), gate.ticket("a", b"b", "h"));
    }
}
