//! What samples the totals of logs become: each new series is shown at 0 first.

use super::{BOUNDS, EVENTS, Fate, SEPARATOR, Source, Word, key, word};
use crate::logs::scribe::Totals;
use metrics::{Answer, Buckets};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A new label set is shown at 0 for so long: Prometheus scrapes every 15 s, and sees a rise only from a value before it.
const SHOWN_AT_ZERO: Duration = Duration::from_secs(20);
/// Counts of documents begin with this word where it is remembered since when they are shown.
const DOCUMENTS: &str = "documents";

/// Makes samples of the totals, and shows each new one at 0 first.
#[derive(Debug, Default)]
pub struct Telling {
    /// When each series was first seen; `None`: it was there at the start.
    seen: HashMap<Arc<str>, Option<Instant>>,
    began: bool,
    /// Since when what is seen now for the first time is there; `None`: it is no news.
    news: Option<Instant>,
}

impl Telling {
    /// The samples by route, as `route` knows it of a log group; also of `expected` log groups that nothing came for yet.
    /// What is there at the first call is no news.
    pub fn tell(
        &mut self,
        totals: &Totals,
        expected: &[String],
        route: &dyn Fn(&str) -> Option<usize>,
        now: Instant,
    ) -> BTreeMap<Option<usize>, Answer> {
        let news = self.began.then_some(now);
        (self.began, self.news) = (true, news);
        let stays = |series: &str| ["events", DOCUMENTS].iter().any(|word| series.starts_with(word));
        self.seen.retain(|series, _| totals.contains_key(series) || stays(series));
        let mut answers: BTreeMap<Option<usize>, Answer> = BTreeMap::new();
        let mut log_groups: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
        let mut histograms: BTreeMap<(&str, &str, &str), Buckets> = BTreeMap::new();
        for (series, total) in totals {
            let seen = self.seen.entry(Arc::clone(series)).or_insert(news);
            let is_new = seen.is_some_and(|seen| now.duration_since(seen) < SHOWN_AT_ZERO);
            let total = if is_new { 0 } else { *total };
            let mut parts = series.split(SEPARATOR);
            let (Some(name), Some(log_group)) = (parts.next(), parts.next()) else { continue };
            let Some(word) = word(name) else { continue };
            let mut label = || parts.next().unwrap_or_default();
            log_groups.insert(log_group);
            let answer = answers.entry(route(log_group)).or_default();
            let seconds = total as f64 / 1e6;
            match word {
                Word::One(metric) => answer.set(metric, [log_group], total as f64),
                Word::Two(metric) if name == "seconds" => answer.set(metric, [log_group, label()], seconds),
                Word::Two(metric) => answer.set(metric, [log_group, label()], total as f64),
                Word::Three(metric) => answer.set(metric, [log_group, label(), label()], total as f64),
                Word::Four(metric) => {
                    answer.set(metric, [log_group, label(), label(), label()], total as f64);
                }
                Word::Histogram(_) => {
                    let (instance, part) = (label(), label());
                    let buckets = histograms
                        .entry((name, log_group, instance))
                        .or_insert_with(|| Buckets { counts: vec![0; BOUNDS.len() + 1], sum: 0.0 });
                    match part.parse::<usize>().ok().and_then(|at| buckets.counts.get_mut(at)) {
                        Some(count) => *count = total,
                        None => buckets.sum = seconds,
                    }
                }
            }
        }
        let bounds: Arc<[f64]> = Arc::from(BOUNDS);
        for ((name, log_group, instance), buckets) in histograms {
            if let Some(Word::Histogram(metric)) = word(name) {
                let answer = answers.entry(route(log_group)).or_default();
                answer.set_histogram(&metric.handle(), &[log_group, instance], &bounds, buckets);
            }
        }
        for log_group in log_groups {
            let answer = answers.entry(route(log_group)).or_default();
            let source = Source { log_group: log_group.to_owned(), db_instance: String::new() };
            for fate in Fate::ALL.into_iter().filter(|fate| !totals.contains_key(&source.fate(*fate).series))
            {
                answer.set(&EVENTS, [log_group, fate.as_str()], 0.0);
                // It has been shown at 0 when it gets its first event.
                self.seen.entry(source.fate(fate).series).or_insert(news);
            }
        }
        answers
    }

    /// What to show of a count of documents, after [`Telling::tell`]: a new one at 0 first, as all others.
    pub fn documents(&mut self, log_group: &str, result: &str, number: u64, now: Instant) -> u64 {
        let seen = self.seen.entry(key(DOCUMENTS, log_group, &[result])).or_insert(self.news);
        if seen.is_some_and(|seen| now.duration_since(seen) < SHOWN_AT_ZERO) { 0 } else { number }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots;
    use super::*;
    use crate::logs::scribe::Amount;
    use digest::Event;
    use metrics::Values;

    fn totals(amounts: Vec<Amount>) -> Totals {
        let mut totals = Totals::new();
        for Amount { series, amount, .. } in amounts {
            *totals.entry(series).or_default() += amount;
        }
        totals
    }

    fn shown(answer: &Answer) -> Vec<String> {
        let mut lines = Vec::new();
        for column in answer.columns() {
            for row in 0..column.len() {
                let labels: Vec<&str> = column.labels(row).collect();
                let value = match column.values() {
                    Values::Numbers(numbers) => numbers[row].to_string(),
                    Values::Histograms(_, rows) => {
                        let at = rows[row].counts.iter().position(|count| *count > 0);
                        format!("{at:?} {} {}", rows[row].count(), rows[row].sum)
                    }
                };
                lines.push(format!("{} {} {value}", column.family().prometheus(), labels.join(",")));
            }
        }
        lines.sort();
        lines
    }

    #[test]
    fn an_event_becomes_samples_and_new_ones_begin_at_0() {
        let source = Source::new("/aws/rds/instance/orders-1/slowquery", "orders-1");
        let event = Event {
            user: Some(b"app".as_slice().into()),
            query_time: Some(2_500_000),
            lock_time: Some(1),
            rows_sent: Some(3),
            ..Event::default()
        };
        let mut amounts = source.slow_query(&event);
        amounts.extend(source.statement(Some(0xab), Some(2_500_000)));
        let totals = totals(amounts);
        let group = "/aws/rds/instance/orders-1/slowquery";
        let expected = |zero: bool| {
            let or_zero = |value: &'static str| if zero { "0" } else { value };
            [
                format!("mysql_slow_queries_total {group},orders-1,,app {}", or_zero("1")),
                format!(
                    "mysql_slow_query_duration_seconds {group},orders-1 {}",
                    if zero { "None 0 0" } else { "Some(4) 1 2.5" }
                ),
                format!(
                    "mysql_slow_query_lock_seconds {group},orders-1 {}",
                    if zero { "None 0 0" } else { "Some(0) 1 0.000001" }
                ),
                format!("mysql_slow_query_rows_sent_total {group},orders-1,,app {}", or_zero("3")),
                format!("mysql_slow_query_statement_calls_total {group},00000000000000ab {}", or_zero("1")),
                format!(
                    "mysql_slow_query_statement_seconds_total {group},00000000000000ab {}",
                    or_zero("2.5")
                ),
            ]
        };
        let now = Instant::now();
        let mut telling = Telling::default();
        let shown = |answer: &Answer| {
            let mut lines = shown(answer);
            lines.retain(|line| line.starts_with("mysql"));
            lines
        };
        assert_eq!(
            shown(&telling.tell(&totals, &[], &|_| None, now)[&None]),
            expected(false),
            "what was there is no news"
        );
        let mut telling = Telling::default();
        telling.tell(&Totals::new(), &[], &|_| None, now);
        assert_eq!(shown(&telling.tell(&totals, &[], &|_| None, now)[&None]), expected(true));
        assert_eq!(
            shown(&telling.tell(&totals, &[], &|_| None, now + SHOWN_AT_ZERO)[&None]),
            expected(false)
        );
        assert_eq!(slots(&totals), BTreeMap::from([(group.to_owned(), vec![(0xab, 2_500_000)])]));
    }

    #[test]
    fn a_new_count_of_documents_is_shown_at_0_first() {
        let (now, mut telling) = (Instant::now(), Telling::default());
        telling.tell(&Totals::new(), &[], &|_| None, now);
        assert_eq!(telling.documents("g", "indexed", 0, now), 0, "there from the start");
        for (after, expected) in [(0, (5, 0)), (19, (5, 0)), (20, (5, 5))] {
            let now = now + Duration::from_secs(after);
            telling.tell(&Totals::new(), &[], &|_| None, now);
            let mut shown = |log_group| telling.documents(log_group, "indexed", 5, now);
            assert_eq!((shown("g"), shown("new")), expected, "after {after} s");
        }
    }

    #[test]
    fn every_result_exists_from_the_start() {
        let answers =
            Telling::default().tell(&Totals::new(), &["g".to_owned()], &|_| Some(7), Instant::now());
        let lines = shown(&answers[&Some(7)]);
        assert_eq!(lines.len(), 5);
        assert!(lines.contains(&"datapulse_logs_events_total g,unrouted 0".to_owned()), "{lines:?}");
    }
}
