//! The demo's page as HTML: what runs, what to break, what is firing, what happened. It works without JavaScript.

use super::Fault;
use super::crew::{Built, Monitor, Standing};
use super::diary::Event;
use super::look::{ABSENT, Look, label};
use super::watch::Alert;
use jiff::Timestamp;
use serde_json::Value;

const STYLE: &str = include_str!("../web/demo.css");
/// Events on the page.
const SHOWN: usize = 10;
/// Long queries on the page.
const LISTED: usize = 4;

/// All that the page shows.
#[derive(Debug)]
pub struct View<'a> {
    /// How the servers stand.
    pub standing: &'a Standing,
    /// `/api/v1/checks` of this process.
    pub checks: Vec<Value>,
    /// What Prometheus says; `None` when it does not answer.
    pub alerts: Option<&'a [Alert]>,
    /// What happened, newest first.
    pub events: Vec<Event>,
    /// What has been built.
    pub built: &'a Built,
    /// The exporter's address, `http://host:port`.
    pub exporter: &'a str,
    /// Slow queries that came in; `None` before the first.
    pub slow_queries: Option<f64>,
    /// Wall clock.
    pub now: Timestamp,
}

/// The page.
pub fn html(view: &View<'_>) -> String {
    let firing = view.alerts.unwrap_or_default().iter().filter(|alert| alert.firing).count();
    let mark = if firing > 0 {
        "✖"
    } else if view.standing.faults.is_empty() {
        "●"
    } else {
        "▲"
    };
    let mut links =
        format!("<a href=\"{0}/\">status page</a> <a href=\"{0}/metrics\">metrics</a>", view.exporter);
    links.push_str(&format!(" <a href=\"http://127.0.0.1:{}/\">Slack</a>", view.built.slack));
    if let Monitor::Up(port) = view.standing.prometheus {
        links.push_str(&format!(" <a href=\"http://127.0.0.1:{port}/alerts\">Prometheus</a>"));
    }
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>\
         <title>{mark} datapulse demo</title><style>{STYLE}</style><script src=\"/fresh.js\" defer></script></head><body>\n\
         <header><h1>datapulse demo</h1><nav>{links}</nav></header>\n\
         <div class=\"sides\"><main>\n<p class=\"lead\">Five things run on this machine, datapulse watches them, and Prometheus judges what it sees by the bundled \
         rules, here with a tenth of their times. Three steps: <a href=\"#runs\">see what runs</a>, <a href=\"#break\">break something</a>, \
         <a href=\"#follows\">watch what follows</a>, here and in Slack, and heal it again.</p>\n<h2 class=\"step\" id=\"runs\">1. What runs</h2>\n"
    );
    flow(&mut html, view);
    beside(&mut html, view);
    faults(&mut html, view);
    html.push_str("<h2 class=\"step\" id=\"follows\">3. What follows</h2>\n<p class=\"quiet\">Within half a minute the alert fires and Slack gets one message; \
         its thread gets the evidence. When it is over, the same message says so.</p>\n<div class=\"pair\">\n");
    alerts(&mut html, view);
    events(&mut html, view);
    html.push_str("</div>\n");
    closer(&mut html, view);
    html.push_str("</main>\n");
    html.push_str(&format!(
        "<aside aria-label=\"Slack\"><iframe src=\"http://127.0.0.1:{}/\" title=\"What Slack would show\"></iframe></aside></div></body></html>\n",
        view.built.slack
    ));
    html
}

/// The four things that run, in the order in which an order travels.
fn flow(html: &mut String, view: &View<'_>) {
    let Built { version, publisher, subscriber, .. } = view.built;
    let subscription = Look::at(&view.checks, "orders");
    let slots = Look::at(&view.checks, "orders-slots");
    let lost = |endpoint: &str| subscription.problem(endpoint);
    html.push_str("<ol class=\"flow\">\n");

    let (class, word) = match (lost("publisher"), subscription.ran()) {
        (Some(reason), _) => ("down", format!("fails: {reason}")),
        (None, true) => ("up", "answers".to_owned()),
        (None, false) => ("waiting", "waiting".to_owned()),
    };
    let facts = [
        ("slot in use", slots.flag("pg_replication_slots_active")),
        ("WAL kept", slots.bytes("pg_replication_slots_retained_bytes")),
        ("not confirmed", subscription.bytes("pg_subscription_lag_bytes")),
    ];
    let address = format!("PostgreSQL {version}, port {publisher}");
    one(html, "publisher", &address, (class, &word), &facts);

    let enabled = subscription.value("pg_subscription_enabled");
    let waits = subscription.value("pg_subscription_worker_lock_wait_seconds").filter(|wait| *wait > 0.0);
    let (class, word) =
        match (lost("subscriber"), enabled, waits, subscription.value("pg_subscription_worker_up")) {
            (Some(reason), ..) => ("down", reason),
            (None, None, ..) => ("waiting", "waiting"),
            (None, Some(0.0), ..) => ("down", "disabled"),
            (None, Some(_), Some(_), _) => ("partly", "blocked"),
            (None, Some(_), None, Some(1.0)) => ("up", "worker runs"),
            (None, Some(_), None, _) => ("down", "no worker"),
        };
    let facts = [
        ("last message", subscription.seconds("pg_stat_subscription_last_msg_receipt_age_seconds", " ago")),
        ("waits for a lock", waits.map_or_else(|| "no".to_owned(), |wait| format!("{wait:.0} s"))),
        ("apply errors", subscription.count("pg_stat_subscription_apply_errors_total")),
    ];
    let address = format!("PostgreSQL {version}, port {subscriber}");
    one(html, "subscriber", &address, (class, word), &facts);

    let class = match (subscription.state(), slots.state()) {
        ("up", "up") => ("up", "sees both ends"),
        ("waiting", _) | (_, "waiting") => ("waiting", "waiting"),
        ("up" | "partly", _) => ("partly", "sees one end"),
        _ => ("down", "sees too little"),
    };
    let facts = [
        ("check orders", subscription.last_run()),
        ("check orders-slots", slots.last_run()),
        ("values", format!("{}", subscription.samples() + slots.samples())),
    ];
    let address = view.exporter.trim_start_matches("http://");
    one(html, "datapulse", address, class, &facts);

    let (address, class) = match &view.standing.prometheus {
        Monitor::Up(port) if view.alerts.is_some() => (format!("127.0.0.1:{port}"), ("up", "judges")),
        Monitor::Up(port) => (format!("127.0.0.1:{port}"), ("waiting", "waiting")),
        Monitor::Starting => ("on its way".to_owned(), ("waiting", "starting")),
        Monitor::Absent(_) => ("no alerts without it".to_owned(), ("down", "missing")),
    };
    let count = |firing: bool| match view.alerts {
        Some(alerts) => alerts.iter().filter(|alert| alert.firing == firing).count().to_string(),
        None => ABSENT.to_owned(),
    };
    one(html, "Prometheus", &address, class, &[("firing", count(true)), ("pending", count(false))]);
    html.push_str("</ol>\n");
    if let Monitor::Absent(why) = &view.standing.prometheus {
        html.push_str(&format!("<p class=\"problem\">{}</p>\n", escape(why)));
    }
}

/// What is watched beside the replication: the lake's devices, the warehouse's queries, the shop's log.
fn beside(html: &mut String, view: &View<'_>) {
    let Built { subscriber, .. } = view.built;
    html.push_str("<ol class=\"flow beside\">\n");

    let devices = Look::at(&view.checks, "devices");
    let countries: Vec<(&str, f64)> =
        devices.all("device_connections").map(|(labels, value)| (label(labels, "country"), value)).collect();
    let silent: Vec<&str> =
        countries.iter().filter(|(_, value)| *value == 0.0).map(|(country, _)| *country).collect();
    let (class, word) = match (devices.problem("own"), devices.ran(), silent.is_empty()) {
        (Some(reason), ..) => ("down", format!("fails: {reason}")),
        (None, false, _) => ("waiting", "waiting".to_owned()),
        (None, true, true) => ("up", format!("{} countries", countries.len())),
        (None, true, false) => ("down", format!("{} silent", silent.join(", "))),
    };
    let facts: Vec<_> = countries.iter().map(|(country, value)| (*country, format!("{value}"))).collect();
    let address = format!("devices in the last hour, database lake on port {subscriber}");
    one(html, "devices", &address, (class, &word), &facts);

    let queries = Look::at(&view.checks, "analytics");
    let mut long: Vec<(String, f64)> = queries
        .all("redshift_inflight_query_elapsed_seconds")
        .map(|(labels, value)| (format!("{}, pid {}", label(labels, "user"), label(labels, "pid")), value))
        .collect();
    long.sort_by(|one, other| other.1.total_cmp(&one.1));
    let running: f64 = queries.all("redshift_inflight_queries").map(|(_, value)| value).sum();
    let (class, word) = match (queries.problem("own"), queries.ran(), long.is_empty()) {
        (Some(reason), ..) => ("down", format!("fails: {reason}")),
        (None, false, _) => ("waiting", "waiting".to_owned()),
        (None, true, true) => ("up", format!("{running} in flight")),
        (None, true, false) => ("partly", format!("{running} in flight, {} long", long.len())),
    };
    let oldest =
        queries.all("redshift_inflight_oldest_seconds").map(|(_, value)| value).max_by(f64::total_cmp);
    let oldest = [("oldest", oldest.map_or_else(|| ABSENT.to_owned(), minutes))];
    let long = long.iter().take(LISTED).map(|(who, seconds)| (who.as_str(), minutes(*seconds)));
    let facts: Vec<_> = oldest.into_iter().chain(long).collect();
    let address = format!("queries of Redshift, played by database warehouse on port {subscriber}");
    one(html, "warehouse", &address, (class, &word), &facts);
    if let Some(port) = view.built.cache {
        cache(html, view, port);
    }

    let (class, word) = match (&view.standing.shop, view.slow_queries) {
        (None, _) => ("waiting", "starting".to_owned()),
        (Some(Err(why)), _) => ("down", why.clone()),
        (Some(Ok(())), None) => ("waiting", "waiting".to_owned()),
        (Some(Ok(())), Some(_)) => ("up", "log comes in".to_owned()),
    };
    let count = view.slow_queries.map_or_else(|| ABSENT.to_owned(), |count| format!("{count}"));
    let facts = [("slow queries", count), ("their texts", "/api/v1/statements".to_owned())];
    let address = "slow query log of a MariaDB, through POST /logs/cloudwatch";
    one(html, "shop", address, (class, &word), &facts);
    html.push_str("</ol>\n");
}

/// The Redis with its replica.
fn cache(html: &mut String, view: &View<'_>, port: u16) {
    let cache = Look::at(&view.checks, "cache");
    let lost = cache.all("redis_up").filter(|(_, up)| *up == 0.0).count();
    let primaries: Vec<String> = cache
        .all("redis_node_primary")
        .filter(|(_, primary)| *primary > 0.0)
        .map(|(labels, _)| label(labels, "node").to_owned())
        .collect();
    let (class, word) = match (cache.problem("own"), cache.ran(), lost, primaries.len()) {
        (Some(reason), ..) => ("down", format!("fails: {reason}")),
        (None, false, ..) => ("waiting", "waiting".to_owned()),
        (None, true, 0, 1) => ("up", "primary and replica".to_owned()),
        (None, true, _, 1) => ("partly", format!("{lost} lost")),
        (None, true, _, 0) => ("down", "no primary".to_owned()),
        (None, true, _, _) => ("down", "two primaries".to_owned()),
    };
    let failovers: f64 = cache.all("redis_failovers_total").map(|(_, count)| count).sum();
    let facts = [
        ("primary", primaries.first().cloned().unwrap_or_else(|| ABSENT.to_owned())),
        ("failovers", format!("{failovers}")),
    ];
    let address = format!("Redis, asked from port {port}");
    one(html, "cache", &address, (class, &word), &facts);
}

fn minutes(seconds: f64) -> String {
    format!("{:.1} min", seconds / 60.0)
}

fn one(html: &mut String, name: &str, address: &str, (class, word): (&str, &str), facts: &[(&str, String)]) {
    html.push_str(&format!(
        "<li class=\"{class}\"><h3>{name} <span class=\"pill {class}\">{}</span></h3><p>{}</p><dl>",
        escape(word),
        escape(address)
    ));
    for (label, value) in facts {
        let (label, value) = (escape(label), escape(value));
        html.push_str(&format!("<div><dt>{label}</dt><dd>{value}</dd></div>"));
    }
    html.push_str("</dl></li>\n");
}

fn faults(html: &mut String, view: &View<'_>) {
    let on = &view.standing.faults;
    html.push_str(&format!(
        "<section class=\"faults\"><h2 class=\"step\" id=\"break\">2. Break it <form method=\"post\" action=\"/heal\">\
         <button class=\"heal\"{}>Heal everything</button></form></h2>\n<ul>\n",
        if on.is_empty() { " disabled" } else { "" }
    ));
    for fault in Fault::ALL {
        let since = on.iter().find(|(one, _)| *one == fault).map(|(_, since)| *since);
        let (class, button) = match since {
            Some(since) => {
                (" class=\"on\"", format!("<span class=\"pill down\">on for {}</span>", ago(view.now, since)))
            }
            None => ("", format!("<button>{}</button>", fault.title())),
        };
        let word = fault.word();
        let heading = if since.is_some() { format!("<b>{}</b> ", fault.title()) } else { String::new() };
        html.push_str(&format!(
            "<li{class}><form method=\"post\" action=\"/break/{word}\">{heading}{button}</form>\
             <p>{}</p><p class=\"life\">In real life: {}.</p>\
             <p class=\"life\">Alert: <b>{}</b></p><code>datapulse demo break {word}</code></li>\n",
            fault.deed(),
            fault.in_real_life(),
            fault.alert(),
        ));
    }
    html.push_str("</ul></section>\n");
}

fn alerts(html: &mut String, view: &View<'_>) {
    html.push_str("<section class=\"alerts\"><h3>Alerts now</h3>\n");
    match view.alerts {
        None => html.push_str("<p class=\"quiet\">Prometheus does not answer yet.</p>\n"),
        Some([]) => html.push_str("<p class=\"quiet\">All quiet.</p>\n"),
        Some(alerts) => alerts.iter().for_each(|alert| one_alert(html, alert, view.now)),
    }
    html.push_str("</section>\n");
}

fn one_alert(html: &mut String, alert: &Alert, now: Timestamp) {
    let (class, word) = match (alert.firing, alert.kept) {
        (true, false) => ("down", "firing"),
        (true, true) => ("partly", "over, kept for a moment"),
        (false, _) => ("waiting", "pending"),
    };
    let since =
        alert.since.map_or_else(String::new, |since| format!(" <time>for {}</time>", ago(now, since)));
    html.push_str(&format!(
        "<article class=\"{class}\"><h4><span class=\"pill {class}\">{word}</span> {} <small>{}</small>{since}</h4>\
         <p><b>{}</b></p>",
        escape(&alert.name),
        escape(&alert.severity),
        escape(&alert.summary)
    ));
    if alert.firing && !alert.kept {
        let (why, cure) = (escape(&alert.description), escape(&alert.action));
        html.push_str(&format!("<p>{why}</p><p class=\"cure\"><b>What to do:</b> {cure}</p>"));
    }
    html.push_str("</article>\n");
}

fn events(html: &mut String, view: &View<'_>) {
    html.push_str("<section class=\"events\"><h3>What happened</h3>\n");
    if view.events.is_empty() {
        html.push_str("<p class=\"quiet\">Nothing yet. Press a button.</p>\n");
    }
    html.push_str("<ol>\n");
    for event in view.events.iter().take(SHOWN) {
        let after =
            event.after.map_or_else(String::new, |seconds| format!(" <small>{seconds:.0} s later</small>"));
        let word = event.kind.word();
        html.push_str(&format!(
            "<li><time>{}</time> <span class=\"pill {word}\">{word}</span> {}{after}</li>\n",
            event.at.strftime("%H:%M:%S"),
            escape(&event.text)
        ));
    }
    html.push_str("</ol></section>\n");
}

fn closer(html: &mut String, view: &View<'_>) {
    let Built { publisher, subscriber, dir, .. } = view.built;
    let (config, dir) = (view.built.config(), escape(&dir.display().to_string()));
    let config = escape(&config.display().to_string());
    let exporter = view.exporter;
    html.push_str(&format!(
        "<section class=\"closer\"><h2 class=\"step\">4. Look closer</h2>\n<dl>\n\
         <div><dt>how it all stands, a page a check</dt><dd><a href=\"{exporter}/\">{exporter}/</a>, <a href=\"{exporter}/checks/orders@orders-sub\">both ends of the replication</a>, \
         <a href=\"{exporter}/logs\">the statements that take the most time</a></dd></div>\n\
         <div><dt>the metrics</dt><dd><code>curl -s {exporter}/metrics | grep -E '^(pg|redshift|device|redis)_'</code></dd></div>\n\
         <div><dt>what the login may do, and how many series result</dt><dd><code>datapulse doctor --config.file {config}</code></dd></div>\n\
         <div><dt>one run of every check, in the terminal</dt><dd><code>datapulse once --config.file {config}</code></dd></div>\n\
         <div><dt>the publisher</dt><dd><code>PGPASSFILE={dir}/pgpass psql -h 127.0.0.1 -p {publisher} -U postgres shop</code></dd></div>\n\
         <div><dt>the subscriber</dt><dd><code>PGPASSFILE={dir}/pgpass psql -h 127.0.0.1 -p {subscriber} -U postgres shop</code></dd></div>\n\
         <div><dt>what the warehouse shows of its queries</dt><dd><code>PGPASSFILE={dir}/pgpass psql -h 127.0.0.1 -p {subscriber} -U datapulse \
         warehouse -c 'select * from svv_query_inflight'</code></dd></div>\n\
         </dl><p class=\"quiet\">Ctrl-C in the terminal of the demo stops and removes \
         everything.</p></section>\n"
    ));
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::super::diary::Kind;
    use super::*;
    use serde_json::json;

    fn shown(
        checks: Vec<Value>,
        standing: &Standing,
        alerts: Option<&[Alert]>,
        events: Vec<Event>,
    ) -> String {
        let built = Built {
            version: "18.1".into(),
            publisher: 11,
            subscriber: 12,
            prometheus: 13,
            slack: 14,
            cache: None,
            dir: "/tmp/d".into(),
        };
        let now = Timestamp::from_second(100).unwrap();
        html(&View {
            standing,
            checks,
            alerts,
            events,
            built: &built,
            exporter: "http://127.0.0.1:9893",
            slow_queries: Some(7.0),
            now,
        })
    }

    fn check(enabled: f64, wait: f64) -> Value {
        json!({"check": "orders", "state": "up", "last_run": {"ended": "x", "samples": 3, "problems": []}, "samples": [
            {"name": "pg_subscription_enabled", "value": enabled}, {"name": "pg_subscription_worker_up", "value": 1.0},
            {"name": "pg_subscription_worker_lock_wait_seconds", "value": wait},
            {"name": "pg_subscription_lag_bytes", "value": 1234.0}]})
    }

    #[test]
    fn the_subscriber_is_shown_as_its_values_say() {
        for (checks, expected) in [
            (vec![], "subscriber <span class=\"pill waiting\">waiting"),
            (vec![check(1.0, 0.0)], "subscriber <span class=\"pill up\">worker runs"),
            (vec![check(0.0, 0.0)], "subscriber <span class=\"pill down\">disabled"),
            (vec![check(1.0, 7.0)], "subscriber <span class=\"pill partly\">blocked"),
        ] {
            let page = shown(checks, &Standing::default(), None, Vec::new());
            assert!(page.contains(expected), "{expected}");
        }
        assert!(
            shown(vec![check(1.0, 0.0)], &Standing::default(), None, Vec::new()).contains("<dd>1.2 kB</dd>")
        );
    }

    #[test]
    fn countries_and_long_queries_are_shown_with_their_numbers() {
        let page = |devices: f64, samples: Value| {
            let checks = vec![
                json!({"check": "devices", "last_run": {"ended": "x"}, "samples": [
                    {"name": "device_connections", "labels": {"country": "JP"}, "value": 2031.0},
                    {"name": "device_connections", "labels": {"country": "PH"}, "value": devices}]}),
                json!({"check": "analytics", "last_run": {"ended": "x"}, "samples": samples}),
            ];
            shown(checks, &Standing::default(), None, Vec::new())
        };
        let quiet = page(
            7.0,
            json!([{"name": "redshift_inflight_queries", "labels": {"user": "etl", "status": "running"}, "value": 2.0},
                {"name": "redshift_inflight_queries", "labels": {"user": "bi", "status": "queued"}, "value": 1.0}]),
        );
        assert!(quiet.contains("devices <span class=\"pill up\">2 countries"));
        assert!(quiet.contains("<dt>JP</dt><dd>2031</dd>"));
        assert!(quiet.contains("warehouse <span class=\"pill up\">3 in flight"));
        let loud = page(
            0.0,
            json!([{"name": "redshift_inflight_queries", "labels": {"user": "etl"}, "value": 1.0},
                {"name": "redshift_inflight_oldest_seconds", "labels": {"user": "etl"}, "value": 7263.0},
                {"name": "redshift_inflight_query_elapsed_seconds", "labels": {"user": "etl", "pid": "42"}, "value": 7263.0}]),
        );
        assert!(loud.contains("devices <span class=\"pill down\">PH silent"));
        assert!(loud.contains("warehouse <span class=\"pill partly\">1 in flight, 1 long"));
        assert!(loud.contains("<dt>oldest</dt><dd>121.0 min</dd>"));
        assert!(loud.contains("<dt>etl, pid 42</dt><dd>121.0 min</dd>"));
    }

    #[test]
    fn a_fault_that_is_on_has_no_button_and_can_be_healed() {
        let button = "<button>Lock the table</button>";
        let quiet = shown(Vec::new(), &Standing::default(), Some(&[]), Vec::new());
        assert!(quiet.contains(button) && quiet.contains("<button class=\"heal\" disabled>"));
        let standing = Standing {
            faults: vec![(Fault::Lock, Timestamp::from_second(91).unwrap())],
            ..Standing::default()
        };
        let page = shown(Vec::new(), &standing, Some(&[]), Vec::new());
        assert!(
            !page.contains(button) && page.contains("on for 9 s") && page.contains("<button class=\"heal\">")
        );
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let evil = "<b onclick='x'>&\"".to_owned();
        let alert = Alert {
            name: evil.clone(),
            firing: true,
            summary: evil.clone(),
            description: evil.clone(),
            action: evil.clone(),
            severity: evil.clone(),
            ..Alert::default()
        };
        let event =
            Event { at: Timestamp::UNIX_EPOCH, kind: Kind::Gone, text: evil.clone(), after: Some(3.0) };
        let standing = Standing { prometheus: Monitor::Absent(evil.clone()), ..Standing::default() };
        let checks = vec![
            json!({"check": "orders", "state": evil, "last_run": {"ended": "", "duration_seconds": 1.0,
            "problems": [{"endpoint": "publisher", "reason": evil}]}}),
            json!({"check": "devices", "samples": [{"name": "device_connections", "labels": {"country": evil}, "value": 1.0}]}),
        ];
        let page = shown(checks, &standing, Some(&[alert]), vec![event]);
        assert!(!page.contains("<b onclick"));
        assert_eq!(page.matches("&lt;b onclick=&#39;x&#39;&gt;&amp;&quot;").count(), 10);
    }
}
