//! Pictures that CloudWatch draws. The SDK for it would be 90,000 lines for this one call.

use super::query::{Query, element};
use super::{Aws, Place};
use crate::check::{Problem, Reason};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;

/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/>
const CLOUDWATCH: Query = Query { service: "monitoring", service_id: "CLOUDWATCH", version: "2010-08-01" };
/// What a PNG begins with.
const MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

impl Aws {
    /// Has CloudWatch draw a widget; a PNG.
    ///
    /// # Errors
    /// `permission`, `credentials`, `throttled`, `aws`, and what keeps the answer away.
    pub async fn widget_image(
        &self,
        place: &Place,
        widget: &str,
        deadline: Instant,
    ) -> Result<Vec<u8>, Problem> {
        let fields = [("MetricWidget", widget), ("OutputFormat", "png")];
        let answer = self.query(CLOUDWATCH, place, "GetMetricWidgetImage", &fields, deadline).await?;
        let text: String = element(&answer, "MetricWidgetImage").unwrap_or_default();
        let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
        let picture = STANDARD.decode(text).ok().filter(|bytes| bytes.starts_with(MAGIC));
        picture
            .ok_or_else(|| Problem::new(Reason::Decode, "GetMetricWidgetImage of monitoring gave no picture"))
    }
}
