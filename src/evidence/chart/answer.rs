//! The answer of Prometheus to a range query. <https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries>

use crate::alerts::text::cut;
use crate::check::{Problem, Reason};
use crate::net::https::{Reply, quoted};
use serde_json::Value;

/// Series that are drawn; more lines cannot be told apart.
const MOST_SERIES: usize = 6;
/// Points of one series.
const MOST_POINTS: usize = 2000;

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    /// Its labels, in a few words.
    pub(super) name: String,
    /// Unix seconds and values; no gaps are filled.
    pub(super) points: Vec<(i64, f64)>,
}

pub(super) fn read(reply: &Reply, query: &str) -> Result<Vec<Series>, Problem> {
    let refused = |reason, why: &str| {
        Problem::new(reason, format!("Prometheus did not answer {}: {why}", quoted(query)))
    };
    let Ok(answer) = serde_json::from_slice::<Value>(&reply.body) else {
        return Err(refused(Reason::Protocol, &format!("status {}, no JSON", reply.status.as_u16())));
    };
    if answer.get("status").and_then(Value::as_str) != Some("success") {
        return Err(refused(
            Reason::Query,
            &quoted(answer.get("error").and_then(Value::as_str).unwrap_or_default()),
        ));
    }
    let found = answer.pointer("/data/result").and_then(Value::as_array);
    let found = found.ok_or_else(|| refused(Reason::Protocol, "no data.result"))?;
    Ok(found.iter().take(MOST_SERIES).map(series).filter(|one| !one.points.is_empty()).collect())
}

fn series(found: &Value) -> Series {
    let labels = found.get("metric").and_then(Value::as_object).into_iter().flatten();
    let told = labels
        .filter(|(name, _)| !["__name__", "job", "instance", "check", "target"].contains(&name.as_str()));
    let words: Vec<String> =
        told.filter_map(|(_, value)| value.as_str()).map(|value| cut(value, 40)).collect();
    let values = found.get("values").and_then(Value::as_array).into_iter().flatten().take(MOST_POINTS);
    let point = |pair: &Value| {
        let (time, value) = (pair.get(0)?.as_f64()?, pair.get(1)?.as_str()?.parse::<f64>().ok()?);
        #[expect(clippy::cast_possible_truncation, reason = "Unix seconds")]
        value.is_finite().then_some((time as i64, value))
    };
    Series { name: words.join(" "), points: values.filter_map(point).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::{HeaderMap, StatusCode};

    fn reply(body: &'static str) -> Reply {
        Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() }
    }

    #[test]
    fn series_are_read_without_what_is_no_number() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"a","country":"PH","check":"c"},"values":[[1,"2"],[2,"NaN"],[3,"+Inf"],[4.5,"-1e3"]]},
            {"metric":{},"values":[]}]}}"#;
        let expected = vec![Series { name: "PH".into(), points: vec![(1, 2.0), (4, -1000.0)] }];
        assert_eq!(read(&reply(body), "a").unwrap(), expected);
    }

    #[test]
    fn an_error_is_told_in_its_own_words() {
        for (body, words) in [
            (r#"{"status":"error","error":"parse error"}"#, "parse error"),
            ("<html>", "no JSON"),
            (r#"{"status":"success"}"#, "no data.result"),
        ] {
            assert!(read(&reply(body), "a").unwrap_err().to_string().contains(words));
        }
    }
}
