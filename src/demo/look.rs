//! What `/api/v1/checks` says of one check, for the demo's page.

use serde_json::Value;

/// What is not known.
pub const ABSENT: &str = "–";

/// One check; nothing of it is known before its first run.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a>(Option<&'a Value>);

impl<'a> Look<'a> {
    /// The check with this name.
    pub fn at(checks: &'a [Value], name: &str) -> Self {
        Self(checks.iter().find(|check| check.get("check").and_then(Value::as_str) == Some(name)))
    }

    fn get(self, path: &str) -> Option<&'a Value> {
        self.0.and_then(|check| check.pointer(path))
    }

    /// up, partly, down or waiting.
    pub fn state(self) -> &'a str {
        self.get("/state").and_then(Value::as_str).unwrap_or("waiting")
    }

    /// Whether a run has ended.
    pub fn ran(self) -> bool {
        self.get("/last_run/ended").is_some()
    }

    /// How the last run went.
    pub fn last_run(self) -> String {
        let took = self.get("/last_run/duration_seconds").and_then(Value::as_f64);
        took.map_or_else(|| ABSENT.to_owned(), |took| format!("{}, {:.0} ms", self.state(), took * 1e3))
    }

    /// How many samples it gave.
    pub fn samples(self) -> u64 {
        self.get("/last_run/samples").and_then(Value::as_u64).unwrap_or(0)
    }

    /// The reason why an end did not answer; `own` is the only end of most checks.
    pub fn problem(self, endpoint: &str) -> Option<&'a str> {
        let problems = self.get("/last_run/problems").and_then(Value::as_array)?;
        let of = |problem: &&Value| problem.get("endpoint").and_then(Value::as_str) == Some(endpoint);
        problems.iter().find(of)?.get("reason").and_then(Value::as_str)
    }

    /// All samples with this name: labels and value.
    pub fn all(self, name: &str) -> impl Iterator<Item = (&'a Value, f64)> {
        let samples = self.get("/samples").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let named =
            samples.iter().filter(move |sample| sample.get("name").and_then(Value::as_str) == Some(name));
        named.filter_map(|sample| {
            Some((sample.get("labels").unwrap_or(&Value::Null), sample.get("value")?.as_f64()?))
        })
    }

    /// The value of the only sample with this name.
    pub fn value(self, name: &str) -> Option<f64> {
        self.all(name).next().map(|(_, value)| value)
    }

    /// Yes or no.
    pub fn flag(self, name: &str) -> String {
        self.value(name).map_or(ABSENT, |value| if value > 0.0 { "yes" } else { "no" }).to_owned()
    }

    /// A number.
    pub fn count(self, name: &str) -> String {
        self.value(name).map_or_else(|| ABSENT.to_owned(), |value| format!("{value}"))
    }

    /// Seconds, with a word behind.
    pub fn seconds(self, name: &str, behind: &str) -> String {
        self.value(name).map_or_else(|| ABSENT.to_owned(), |value| format!("{value:.1} s{behind}"))
    }

    /// Bytes in a fitting unit.
    pub fn bytes(self, name: &str) -> String {
        match self.value(name) {
            None => ABSENT.to_owned(),
            Some(bytes) if bytes < 1e3 => format!("{bytes} B"),
            Some(bytes) if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
            Some(bytes) => format!("{:.1} MB", bytes / 1e6),
        }
    }
}

/// The text of a label; empty when it is not there.
pub fn label<'a>(labels: &'a Value, name: &str) -> &'a str {
    labels.get(name).and_then(Value::as_str).unwrap_or_default()
}
