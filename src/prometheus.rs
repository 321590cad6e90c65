//! What Prometheus makes of our numbers, asked again and again for the status page: which alerts fire, and what values it expected.

use crate::alerts::Severity;
use crate::alerts::open::Open;
use crate::check::{Problem, Reason};
use crate::net::aws::encoded;
use crate::net::https::{Client, Reply, Url, quoted};
use arc_swap::ArcSwapOption;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// As often as Prometheus looks at its rules by default.
const EVERY: Duration = Duration::from_secs(15);
/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Alerts and expected values that are kept.
const MOST: usize = 500;
/// Since when the expression of an alert is true, if it fires. A Prometheus has alerts about much else; ours name a check or a log group, or are
/// about datapulse itself. The watchdog always fires.
const FIRING: &str = r#"ALERTS_FOR_STATE and ignoring (alertstate) (ALERTS{alertstate="firing",check!=""} or ALERTS{alertstate="firing",log_group!=""} or ALERTS{alertstate="firing",alertname=~"Datapulse.+",alertname!="DatapulseWatchdog"})"#;
/// As alerts/anomaly.yml records them.
const EXPECTED: &str = r#"label_replace(seasonal:expected, "edge", "expected", "", "") or label_replace(seasonal:expected * (1 - seasonal:guard), "edge", "low", "", "")"#;

/// The keys of `page`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Page")]
pub struct Config {
    /// Prometheus, or what speaks its API: the status page shows which of its alerts fire, and what the seasonal rules expect.
    pub prometheus: Url,
}

/// A series with its value now.
type Sample = (BTreeMap<String, String>, f64);

/// What Prometheus said last.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Alerts that fire, the worst first.
    pub firing: Vec<Open>,
    /// What the seasonal rules expect.
    pub expected: Vec<Expected>,
    /// Why it says nothing; then the rest is empty.
    pub problem: Option<String>,
}

/// What a gauge is expected to be at this hour of the week.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
    /// Lower than this it is an alert, if it lasts.
    pub low: Option<f64>,
}

/// Where it is kept; empty when no Prometheus is configured.
pub type Place = Arc<ArcSwapOption<Said>>;

impl Said {
    /// What a sample of a check is expected to be; its labels are those that the check gives.
    pub fn expected(&self, check: &str, metric: &str, labels: &[(String, &str)]) -> Option<&Expected> {
        let is = |one: &Expected, name: &str, value: &str| {
            one.labels.get(name).is_some_and(|known| known == value)
        };
        self.expected.iter().find(|one| {
            is(one, "gauge", metric)
                && is(one, "check", check)
                && labels.iter().all(|(name, value)| value.is_empty() || is(one, name, value))
        })
    }
}

/// Asks until its task ends.
pub async fn live(config: Config, place: Place) {
    let mut client = Client::new(&config.prometheus, None);
    let path = format!("{}/api/v1/query", config.prometheus.path().trim_end_matches('/'));
    loop {
        let said = ask(&mut client, &path)
            .await
            .unwrap_or_else(|problem| Said { problem: Some(problem.to_string()), ..Said::default() });
        place.store(Some(Arc::new(said)));
        sleep(EVERY).await;
    }
}

async fn ask(client: &mut Client, path: &str) -> Result<Said, Problem> {
    let mut query = async |query: &str| {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        let form = format!("query={}", encoded(query));
        let reply = client.post(path, &headers, form, Instant::now() + TIMEOUT).await?;
        read(&reply)
    };
    let mut firing: Vec<Open> = query(FIRING).await?.iter().map(open).collect();
    firing.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.began.cmp(&b.began)));
    Ok(Said { firing, expected: expected(query(EXPECTED).await?), problem: None })
}

/// An instant vector. <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>
fn read(reply: &Reply) -> Result<Vec<Sample>, Problem> {
    let refused = |reason, why: &str| Problem::new(reason, format!("Prometheus did not answer: {why}"));
    let answer: Value = serde_json::from_slice(&reply.body).map_err(|_no_json| {
        refused(Reason::Protocol, &format!("status {}, no JSON", reply.status.as_u16()))
    })?;
    if answer.get("status").and_then(Value::as_str) != Some("success") {
        let error = answer.get("error").and_then(Value::as_str).unwrap_or_default();
        return Err(refused(Reason::Query, &quoted(error)));
    }
    let found = answer.pointer("/data/result").and_then(Value::as_array);
    let found = found.ok_or_else(|| refused(Reason::Protocol, "no data.result"))?;
    let sample = |one: &Value| {
        let labels = one.get("metric")?.as_object()?.iter();
        let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let value =
            one.pointer("/value/1")?.as_str()?.parse::<f64>().ok().filter(|value| value.is_finite())?;
        Some((labels.collect(), value))
    };
    Ok(found.iter().take(MOST).filter_map(sample).collect())
}

fn open((labels, since): &Sample) -> Open {
    let label = |name: &str| labels.get(name).cloned();
    let about: Vec<String> = labels
        .iter()
        .filter(|(name, _)| {
            !matches!(
                name.as_str(),
                "__name__" | "alertname" | "severity" | "job" | "instance" | "check" | "target" | "source"
            )
        })
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let since = jiff::SignedDuration::try_from_secs_f64(since.round()).and_then(Timestamp::from_duration);
    Open {
        name: label("alertname").unwrap_or_default(),
        check: label("check"),
        target: label("target"),
        severity: Severity::of(labels.get("severity").map(String::as_str)),
        unknown: false,
        began: since.unwrap_or_default(),
        summary: about.join(" "),
        firing: 1,
        runbook: None,
    }
}

fn expected(samples: Vec<Sample>) -> Vec<Expected> {
    let (mut values, mut lows) = (Vec::new(), Vec::new());
    for (mut labels, value) in samples {
        match labels.remove("edge").as_deref() {
            Some("expected") => values.push((labels, value)),
            Some("low") => lows.push((labels, value)),
            _ => {}
        }
    }
    // The name of the recorded series is no label of the gauge.
    for (labels, _) in values.iter_mut().chain(&mut lows) {
        labels.remove("__name__");
    }
    let low = |labels: &BTreeMap<String, String>| {
        lows.iter().find(|(known, _)| known == labels).map(|(_, low)| *low)
    };
    values.into_iter().map(|(labels, value)| Expected { low: low(&labels), labels, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn both_edges_of_what_is_expected_come_together_by_their_labels() {
        let of = |country: &str, edge: &str| {
            labels(&[
                ("gauge", "device_connections"),
                ("check", "devices"),
                ("country", country),
                ("edge", edge),
            ])
        };
        let samples =
            vec![(of("JP", "expected"), 100.0), (of("TH", "expected"), 50.0), (of("JP", "low"), 85.0)];
        let said = Said { expected: expected(samples), ..Said::default() };
        let find = |country: &'static str| {
            said.expected("devices", "device_connections", &[("country".into(), country)])
        };
        assert_eq!(find("JP").map(|one| (one.value, one.low)), Some((100.0, Some(85.0))));
        assert_eq!(find("TH").map(|one| (one.value, one.low)), Some((50.0, None)));
        assert_eq!(find("PH"), None);
    }

    #[test]
    fn an_answer_is_read_and_a_refusal_told() {
        let reply = |body: &'static str| Reply {
            status: hyper::StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.into(),
        };
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2.5"]},{"metric":{},"value":[1,"NaN"]}]}}"#;
        assert_eq!(read(&reply(body)).unwrap(), [(labels(&[("a", "b")]), 2.5)]);
        let error = read(&reply(r#"{"status":"error","error":"unknown function"}"#)).unwrap_err();
        assert!(error.to_string().contains("unknown function"));
        assert!(read(&reply("<html>")).unwrap_err().to_string().contains("no JSON"));
    }

    #[test]
    fn an_alert_is_told_with_its_check_and_since_when() {
        let series = labels(&[
            ("__name__", "ALERTS_FOR_STATE"),
            ("alertname", "RedisNodeDown"),
            ("severity", "critical"),
            ("check", "cache"),
            ("job", "datapulse"),
            ("node", "a:1"),
        ]);
        let open = open(&(series, 1_700_000_000.0));
        assert_eq!(
            (open.name.as_str(), open.check.as_deref(), open.target),
            ("RedisNodeDown", Some("cache"), None)
        );
        assert_eq!((open.severity, open.summary.as_str()), (Severity::Critical, "node=a:1"));
        assert_eq!(open.began.to_string(), "2023-11-14T22:13:20Z");
    }
}
