//! Alerts to Slack, end to end: the real Alertmanager, the real binary, and a workspace that fails on request.

use crate::insights::{Insights, Script};
use crate::program::{Program, datapulse, finish};
use crate::stage::{LIMIT, eventually, stage};
use crate::wire::{ACCESS_KEY, Answer, Listener, REGION};
use datapulse::demo::parts::{Alertmanager, Signal, Stage, get, post, wait_for};
use datapulse::demo::slack::{Message, Trouble, Workspace, serve};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub(crate) const TOKEN: &str = "xoxb-canary-of-slack";
/// Channels beside the default one, each for the alerts of a team.
const TEAMS: usize = 10;
/// Nothing listens there.
const DEAD: &str = "{host: 127.0.0.1, port: 1, user: u, database: d, tls: disable}";

/// A workspace with its server, which ends with it.
pub(crate) struct Slack {
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) port: u16,
    stop: CancellationToken,
}

impl Slack {
    pub(crate) fn start() -> Self {
        let names: Vec<(String, String)> =
            (0..=TEAMS).map(|n| (format!("C{n}"), format!("team-{n}"))).collect();
        let channels: Vec<(&str, &str)> =
            names.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        let workspace = Arc::new(Workspace::new(TOKEN, &channels));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let (stop, served) = (CancellationToken::new(), Arc::clone(&workspace));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                serve(tokio::net::TcpListener::from_std(listener).unwrap(), served, stopped).await;
            });
        });
        Self { workspace, port, stop }
    }

    /// Waits for a message of the channels of which this holds.
    pub(crate) fn post(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        eventually(what, || self.workspace.posts().into_iter().find(|message| wanted(message)))
    }

    /// Waits for a reply to a message of which this holds.
    pub(crate) fn reply(&self, to: &Message, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        eventually(what, || self.workspace.replies(&to.ts).into_iter().find(|message| wanted(message)))
    }

    /// The text of a file of a message.
    pub(crate) fn file(&self, message: &Message) -> (String, Vec<u8>) {
        let file = self.workspace.file(&message.files[0]).unwrap();
        (file.name, file.bytes.unwrap())
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The section `alerts` and `data_dir`, and further lines.
pub(crate) fn config(slack: &Slack, dir: &Path, evidence: &str, more: &str) -> String {
    let routes: Vec<String> =
        (1..=TEAMS).map(|n| format!("{{match: {{team: t{n}}}, channel: C{n}}}")).collect();
    format!(
        "data_dir: {}\n{more}alerts:\n  slack: {{url: \"http://127.0.0.1:{}/api\", token: \"env:SLACK\", channel: C0, routes: [{}]}}\n{evidence}",
        dir.join("data").display(),
        slack.port,
        routes.join(", ")
    )
}

pub(crate) fn start(slack: &Slack, stage: &Stage, name: &str, evidence: &str, more: &str) -> Program {
    let text = config(slack, stage.path(), evidence, more);
    Program::start_as(name, &text, &[], |command, _| {
        command.env("SLACK", TOKEN);
    })
}

/// An alert as the webhook has it.
pub(crate) fn alert(name: &str, labels: &[(&str, &str)], ended: bool) -> Value {
    let mut all: BTreeMap<&str, &str> = labels.iter().copied().collect();
    all.insert("alertname", "Test");
    all.entry("severity").or_insert("critical");
    all.insert("what", name);
    json!({
        "status": if ended { "resolved" } else { "firing" }, "labels": all, "fingerprint": name,
        "annotations": {"summary": format!("{name} is broken"), "description": "<!channel> & so on", "runbook_url": "https://r.example/x"},
        "startsAt": "2026-11-20T10:00:00Z", "endsAt": if ended { "2026-11-20T10:30:00Z" } else { "0001-01-01T00:00:00Z" },
        "generatorURL": "http://127.0.0.1/graph?g0.expr=up"
    })
}

/// Delivers a group of alerts as Alertmanager does: again until it is taken.
pub(crate) fn deliver(port: u16, key: &str, alerts: &[Value]) {
    let body = json!({"version": "4", "groupKey": key, "truncatedAlerts": 0, "alerts": alerts}).to_string();
    let taken = wait_for(LIMIT, || {
        let reply = post(port, "/alerts/alertmanager", "application/json", body.as_bytes());
        Ok(reply.is_ok_and(|reply| reply.status == 200).then_some(()))
    });
    assert!(taken.unwrap().is_some(), "{key} was not taken");
}

/// Waits for one of our own instruments, which are read at once after a reload and else seldom.
pub(crate) fn instrument(
    program: &Program,
    name: &str,
    labels: &[(&str, &str)],
    wanted: impl Fn(f64) -> bool,
) -> f64 {
    eventually(&format!("{name} {labels:?}"), || {
        program.signal(Signal::Hup);
        std::thread::sleep(Duration::from_millis(300));
        program.scrape().value(name, labels).filter(|value| wanted(*value))
    })
}

/// How often each `alert-N` is told: by a message of its own, or a line of a digest's list.
fn told(slack: &Slack) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    let word = |text: &str| {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .find(|word| word.starts_with("alert-"))
            .map(str::to_owned)
    };
    for message in slack.workspace.posts() {
        if message.text.contains("incidents at once") {
            for reply in slack.workspace.replies(&message.ts).iter().filter(|reply| !reply.files.is_empty()) {
                let text = String::from_utf8(slack.file(reply).1).unwrap();
                for name in text.lines().filter_map(word) {
                    *told.entry(name).or_default() += 1;
                }
            }
        } else if let Some(name) = word(&message.text) {
            *told.entry(name).or_default() += 1;
        }
    }
    told
}

/// Waits until each of so many alerts is told, and sees that none is told twice.
fn all_told_once(slack: &Slack, count: usize, limit: Duration) {
    let all = wait_for(limit, || Ok((told(slack).len() >= count).then_some(()))).unwrap();
    let told = told(slack);
    assert!(all.is_some(), "{} of {count} told", told.len());
    // A second message would come after the first.
    std::thread::sleep(Duration::from_secs(3));
    let twice: Vec<_> = told.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty() && told.len() == count, "told twice: {twice:?}");
}

fn headline(message: &Message) -> String {
    message.blocks[0]["text"]["text"].as_str().unwrap_or_default().to_owned()
}

/// Alertmanager that groups by alert and tells datapulse at once.
fn alertmanager(stage: &Stage, port: u16) -> Alertmanager {
    let text = format!(
        "route: {{receiver: datapulse, group_by: ['...'], group_wait: 10ms, group_interval: 1s, repeat_interval: 1s}}\n\
         receivers:\n  - name: datapulse\n    webhook_configs: [{{url: 'http://127.0.0.1:{port}/alerts/alertmanager', send_resolved: true}}]\n"
    );
    Alertmanager::start(stage.path(), &text, &[]).unwrap()
}

fn raise(alertmanager: &Alertmanager, name: &str, team: usize, ended: bool) {
    let now = Timestamp::now();
    let ends = if ended { now } else { now + Duration::from_mins(10) };
    let body = json!([{
        "labels": {"alertname": "Test", "severity": "critical", "what": name, "team": format!("t{team}")},
        "annotations": {"summary": format!("{name} is broken")},
        "startsAt": (now - Duration::from_secs(5)).to_string(), "endsAt": ends.to_string(),
    }]);
    let reply =
        post(alertmanager.port(), "/api/v2/alerts", "application/json", body.to_string().as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// Raises alerts one by one and measures how long each takes to its message.
fn measure(count: usize, name: &str) {
    let (slack, stage) = (Slack::start(), stage(name));
    let program = start(&slack, &stage, &format!("{name}-program"), "", "");
    let alertmanager = alertmanager(&stage, program.port);
    let mut sent = Vec::new();
    for n in 0..count {
        sent.push(Instant::now());
        raise(&alertmanager, &format!("alert-{n}"), n % TEAMS + 1, false);
        std::thread::sleep(Duration::from_millis(130));
    }
    all_told_once(&slack, count, LIMIT);
    let posts = slack.workspace.posts();
    let mut took: Vec<f64> = Vec::new();
    for (n, sent) in sent.iter().enumerate() {
        let words = format!("alert-{n} is");
        let post = posts.iter().find(|post| post.text.contains(&words)).unwrap();
        took.push(post.at.into_std().duration_since(*sent).as_secs_f64());
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "alert to Slack over {count} alerts: p50 {:.3} s, p99 {:.3} s, longest {:.3} s",
        at(50),
        at(99),
        took[count - 1]
    );
    assert!(at(99) < 2.0, "p99 {:.3} s", at(99));
    // It repeats itself every second, and nothing is posted again.
    assert_eq!(slack.workspace.posts().len(), count);
    raise(&alertmanager, "alert-0", 1, true);
    slack.post("the end is shown in place", |message| {
        headline(message) == "✅ alert-0 is broken" && message.edits > 0
    });
    assert_eq!(slack.workspace.posts().len(), count);
}

#[test]
fn the_real_alertmanager_gets_one_message_an_alert_within_two_seconds() {
    measure(20, "slack-latency");
}

#[test]
#[ignore = "takes a minute: make slack"]
fn two_hundred_alerts_reach_slack_within_two_seconds_each() {
    measure(200, "slack-latency-long");
}

/// Delivers many groups at once, over several connections.
fn storm(count: usize, name: &str, limit: Duration) {
    let (slack, stage) = (Slack::start(), stage(name));
    let program = start(&slack, &stage, &format!("{name}-program"), "", "");
    let began = Instant::now();
    let port = program.port;
    std::thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                for n in (part..count).step_by(8) {
                    deliver(port, &format!("g{n}"), &[alert(&format!("alert-{n}"), &[], false)]);
                }
            });
        }
    });
    println!("{count} groups taken within {:.1} s", began.elapsed().as_secs_f64());
    all_told_once(&slack, count, limit);
    let counts = slack.workspace.counts();
    println!(
        "all told within {:.1} s: {} messages, {counts:?}",
        began.elapsed().as_secs_f64(),
        slack.workspace.posts().len()
    );
    assert_eq!(counts.early, 0);
}

#[test]
fn a_storm_becomes_digests_and_loses_none() {
    storm(300, "slack-storm", LIMIT);
}

#[test]
#[ignore = "takes a minute: make slack"]
fn a_thousand_alerts_at_once_become_digests_and_none_is_lost_or_doubled() {
    storm(1000, "slack-storm-long", Duration::from_mins(2));
}

#[test]
fn a_thousand_alerts_of_one_group_are_one_message() {
    let (slack, stage) = (Slack::start(), stage("slack-group"));
    let program = start(&slack, &stage, "slack-group-program", "", "");
    let alerts: Vec<Value> = (0..1000).map(|n| alert(&format!("alert-{n}"), &[], false)).collect();
    deliver(program.port, "g", &alerts);
    let message = slack.post("a message", |message| headline(message).contains("(and 999 more)"));
    let text = json!(message.blocks).to_string();
    assert!(
        text.contains("… and 990 more") && text.contains("&lt;!channel&gt;") && !text.contains("<!channel>"),
        "{text}"
    );
    assert_eq!(slack.workspace.posts().len(), 1);
    instrument(&program, "datapulse_notify_notices_total", &[("result", "taken")], |count| count >= 1.0);
}

/// A fifth of all calls fails in one way or another.
fn trouble(count: usize, name: &str, limit: Duration) {
    let (slack, stage) = (Slack::start(), stage(name));
    slack.workspace.trouble(20, &[Trouble::Limited(1), Trouble::Broken, Trouble::Lost]);
    let program = start(&slack, &stage, &format!("{name}-program"), "", "");
    for n in 0..count {
        let team = format!("t{}", n % TEAMS + 1);
        deliver(program.port, &format!("g{n}"), &[alert(&format!("alert-{n}"), &[("team", &team)], false)]);
    }
    all_told_once(&slack, count, limit);
    for n in 0..count {
        let team = format!("t{}", n % TEAMS + 1);
        deliver(program.port, &format!("g{n}"), &[alert(&format!("alert-{n}"), &[("team", &team)], true)]);
    }
    let over = wait_for(limit, || {
        Ok(slack.workspace.posts().iter().all(|post| post.text.starts_with('✅')).then_some(()))
    });
    let counts = slack.workspace.counts();
    println!("{} messages over {counts:?}", slack.workspace.posts().len());
    assert!(over.unwrap().is_some(), "not all ends are shown");
    assert_eq!(slack.workspace.posts().len(), count);
    assert!(counts.troubles >= 4 && counts.early == 0, "{counts:?}");
}

#[test]
fn limits_failures_and_lost_answers_lose_and_double_nothing() {
    trouble(20, "slack-trouble", LIMIT);
}

#[test]
#[ignore = "takes minutes: make slack"]
fn two_hundred_messages_over_a_bad_line_are_each_there_once() {
    trouble(200, "slack-trouble-long", Duration::from_mins(5));
}

/// Kills datapulse again and again while it posts.
fn kills(count: usize, kills: usize, name: &str) {
    let (slack, stage) = (Slack::start(), stage(name));
    slack.workspace.trouble(10, &[Trouble::Lost]);
    let mut delivered = 0;
    for kill in 0..=kills {
        let program = start(&slack, &stage, &format!("{name}-{kill}"), "", "");
        let until = count * (kill + 1) / (kills + 1);
        while delivered < until {
            let team = format!("t{}", delivered % TEAMS + 1);
            let name = format!("alert-{delivered}");
            deliver(program.port, &format!("g{delivered}"), &[alert(&name, &[("team", &team)], false)]);
            delivered += 1;
        }
        if kill < kills {
            // In the middle of posting, each time a little later.
            std::thread::sleep(Duration::from_millis(40 * kill as u64));
            drop(program);
        } else {
            all_told_once(&slack, count, LIMIT);
        }
    }
}

#[test]
fn a_kill_while_posting_loses_and_doubles_nothing() {
    kills(30, 3, "slack-kill");
}

#[test]
#[ignore = "takes minutes: make slack"]
fn thirty_kills_while_posting_lose_and_double_nothing() {
    kills(150, 30, "slack-kill-long");
}

#[test]
fn while_the_check_behind_an_alert_is_down_its_end_is_not_believed() {
    let (slack, stage) = (Slack::start(), stage("slack-unknown"));
    let checks =
        format!("checks: [{{pg_replication: {{name: dead, target: {DEAD}, every: 1s, timeout: 1s}}}}]\n");
    let evidence = "  evidence: [{collect: [{rows: {}}]}]\n";
    let program = start(&slack, &stage, "slack-unknown-program", evidence, &checks);
    program.wait_for("datapulse_check_up", &[("check", "dead")], |up| up == 0.0);
    deliver(program.port, "g", &[alert("alert-1", &[("check", "dead")], false)]);
    let message = slack.post("the unknown is shown", |message| headline(message) == "❔ alert-1 is broken");
    let rows = slack
        .reply(&message, "the rows of the check", |reply| reply.text.contains("What the check `dead` says"));
    assert!(rows.text.contains("publisher: connect: could not connect"), "{}", rows.text);
    deliver(program.port, "g", &[alert("alert-1", &[("check", "dead")], true)]);
    std::thread::sleep(Duration::from_secs(5));
    let message = slack.post("it is still there", |_| true);
    assert!(json!(message.blocks).to_string().contains("*Unknown since*"), "{message:?}");
    instrument(&program, "datapulse_notify_incidents", &[("phase", "unknown")], |count| count == 1.0);
    // The check is taken out of the configuration: then nobody here can know more than Alertmanager.
    program.configure(&config(&slack, stage.path(), evidence, ""));
    program.signal(Signal::Hup);
    slack.post("it is over", |message| headline(message) == "✅ alert-1 is broken");
    assert_eq!(slack.workspace.posts().len(), 1);
}

#[test]
fn a_refused_token_is_counted_and_shown_and_a_new_one_is_read() {
    let (slack, stage) = (Slack::start(), stage("slack-token"));
    let token = stage.path().join("token");
    std::fs::write(&token, "xoxb-old").unwrap();
    let text =
        config(&slack, stage.path(), "", "").replace("env:SLACK", &format!("file:{}", token.display()));
    let program = Program::start("slack-token-program", &text, &[]);
    let zero = instrument(&program, "datapulse_notify_failures_total", &[("reason", "auth")], |_| true);
    assert_eq!(zero, 0.0, "it exists at 0 from the start");
    deliver(program.port, "g", &[alert("alert-1", &[], false)]);
    let page = eventually("the page shows the failure", || {
        let page = program.get("/");
        page.contains("Slack refused: invalid_auth").then_some(page)
    });
    assert!(!page.contains("xoxb") && !program.log().contains("xoxb"));
    instrument(&program, "datapulse_notify_failures_total", &[("reason", "auth")], |count| count >= 1.0);
    assert!(program.scrape().value("datapulse_notify_oldest_pending_seconds", &[]).unwrap() > 0.0);
    std::fs::write(&token, TOKEN).unwrap();
    // At most once a minute it is read again by itself; a reload reads it at once.
    program.signal(Signal::Term);
    program.end();
    let program = Program::start("slack-token-again", &text, &[]);
    all_told_once(&slack, 1, LIMIT);
    assert!(!program.log().contains(TOKEN));
}

#[test]
fn what_became_worse_is_told_to_everybody_and_a_bad_channel_does_not_lose_it() {
    let (slack, stage) = (Slack::start(), stage("slack-worse"));
    let text = config(&slack, stage.path(), "", "").replace("channel: C3}", "channel: C999}");
    let program = Program::start_as("slack-worse-program", &text, &[], |command, _| {
        command.env("SLACK", TOKEN);
    });
    let (mild, bad) = (("severity", "warning"), ("severity", "critical"));
    deliver(program.port, "g", &[alert("alert-1", &[("team", "t3"), mild], false)]);
    let message = slack.post("it goes to the default channel", |message| message.channel == "C0");
    deliver(
        program.port,
        "g",
        &[alert("alert-1", &[("team", "t3"), mild], false), alert("alert-2", &[("team", "t3"), bad], false)],
    );
    let reply = slack.reply(&message, "a reply for everybody", |reply| reply.text.contains("Now *critical*"));
    assert!(reply.broadcast);
    slack.post("the message is changed", |message| message.edits > 0 && headline(message).starts_with('🔴'));
    for (body, status) in [("not json", 400), ("{\"version\":\"99\"}", 400)] {
        let reply = post(program.port, "/alerts/alertmanager", "application/json", body.as_bytes()).unwrap();
        assert_eq!(reply.status, status, "{}", reply.body);
    }
    assert_eq!(get(program.port, "/alerts/alertmanager").unwrap().status, 405);
    // Alertmanager and Datadog compress nothing, and what is packed is not read here.
    for path in ["/alerts/alertmanager", "/alerts/datadog"] {
        assert_eq!(program.post(path, "Content-Encoding: gzip\r\n", b"").unwrap().status, 415, "{path}");
    }
    let huge = vec![b' '; 9 << 20];
    let reply = post(program.port, "/alerts/alertmanager", "application/json", &huge);
    assert!(reply.is_err() || reply.unwrap().status == 413);
    let datadog = json!({"key": "77", "transition": "Triggered", "title": "alert-9 of Datadog", "tags": "team:t1", "date": "1795168800000"});
    let reply =
        post(program.port, "/alerts/datadog", "application/json", datadog.to_string().as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    slack.post("Datadog's alert in the channel of its team", |message| {
        message.channel == "C1" && headline(message) == "🔴 alert-9 of Datadog"
    });
}

#[test]
fn once_shows_a_message_as_text_and_as_a_picture_and_sends_nothing() {
    let (slack, stage) = (Slack::start(), stage("slack-once"));
    let checks =
        format!("checks: [{{pg_replication: {{name: dead, target: {DEAD}, every: 1s, timeout: 1s}}}}]\n");
    let file = stage.path().join("c.yml");
    std::fs::write(&file, config(&slack, stage.path(), "  evidence: [{collect: [{rows: {}}]}]\n", &checks))
        .unwrap();
    let (delivery, picture) = (stage.path().join("alert.json"), stage.path().join("slack.svg"));
    let body =
        json!({"version": "4", "groupKey": "k", "alerts": [alert("alert-1", &[("check", "dead")], false)]});
    std::fs::write(&delivery, body.to_string()).unwrap();
    let flags = [format!("--config.file={}", file.display()), format!("--slack={}", picture.display())];
    let (status, out, err) =
        finish(&mut datapulse(["once"].into_iter().chain(flags.iter().map(String::as_str))));
    assert_eq!(status, 1, "the check fails: {err}");
    for words in [
        "🔴 Example: this is how an alert about dead looks",
        "could not connect",
        "What to do:",
        "What the check dead says",
        "picture: ",
    ] {
        assert!(out.contains(words), "{words}\n{out}");
    }
    let drawn = std::fs::read_to_string(&picture).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.contains("What the check dead says"), "{drawn}");
    let with = format!("--alert={}", delivery.display());
    let flags = flags.iter().map(String::as_str).chain([with.as_str()]);
    let (_, out, _) = finish(&mut datapulse(["once"].into_iter().chain(flags)));
    assert!(out.contains("🔴 alert-1 is broken") && out.contains("<!channel> & so on"), "{out}");
    assert_eq!(slack.workspace.counts().calls.len(), 0);
    let (status, _, err) = finish(&mut datapulse(["once", "--alert=x"]));
    assert_eq!((status, err.contains("--slack")), (64, true), "{err}");
}

/// A Prometheus that knows one series, and CloudWatch that draws one picture.
fn others() -> (Listener, Listener) {
    let prometheus = Listener::start(|request, stream| {
        let asked = String::from_utf8_lossy(&request.body).into_owned();
        let now = Timestamp::now().as_second();
        let height = if asked.contains("expected_low") {
            "90"
        } else if asked.contains("expected_high") {
            "130"
        } else {
            "100"
        };
        let values: Vec<Value> = (0..60).map(|n| json!([now - 600 + n * 10, height])).collect();
        let known = asked.contains("query=device_connections");
        let result = if known { json!([{"metric": {"country": "PH"}, "values": values}]) } else { json!([]) };
        let answer = json!({"status": "success", "data": {"resultType": "matrix", "result": result}});
        let answer = Answer::json(200, &answer);
        answer.write(stream, answer.body.len())?;
        Ok(true)
    });
    let cloudwatch = Listener::start(|request, stream| {
        let asked = String::from_utf8_lossy(&request.body).into_owned();
        let signature = request.signature().map(|signature| signature.service);
        let good = asked.starts_with("Action=GetMetricWidgetImage&Version=2010-08-01&MetricWidget=%7B")
            && signature.as_deref() == Some("monitoring");
        let xml = format!(
            "<GetMetricWidgetImageResponse><GetMetricWidgetImageResult><MetricWidgetImage>{}</MetricWidgetImage></GetMetricWidgetImageResult></GetMetricWidgetImageResponse>",
            if good { "iVBORw0KGgoAAAA=" } else { "" }
        );
        let answer = Answer::new(200, "text/xml", xml);
        answer.write(stream, answer.body.len())?;
        Ok(true)
    });
    (prometheus, cloudwatch)
}

#[test]
fn the_thread_gets_errors_a_chart_and_the_picture_of_cloudwatch_once() {
    let (slack, stage) = (Slack::start(), stage("slack-evidence"));
    let insights = Insights::start();
    insights.group("/aws/rds/orders");
    let row = |n: usize| {
        let fields =
            [("@timestamp", format!("2026-11-20 10:0{n}:00.000")), ("@message", format!("ERROR: <{n}>"))];
        fields.map(|(name, value)| (name.to_owned(), value)).to_vec()
    };
    insights.answer(Script { rows: (0..7).map(row).collect(), ..Script::default() });
    let (prometheus, cloudwatch) = others();
    let evidence = format!(
        "  scans_per_hour: 1\n  evidence:\n    - collect:\n        - logs_insights: {{log_group: /aws/rds/orders, window: 30m, limit: 5}}\n        \
         - chart: {{prometheus: \"http://127.0.0.1:{}\", range: 10m, time_zone: Asia/Tokyo}}\n        \
         - metric_image: {{widget: {{metrics: [[AWS/RDS, CPUUtilization]], title: CPU of the six, width: 600}}}}\n",
        prometheus.port()
    );
    let text = config(&slack, stage.path(), &evidence, "");
    let program = Program::start_as("slack-evidence-program", &text, &[], |command, _| {
        command.env("SLACK", TOKEN).env("AWS_REGION", REGION).env("AWS_ACCESS_KEY_ID", ACCESS_KEY);
        command.env("AWS_SECRET_ACCESS_KEY", "canary-secret-key").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", format!("http://127.0.0.1:{}", insights.port()));
        command.env("AWS_ENDPOINT_URL_CLOUDWATCH", format!("http://127.0.0.1:{}", cloudwatch.port()));
    });
    let mut one = alert("alert-1", &[("country", "PH")], false);
    one["generatorURL"] = json!("http://127.0.0.1/graph?g0.expr=device_connections%20%3D%3D%200");
    deliver(program.port, "g", &[one.clone()]);
    let message = slack.post("the message", |_| true);
    let files = || -> BTreeMap<String, Vec<u8>> {
        slack
            .workspace
            .replies(&message.ts)
            .iter()
            .filter(|reply| !reply.files.is_empty())
            .map(|reply| slack.file(reply))
            .collect()
    };
    let found = eventually("three files", || Some(files()).filter(|files| files.len() == 3));
    assert!(!program.log().contains("evidence could not be fetched"), "{}", program.log());
    let errors: Value = serde_json::from_slice(&found["errors.json"]).unwrap();
    assert_eq!(errors.as_array().map(Vec::len), Some(5));
    assert_eq!(
        errors[0],
        json!({"@timestamp": "2026-11-20 10:00:00.000", "@message": "ERROR: <0>"}),
        "@ptr is dropped"
    );
    assert!(found["chart.png"].starts_with(b"\x89PNG") && found["chart.png"].len() > 5000);
    assert!(found["metrics.png"].starts_with(b"\x89PNG"));
    let asked = insights.started();
    assert_eq!(asked.len(), 1, "once an incident");
    assert!((1795..=1805).contains(&(asked[0].end_time - asked[0].start_time)), "{asked:?}");
    instrument(&program, "datapulse_notify_evidence_seconds_count", &[], |count| count == 3.0);
    // The next incident meets the cap on queries.
    one["fingerprint"] = json!("alert-2");
    deliver(program.port, "h", &[one]);
    let second = slack.post("the second message", |post| post.ts != message.ts);
    slack.reply(&second, "the cap is told", |reply| {
        reply.text.contains("Logs Insights was not asked: 1 queries in an hour")
    });
    assert_eq!((insights.started().len(), files().len()), (1, 3));
}
