//! Every expression of every dashboard, asked as Grafana would ask it, against the demo and a history that is made up.

use super::history::{ELSEWHERE, History, is_here};
use super::{boards, selectors};
use crate::stage::LIMIT;
use crate::wire::encode;
use datapulse::demo::parts::{get, wait_for};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A Prometheus, and for which time it has data.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) port: u16,
    /// How far back.
    pub(crate) range: Duration,
    /// How often it scraped.
    pub(crate) interval: Duration,
}

impl Source {
    /// What an expression gives at any time of the range.
    fn series(&self, expression: &str) -> Vec<Value> {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step={}",
            encode(expression),
            end.saturating_sub(self.range).as_secs(),
            end.as_secs(),
            self.interval.as_secs()
        );
        let reply = get(self.port, &path).unwrap();
        assert_eq!(reply.status, 200, "{expression}: {}", reply.body);
        let mut answer: Value = serde_json::from_str(&reply.body).unwrap();
        answer["data"]["result"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn has(&self, expression: &str) -> bool {
        !self.series(expression).is_empty()
    }

    fn answers(&self, question: &Question) -> bool {
        let text = self.fill_in(question);
        match &question.label {
            Some(label) => self.series(&text).iter().any(|one| one["metric"][label].is_string()),
            None => self.has(&text),
        }
    }

    /// The expression with its variables replaced: all of everything, but the first where only one can be chosen.
    fn fill_in(&self, question: &Question) -> String {
        let seconds = |time: Duration| format!("{}s", time.as_secs());
        let rate = self.interval * 4;
        let mut text = question
            .expression
            .replace("$__rate_interval", &seconds(rate.max(question.interval)))
            .replace("$__range", &seconds(self.range));
        for (name, query) in &question.variables {
            let mark = format!("${name}");
            let value = match query {
                Some(query) if text.contains(&mark) => {
                    let (expression, label) = label_values(query).unwrap();
                    let free =
                        question.variables.iter().filter(|(_, query)| query.is_none()).cloned().collect();
                    let inner = Question { expression, variables: free, ..question.clone() };
                    let all = self.series(&self.fill_in(&inner));
                    all.first().and_then(|one| one["metric"][label].as_str()).unwrap_or_default().to_owned()
                }
                _ => ".*".to_owned(),
            };
            text = text.replace(&mark, &value);
        }
        text
    }
}

/// What a dashboard asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    expression: String,
    /// A label that has to be there, for the values of a variable.
    label: Option<String>,
    /// The least step of the panel.
    interval: Duration,
    /// Names, the longest first; with a query where one value has to be chosen.
    variables: Vec<(String, Option<String>)>,
}

/// Of the query of a variable: expression and label.
fn label_values(query: &str) -> Option<(String, String)> {
    let inside = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (expression, label) = inside.rsplit_once(',')?;
    Some((expression.to_owned(), label.trim().to_owned()))
}

/// All questions, with the places that ask them: variables, expressions, and each series in an expression by itself, because
/// `count(x == 0) or vector(0)` has an answer also where there is no x.
fn questions() -> BTreeMap<Question, Vec<String>> {
    let mut all: BTreeMap<Question, Vec<String>> = BTreeMap::new();
    for board in boards() {
        let mut variables: Vec<(String, Option<String>)> = board
            .variables()
            .filter(|variable| variable["type"] == "query")
            .map(|variable| {
                let one = variable["multi"] != true;
                let query = variable["query"]["query"].as_str().unwrap();
                (variable["name"].as_str().unwrap().to_owned(), one.then(|| query.to_owned()))
            })
            .collect();
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let mut ask = |expression: &str, label: Option<String>, interval: Duration, place: String| {
            let expression = expression.to_owned();
            let question = Question { expression, label, interval, variables: variables.clone() };
            all.entry(question).or_default().push(place);
        };
        for variable in board.variables().filter(|variable| variable["type"] == "query") {
            let query = variable["query"]["query"].as_str().unwrap();
            let place = format!("{}: ${}", board.name, variable["name"].as_str().unwrap());
            let result = query.strip_prefix("query_result(").and_then(|rest| rest.strip_suffix(')'));
            match (label_values(query), result) {
                (Some((expression, label)), _) => ask(&expression, Some(label), Duration::ZERO, place),
                (None, Some(expression)) => ask(expression, None, Duration::ZERO, place),
                (None, None) => panic!("{place}: unknown query {query}"),
            }
        }
        for query in board.queries() {
            let place = format!("{}: {} {}", board.name, query.panel["title"], query.target["refId"]);
            let day = query.panel["interval"] == "1d";
            let interval = if day { Duration::from_hours(24) } else { Duration::ZERO };
            ask(query.expression, None, interval, place.clone());
            for one in selectors(query.expression) {
                ask(&format!("{}{}", one.name, one.matchers), None, interval, place.clone());
            }
        }
    }
    all
}

/// Asks `demo` for everything, and the history for what no demo can have; panics with what nobody answers in time.
pub(crate) fn every_expression_has_data(demo: impl Fn() -> Source) {
    let start = Instant::now();
    let history = History::start("dashboards");
    println!("history after {:.1} s", start.elapsed().as_secs_f64());
    let mut left = questions();
    let count = left.len();
    assert!(count > 300, "only {count} questions were found");
    let excused = |question: &Question| {
        question.expression.contains(" offset ")
            || selectors(&question.expression).iter().any(|one| is_here(one.name))
    };
    left.retain(|question, _| !(excused(question) && history.source().answers(question)));
    println!("{} of {count} questions are for the demo", left.len());
    let all = wait_for(LIMIT, || {
        let demo = demo();
        left.retain(|question, _| !demo.answers(question));
        Ok(left.is_empty().then_some(()))
    });
    let places = |left: &BTreeMap<Question, Vec<String>>| {
        let lines = left.iter().map(|(question, places)| {
            format!(
                "{}\n    of {}",
                demo().fill_in(question),
                places.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; ")
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(all.unwrap().is_some(), "{} expressions have no data:\n{}", left.len(), places(&left));
    // What has become possible in the demo has to leave the list.
    for (what, why) in ELSEWHERE {
        let text =
            what.strip_suffix('*').map_or(what.to_owned(), |start| format!("{{__name__=~\"{start}.*\"}}"));
        let question =
            Question { expression: text, label: None, interval: Duration::ZERO, variables: Vec::new() };
        assert!(!demo().answers(&question), "{what} is in the demo too, where it should not be: {why}");
        assert!(history.source().answers(&question), "{what} is not in the history");
    }
    println!("{count} questions have data after {:.1} s", start.elapsed().as_secs_f64());
}
