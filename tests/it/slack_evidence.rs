//! Evidence in Slack under trouble: killed in between, uploads that fail, empty at first, and the band of the bundled rules.

use crate::insights::{Insights, Script};
use crate::program::Program;
use crate::slack::{Slack, TOKEN, alert, config, deliver, instrument, start};
use crate::stage::{eventually, stage};
use crate::wire::{ACCESS_KEY, REGION};
use datapulse::demo::parts::{Prometheus, Signal};
use datapulse::demo::slack::{Message, Trouble};
use serde_json::{Value, json};
use std::time::Duration;

/// A Prometheus that has a series for the alert.
fn prometheus(stage: &datapulse::demo::parts::Stage, rules: &str) -> Prometheus {
    std::fs::write(stage.path().join("rules.yml"), rules).unwrap();
    let config = "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n";
    let prometheus = Prometheus::start(stage.path(), config, &[]).unwrap();
    // A chart ends at a whole second.
    eventually("the rules are evaluated", || {
        prometheus.query("{__name__=~\".+\"} offset 2s").ok().filter(|samples| !samples.is_empty())
    });
    prometheus
}

const DEVICES: &str =
    "groups: [{name: g, rules: [{record: device_connections, expr: vector(7), labels: {country: PH}}]}]\n";

fn of_devices(name: &str) -> Value {
    let mut one = alert(name, &[("country", "PH")], false);
    one["generatorURL"] = json!("http://127.0.0.1/graph?g0.expr=device_connections%20%3C%2010");
    one["labels"].as_object_mut().unwrap().remove("what");
    one
}

/// The names of the files below a message.
fn files(slack: &Slack, message: &Message) -> Vec<String> {
    let replies = slack.workspace.replies(&message.ts);
    replies.iter().filter(|reply| !reply.files.is_empty()).map(|reply| slack.file(reply).0).collect()
}

#[test]
fn a_kill_between_a_message_and_its_evidence_neither_loses_nor_doubles_it() {
    const ROUNDS: usize = 6;
    let (slack, stage) = (Slack::start(), stage("slack-evidence-kill"));
    let prometheus = prometheus(&stage, DEVICES);
    let chart = format!("- chart: {{prometheus: \"http://127.0.0.1:{}\", range: 10m}}", prometheus.port());
    // Two of one name.
    let evidence = format!("  evidence:\n    - collect:\n        {chart}\n        {chart}\n");
    let begin = |round: usize| start(&slack, &stage, &format!("slack-evidence-kill-{round}"), &evidence, "");
    let mut program = begin(0);
    for round in 0..ROUNDS {
        let name = format!("alert-{round}");
        let cut = round % 2 == 1;
        if cut {
            // The file is there, and the answer is not: for two seconds nobody knows.
            slack.workspace.plan("files.completeUploadExternal", [Trouble::Lost]);
        }
        deliver(program.port, &name, &[of_devices(&name)]);
        let message = slack.post("the message", |message| message.text.contains(&name));
        if cut {
            eventually("a chart", || (!files(&slack, &message).is_empty()).then_some(()));
        } else {
            // At first before anything is fetched, then while files go up.
            std::thread::sleep(Duration::from_millis(400 * round as u64));
        }
        program.signal(Signal::Kill);
        drop(program);
        program = begin(round + 1);
        eventually("both charts", || (files(&slack, &message).len() >= 2).then_some(()));
    }
    // A second copy would come after the first.
    std::thread::sleep(Duration::from_secs(4));
    let posts = slack.workspace.posts();
    assert_eq!(posts.len(), ROUNDS);
    for post in posts {
        let mut found = files(&slack, &post);
        found.sort();
        assert_eq!(found, ["chart-2.png", "chart.png"], "{}", post.text);
    }
}

#[test]
fn an_upload_that_fails_is_counted_and_tried_again_and_the_message_is_there() {
    let (slack, stage) = (Slack::start(), stage("slack-upload"));
    let prometheus = prometheus(&stage, DEVICES);
    let evidence = format!(
        "  evidence: [{{collect: [{{chart: {{prometheus: \"http://127.0.0.1:{}\", range: 10m}}}}]}}]\n",
        prometheus.port()
    );
    slack.workspace.plan("upload", [Trouble::Broken, Trouble::Broken]);
    slack.workspace.plan("files.getUploadURLExternal", [Trouble::Broken]);
    slack.workspace.plan("files.completeUploadExternal", [Trouble::Lost]);
    let program = start(&slack, &stage, "slack-upload-program", &evidence, "");
    deliver(program.port, "a", &[of_devices("alert-1")]);
    let message = slack.post("the message", |message| message.text.contains("alert-1"));
    eventually("the chart in the end", || Some(files(&slack, &message)).filter(|files| !files.is_empty()));
    instrument(&program, "datapulse_notify_failures_total", &[("reason", "io")], |count| count >= 3.0);
    // What Slack refuses is not tried again.
    slack.workspace.lose_scope("files:write");
    deliver(program.port, "b", &[of_devices("alert-2")]);
    let second = slack.post("the second message", |message| message.text.contains("alert-2"));
    instrument(&program, "datapulse_notify_failures_total", &[("reason", "permission")], |count| {
        count == 1.0
    });
    deliver(
        program.port,
        "b",
        &[{
            let mut over = of_devices("alert-2");
            over["status"] = json!("resolved");
            over["endsAt"] = json!("2026-11-20T10:30:00Z");
            over
        }],
    );
    slack.post("its end is shown", |message| message.ts == second.ts && message.text.starts_with('✅'));
    assert_eq!((files(&slack, &message).len(), files(&slack, &second).len()), (1, 0));
    assert_eq!(slack.workspace.posts().len(), 2);
    let calls = slack.workspace.counts().calls["files.getUploadURLExternal"];
    assert!((5..=6).contains(&calls), "{calls} calls");
}

#[test]
fn evidence_that_was_empty_is_looked_for_once_more() {
    let (slack, stage, insights) = (Slack::start(), stage("slack-empty"), Insights::start());
    insights.group("/aws/rds/orders");
    let evidence =
        "  evidence: [{collect: [{logs_insights: {log_group: /aws/rds/orders, again_after: 2s}}]}]\n";
    let text = config(&slack, stage.path(), evidence, "");
    let program = Program::start_as("slack-empty-program", &text, &[], |command, _| {
        command.env("SLACK", TOKEN).env("AWS_REGION", REGION).env("AWS_ACCESS_KEY_ID", ACCESS_KEY);
        command.env("AWS_SECRET_ACCESS_KEY", "canary-secret-key").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", format!("http://127.0.0.1:{}", insights.port()));
    });
    let hear = |name: &str| {
        deliver(program.port, name, &[alert(name, &[], false)]);
        slack.post("the message", |message| message.text.contains(name))
    };
    let first = hear("alert-1");
    slack.reply(&first, "nothing yet", |reply| {
        reply.text.contains("as far as Logs Insights has it") && reply.text.contains("asked again soon")
    });
    // Meanwhile the events have arrived.
    let fields = [("@timestamp", "2026-11-20 10:00:00.000"), ("@message", "ERROR: late")];
    let row = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    insights.answer(Script { rows: vec![row], ..Script::default() });
    let found = slack.reply(&first, "the errors", |reply| !reply.files.is_empty());
    assert_eq!(slack.file(&found).0, "errors.json");
    assert_eq!(insights.started().len(), 2);
    // Empty both times: said, and not asked a third time.
    insights.answer(Script::default());
    let second = hear("alert-2");
    slack.reply(&second, "nothing, also now", |reply| reply.text.contains(", also now"));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((insights.started().len(), slack.workspace.replies(&second.ts).len()), (4, 2));
}

#[test]
fn a_seasonal_alert_of_the_bundled_rules_gets_a_chart_with_its_band() {
    let (slack, stage) = (Slack::start(), stage("slack-band"));
    let rules = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/alerts/anomaly.yml")).unwrap();
    let mut parts = rules.split("      - alert: SeasonalGaugeLow\n").skip(1);
    let rule = parts
        .next()
        .unwrap()
        .replace("for: 5m", "for: 0s")
        .replace("keep_firing_for: 10m", "keep_firing_for: 1m");
    let labels = "{gauge: device_connections, job: datapulse, instance: dp, check: devices, target: lake, country: TH}";
    let mut text = "groups:\n  - name: g\n    rules:\n".to_owned();
    for (name, value) in [
        ("seasonal:value", "400"),
        ("seasonal:expected", "1000"),
        ("seasonal:noise", "2"),
        ("seasonal:low", "0.6"),
        ("seasonal:guard", "0.2"),
    ] {
        text.push_str(&format!("      - {{record: '{name}', expr: vector({value}), labels: {labels}}}\n"));
    }
    text.push_str("      - {record: 'datapulse:seasonal_critical:ratio', expr: vector(0.5)}\n");
    text.push_str(&format!("      - alert: SeasonalGaugeLow\n{rule}"));
    let prometheus = prometheus(&stage, &text);
    let fires = eventually("the alert fires", || {
        let answer = prometheus.api("alerts").ok()?;
        answer["alerts"].as_array()?.iter().find(|alert| alert["state"] == "firing").cloned()
    });
    let evidence = format!(
        "  evidence: [{{match: {{alertname: SeasonalGaugeLow}}, collect: [{{chart: {{prometheus: \"http://127.0.0.1:{}\", range: 10m}}}}]}}]\n",
        prometheus.port()
    );
    let program = start(&slack, &stage, "slack-band-program", &evidence, "");
    let mut one = alert("alert-1", &[], false);
    one["labels"] = fires["labels"].clone();
    one["annotations"] = fires["annotations"].clone();
    one["generatorURL"] = json!("http://127.0.0.1/graph?g0.expr=seasonal%3Alow+%3E%3D+scalar%28x%29");
    deliver(program.port, "g", &[one]);
    let message =
        slack.post("the message", |message| message.text.contains("is 60% below what is usual now"));
    let reply = slack.reply(&message, "the chart", |reply| !reply.files.is_empty());
    let file = slack.workspace.file(&reply.files[0]).unwrap();
    assert_eq!(file.name, "chart.png");
    let (head, band) = file.alt.split_once(", now 400, expected ").unwrap_or_else(|| panic!("{}", file.alt));
    assert!(head.starts_with("chart of seasonal:value over "), "{head}");
    let band: Vec<f64> = band.split(" to ").map(|edge| edge.replace(',', "").parse().unwrap()).collect();
    assert!((877.0..879.0).contains(&band[0]) && (1129.0..1132.0).contains(&band[1]), "{band:?}");
}
