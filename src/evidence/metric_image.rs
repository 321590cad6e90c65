//! A picture that CloudWatch draws of its own metrics: `GetMetricWidgetImage`.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricWidgetImage.html>

use super::Found;
use crate::alerts::slack::File;
use crate::check::Problem;
use crate::net::aws::{Aws, Place};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use tokio::time::Instant;

/// The file of the thread.
pub const FILE: &str = "metrics.png";

/// The keys of `metric_image`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MetricImage")]
pub struct Config {
    /// The widget, as CloudWatch shows it under "Source": metrics, start, title, width, height and more.
    #[serde(deserialize_with = "widget")]
    pub widget: Value,
    /// Region; the SDK's own when absent.
    pub region: Option<String>,
    /// ARN of a role to assume.
    pub assume_role: Option<String>,
}

fn widget<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let widget = Value::deserialize(deserializer)?;
    let metrics = widget.get("metrics").and_then(Value::as_array);
    if metrics.is_none_or(Vec::is_empty) {
        return Err(de::Error::custom("expected a widget with `metrics`, a list"));
    }
    Ok(widget)
}

/// Has it drawn.
///
/// # Errors
/// `permission`, `credentials`, `throttled`, `aws`, and what keeps the answer away.
pub async fn fetch(config: &Config, aws: &Aws, deadline: Instant) -> Result<Found, Problem> {
    let place = Place { region: config.region.clone(), assume_role: config.assume_role.clone() };
    let bytes = aws.widget_image(&place, &config.widget.to_string(), deadline).await?;
    let title = config.widget.get("title").and_then(Value::as_str).unwrap_or("CloudWatch");
    Ok(Found::File(File {
        name: FILE.to_owned(),
        title: title.to_owned(),
        bytes,
        alt: Some(format!("chart of CloudWatch: {title}")),
    }))
}
