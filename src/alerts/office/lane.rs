//! One channel: one call at a time, one message a second, and patience when Slack asks for it.

use super::super::config::Config;
use super::super::slack::Slack;
use crate::config::secret::Vault;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Slack takes one message a second and channel, and short bursts above it. <https://docs.slack.dev/apis/web-api/rate-limits>
pub(super) const PACE: Duration = Duration::from_secs(1);
/// After failures in a row it is tried this seldom at most.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// One channel.
#[derive(Debug)]
pub(super) struct Lane {
    /// The way to Slack; gone while a call is under way.
    slack: Option<Slack>,
    config: Arc<Config>,
    ready: Instant,
    failures: u32,
}

impl Lane {
    pub(super) fn new(config: &Arc<Config>, vault: &Arc<Vault>) -> Self {
        Self {
            slack: Some(Slack::new(&config.slack.url, &config.slack.token, vault)),
            config: Arc::clone(config),
            ready: Instant::now(),
            failures: 0,
        }
    }

    /// When a call may begin; `None` while one is under way.
    pub(super) fn ready(&self) -> Option<Instant> {
        self.slack.is_some().then_some(self.ready)
    }

    /// Takes the way to Slack for a call, as the configuration has it now.
    pub(super) fn begin(&mut self, config: &Arc<Config>, vault: &Arc<Vault>) -> Option<Slack> {
        let slack = self.slack.take()?;
        if self.config.slack == config.slack {
            return Some(slack);
        }
        self.config = Arc::clone(config);
        Some(Slack::new(&config.slack.url, &config.slack.token, vault))
    }

    /// A call ended well.
    pub(super) fn good(&mut self, slack: Slack) {
        self.slack = Some(slack);
        self.failures = 0;
        self.ready = Instant::now() + PACE;
    }

    /// Slack asked to wait so long.
    pub(super) fn wait(&mut self, slack: Slack, patience: Duration) {
        self.slack = Some(slack);
        self.ready = Instant::now() + patience.max(PACE);
    }

    /// A call failed: the next one comes later, the more of them failed.
    pub(super) fn bad(&mut self, slack: Slack) {
        self.slack = Some(slack);
        let rest = PACE.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_REST);
        self.failures = self.failures.saturating_add(1);
        self.ready = Instant::now() + rest;
    }

    /// A call failed for a reason that says nothing about the next one.
    pub(super) fn next(&mut self, slack: Slack) {
        self.slack = Some(slack);
        self.ready = Instant::now() + PACE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> (Lane, Arc<Config>, Arc<Vault>) {
        let text = r#"{"slack": {"token": "env:T", "channel": "C0"}}"#;
        let config: Arc<Config> = Arc::new(serde_json::from_str(text).unwrap());
        let vault = Arc::new(Vault::new(Arc::new(|_| None), std::path::Path::new("/")));
        (Lane::new(&config, &vault), config, vault)
    }

    /// How long until a call may begin.
    fn rest(lane: &Lane) -> Duration {
        lane.ready().unwrap().saturating_duration_since(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_gets_one_call_at_a_time_and_one_a_second() {
        let (mut lane, config, vault) = lane();
        assert_eq!(rest(&lane), Duration::ZERO);
        let slack = lane.begin(&config, &vault).unwrap();
        assert!(lane.ready().is_none() && lane.begin(&config, &vault).is_none());
        lane.good(slack);
        assert_eq!(rest(&lane), PACE);
        tokio::time::advance(PACE).await;
        assert_eq!(rest(&lane), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_is_kept_to_the_second_and_failures_make_it_rarer() {
        let (mut lane, config, vault) = lane();
        let slack = lane.begin(&config, &vault).unwrap();
        lane.wait(slack, Duration::from_secs(37));
        assert_eq!(rest(&lane), Duration::from_secs(37));
        let mut rests = Vec::new();
        for _ in 0..9 {
            let slack = lane.begin(&config, &vault).unwrap();
            lane.bad(slack);
            rests.push(rest(&lane).as_secs());
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let slack = lane.begin(&config, &vault).unwrap();
        lane.good(slack);
        let slack = lane.begin(&config, &vault).unwrap();
        lane.bad(slack);
        assert_eq!(rest(&lane), PACE);
    }
}
