//! The series of an alert as a picture, with the band in which it was expected, from the API of Prometheus.

mod answer;
mod drawing;
mod png;

use super::{Case, Found, expression};
use crate::alerts::message::summary;
use crate::alerts::slack::File;
use crate::check::{Problem, Reason};
use crate::config::scalar::Interval;
use crate::net::aws::encoded;
use crate::net::https::{Client, Url};
use crate::task;
use answer::Series;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use tokio::time::Instant;

/// The file of the thread.
pub const FILE: &str = "chart.png";
/// Points of a series: more than a phone has columns says nothing more.
const POINTS: i64 = 300;
/// Stands in a query for the labels of the alert.
const LABELS: &str = "$labels";

/// The keys of `chart`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Chart")]
pub struct Config {
    /// Prometheus, or what speaks its API.
    pub prometheus: Url,
    /// How far back it goes.
    #[serde(default = "three_hours", deserialize_with = "range")]
    pub range: Interval,
    /// What is drawn; `$labels` becomes the matchers of the alert's labels, as in `devices{$labels}`. When absent: the alert's
    /// annotation `chart_query`, or the first series that its expression names.
    pub query: Option<String>,
    /// The lower edge of what was expected. When absent: the annotation `chart_low`, or `NAME:expected_low`.
    pub low: Option<String>,
    /// The upper edge. When absent: the annotation `chart_high`, or `NAME:expected_high`.
    pub high: Option<String>,
    /// The zone of the times below the picture.
    #[serde(default)]
    pub time_zone: Zone,
}

/// A time zone by its name in the tz database.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(jiff::tz::TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let zone = jiff::tz::TimeZone::get(&name);
        zone.map(Self)
            .map_err(|_unknown| de::Error::custom("not a time zone; write one like UTC or Asia/Tokyo"))
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Zone".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a time zone, such as UTC or Asia/Tokyo" })
    }
}

const fn three_hours() -> Interval {
    Interval::seconds(3 * 3600)
}

fn range<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
    let range = Interval::deserialize(deserializer)?;
    if range.duration().as_secs() < 60 {
        return Err(de::Error::custom("shorter than 1m"));
    }
    Ok(range)
}

/// Asks and draws.
///
/// # Errors
/// What kept the answer away, or made it unreadable.
pub async fn fetch(config: &Config, case: &Case, deadline: Instant) -> Result<Found, Problem> {
    let name = expression::metric(&case.alert);
    let wanted = |own: &Option<String>, annotation: &str, end: &str| {
        let told = own
            .as_deref()
            .or_else(|| case.alert.annotation(annotation))
            .map(|query| with_labels(query, case));
        told.or_else(|| name.as_ref().map(|name| expression::selector(&format!("{name}{end}"), &case.alert)))
    };
    let Some(query) = wanted(&config.query, "chart_query", "") else { return Ok(Found::Nothing) };
    let mut client = Client::new(&config.prometheus, None);
    let end = case.now.as_second();
    let start = end - i64::try_from(config.range.duration().as_secs()).unwrap_or(10_800);
    let mut ask = async |query: &str| {
        let step = ((end - start) / POINTS).max(1);
        let form = format!("query={}&start={start}&end={end}&step={step}", encoded(query));
        let path = format!("{}/api/v1/query_range", config.prometheus.path().trim_end_matches('/'));
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let reply = client.post(&path, &HeaderMap::from_iter([(CONTENT_TYPE, kind)]), form, deadline).await?;
        answer::read(&reply, query)
    };
    let series = ask(&query).await?;
    if series.is_empty() {
        return Ok(Found::Nothing);
    }
    let low = wanted(&config.low, "chart_low", ":expected_low");
    let high = wanted(&config.high, "chart_high", ":expected_high");
    // A band is a help and no more: without it the picture is drawn all the same.
    let mut band: [Option<Series>; 2] = [None, None];
    for (place, query) in band.iter_mut().zip([low, high]) {
        if let Some(query) = query {
            *place = ask(&query).await.ok().and_then(|series| series.into_iter().next());
        }
    }
    let [low, high] = band;
    // What Prometheus does not have is no reason to press the rest into a corner.
    let first = series.iter().filter_map(|series| series.points.first()).map(|(time, _)| *time).min();
    let from = first.map_or(start, |first| first.clamp(start, end - 60));
    let picture = drawing::Picture {
        title: summary(&case.alert).to_owned(),
        name: expression::first_series(&query).or(name).unwrap_or_else(|| case.alert.name().to_owned()),
        series,
        low,
        high,
        began: case.began.as_second(),
        from,
        to: end,
        zone: config.time_zone.0.clone(),
    };
    let alt = Some(picture.words());
    let drawn = task::blocking(move || drawing::draw(&picture)).await;
    let drawn =
        drawn.map_err(|error| Problem::new(Reason::Panic, "the chart could not be drawn").because(error))?;
    let bytes =
        drawn.map_err(|why| Problem::new(Reason::Decode, format!("the chart could not be drawn: {why}")))?;
    Ok(Found::File(File { name: FILE.to_owned(), title: summary(&case.alert).to_owned(), bytes, alt }))
}

/// A query with the alert's labels in it.
fn with_labels(query: &str, case: &Case) -> String {
    let selector = expression::selector("", &case.alert);
    query.replace(LABELS, selector.trim_start_matches('{').trim_end_matches('}'))
}
