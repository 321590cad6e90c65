//! What every dashboard has to be like, so that it can be imported and read.

use super::{Board, Query, boards, selectors};
use crate::artefacts::{files, rules};
use crate::stage::root;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Grafana 9 reads all of these, and Grafana 13 still has them.
const PANELS: [&str; 6] = ["row", "stat", "timeseries", "table", "bargauge", "state-timeline"];
/// The schema of Grafana 9.0. Later ones read it too.
const SCHEMA: u64 = 37;
const COLUMNS: u64 = 24;

/// Of all boards.
static UIDS: LazyLock<Vec<String>> =
    LazyLock::new(|| boards().iter().map(|board| text(&board.json["uid"]).to_owned()).collect());

/// What is wrong with a dashboard.
struct Review<'a> {
    board: &'a Board,
    /// Recorded series without labels.
    constants: &'a BTreeSet<String>,
    faults: Vec<String>,
}

impl<'a> Review<'a> {
    fn of(board: &'a Board, constants: &'a BTreeSet<String>) -> Vec<String> {
        let mut review = Self { board, constants, faults: Vec::new() };
        review.head();
        review.variables();
        for panel in board.panels() {
            review.panel(panel);
        }
        review.places();
        for query in board.queries() {
            review.query(&query);
        }
        review.faults
    }

    fn want(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(format!("dashboards/{}.json: {}", self.board.name, what()));
        }
    }

    fn head(&mut self) {
        let json = &self.board.json;
        // A file's name twice would read oddly in an address.
        let stem = if self.board.name == "datapulse" { "self" } else { &self.board.name };
        for (key, value) in [
            ("uid", json!(format!("datapulse-{stem}"))),
            ("tags", json!(["datapulse"])),
            ("schemaVersion", json!(SCHEMA)),
            ("editable", json!(false)),
            ("timezone", json!("browser")),
        ] {
            self.want(json[key] == value, || format!("{key} is {} and not {value}", json[key]));
        }
        for key in ["title", "description", "refresh"] {
            self.want(said(&json[key]), || format!("no {key}"));
        }
        self.want(text(&json["title"]).starts_with("datapulse: "), || "a title of another kind".to_owned());
        let link = &json["links"][0];
        let (kind, tags) = (&link["type"], &link["tags"]);
        let kept = link["includeVars"] == true && link["keepTime"] == true;
        self.want(*kind == "dashboards" && *tags == json!(["datapulse"]) && kept, || {
            format!("the first link does not lead to the other boards with variables and time: {link}")
        });
    }

    fn variables(&mut self) {
        let names: Vec<_> = self.board.variables().map(|one| text(&one["name"])).collect();
        self.want(names.starts_with(&["datasource", "job", "instance"]), || {
            format!("the first variables are {names:?}")
        });
        self.want(names.ends_with(&["runbooks"]), || {
            format!("the last variable of {names:?} is not runbooks")
        });
        let build = [
            "label_values(datapulse_build_info, job)",
            "label_values(datapulse_build_info{job=~\"$job\"}, instance)",
        ];
        for (at, variable) in self.board.variables().enumerate() {
            let name = text(&variable["name"]);
            match text(&variable["type"]) {
                "datasource" => {
                    self.want(variable["query"] == "prometheus", || format!("${name} is not of Prometheus"));
                }
                "query" => {
                    let query = text(&variable["query"]["query"]);
                    self.want(variable["definition"] == query, || format!("${name} has two queries"));
                    self.want(variable["datasource"] == source(), || {
                        format!("${name} has another data source")
                    });
                    self.want(variable["refresh"] == 2, || format!("${name} does not follow the time range"));
                    let all = variable["multi"] == true
                        && variable["includeAll"] == true
                        && variable["allValue"] == ".*";
                    // One country, or nothing can be shaded.
                    self.want(all || name == "band", || format!("${name} does not offer all"));
                    if let Some(wanted) = at.checked_sub(1).and_then(|at| build.get(at)) {
                        self.want(query == *wanted, || format!("${name} is {query}"));
                    } else {
                        let narrowed = query.contains("job=~\"$job\",instance=~\"$instance\"");
                        self.want(narrowed, || format!("${name} does not look at $job and $instance"));
                    }
                }
                "textbox" => {}
                other => self.want(false, || format!("${name} is of the kind {other}")),
            }
        }
    }

    fn panel(&mut self, panel: &Value) {
        let (title, kind) = (text(&panel["title"]), text(&panel["type"]));
        self.want(PANELS.contains(&kind), || format!("{title:?} is a {kind}"));
        self.want(!title.is_empty(), || format!("panel {} has no title", panel["id"]));
        if kind == "row" {
            return;
        }
        let description = text(&panel["description"]);
        self.want(description.ends_with('.'), || format!("{title:?} has no description in whole sentences"));
        self.want(said(&panel["fieldConfig"]["defaults"]["unit"]), || format!("{title:?} has no unit"));
        self.want(panel["datasource"] == source(), || format!("{title:?} has another data source"));
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        let letters: BTreeSet<_> = targets.iter().map(|target| text(&target["refId"])).collect();
        self.want(!targets.is_empty() && letters.len() == targets.len(), || {
            format!("{title:?}: queries without a letter of their own")
        });
        let lines = ["timeseries", "state-timeline", "bargauge"].contains(&kind);
        let named = |target: &Value| said(&target["legendFormat"]) && target["legendFormat"] != "__auto";
        self.want(!lines || targets.iter().all(named), || format!("{title:?}: a line without a name"));
        if kind == "state-timeline" {
            let mapped =
                panel["fieldConfig"]["defaults"]["mappings"].as_array().is_some_and(|all| !all.is_empty());
            self.want(mapped, || format!("{title:?} shows numbers and no words"));
        }
        for link in panel["links"].as_array().into_iter().flatten() {
            let url = text(&link["url"]);
            self.want(leads_somewhere(url), || format!("{title:?} links to {url}"));
        }
    }

    /// Every panel has a number, a title and a place of its own.
    fn places(&mut self) {
        let (mut seen, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in self.board.panels() {
            let title = text(&panel["title"]);
            let unique = seen.insert(panel["id"].to_string()) & seen.insert(title.to_owned());
            self.want(unique, || format!("{title:?} or its number is there twice"));
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap_or_default());
            self.want(w * h > 0 && x + w <= COLUMNS, || format!("{title:?} is not within {COLUMNS} columns"));
            let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            let free = cells.map(|cell| taken.insert(cell)).fold(true, |all, free| all & free);
            self.want(free, || format!("{title:?} lies on another panel"));
        }
    }

    fn query(&mut self, query: &Query<'_>) {
        let place = format!("{} of {:?}", query.target["refId"], text(&query.panel["title"]));
        let instant = query.target["instant"] == true;
        let table = query.panel["type"] == "table";
        self.want(table == (query.target["format"] == "table"), || {
            format!("{place}: a table and its query differ")
        });
        let still = ["table", "stat", "bargauge"].contains(&text(&query.panel["type"]));
        self.want(still == instant, || {
            format!("{place}: instant where a range is shown, or the other way round")
        });
        let found = selectors(query.expression);
        self.want(!found.is_empty(), || format!("{place} asks for nothing"));
        for one in found {
            let name = one.name;
            let narrowed = one.matchers.contains("job=~\"$job\",instance=~\"$instance\"");
            self.want(narrowed || self.constants.contains(name), || {
                format!("{place}: {name} is not narrowed to $job and $instance")
            });
            let over_time = ["rate", "increase"].contains(&one.function);
            let counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
            self.want(!counter || over_time, || format!("{place}: {name} without rate or increase"));
            if over_time {
                // What an alert looks at, or the range that is shown, makes sense as one number only.
                let fits = one.range == Some("$__rate_interval") || instant && one.function == "increase";
                self.want(fits, || format!("{place}: {}({name}) over {:?}", one.function, one.range));
            }
        }
    }
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn said(value: &Value) -> bool {
    !text(value).is_empty()
}

/// A runbook, or a board, that exists.
fn leads_somewhere(url: &str) -> bool {
    if let Some(book) = url.strip_prefix("${runbooks}/") {
        return root().join("docs/runbooks").join(book).is_file();
    }
    let uid = url.strip_prefix("/d/").and_then(|rest| rest.split_once('?'));
    uid.is_some_and(|(uid, rest)| {
        let kept = ["time_range", "datasource", "job", "instance"].iter().all(|word| rest.contains(word));
        kept && UIDS.iter().any(|known| known == uid)
    })
}

/// Recorded series that are a number without labels, such as limits.
fn constants() -> BTreeSet<String> {
    let rules = files("alerts", "yml").into_iter().flat_map(|path| rules(&path));
    rules.filter(|rule| rule.expression.starts_with("vector(")).filter_map(|rule| rule.record).collect()
}

#[test]
fn every_dashboard_is_of_one_form() {
    let constants = constants();
    let faults: Vec<_> = boards().iter().flat_map(|board| Review::of(board, &constants)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_dashboard_of_another_form_is_noticed() {
    let constants = constants();
    let break_it = |what: &str, change: &dyn Fn(&mut Value), words: &str| {
        let mut board = boards().into_iter().find(|board| board.name == "overview").unwrap();
        change(&mut board.json);
        let faults = Review::of(&board, &constants);
        assert!(!faults.is_empty() && faults.iter().all(|fault| fault.contains(words)), "{what}: {faults:?}");
    };
    break_it("uid", &|json| json["uid"] = json!("x"), "uid is");
    break_it("links", &|json| json["links"] = json!([]), "the first link");
    break_it(
        "variable",
        &|json| json["templating"]["list"][1]["multi"] = json!(false),
        "$job does not offer all",
    );
    break_it("description", &|json| json["panels"][1]["description"] = json!(""), "no description");
    break_it("unit", &|json| json["panels"][1]["fieldConfig"] = json!({}), "has no unit");
    break_it("type", &|json| json["panels"][0]["type"] = json!("graph"), "");
    break_it(
        "place",
        &|json| json["panels"][1]["gridPos"] = json!({"x": 1, "y": 1, "w": 3, "h": 4}),
        "lies on another",
    );
    break_it(
        "runbook",
        &|json| json["panels"][1]["links"][0]["url"] = json!("${runbooks}/None.md"),
        "links to",
    );
    let expression =
        |text: &'static str| move |json: &mut Value| json["panels"][1]["targets"][0]["expr"] = json!(text);
    break_it("matchers", &expression("datapulse_check_up"), "is not narrowed");
    let counter = "sum(datapulse_check_runs_total{job=~\"$job\",instance=~\"$instance\"})";
    break_it("counter", &expression(counter), "without rate or increase");
    let window = "rate(datapulse_check_runs_total{job=~\"$job\",instance=~\"$instance\"}[5m])";
    break_it("window", &expression(window), "over Some(\"5m\")");
}

/// Who is woken up by an alert finds the panel that shows it, and the panel leads to what to do.
#[test]
fn every_runbook_is_linked_from_a_panel() {
    let all = boards().iter().map(|board| board.json.to_string()).collect::<String>();
    let books = files("docs/runbooks", "md");
    let missing: Vec<_> = books
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap())
        .filter(|name| !all.contains(&format!("${{runbooks}}/{name}")))
        .collect();
    assert!(missing.is_empty(), "no panel links to these runbooks: {missing:?}");
}
