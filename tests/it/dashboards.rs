//! Dashboards of one form, whose every expression has data.

mod expressions;
mod history;
mod pictures;
mod rules;

pub(crate) use expressions::{Source, every_expression_has_data};

use crate::stage::root;
use serde_json::Value;

/// A file of `dashboards/`.
struct Board {
    /// The file's name without its ending.
    name: String,
    json: Value,
}

/// One query of a panel.
struct Query<'a> {
    panel: &'a Value,
    target: &'a Value,
    expression: &'a str,
}

impl Board {
    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.json["panels"].as_array().into_iter().flatten()
    }

    fn queries(&self) -> impl Iterator<Item = Query<'_>> {
        self.panels().flat_map(|panel| {
            panel["targets"].as_array().into_iter().flatten().map(move |target| {
                let expression = target["expr"].as_str().unwrap_or_default();
                Query { panel, target, expression }
            })
        })
    }

    fn variables(&self) -> impl Iterator<Item = &Value> {
        self.json["templating"]["list"].as_array().into_iter().flatten()
    }
}

/// All of them, by name.
fn boards() -> Vec<Board> {
    let entries = std::fs::read_dir(root().join("dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let mut boards: Vec<_> = entries
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let json =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            Board { name: path.file_stem().unwrap().to_str().unwrap().to_owned(), json }
        })
        .collect();
    boards.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(boards.len() >= 7, "only {} dashboards were found", boards.len());
    boards
}

/// A series that an expression takes.
#[derive(Debug, PartialEq)]
struct Selector<'a> {
    name: &'a str,
    /// With its brackets; empty without any.
    matchers: &'a str,
    /// `5m` of `[5m]`.
    range: Option<&'a str>,
    /// The function right around it, or nothing.
    function: &'a str,
}

/// The series of an expression, in their order.
fn selectors(expression: &str) -> Vec<Selector<'_>> {
    const WORDS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "inf"];
    const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut functions, mut rest) = (Vec::new(), vec![""], expression);
    // What stands before a bracket, if it is a function; an aggregation may have its grouping in between.
    let mut function = "";
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            '$' => 1 + rest[1..].find(|c| !is_word(c)).unwrap_or(rest.len() - 1),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (word, behind) = rest.split_at(length);
        rest = behind;
        match first {
            '(' => functions.push(std::mem::take(&mut function)),
            ')' => drop(functions.pop()),
            c if !c.is_ascii_alphabetic() => {}
            _ if WORDS.contains(&word) => {}
            _ if GROUPING.contains(&word) => {
                if let Some((_, behind)) =
                    rest.trim_start().strip_prefix('(').and_then(|rest| rest.split_once(')'))
                {
                    rest = behind;
                }
            }
            _ if rest.trim_start().starts_with('(') => function = word,
            _ if GROUPING.iter().any(|by| rest.trim_start().starts_with(&format!("{by} ("))) => {
                function = word;
            }
            _ => {
                let matchers = rest.starts_with('{').then(|| rest.find('}').map_or("", |end| &rest[..=end]));
                rest = &rest[matchers.unwrap_or_default().len()..];
                let range = rest.strip_prefix('[').and_then(|inside| inside.split_once(']'));
                rest = range.map_or(rest, |(_, behind)| behind);
                found.push(Selector {
                    name: word,
                    matchers: matchers.unwrap_or_default(),
                    range: range.map(|(range, _)| range),
                    function: functions.last().copied().unwrap_or_default(),
                });
            }
        }
    }
    found
}

#[test]
fn selectors_are_found() {
    let found = selectors(
        "topk(3, sum by (a, b) (rate(x_total{c=\"(\",d=~\"$d\"}[$__rate_interval])) > 0) / on (f) group_left () max(y:z) unless on (g) q offset 7d * 1e3",
    );
    let all: Vec<_> = found.iter().map(|one| (one.name, one.matchers, one.range, one.function)).collect();
    let x = ("x_total", "{c=\"(\",d=~\"$d\"}", Some("$__rate_interval"), "rate");
    assert_eq!(all, [x, ("y:z", "", None, "max"), ("q", "", None, "")]);
}
