//! YAML text as a tree of nodes that know where they stand; scalars stay as they were written.

use super::fault::{Fault, Faults, Path, Place, quoted};
use super::kept::Kept;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Nodes of one file, copies made by aliases included: nine lines of nested aliases can ask for a billion.
const MOST_NODES: usize = 100_000;
/// Nesting of one file; everything that walks a tree recurses once a level.
const DEEPEST: usize = 64;

/// A value of the file with its position.
#[derive(Clone)]
pub struct Node {
    place: Place,
    pub(super) content: Content,
}

#[derive(Clone)]
pub(super) enum Content {
    /// The text after escape processing; shared, so that an alias of a long text costs nothing.
    Scalar(Arc<str>, Style),
    /// A reference in the place of a text.
    Kept(Arc<Kept>),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
    /// Had a fault that is noted already; reading it is no further fault.
    Broken,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bare: may mean a number, a boolean or nothing.
    Plain,
    /// In quotes or as a block: always text.
    Quoted,
}

/// A key of a mapping with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key: always a scalar.
    pub key: Node,
    /// What stands under it.
    pub value: Node,
}

/// Reads one YAML document; an empty one is an empty mapping. `None` when the text cannot be read further: the fault says why.
/// With a tree there may be faults too (duplicate keys, tags, unknown aliases), so that reading can find the others.
pub fn parse(file: &str, text: &str, faults: &mut Faults) -> Option<Node> {
    let options = granit_parser::options! { emit_unresolved_aliases: true, emit_comments: false };
    let parser = Parser::new_from_str_with_options(text, options);
    Builder { file: file.into(), text, parser, anchors: BTreeMap::new(), nodes: 0, faults }.document().ok()
}

impl Node {
    /// Where the value begins.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Nothing is written here: empty, `~` or `null`, without quotes.
    pub fn is_nothing(&self) -> bool {
        matches!(&self.content, Content::Scalar(text, Style::Plain) if is_null(text))
    }

    /// The text of a scalar as it was written, without quotes.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text, _) => Some(text),
            Content::Kept(kept) => Some(kept.written()),
            _ => None,
        }
    }

    /// How a scalar is written.
    pub fn style(&self) -> Option<Style> {
        match &self.content {
            Content::Scalar(_, style) => Some(*style),
            Content::Kept(_) => Some(Style::Plain),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a mapping in the order of the file; entries merged in by `<<` come last.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.is(key)).map(|entry| &entry.value)
    }

    /// Takes an entry out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let Content::Mapping(entries) = &mut self.content else { return None };
        let position = entries.iter().position(|entry| entry.is(key))?;
        Some(entries.remove(position))
    }

    /// Takes these keys out of a mapping, as a mapping at the same place: an envelope and the letter in it are read apart.
    /// What is not a mapping stays whole, and the result is empty.
    #[must_use]
    pub fn split(&mut self, keys: &[&str]) -> Node {
        let mut taken = Vec::new();
        if let Content::Mapping(entries) = &mut self.content {
            taken = entries.extract_if(.., |entry| keys.iter().any(|key| entry.is(key))).collect();
        }
        Node { place: self.place.clone(), content: Content::Mapping(taken) }
    }

    /// Adds the entries of another mapping whose keys this one has not; they keep their places. Not deep.
    pub fn fill(&mut self, other: &Node) {
        let (Content::Mapping(own), Some(others)) = (&mut self.content, other.entries()) else { return };
        let known: BTreeSet<String> =
            own.iter().filter_map(|entry| entry.key.text().map(str::to_owned)).collect();
        own.extend(
            others.iter().filter(|entry| entry.key.text().is_some_and(|key| !known.contains(key))).cloned(),
        );
    }

    /// Nodes in this tree, and its height.
    fn measure(&self) -> (usize, usize) {
        let add = |(nodes, height): (usize, usize), (n, h): (usize, usize)| (nodes + n, height.max(h));
        let (nodes, height) = match &self.content {
            Content::Scalar(..) | Content::Kept(_) | Content::Broken => (0, 0),
            Content::List(items) => items.iter().map(Self::measure).fold((0, 0), add),
            Content::Mapping(entries) => entries
                .iter()
                .flat_map(|entry| [entry.key.measure(), entry.value.measure()])
                .fold((0, 0), add),
        };
        (nodes + 1, height + 1)
    }
}

impl fmt::Debug for Node {
    /// Shows the shape and the place, not the text: it may be a password that stands where it should not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match &self.content {
            Content::Scalar(..) | Content::Kept(_) => "scalar",
            Content::List(_) => "list",
            Content::Mapping(_) => "mapping",
            Content::Broken => "broken",
        };
        write!(f, "{shape} at {}", self.place)
    }
}

impl Entry {
    fn is(&self, key: &str) -> bool {
        self.key.text() == Some(key)
    }
}

/// A plain scalar that means nothing, in the words of the YAML 1.2 core schema.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The text cannot be read further; the fault is noted.
struct Stop;

struct Builder<'t, 'f> {
    file: Arc<str>,
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    faults: &'f mut Faults,
}

impl<'t> Builder<'t, '_> {
    fn document(mut self) -> Result<Node, Stop> {
        let mut root: Option<Node> = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => break,
                (Event::DocumentStart(..), span) if root.is_some() => {
                    let fault = Fault::new(&self.place(span), "", "a second document begins here");
                    return self.stop(fault.hint("write one document in a file, without ---"));
                }
                (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
                (event, span) => root = Some(self.value(event, span, &Path::Root(""), 1)?),
            }
        }
        let place = Place { file: self.file, line: 1, column: 1 };
        let root = root.filter(|root| !root.is_nothing());
        Ok(root.unwrap_or(Node { place, content: Content::Mapping(Vec::new()) }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let fault = self.syntax(&error);
                self.stop(fault)
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn value(&mut self, event: Event<'t>, span: Span, path: &Path, depth: usize) -> Result<Node, Stop> {
        let place = self.place(span);
        if depth > DEEPEST {
            return self.stop(Fault::new(
                &place,
                path.to_string(),
                format!("nested deeper than {DEEPEST} levels"),
            ));
        }
        self.count(1, &place, path)?;
        let (content, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                (Content::Scalar(text.into(), style), anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => (Content::List(self.list(path, depth)?), anchor, tag),
            Event::MappingStart(_, anchor, tag) => {
                (Content::Mapping(self.mapping(path, depth)?), anchor, tag)
            }
            Event::Alias(anchor) => return self.alias(anchor, span, path, depth),
            Event::UnresolvedAlias(name) => {
                let message = format!("unknown alias: there is no anchor &{name} above");
                self.faults.push(Fault::new(&place, path.to_string(), message));
                (Content::Broken, 0, None)
            }
            _ => return self.stop(Fault::new(&place, path.to_string(), "a value is missing here")),
        };
        if tag.is_some() {
            let place = span.tag_span().map_or(place.clone(), |span| self.place(span));
            let fault = Fault::new(&place, path.to_string(), "tags are not accepted");
            self.faults.push(fault.hint("leave the !word out; put quotes around a text that begins with !"));
        }
        let node = Node { place, content };
        if anchor != 0 {
            // The copy for later aliases counts as well: nested anchors would otherwise multiply the memory unseen.
            self.count(node.measure().0, &node.place, path)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, path: &Path, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => {
                    let path = Path::Item(path, items.len());
                    items.push(self.value(event, span, &path, depth + 1)?);
                }
            }
        }
    }

    fn mapping(&mut self, path: &Path, depth: usize) -> Result<Vec<Entry>, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        let mut merged = None;
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => break,
                (event, span) => self.value(event, span, path, depth + 1)?,
            };
            let word = key.text().unwrap_or_default().to_owned();
            let path = Path::Key(path, &word);
            let (event, span) = self.next()?;
            let value = self.value(event, span, &path, depth + 1)?;
            if key.text().is_none() {
                if !matches!(key.content, Content::Broken) {
                    self.faults.push(Fault::new(
                        &key.place,
                        path.to_string(),
                        "a key has to be a single word or text",
                    ));
                }
            } else if let Some(first) = seen.get(&word) {
                let fault = Fault::new(&key.place, path.to_string(), "duplicate key");
                self.faults.push(fault.hint(format!("it stands at {first} already")));
            } else {
                seen.insert(word.clone(), key.place.clone());
                if word == "<<" && key.style() == Some(Style::Plain) {
                    merged = Some(value);
                } else {
                    entries.push(Entry { key, value });
                }
            }
        }
        match merged {
            Some(value) => Ok(self.merge(entries, &value, path)),
            None => Ok(entries),
        }
    }

    /// Adds what `<<` brings: own keys win over merged ones, earlier mappings over later ones.
    fn merge(&mut self, entries: Vec<Entry>, value: &Node, path: &Path) -> Vec<Entry> {
        let sources = value.items().unwrap_or(std::slice::from_ref(value));
        let mut target = Node { place: value.place.clone(), content: Content::Mapping(entries) };
        for source in sources {
            match source.content {
                Content::Mapping(_) => target.fill(source),
                Content::Broken => {}
                Content::Scalar(..) | Content::Kept(_) | Content::List(_) => {
                    let path = Path::Key(path, "<<");
                    let fault = Fault::new(&source.place, path.to_string(), "only mappings can be merged");
                    self.faults.push(fault.hint("write <<: *name or <<: [*one, *two]"));
                }
            }
        }
        match target.content {
            Content::Mapping(entries) => entries,
            _ => Vec::new(),
        }
    }

    fn alias(&mut self, anchor: usize, span: Span, path: &Path, depth: usize) -> Result<Node, Stop> {
        let place = self.place(span);
        let Some(node) = self.anchors.get(&anchor) else {
            let name = span.slice(self.text).unwrap_or("alias");
            self.faults.push(Fault::new(
                &place,
                path.to_string(),
                format!("{name} stands inside the value that it names"),
            ));
            return Ok(Node { place, content: Content::Broken });
        };
        let (nodes, height) = node.measure();
        if depth + height > DEEPEST + 1 {
            return self.stop(Fault::new(
                &place,
                path.to_string(),
                format!("nested deeper than {DEEPEST} levels"),
            ));
        }
        let node = node.clone();
        self.count(nodes, &place, path)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, place: &Place, path: &Path) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes <= MOST_NODES {
            return Ok(());
        }
        let message = format!("more than {MOST_NODES} values in one file, those behind aliases included");
        self.stop(Fault::new(place, path.to_string(), message))
    }

    fn stop<T>(&mut self, fault: Fault) -> Result<T, Stop> {
        self.faults.push(fault);
        Err(Stop)
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        let marker = error.marker();
        let place = Place { file: self.file.clone(), line: marker.line(), column: marker.col() + 1 };
        let fault = Fault::new(&place, "", format!("not valid YAML: {}", error.info()));
        match error.kind() {
            ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
                fault.hint("indent with spaces")
            }
            ErrorKind::MappingValueNotAllowed => {
                fault.hint("check the indentation; a text with a colon and a space in it needs quotes")
            }
            ErrorKind::UnexpectedCharacter { character } if character.is_ascii_punctuation() => fault.hint(
                format!("put quotes around a text that begins with {}", quoted(&character.to_string())),
            ),
            _ => fault,
        }
    }

    fn place(&self, span: Span) -> Place {
        Place { file: self.file.clone(), line: span.start.line(), column: span.start.col() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line: `{a: b@1:4}`; scalars in quotes keep them.
    fn show(node: &Node) -> String {
        let place = format!("@{}:{}", node.place.line, node.place.column);
        match &node.content {
            Content::Scalar(text, Style::Plain) => format!("{text}{place}"),
            Content::Scalar(text, Style::Quoted) => format!("{text:?}{place}"),
            Content::Kept(kept) => format!("{}{place}", kept.written()),
            Content::List(items) => {
                format!("[{}]{place}", items.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            Content::Mapping(entries) => {
                let show = |entry: &Entry| format!("{}: {}", show(&entry.key), show(&entry.value));
                format!("{{{}}}{place}", entries.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            Content::Broken => format!("broken{place}"),
        }
    }

    #[track_caller]
    fn check(text: &str, tree: Option<&str>, expected: &[&str]) {
        let mut faults = Faults::default();
        let node = parse("f", text, &mut faults);
        assert_eq!(node.as_ref().map(show).as_deref(), tree, "{text}");
        let faults: Vec<String> = faults.into_sorted().iter().map(ToString::to_string).collect();
        assert_eq!(faults, expected, "{text}");
    }

    #[test]
    fn scalars_stay_as_they_are_written_with_their_places() {
        check(
            "a: NO\nb: [08, '08', 1e3]\nc:\n  d: |\n    text\n",
            Some(
                "{a@1:1: NO@1:4 b@2:1: [08@2:5 \"08\"@2:9 1e3@2:15]@2:4 c@3:1: {d@4:3: \"text\\n\"@5:5}@4:3}@1:1",
            ),
            &[],
        );
        check("é: ü # ñ\n\"ß\": x\r\nb: y", Some("{é@1:1: ü@1:4 \"ß\"@2:1: x@2:6 b@3:1: y@3:4}@1:1"), &[]);
    }

    #[test]
    fn an_empty_document_is_an_empty_mapping() {
        for text in ["", "# only a comment\n", "\u{feff}"] {
            check(text, Some("{}@1:1"), &[]);
        }
        check("---\n...\n", Some("{}@1:1"), &[]);
        check("~\n", Some("{}@1:1"), &[]);
    }

    #[test]
    fn aliases_and_merge_keys_bring_copies_with_the_places_of_the_anchor() {
        check(
            "a: &x {k: 1}\nb: *x\n",
            Some("{a@1:1: {k@1:8: 1@1:11}@1:7 b@2:1: {k@1:8: 1@1:11}@1:7}@1:1"),
            &[],
        );
        check(
            "- &x {k: 1, l: 2}\n- &y {l: 3, m: 4}\n- {<<: [*x, *y], k: 0}\n",
            Some(
                "[{k@1:7: 1@1:10 l@1:13: 2@1:16}@1:6 {l@2:7: 3@2:10 m@2:13: 4@2:16}@2:6 \
                 {k@3:18: 0@3:21 l@1:13: 2@1:16 m@2:13: 4@2:16}@3:3]@1:1",
            ),
            &[],
        );
        check("\"<<\": {a: 1}", Some("{\"<<\"@1:1: {a@1:8: 1@1:11}@1:7}@1:1"), &[]);
        check(
            "a: {<<: 1, b: 2}",
            Some("{a@1:1: {b@1:12: 2@1:15}@1:4}@1:1"),
            &["f:1:9: a.<<: only mappings can be merged; write <<: *name or <<: [*one, *two]"],
        );
    }

    #[test]
    fn faults_of_the_tree_do_not_end_the_reading() {
        check(
            "a: {b: 1, c: 2, b: 3}\nd: !secret x\ne: [*nix, *nix2]\n? [k]\n: v\nf: &f [*f]\nz: 1\na: 2",
            Some(
                "{a@1:1: {b@1:5: 1@1:8 c@1:11: 2@1:14}@1:4 d@2:1: x@2:12 e@3:1: [broken@3:5 broken@3:11]@3:4 \
                 f@6:1: [broken@6:8]@6:7 z@7:1: 1@7:4}@1:1",
            ),
            &[
                "f:1:17: a.b: duplicate key; it stands at f:1:5 already",
                "f:2:4: d: tags are not accepted; leave the !word out; put quotes around a text that begins with !",
                "f:3:5: e[0]: unknown alias: there is no anchor &nix above",
                "f:3:11: e[1]: unknown alias: there is no anchor &nix2 above",
                "f:4:3: a key has to be a single word or text",
                "f:6:8: f[0]: *f stands inside the value that it names",
                "f:8:1: a: duplicate key; it stands at f:1:1 already",
            ],
        );
    }

    #[test]
    fn what_is_not_yaml_is_one_fault_with_its_place() {
        for (text, expected) in [
            (
                "a:\n\tb: 1",
                "f:2:2: not valid YAML: tabs disallowed within this context (block indentation); indent with spaces",
            ),
            (
                "a: b: c",
                "f:1:5: not valid YAML: mapping values are not allowed in this context; \
                 check the indentation; a text with a colon and a space in it needs quotes",
            ),
            (
                "a: @b",
                "f:1:4: not valid YAML: unexpected character: `@'; put quotes around a text that begins with \"@\"",
            ),
            (
                "a: 1\n---\nb: 2",
                "f:2:1: a second document begins here; write one document in a file, without ---",
            ),
        ] {
            check(text, None, &[expected]);
        }
        let mut faults = Faults::default();
        for text in
            ["a: [1", "a: 'b", "a: \"b\\q\"", "}", "a: \u{1}", "%YAML 3.0\n---\na: 1", "&a", "a\nb: 1"]
        {
            let before = faults.len();
            let read = parse("f", text, &mut faults);
            assert!(read.is_none() != (faults.len() == before), "{text:?} gives a tree or a fault");
        }
    }

    #[test]
    fn a_billion_laughs_are_refused_before_they_take_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..20 {
            let alias = format!("*a{}", n - 1);
            let line = format!("a{n}: &a{n} [{}]\n", [alias.as_str(); 10].join(", "));
            text.push_str(&line);
        }
        let mut faults = Faults::default();
        assert!(parse("f", &text, &mut faults).is_none());
        let faults = faults.to_string();
        assert!(
            faults.ends_with("more than 100000 values in one file, those behind aliases included"),
            "{faults}"
        );
        assert_eq!(faults.lines().count(), 1);
    }

    #[test]
    fn depth_is_capped_in_the_text_and_behind_aliases() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let deepest = |text: &str| {
            let mut faults = Faults::default();
            parse("f", text, &mut faults).is_some_and(|_| faults.is_empty())
        };
        assert!(deepest(&nested(DEEPEST - 1)));
        assert!(!deepest(&nested(DEEPEST)));
        assert!(!deepest(&nested(10_000)));
        assert!(!deepest(&"- ".repeat(10_000)));
        assert!(deepest(&format!("- &a {}\n- [*a]", nested(DEEPEST - 3))));
        assert!(!deepest(&format!("- &a {}\n- [*a]", nested(DEEPEST - 2))));
    }

    #[test]
    fn an_envelope_is_taken_out_and_defaults_are_filled_in() {
        let mut faults = Faults::default();
        let mut letter = parse("f", "{name: a, sql: b, every: c}", &mut faults).unwrap();
        let mut envelope = letter.split(&["every", "name", "timeout"]);
        assert_eq!(show(&letter), "{sql@1:11: b@1:16}@1:1");
        assert_eq!(show(&envelope), "{name@1:2: a@1:8 every@1:19: c@1:26}@1:1");
        envelope.fill(&parse("f", "{every: d, timeout: e}", &mut faults).unwrap());
        assert_eq!(envelope.get("every").and_then(Node::text), Some("c"));
        assert_eq!(envelope.get("timeout").and_then(Node::text), Some("e"));
        assert_eq!(envelope.take("every").map(|entry| entry.value.place().column), Some(26));
        assert!(envelope.take("every").is_none());
    }

    #[test]
    fn debug_shows_no_text() {
        let node = parse("f", "password: canary", &mut Faults::default()).unwrap();
        assert_eq!(
            format!("{node:?} {:?}", node.entries().unwrap()[0].value),
            "mapping at f:1:1 scalar at f:1:11"
        );
    }
}
