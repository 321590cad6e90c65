//! Columns to metrics: the rules that results of SQL, Athena and Logs Insights share. A row becomes a sample of each metric.

mod config;
mod moment;
mod statement;
mod tallies;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use config::read;
pub use config::{Columns, read_with};
pub use moment::moment;
pub use statement::{read_statement, selects, with_since};

use crate::check::{Problem, Reason};
use crate::net::table::{Row, Table};
use config::{Empty, Mapped};
use jiff::Timestamp;
use metrics::{Answer, Handle, Kind, Metric, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tallies::Tallies;

/// `datapulse_check_data_timestamp_seconds`
pub static DATA_TIMESTAMP: Metric<0> = Metric::gauge(
    "datapulse.check.data_timestamp",
    Unit::Seconds,
    &[],
    "Unix time of the newest data in the last result: the largest value of the column `freshness`",
);

/// Label value of what is beyond the limit, so that the sums stay right.
const OTHER: &str = "other";

/// What a result became.
#[derive(Debug)]
pub struct Told {
    /// The samples, or why there are none.
    pub result: Result<Answer, Problem>,
    /// Values and rows that gave no sample while the others did.
    pub notes: Vec<Problem>,
}

/// Turns results into samples, and keeps what accumulates over the runs.
#[derive(Debug)]
pub struct Teller {
    columns: Columns,
    limit: usize,
    tallies: Tallies,
    /// Label sets of counters that had a series of their own in the last run, by family: rows come in any order, and a total that
    /// went to and fro between its own series and `other` would look like a reset of both.
    own: BTreeMap<String, BTreeSet<Vec<String>>>,
}

impl Teller {
    /// A teller without memory. `limit` is the check's: label sets a family.
    pub fn new(columns: &Columns, limit: usize) -> Self {
        Self { columns: columns.clone(), limit, tallies: Tallies::default(), own: BTreeMap::new() }
    }

    /// Tells a result. `source` names what was asked, for messages; `now` is our clock, against which the age of the data is held.
    /// The age goes into `facts`, whatever becomes of the data.
    pub fn tell(&mut self, table: &Table, source: &str, now: Timestamp, facts: &mut Answer) -> Told {
        let mut notes = Vec::new();
        let result = self.answer(table, source, now, &mut notes, facts);
        Told { result, notes }
    }

    fn answer(
        &mut self,
        table: &Table,
        source: &str,
        now: Timestamp,
        notes: &mut Vec<Problem>,
        facts: &mut Answer,
    ) -> Result<Answer, Problem> {
        let columns = &self.columns;
        columns.are_in(table, source)?;
        if table.is_empty() && !columns.fill.is_empty() && columns.empty == Empty::Failure {
            return Err(Problem::new(Reason::Empty, format!("{source} gave no row at all"))
                .hint("a late load looks like an outage everywhere; write `empty: zero` if no row means 0"));
        }
        columns.fresh(table, source, now, facts)?;
        let mut answer = Answer::new();
        for metric in &columns.metrics {
            let mut rows = Rows::new(metric, source);
            if metric.family.kind == Kind::Histogram {
                for (labels, value) in rows.read(table) {
                    self.tallies.observe(metric, &labels, value, self.limit);
                }
                self.tallies.tell(metric, &mut answer);
            } else {
                let mut known = BTreeMap::new();
                let found = rows.read(table);
                let own = self.own.entry(metric.family.name.to_string()).or_default();
                if !own.is_empty() {
                    let now: BTreeSet<&Vec<String>> = found.iter().map(|(labels, _)| labels).collect();
                    own.retain(|labels| now.contains(labels));
                }
                let mut other = Other::default();
                for (at, (labels, value)) in found.into_iter().enumerate() {
                    if let Some(first) = known.get(&labels) {
                        rows.twice(&labels, *first, at);
                        continue;
                    }
                    // A total that is cut would be missing in every sum; a gauge that is cut is only not seen.
                    if metric.family.kind == Kind::Gauge || keeps(own, &labels, self.limit) {
                        answer.set_configured(&metric.family, &words(&labels), value);
                    } else {
                        other.add(&labels, value);
                    }
                    known.insert(labels, at);
                }
                other.tell(metric, &mut answer);
                for labels in columns.filled(metric, rows.seen()) {
                    answer.set_configured(&metric.family, &words(&labels), 0.0);
                }
            }
            notes.extend(rows.notes());
        }
        Ok(answer)
    }
}

/// Totals beyond the limit, as one.
#[derive(Default)]
struct Other {
    sets: usize,
    sum: Option<f64>,
}

impl Other {
    fn add(&mut self, labels: &[String], value: f64) {
        self.sets += usize::from(!is_other(labels));
        self.sum = Some(self.sum.unwrap_or_default() + value);
    }

    fn tell(&self, metric: &Mapped, answer: &mut Answer) {
        let Some(sum) = self.sum else { return };
        answer.set_configured(&metric.family, &vec![OTHER; metric.family.labels.len()], sum);
        if self.sets > 0 {
            answer.fold(&Handle::Configured(Arc::clone(&metric.family)), self.sets);
        }
    }
}

/// Whether a label set of a counter has a series of its own; one place is left for the others.
fn keeps(own: &mut BTreeSet<Vec<String>>, labels: &[String], limit: usize) -> bool {
    own.contains(labels) || !is_other(labels) && own.len() + 1 < limit && own.insert(labels.to_vec())
}

/// Whether a row stands where the others go anyway: it is called so, or there is one label set only.
fn is_other(labels: &[String]) -> bool {
    labels.iter().all(|label| label == OTHER)
}

fn words(labels: &[String]) -> Vec<&str> {
    labels.iter().map(String::as_str).collect()
}

/// Reads one metric out of the rows, and remembers what was wrong with some of them.
struct Rows<'a> {
    metric: &'a Mapped,
    source: &'a str,
    /// Rows whose labels were read, by their place among the readable ones.
    places: Vec<usize>,
    /// Label sets that had a row, readable value or not: no 0 is put in their place.
    seen: BTreeSet<Vec<String>>,
    /// What was wrong: how often, and where first.
    wrong: BTreeMap<&'static str, (usize, String)>,
}

impl<'a> Rows<'a> {
    fn new(metric: &'a Mapped, source: &'a str) -> Self {
        Self { metric, source, places: Vec::new(), seen: BTreeSet::new(), wrong: BTreeMap::new() }
    }

    /// The label values and the value of each row that has both.
    fn read(&mut self, table: &Table) -> Vec<(Vec<String>, f64)> {
        let mut found = Vec::new();
        for (at, row) in table.rows().enumerate() {
            let labels = match self.labels(&row) {
                Ok(labels) => labels,
                Err(problem) => {
                    self.wrong("an unreadable label", at, &problem.what);
                    continue;
                }
            };
            self.seen.insert(labels.clone());
            match row.number(&self.metric.value) {
                Ok(Some(value)) => {
                    self.places.push(at);
                    found.push((labels, value));
                }
                Ok(None) => self.wrong("no value (NULL)", at, ""),
                Err(problem) => self.wrong("a value that is no number", at, &problem.what),
            }
        }
        found
    }

    fn seen(&self) -> &BTreeSet<Vec<String>> {
        &self.seen
    }

    fn labels(&self, row: &Row<'_>) -> Result<Vec<String>, Problem> {
        let text = |name: &str| Ok(row.text(name)?.unwrap_or_default().to_owned());
        self.metric.family.labels.iter().map(text).collect()
    }

    fn wrong(&mut self, kind: &'static str, at: usize, detail: &str) {
        let place =
            if detail.is_empty() { format!("row {}", at + 1) } else { format!("row {}: {detail}", at + 1) };
        self.wrong.entry(kind).or_insert((0, place)).0 += 1;
    }

    /// Two rows with the same labels: which of them is right, nobody knows. The first one is shown.
    fn twice(&mut self, labels: &[String], first: usize, second: usize) {
        let place = |at: usize| self.places.get(at).map_or(0, |row| row + 1);
        let names =
            self.metric.family.labels.iter().zip(labels).map(|(name, value)| format!("{name}={value:?}"));
        let detail = format!(
            "row {} has the labels of row {}: {}",
            place(second),
            place(first),
            names.collect::<Vec<_>>().join(", ")
        );
        self.wrong.entry("labels that another row has").or_insert((0, detail)).0 += 1;
    }

    fn notes(&self) -> impl Iterator<Item = Problem> + '_ {
        self.wrong.iter().map(|(kind, (count, first))| {
            let name = self.metric.family.prometheus();
            let rows = if *count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
            let what = format!("{rows} of {} with {kind} in {name} ({first})", self.source);
            let hint = match *kind {
                "labels that another row has" => {
                    "group by every column that is a label, or add the one that tells them apart"
                }
                _ => "the sample is absent; use coalesce only where the value is really known",
            };
            Problem::new(Reason::Decode, what).hint(hint)
        })
    }
}

impl Columns {
    /// Every column that is named has to be in the result: a renamed column must not look like a quiet day.
    fn are_in(&self, table: &Table, source: &str) -> Result<(), Problem> {
        // A service that gives no row may give no column either.
        if table.columns().is_empty() && table.is_empty() {
            return Ok(());
        }
        let wanted = self
            .metrics
            .iter()
            .flat_map(|metric| std::iter::once(metric.value.as_str()).chain(metric.family.labels.iter()));
        let wanted: BTreeSet<&str> = wanted.chain(self.freshness.as_deref()).collect();
        let missing: Vec<&str> =
            wanted.into_iter().filter(|name| !table.columns().iter().any(|column| column == name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let what = format!("the result of {source} has no column {}", missing.join(", "));
        Err(Problem::new(Reason::Decode, what).hint(format!("it has: {}", table.columns().join(", "))))
    }

    /// Notes the age of the data, and refuses what is older than allowed.
    fn fresh(&self, table: &Table, source: &str, now: Timestamp, facts: &mut Answer) -> Result<(), Problem> {
        let Some(column) = &self.freshness else { return Ok(()) };
        if table.is_empty() {
            return Ok(());
        }
        let newest = table.rows().filter_map(|row| row.text(column).ok().flatten().and_then(moment)).max();
        let Some(newest) = newest else {
            let what = format!("no row of {source} has a time in the column {column}");
            return Err(Problem::new(Reason::Decode, what)
                .hint("it may hold a time such as 2026-11-20 08:53:51.168 (UTC unless it says otherwise) or Unix seconds"));
        };
        facts.set(&DATA_TIMESTAMP, [], newest.as_microsecond() as f64 / 1e6);
        let Some(longest) = self.max_data_age else { return Ok(()) };
        let age = Duration::try_from(now.duration_since(newest)).unwrap_or_default();
        if age > longest {
            let what = format!(
                "the newest data of {source} are from {newest}, {:.0} s old; {:.0} s are allowed",
                age.as_secs_f64(),
                longest.as_secs_f64()
            );
            return Err(Problem::new(Reason::StaleData, what)
                .hint("look at what loads the data; max_data_age is the limit"));
        }
        Ok(())
    }

    /// The known label sets of a metric that had no row.
    fn filled(&self, metric: &Mapped, seen: &BTreeSet<Vec<String>>) -> Vec<Vec<String>> {
        if !metric.filled {
            return Vec::new();
        }
        let mut sets = vec![Vec::new()];
        for label in metric.family.labels.iter() {
            let values = self.fill.get(label).map_or(&[][..], Vec::as_slice);
            sets = sets
                .iter()
                .flat_map(|set: &Vec<String>| {
                    values.iter().map(move |value| set.iter().cloned().chain([value.clone()]).collect())
                })
                .collect();
        }
        sets.retain(|set| !seen.contains(set));
        sets
    }
}
