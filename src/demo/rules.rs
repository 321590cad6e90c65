//! The bundled rules with a part of their times, so that one sees an alert come and go within a minute.

use std::net::SocketAddr;

/// The bundled rules, under the names that the demo gives their files, and how much faster time runs in them.
pub const BUNDLED: [(&str, &str, u64); 6] = [
    ("replication.yml", include_str!("../../alerts/replication.yml"), 10),
    ("inflight.yml", include_str!("../../alerts/inflight.yml"), 10),
    ("slow_query.yml", include_str!("../../alerts/slow_query.yml"), 60),
    ("devices.yml", include_str!("../../alerts/devices.yml"), 10),
    ("stores.yml", include_str!("../../alerts/stores.yml"), 10),
    ("self.yml", include_str!("../../alerts/self.yml"), 10),
];

/// The bundled routes.
const ROUTES: &str = include_str!("../../alerts/alertmanager.yml");
/// What of them is set by hand: the exporter's door, and the hook of Slack.
const DOOR: &str = "http://127.0.0.1:9893/alerts/alertmanager";
const HOOK: &str = "api_url_file: /etc/alertmanager/slack-url";
/// Times of the routes, and what takes their place.
const ROUTE_TIMES: [(&str, &str); 3] = [
    ("group_wait: 10s", "group_wait: 1s"),
    ("group_interval: 1m", "group_interval: 2s"),
    ("group_interval: 15s", "group_interval: 2s"),
];

/// Limits that are numbers in an expression: the record, the number, and what takes its place. The limit of a query's time
/// stays: the demo's long query comes with a past of two hours.
const LIMITS: [(&str, &str, &str); 10] = [
    ("datapulse:silence_limit:seconds", "+ 300", "+ 30"),
    ("datapulse:link_alive_limit:seconds", "vector(60)", "vector(6)"),
    ("datapulse:lock_wait_limit:seconds", "vector(60)", "vector(6)"),
    ("datapulse:stale_grace:seconds", "vector(120)", "vector(12)"),
    ("datapulse:push_silence:seconds", "vector(300)", "vector(30)"),
    ("datapulse:idle_in_transaction_limit:seconds", "vector(600)", "vector(60)"),
    ("datapulse:statement_floor:seconds", "vector(900)", "vector(15)"),
    ("datapulse:log_silence_floor:seconds", "vector(1800)", "vector(30)"),
    ("datapulse:data_age_limit:seconds", "vector(7200)", "vector(720)"),
    // Every 5 s in the end, as the check runs: so a country can fall silent right after the start.
    ("device_connections:day_max", "[24h:5m])", "[24h:50s])"),
];

/// Times that an annotation names.
const WORDS: [(&str, &str); 3] = [
    ("Most runs of the last five minutes failed", "Most runs of the last 30 s failed"),
    ("for ten minutes there were always more", "for a minute there were always more"),
    ("for two minutes there were always more", "for 12 s there were always more"),
];

/// Rules with a part of all their times, such as a tenth; what annotations look up keeps its own window.
pub fn shortened(rules: &str, parts: u64) -> String {
    let mut text = String::with_capacity(rules.len());
    let mut limit = None;
    for line in rules.lines() {
        let content = line.trim_start();
        let word = content.split(": ").next().unwrap_or_default();
        match word {
            "summary" | "description" | "action" | "#" => {
                text.push_str(
                    &WORDS.iter().fold(line.to_owned(), |line, (long, short)| line.replace(long, short)),
                );
            }
            "for" | "keep_firing_for" => {
                match content.split_once(": ").and_then(|(_, time)| part(time, parts)) {
                    Some(time) => text.push_str(&format!("{}{word}: {time}", indent(line))),
                    None => text.push_str(line),
                }
            }
            _ => {
                let (number, shorter) = limit.unwrap_or(("", ""));
                let line = if word == "expr" { line.replace(number, shorter) } else { line.to_owned() };
                text.push_str(&ranges(&line, parts));
            }
        }
        let record = content.strip_prefix("- record: ");
        limit = record.and_then(|name| LIMITS.iter().find(|limit| limit.0 == name)).map(|one| (one.1, one.2));
        text.push('\n');
    }
    text
}

/// Prometheus' configuration: it scrapes `exporter`, evaluates the rules every second, and tells the Alertmanager on this port.
pub fn prometheus(exporter: SocketAddr, alertmanager: Option<u16>) -> String {
    let files: Vec<&str> = BUNDLED.iter().map(|(name, ..)| *name).collect();
    let told = alertmanager.map_or_else(String::new, |port| {
        format!("alerting:\n  alertmanagers:\n    - static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n")
    });
    format!(
        "# Made by `datapulse demo`. A real one scrapes every 15 to 60 s.\n\
         global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{}]\n\
         scrape_configs:\n  - job_name: datapulse\n    static_configs: [{{targets: ['{exporter}']}}]\n{told}",
        files.join(", ")
    )
}

/// Alertmanager's configuration: the bundled routes with short times, to this exporter and to the Slack on this port.
pub fn alertmanager(exporter: SocketAddr, slack: u16) -> String {
    let short = |text: String, (long, short): &(&str, &str)| text.replace(long, short);
    ROUTE_TIMES
        .iter()
        .fold(ROUTES.to_owned(), short)
        .replace(DOOR, &format!("http://{exporter}/alerts/alertmanager"))
        .replace(HOOK, &format!("api_url: http://127.0.0.1:{slack}/services/demo"))
}

fn indent(line: &str) -> &str {
    line.get(..line.len() - line.trim_start().len()).unwrap_or_default()
}

/// `[10m]` and `[15m:1m]`, wherever they stand; brackets around something else stay as they are.
fn ranges(line: &str, parts: u64) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        text.push('[');
        let Some((range, behind)) = after.split_once(']') else {
            rest = after;
            continue;
        };
        let times: Option<Vec<String>> = range.split(':').map(|time| part(time, parts)).collect();
        text.push_str(&times.map_or_else(|| range.to_owned(), |times| times.join(":")));
        text.push(']');
        rest = behind;
    }
    text + rest
}

/// One of so many parts of a duration with one unit; `None` when it is none.
fn part(duration: &str, parts: u64) -> Option<String> {
    let duration = duration.trim();
    let (number, milliseconds) = match duration.char_indices().last()? {
        (at, 's') => (duration.get(..at)?, 1_000),
        (at, 'm') => (duration.get(..at)?, 60_000),
        (at, 'h') => (duration.get(..at)?, 3_600_000),
        (at, 'd') => (duration.get(..at)?, 86_400_000),
        _ => return None,
    };
    let time = number.parse::<u64>().ok()? * milliseconds / parts;
    Some(if time.is_multiple_of(1_000) { format!("{}s", time / 1_000) } else { format!("{time}ms") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_set_by_hand_is_found_in_the_bundled_routes() {
        for words in [DOOR, HOOK].into_iter().chain(ROUTE_TIMES.iter().map(|(long, _)| *long)) {
            assert!(ROUTES.contains(words), "{words}");
        }
        let made = alertmanager(([127, 0, 0, 1], 7).into(), 8);
        assert!(
            made.contains("url: http://127.0.0.1:7/alerts/alertmanager") && !made.contains("api_url_file"),
            "{made}"
        );
    }

    #[test]
    fn times_become_a_tenth_and_everything_else_stays() {
        for (before, after) in [
            ("        for: 1m", "        for: 6s\n"),
            ("        keep_firing_for: 5m", "        keep_firing_for: 30s\n"),
            (
                "        expr: min_over_time(increase(a[2m])[15m:1m]) > 0",
                "        expr: min_over_time(increase(a[12s])[90s:6s]) > 0\n",
            ),
            ("          and b{c=~\"[x]|d\"} > 60", "          and b{c=~\"[x]|d\"} > 60\n"),
            ("          action: \"wait [5m]\"", "          action: \"wait [5m]\"\n"),
            ("      # for: 5m", "      # for: 5m\n"),
            (
                "- record: datapulse:lock_wait_limit:seconds\n  expr: vector(60)\n- record: x\n  expr: vector(60)",
                "- record: datapulse:lock_wait_limit:seconds\n  expr: vector(6)\n- record: x\n  expr: vector(60)\n",
            ),
        ] {
            assert_eq!(shortened(before, 10), after);
        }
    }

    #[test]
    fn every_limit_and_word_is_found_in_the_bundled_rules() {
        let all: String = BUNDLED.iter().map(|(_, rules, _)| *rules).collect();
        let short: String = BUNDLED.iter().map(|(_, rules, parts)| shortened(rules, *parts)).collect();
        for (name, number, shorter) in LIMITS {
            let behind = |text: &str| {
                let rule =
                    text.split(&format!("- record: {name}\n")).nth(1).unwrap_or_else(|| panic!("{name}"));
                rule.lines().next().unwrap().to_owned()
            };
            assert!(behind(&all).ends_with(number), "{}", behind(&all));
            assert!(behind(&short).ends_with(&ranges(shorter, 10)), "{}", behind(&short));
        }
        for (long, short) in WORDS {
            assert!(all.contains(long) && !short.is_empty());
        }
        let left = short.lines().filter(|line| line.contains("for: 1m") || line.contains("for: 5m")).count();
        assert_eq!(left, 0);
    }
}
