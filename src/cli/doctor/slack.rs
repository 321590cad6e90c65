//! What `datapulse doctor` says of Slack: whose token it is, what it may do, and which channels it reaches. Nothing is posted.

use crate::alerts::config::Config;
use crate::alerts::slack::{Bot, Slack, Trouble};
use crate::check::Reason;
use crate::config::secret::Vault;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the bot needs, one of each, and what is missing without it.
const SCOPES: [(&[&str], &str); 3] = [
    (&["chat:write"], "no message is sent"),
    (&["files:write"], "threads get words and no files"),
    (
        &["channels:history", "groups:history"],
        "a message whose answer was lost is sent again, marked as possibly repeated",
    ),
];
const ADD_IT: &str = "add it on api.slack.com under OAuth & Permissions, and install the app again";

/// What is to be said, and whether all is well.
pub(super) async fn examine(config: &Config, vault: &Arc<Vault>) -> (String, bool) {
    let mut slack = Slack::new(&config.slack.url, &config.slack.token, vault);
    let mut text = format!("alerts.slack ({})\n", config.slack.url);
    let bot = match slack.bot().await {
        Ok(bot) => bot,
        Err(trouble) => {
            text.push_str(&format!("  FAILED   token: {}\n", words(&trouble, None)));
            return (text, false);
        }
    };
    text.push_str(&format!("  ok       token: bot {} of {}\n", bot.user, bot.team));
    let mut healthy = true;
    for missing in missing(&bot) {
        healthy = false;
        text.push_str(&format!("  MISSING  token: {}: {missing}; {ADD_IT}\n", Reason::Permission.as_str()));
    }
    let channels = config.slack.routes.iter().map(|route| route.channel.as_str());
    for channel in channels.chain([config.slack.channel.as_str()]).collect::<BTreeSet<_>>() {
        match slack.reach(channel).await {
            Ok(()) => text.push_str(&format!("  ok       channel {channel}\n")),
            Err(trouble) => {
                healthy = false;
                text.push_str(&format!("  FAILED   channel {channel}: {}\n", words(&trouble, Some(&bot))));
            }
        }
    }
    (text, healthy)
}

fn missing(bot: &Bot) -> Vec<String> {
    let Some(scopes) = &bot.scopes else { return Vec::new() };
    let lacks = |wanted: &[&str]| !wanted.iter().any(|scope| scopes.iter().any(|own| own == scope));
    SCOPES
        .iter()
        .filter(|(wanted, _)| lacks(wanted))
        .map(|(wanted, without)| format!("the scope {} is missing: {without}", wanted.join(" or ")))
        .collect()
}

/// What went wrong, and the cure. `bot` once its token is known to be good.
fn words(trouble: &Trouble, bot: Option<&Bot>) -> String {
    let (word, reason) = match trouble {
        Trouble::Later(wait) => {
            return format!(
                "{}: Slack asks to wait {} s; try again then",
                Reason::Throttled.as_str(),
                wait.as_secs()
            );
        }
        Trouble::Unsent(problem) | Trouble::Unknown(problem) => {
            return format!("{}: {problem}", problem.reason.as_str());
        }
        Trouble::Refused(word, reason) => (word.as_str(), reason.as_str()),
    };
    let invite =
        bot.map_or_else(|| "/invite the bot".to_owned(), |bot| format!("write /invite @{}", bot.user));
    let cure = match word {
        "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" | "account_inactive" => {
            "the token is none, or no longer; copy the Bot User OAuth Token (xoxb-...) of the app on api.slack.com to where alerts.slack.token points"
                .to_owned()
        }
        "not_in_channel" => format!("the bot is not in this channel; {invite} there"),
        "channel_not_found" => format!(
            "there is no channel of this id, or it is private and the bot is not in it; compare the id with the end of the channel's details, or {invite} there"
        ),
        "is_archived" => "the channel is archived; name another one in the configuration".to_owned(),
        "missing_scope" => format!(
            "it cannot be looked at without the scope channels:history (groups:history for a private channel); {ADD_IT}"
        ),
        _ => "see https://docs.slack.dev/reference/methods".to_owned(),
    };
    format!("{reason}: Slack says {word}: {cure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::slack::{Workspace, serve};
    use crate::task;
    use tokio_util::sync::CancellationToken;

    /// What is said of a workspace with the channels C0 and C1, after a change.
    async fn said(change: impl FnOnce(&Workspace)) -> (String, bool) {
        let workspace = Arc::new(Workspace::new("xoxb-canary", &[("C0", "zero"), ("C1", "one")]));
        change(&workspace);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let _served = task::spawn(serve(listener, Arc::clone(&workspace), stop.clone()));
        let config = format!(
            r#"{{"slack": {{"url": "http://127.0.0.1:{port}/api", "token": "env:T", "channel": "C0",
                "routes": [{{"match": {{"team": "a"}}, "channel": "C1"}}, {{"match": {{"team": "b"}}, "channel": "C0"}}]}}}}"#
        );
        let config: Config = serde_json::from_str(&config).unwrap();
        let vault = Vault::new(Arc::new(|_| Some("xoxb-canary".to_owned())), std::path::Path::new("/"));
        let (text, healthy) = examine(&config, &Arc::new(vault)).await;
        stop.cancel();
        assert!(workspace.posts().is_empty(), "nothing is posted");
        assert!(!text.contains("canary"), "{text}");
        (text, healthy)
    }

    #[tokio::test]
    async fn a_good_token_and_its_channels_are_well() {
        let (text, healthy) = said(|_| {}).await;
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            ["  ok       token: bot datapulse of demo", "  ok       channel C0", "  ok       channel C1"]
        );
        assert!(healthy);
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_its_cure() {
        type Change = fn(&Workspace);
        let cases: [(Change, &[&str]); 5] = [
            (
                |slack| slack.rotate("another"),
                &["FAILED   token: auth: Slack says invalid_auth: ", "xoxb-..."],
            ),
            (
                |slack| slack.lose_scope("files:write"),
                &[
                    "MISSING  token: permission: the scope files:write is missing: threads get words",
                    "install the app again",
                    "ok       channel C0",
                ],
            ),
            (
                |slack| slack.lose_scope("channels:history"),
                &[
                    "MISSING  token: permission: the scope channels:history or groups:history",
                    "FAILED   channel C0: permission: Slack says missing_scope",
                ],
            ),
            (
                |slack| slack.leave("C1"),
                &[
                    "ok       channel C0",
                    "FAILED   channel C1: permission: Slack says not_in_channel: the bot is not in this channel; write /invite @datapulse there",
                ],
            ),
            (
                |slack| slack.plan("auth.test", [crate::demo::slack::Trouble::Limited(7)]),
                &["FAILED   token: throttled: Slack asks to wait 7 s"],
            ),
        ];
        for (change, expected) in cases {
            let (text, healthy) = said(change).await;
            for words in expected {
                assert!(text.contains(words), "{words}\n{text}");
            }
            assert!(!healthy);
        }
    }
}
