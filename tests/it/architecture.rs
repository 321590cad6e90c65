//! The rules of ARCHITECTURE.md that neither the compiler nor clippy holds, read from the sources themselves.

use crate::stage::root;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the ground up. A file sees only files of its own unit and of lower layers; the longest prefix of its path counts.
const LAYERS: [&[&str]; 13] = [
    &["alarm", "journal", "task", "demo::parts"],
    // The ground: a check's words, the ways out and the secrets speak of each other.
    &GROUND,
    &["board", "checks::", "sinks"],
    &["logs"],
    &["alerts"],
    &["evidence", "prometheus"],
    &["alerts::config"],
    &["actor", "alerts::office", "checks", "http"],
    &["page", "vitals"],
    &["config"],
    &["discovery"],
    &["demo", "init", "run"],
    &["cli"],
];
const GROUND: [&str; 16] = [
    "check",
    "columns",
    "net",
    "config::discover",
    "config::fault",
    "config::kept",
    "config::node",
    "config::plain",
    "config::read",
    "config::reader",
    "config::scalar",
    "config::secret",
    "config::stand_in",
    "config::target",
    "spending",
    "state",
];
/// What a check may know. All else comes to it as an argument, so that a check can be read alone.
const A_CHECK_SEES: [&str; 10] = [
    "check",
    "checks::",
    "columns",
    "config::fault",
    "config::node",
    "config::read",
    "config::scalar",
    "config::target",
    "net",
    "spending",
];
/// Crates that one place alone names, because their limits are kept there.
const ONE_PLACE: [(&str, &str); 5] = [
    ("tokio_postgres", "net::postgres"),
    ("tokio_postgres_rustls", "net::postgres"),
    ("libdeflater", "net::gzip"),
    ("plotters", "evidence::chart"),
    ("flate2", "net::gzip"),
];
/// Lines of a file without its tests.
const LONGEST_FILE: usize = 400;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["mod", "util", "utils", "common", "types", "helpers"];

/// A source file without its tests.
struct Source {
    path: PathBuf,
    /// `net::postgres::login`
    module: String,
    text: String,
}

/// All files of the crate that end up in the program.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut found = Vec::new();
    for path in files(&src) {
        let module =
            path.strip_prefix(&src).unwrap().with_extension("").display().to_string().replace('/', "::");
        let text = std::fs::read_to_string(&path).unwrap();
        found.push((module, text, path));
    }
    let only_in_tests: BTreeSet<String> = found
        .iter()
        .flat_map(|(module, text, _)| {
            test_modules(text).into_iter().map(move |name| format!("{module}::{name}"))
        })
        .collect();
    assert!(found.len() > 40 && only_in_tests.contains("http::tests"), "the sources are not where they were");
    found
        .into_iter()
        .filter(|(module, ..)| !only_in_tests.contains(module))
        .map(|(module, text, path)| Source { path, module, text: without_tests(&text) })
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// `mod name;` below `#[cfg(test)]`.
fn test_modules(text: &str) -> Vec<String> {
    let after = text.split("#[cfg(test)]\n").skip(1);
    let lines = after.filter_map(|rest| rest.lines().next());
    lines.filter_map(|line| Some(line.split_once("mod ")?.1.strip_suffix(';')?.to_owned())).collect()
}

/// Tests stand at the end of a file.
fn without_tests(text: &str) -> String {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end]).to_owned()
}

/// Every path that begins in this crate: `use` trees taken apart, and paths in the middle of the code.
fn seen(source: &Source) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut rest = source.text.as_str();
    let code: String = source.text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    for statement in code.split(';') {
        if let Some((_, tree)) = statement.split_once("use ") {
            flatten("", tree, &mut paths);
        }
    }
    while let Some(at) = rest.find("crate::") {
        rest = &rest[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        paths.insert(rest[..end].trim_end_matches(':').to_owned());
        rest = &rest[end..];
    }
    let parent = source.module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let grandparent = parent.rsplit_once("::").map_or("", |(parent, _)| parent);
    let ours = |path: &String| {
        let path = path.split(" as ").next()?.trim();
        let whole = if let Some(rest) = path.strip_prefix("crate::") {
            rest.to_owned()
        } else if let Some(rest) = path.strip_prefix("super::super::") {
            format!("{grandparent}::{rest}")
        } else {
            format!("{parent}::{}", path.strip_prefix("super::")?)
        };
        Some(whole.trim_start_matches("::").to_owned())
    };
    paths.iter().filter_map(ours).collect()
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn flatten(before: &str, tree: &str, paths: &mut BTreeSet<String>) {
    let Some((head, body)) = tree.split_once('{') else {
        paths.insert(format!("{before}{}", tree.trim()));
        return;
    };
    let body = body.rsplit_once('}').map_or(body, |(body, _)| body);
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in body.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                flatten(&format!("{before}{}", head.trim()), &body[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !body[start..].trim().is_empty() {
        flatten(&format!("{before}{}", head.trim()), &body[start..], paths);
    }
}

/// The layer of a path, and the unit by which it is known there.
fn layer(path: &str) -> Option<(usize, &'static str)> {
    let fits = |unit: &&&str| match unit.strip_suffix("::") {
        Some(folder) => path.starts_with(*unit) && known_below(folder, path),
        None => path == **unit || path.strip_prefix(**unit).is_some_and(|rest| rest.starts_with("::")),
    };
    let units = LAYERS.iter().enumerate().flat_map(|(at, units)| units.iter().map(move |unit| (at, unit)));
    units.filter(|(_, unit)| fits(unit)).max_by_key(|(_, unit)| unit.len()).map(|(at, unit)| (at, *unit))
}

/// Whether a path names a file of a folder, and not an item of the file of that name.
fn known_below(folder: &str, path: &str) -> bool {
    let name = path[folder.len() + 2..].split("::").next().unwrap_or_default();
    root().join("src").join(folder).join(format!("{name}.rs")).exists()
}

#[test]
fn dependencies_point_downwards_only() {
    let mut wrong = Vec::new();
    let mut edges = 0;
    for source in sources().iter().filter(|source| !matches!(source.module.as_str(), "lib" | "main")) {
        let Some((own_layer, own)) = layer(&source.module) else {
            wrong.push(format!("{} has no layer: put it into LAYERS", source.module));
            continue;
        };
        for path in seen(source) {
            let Some((other_layer, other)) = layer(&path) else { continue };
            edges += 1;
            let together = own == other || own_layer == other_layer && GROUND.contains(&own);
            if !together && other_layer >= own_layer {
                wrong.push(format!("{} sees {path}, which is not below it", source.module));
            }
            let check = source.module.starts_with("checks::");
            if check && !A_CHECK_SEES.iter().any(|allowed| path.starts_with(allowed)) {
                wrong.push(format!("{} sees {path}, which is none of a check's business", source.module));
            }
        }
    }
    assert!(edges > 100, "only {edges} uses were found: this test has become blind");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_of_checks_is_in_the_list_under_the_word_of_the_configuration() {
    let folder = root().join("src/checks");
    let names: BTreeSet<String> = files(&folder)
        .iter()
        .map(|path| path.strip_prefix(&folder).unwrap().with_extension("").display().to_string())
        .collect();
    // A check that is too long for one file has further files in a folder of its name.
    let names: BTreeSet<String> = names.into_iter().filter(|name| !name.contains('/')).collect();
    let listed: BTreeSet<String> = datapulse::checks::ALL.iter().map(|kind| kind.word.to_owned()).collect();
    assert_eq!(names, listed);
}

#[test]
fn what_has_limits_is_named_in_one_place_only() {
    let mut wrong = Vec::new();
    let mut places = BTreeMap::new();
    for source in sources() {
        for (name, place) in ONE_PLACE {
            if source.text.contains(&format!("{name}::")) {
                *places.entry(name).or_insert(0) += 1;
                if !source.module.starts_with(place) {
                    wrong.push(format!("{} names {name}; only {place} may", source.module));
                }
            }
        }
        for line in source.text.lines().filter(|_| source.module != "task") {
            // `.spawn()` without an argument starts a process, which its own kind of owner ends; a thread of a scope ends with it.
            let owned = |before: &str| before.ends_with("task::") || before.ends_with("scope.");
            let starts = ["spawn(", "spawn_blocking("].iter().any(|call| {
                line.split_once(call).is_some_and(|(before, after)| !owned(before) && !after.starts_with(')'))
            });
            if starts && !line.trim_start().starts_with("//") {
                wrong.push(format!("{} spawns: {}", source.module, line.trim()));
            }
        }
    }
    assert_eq!(places.len(), ONE_PLACE.len(), "{places:?}: this test has become blind");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_their_names_say_something() {
    let mut all: Vec<(PathBuf, String)> =
        sources().into_iter().map(|source| (source.path, source.text)).collect();
    for folder in std::fs::read_dir(root().join("crates")).unwrap() {
        for path in files(&folder.unwrap().path().join("src")) {
            let text = without_tests(&std::fs::read_to_string(&path).unwrap());
            all.push((path, text));
        }
    }
    let mut wrong = Vec::new();
    for (path, text) in all {
        let lines = text.lines().count();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let shown = path.strip_prefix(root()).unwrap().display();
        if lines > LONGEST_FILE {
            wrong.push(format!("{shown}: {lines} lines without tests; {LONGEST_FILE} is the limit"));
        }
        if EMPTY_NAMES.contains(&name) {
            wrong.push(format!("{shown}: a name that says nothing"));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{shown}: does not begin with a sentence on what it is"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
