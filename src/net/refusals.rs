//! Refused logins are repeated ever less often: databases lock accounts, and AWS counts calls.

use std::time::Duration;
use tokio::time::Instant;

/// At most this many intervals between two tries.
const LONGEST: u32 = 8;

/// The refusals of one login in a row.
#[derive(Debug)]
pub(super) struct Refusals {
    every: Duration,
    count: u32,
    rest_until: Option<Instant>,
    /// Versions of the secrets that were refused.
    secrets: Vec<u64>,
}

impl Refusals {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, count: 0, rest_until: None, secrets: Vec::new() }
    }

    /// Whether the login is better not tried now. Other secrets end the rest.
    pub(super) fn resting(&self, secrets: &[u64], now: Instant) -> bool {
        self.rest_until.is_some_and(|until| now < until) && self.secrets == secrets
    }

    pub(super) fn add(&mut self, secrets: Vec<u64>, now: Instant) {
        let intervals = 2u32.saturating_pow(self.count).min(LONGEST);
        self.count += 1;
        // Half an interval less, so that the run at the end of the rest is not the one that is missed.
        self.rest_until = Some(now + self.every.saturating_mul(intervals).saturating_sub(self.every / 2));
        self.secrets = secrets;
    }

    pub(super) fn forget(&mut self) {
        self.count = 0;
        self.rest_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn refused_logins_are_repeated_after_one_two_four_and_then_every_eight_intervals() {
        let start = Instant::now();
        let mut refusals = Refusals::new(EVERY);
        let mut tried = Vec::new();
        for run in 0..40 {
            let now = start + EVERY * run;
            if !refusals.resting(&[1], now) {
                tried.push(run);
                refusals.add(vec![1], now);
            }
        }
        assert_eq!(tried, [0, 1, 3, 7, 15, 23, 31, 39]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_secret_or_a_good_login_ends_the_rest() {
        let now = Instant::now();
        let mut refusals = Refusals::new(EVERY);
        refusals.add(vec![1], now);
        assert!(refusals.resting(&[1], now));
        assert!(!refusals.resting(&[2], now));
        refusals.forget();
        assert!(!refusals.resting(&[1], now));
    }
}
