//! Reads typed values from the tree with serde, and goes on after a fault until all of them are known.
//!
//! serde gives up at the first error, and by then the half-built value is gone. So the tree is read again and again: every pass
//! ends at one new fault, that fault is noted together with a *repair* (leave the entry out, or stand in for the missing key),
//! and the next pass gets over it. A file without a fault is read once.

use super::fault::{Fault, Faults, Path, advice};
use super::node::Node;
use super::reader::{Reader, at};
use serde::de::{self, DeserializeOwned, Expected, Unexpected};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

/// Faults of one value; who has more of them has the wrong file.
const MOST_FAULTS: usize = 100;
/// Passes over one value: every fault takes one, and its stand-in up to one for each word.
const MOST_PASSES: usize = MOST_FAULTS * 4;

/// Reads a value; every fault is noted with its place and its path below `path`. `None` when there was at least one, or when a part of it
/// is kept in AWS and not known yet.
pub fn read<T: DeserializeOwned>(node: &Node, path: &str, faults: &mut Faults) -> Option<T> {
    read_rest(node, path, &[], faults)
}

/// Like [`read`], for what is left after [`Node::split`]: `also` are the words that were accepted elsewhere in the same mapping, for
/// the advice about an unknown key.
pub fn read_rest<T: DeserializeOwned>(
    node: &Node,
    path: &str,
    also: &[&str],
    faults: &mut Faults,
) -> Option<T> {
    let path = Path::Root(path);
    let mut repairs = Repairs::default();
    let before = faults.len();
    let mut elsewhere = false;
    for pass in 0..MOST_PASSES {
        let trouble = match at(
            Reader { node, path: &path, also, repairs: &repairs, hollow: false, written: false },
            PhantomData,
        ) {
            // A later pass has left something out or made something up.
            Ok(value) => return (pass == 0).then_some(value),
            Err(Error(trouble)) => *trouble,
        };
        match trouble.cause {
            Cause::Fault(fault) => faults.push(fault),
            Cause::Elsewhere => elsewhere = true,
            _ => {}
        }
        if faults.len() - before >= MOST_FAULTS {
            let message = format!("more than {MOST_FAULTS} faults; the rest is not shown");
            faults.push(Fault::new(node.place(), path.to_string(), message));
            return None;
        }
        let Some(repair) = trouble.repair else { break };
        repairs.add(repair);
    }
    if faults.is_empty() && !elsewhere {
        faults.push(Fault::new(node.place(), path.to_string(), "could not be read"));
    }
    None
}

/// What the next pass does to get over the faults that are noted. Nodes are told apart by their addresses.
#[derive(Default)]
pub(super) struct Repairs {
    /// Values of entries and items that are passed over.
    left_out: BTreeSet<usize>,
    /// Keys that are known to be absent or unusable: their absence is not a fault of its own.
    told: BTreeSet<(usize, String)>,
    /// Keys of mappings for which a made-up value stands in, and which of the words it is made of.
    stand_ins: BTreeMap<(usize, String), usize>,
    /// Grows when a pass uses a repair: a value that contains one is not what the person wrote, so its own checks say nothing.
    used: Cell<usize>,
}

pub(super) enum Repair {
    LeaveOut { value: usize, told: Option<(usize, String)> },
    StandIn(usize, String),
}

impl Repairs {
    fn add(&mut self, repair: Repair) {
        match repair {
            Repair::LeaveOut { value, told } => {
                self.left_out.insert(value);
                self.told.extend(told);
            }
            Repair::StandIn(owner, key) => {
                self.told.insert((owner, key.clone()));
                self.stand_ins.entry((owner, key)).and_modify(|word| *word += 1).or_insert(0);
            }
        }
    }

    pub(super) fn is_left_out(&self, node: &Node) -> bool {
        self.left_out.contains(&address(node))
    }

    /// Whether to pass over a value; notes that a repair was used.
    pub(super) fn leaves_out(&self, node: &Node) -> bool {
        let out = self.is_left_out(node);
        if out {
            self.note_use();
        }
        out
    }

    pub(super) fn note_use(&self) {
        self.used.set(self.used.get() + 1);
    }

    /// How often a repair was used so far.
    pub(super) fn uses(&self) -> usize {
        self.used.get()
    }

    /// The keys that get a made-up value in a mapping, and which word it is made of.
    pub(super) fn stand_ins(&self, node: &Node) -> Vec<(String, usize)> {
        let owner = address(node);
        let all = self.stand_ins.range((owner, String::new())..).take_while(|((of, _), _)| *of == owner);
        all.map(|((_, key), word)| (key.clone(), *word)).collect()
    }
}

/// The end of a pass.
#[derive(Debug)]
pub(super) struct Error(Box<Trouble>);

struct Trouble {
    cause: Cause,
    repair: Option<Repair>,
}

pub(super) enum Cause {
    /// Ready to be noted.
    Fault(Fault),
    /// A consequence of what is noted already.
    Told,
    /// A value that only AWS knows: no fault, but nothing that could be read either.
    Elsewhere,
    /// As serde reports it, still without a place.
    Missing(&'static str),
    Unknown {
        word: String,
        accepted: &'static [&'static str],
        what: &'static str,
    },
    Message(String),
}

impl Error {
    pub(super) fn new(cause: Cause) -> Self {
        Self(Box::new(Trouble { cause, repair: None }))
    }

    /// A consequence of what is noted already.
    pub(super) fn told(repair: Option<Repair>) -> Self {
        Self(Box::new(Trouble { cause: Cause::Told, repair }))
    }

    /// The repair, unless a level below has found one.
    pub(super) fn or_leave_out(mut self, value: &Node, told: Option<(usize, String)>) -> Self {
        self.0.repair.get_or_insert_with(|| Repair::LeaveOut { value: address(value), told });
        self
    }

    /// Gives an error its place, if it has none: the innermost value that serde was reading.
    pub(super) fn at(mut self, reader: Reader<'_>, repaired: bool) -> Self {
        let fault = |message: String| Fault::new(reader.node.place(), reader.path.to_string(), message);
        let Trouble { cause, repair } = *self.0;
        let (cause, repair) = match cause {
            Cause::Fault(_) | Cause::Told | Cause::Elsewhere => (cause, repair),
            Cause::Message(_) if repaired => (Cause::Told, repair),
            Cause::Message(message) => (Cause::Fault(fault(message)), repair),
            Cause::Missing(key) => {
                let owner = (address(reader.node), key.to_owned());
                let known = reader.repairs.told.contains(&owner);
                let path = Path::Key(reader.path, key).to_string();
                let cause = if known {
                    Cause::Told
                } else {
                    Cause::Fault(Fault::new(reader.node.place(), path, "missing key"))
                };
                // Asked for although a value stands in: somebody reads around us, so the repair is up to the next level.
                let tried = reader.repairs.stand_ins.contains_key(&owner);
                (cause, repair.or((!tried).then_some(Repair::StandIn(owner.0, owner.1))))
            }
            Cause::Unknown { word, accepted, what } => {
                let own = reader.node.value() == Some(&*word);
                let path =
                    if own { reader.path.to_string() } else { Path::Key(reader.path, &word).to_string() };
                let fault =
                    Fault::new(reader.node.place(), path, what).hint(advice(&word, accepted.iter().copied()));
                (Cause::Fault(fault), repair)
            }
        };
        *self.0 = Trouble { cause, repair };
        self
    }
}

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Fault(fault) => write!(f, "{fault}"),
            Cause::Told => f.write_str("a consequence of another fault"),
            Cause::Elsewhere => f.write_str("kept in AWS"),
            Cause::Missing(key) => write!(f, "missing key {key:?}"),
            Cause::Unknown { word, what, .. } => write!(f, "{what} {word:?}"),
            Cause::Message(message) => f.write_str(message),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Cause::Message(message.to_string()))
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {found}"))
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {expected}, found {found}"))
    }
    fn unknown_variant(word: &str, accepted: &'static [&'static str]) -> Self {
        Self::new(Cause::Unknown { word: word.to_owned(), accepted, what: "unknown word" })
    }
    fn unknown_field(word: &str, accepted: &'static [&'static str]) -> Self {
        Self::new(Cause::Unknown { word: word.to_owned(), accepted, what: "unknown key" })
    }
    fn missing_field(key: &'static str) -> Self {
        Self::new(Cause::Missing(key))
    }
}

pub(super) fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::parse;
    use crate::config::scalar::{Interval, Size};
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    struct File {
        #[serde(default)]
        targets: BTreeMap<Name, Target>,
        checks: Vec<Check>,
        #[serde(default)]
        outputs: Option<Outputs>,
    }

    #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(try_from = "String")]
    struct Name(String);

    impl TryFrom<String> for Name {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if good { Ok(Self(text)) } else { Err("a name is made of small letters and _".to_owned()) }
        }
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Target {
        host: String,
        #[serde(default)]
        tls: Tls,
        port: Option<u16>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    enum Tls {
        Disable,
        #[default]
        VerifyFull,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Check {
        PgSubscription(Subscription),
        SqlQuery { name: Name, metrics: Vec<(String, f64)> },
        Vitals,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Subscription {
        every: Interval,
        name: Name,
        #[serde(default)]
        enabled: bool,
        size: Option<Size>,
        limit: u32,
        target: Reach,
        code: String,
    }

    /// A name or an inline target, told apart by shape, as the configuration has them.
    #[derive(Debug, PartialEq)]
    enum Reach {
        Named(String),
        Inline(Target),
    }

    impl<'de> Deserialize<'de> for Reach {
        fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Shape;
            impl<'de> de::Visitor<'de> for Shape {
                type Value = Reach;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("the name of a target or a target")
                }
                fn visit_str<E: de::Error>(self, name: &str) -> Result<Reach, E> {
                    Ok(Reach::Named(name.to_owned()))
                }
                fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Reach, A::Error> {
                    Target::deserialize(de::value::MapAccessDeserializer::new(map)).map(Reach::Inline)
                }
            }
            deserializer.deserialize_any(Shape)
        }
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(try_from = "Range")]
    struct Outputs {
        from: u8,
        to: u8,
    }

    #[derive(Deserialize)]
    struct Range {
        from: u8,
        to: u8,
    }

    impl TryFrom<Range> for Outputs {
        type Error = &'static str;
        fn try_from(Range { from, to }: Range) -> Result<Self, Self::Error> {
            if from < to { Ok(Self { from, to }) } else { Err("from has to be less than to") }
        }
    }

    fn faults_of<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<String>) {
        let mut faults = Faults::default();
        let node = parse("f", text, &mut faults).expect("YAML");
        let value = read(&node, "", &mut faults);
        (value, faults.into_sorted().iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn bad<T: DeserializeOwned>(text: &str, expected: &[&str]) {
        let (value, faults) = faults_of::<T>(text);
        assert_eq!(faults, expected, "{text}");
        assert!(value.is_none(), "a value with faults is no value");
    }

    #[track_caller]
    fn good<T: DeserializeOwned + PartialEq + fmt::Debug>(text: &str, expected: T) {
        assert_eq!(faults_of::<T>(text), (Some(expected), Vec::new()), "{text}");
    }

    #[test]
    fn a_good_file_is_read() {
        let text = "
targets:
  one: {host: 08, port: 5432}
checks:
  - pg_subscription: &sub {every: 1h30m, name: a, enabled: true, size: 50GB, limit: 5, target: one, code: NO}
  - pg_subscription: {<<: *sub, target: {host: ~x, tls: disable}, size: ~}
  - sql_query: {name: b, metrics: [[x, 1e3], [y, -1]]}
  - vitals
  - vitals:
";
        let subscription = |target, size| {
            Check::PgSubscription(Subscription {
                every: Interval::seconds(5400),
                name: Name("a".into()),
                enabled: true,
                size,
                limit: 5,
                target,
                code: "NO".into(),
            })
        };
        let inline = Target { host: "~x".into(), tls: Tls::Disable, port: None };
        let one = Target { host: "08".into(), tls: Tls::VerifyFull, port: Some(5432) };
        good(
            text,
            File {
                targets: BTreeMap::from([(Name("one".into()), one)]),
                checks: vec![
                    subscription(Reach::Named("one".into()), Some(Size(50_000_000_000))),
                    subscription(Reach::Inline(inline), None),
                    Check::SqlQuery {
                        name: Name("b".into()),
                        metrics: vec![("x".into(), 1e3), ("y".into(), -1.0)],
                    },
                    Check::Vitals,
                    Check::Vitals,
                ],
                outputs: None,
            },
        );
    }

    #[test]
    fn every_fault_of_every_kind_is_found_once_and_at_its_place() {
        let text = "\
targets:
  One: {host: a}
  two: {hsot: a, tls: verify_full, port: 70000}
  three: text
checks:
  - pg_subscription:
      every: 30
      enabled: NO
      size: 50gb
      limit: '5'
      evry: 5s
      target: {host: a, tls: on, prot: 5}
  - pg_subscripton: {name: a}
  - sql_query: {name: B, metrics: [[a, x], [b], c, [d, 2]], sql: x}
  - pg_subscription: {every: 5s, name: a, limit: 5, target: 7, code: ''}
  - vitals: {a: 1}
  - pg_subscription:
    name: x
  - [a]
outputs: {from: 300, to: 2}
chekcs: []
";
        let keys = "accepted: every, name, enabled, size, limit, target, code";
        bad::<File>(
            text,
            &[
                "f:2:3: targets.One: a name is made of small letters and _",
                "f:3:9: targets.two.hsot: unknown key; did you mean \"host\"? accepted: host, tls, port",
                "f:3:23: targets.two.tls: unknown word \"verify_full\"; did you mean \"verify-full\"? accepted: disable, verify-full",
                "f:3:42: targets.two.port: expected a whole number from 0 to 65535, found \"70000\"",
                "f:4:10: targets.three: expected a mapping, found a text",
                "f:7:7: checks[0].pg_subscription.code: missing key",
                "f:7:7: checks[0].pg_subscription.name: missing key",
                "f:7:14: checks[0].pg_subscription.every: a duration needs a unit; write 30s",
                "f:8:16: checks[0].pg_subscription.enabled: expected true or false, found \"NO\"",
                "f:9:13: checks[0].pg_subscription.size: not a size in bytes: \"50gb\"; write 50GB",
                "f:10:14: checks[0].pg_subscription.limit: expected a whole number from 0 to 4294967295, found a text in quotes; write it without quotes",
                &format!(
                    "f:11:7: checks[0].pg_subscription.evry: unknown key; did you mean \"every\"? {keys}"
                ),
                "f:12:30: checks[0].pg_subscription.target.tls: unknown word \"on\"; accepted: disable, verify-full",
                "f:12:34: checks[0].pg_subscription.target.prot: unknown key; did you mean \"port\"? accepted: host, tls, port",
                "f:13:5: checks[1].pg_subscripton: unknown word \"pg_subscripton\"; did you mean \"pg_subscription\"? accepted: pg_subscription, sql_query, vitals",
                "f:14:23: checks[2].sql_query.name: a name is made of small letters and _",
                "f:14:40: checks[2].sql_query.metrics[0][1]: expected a number, found \"x\"",
                "f:14:44: checks[2].sql_query.metrics[1]: expected a list of 2, found a list of 1",
                "f:14:49: checks[2].sql_query.metrics[2]: expected a list of 2, found a text",
                "f:14:61: checks[2].sql_query.sql: unknown key; accepted: name, metrics",
                "f:15:61: checks[3].pg_subscription.target: expected the name of a target or a target, found integer `7`",
                "f:16:13: checks[4].vitals: expected nothing, found a mapping",
                "f:17:5: checks[5]: expected one of pg_subscription, sql_query, vitals as the only key; indent what belongs to the first key below it",
                "f:19:5: checks[6]: expected one of pg_subscription, sql_query, vitals, found a list",
                "f:20:17: outputs.from: expected a whole number from 0 to 255, found \"300\"",
                "f:21:1: chekcs: unknown key; did you mean \"checks\"? accepted: targets, checks, outputs",
            ],
        );
    }

    #[test]
    fn checks_of_a_whole_value_are_made_only_on_what_the_person_wrote() {
        let start = "checks: []\noutputs: ";
        bad::<File>(&format!("{start}{{from: 2, to: 1}}"), &["f:2:10: outputs: from has to be less than to"]);
        bad::<File>(&format!("{start}{{from: 2}}"), &["f:2:10: outputs.to: missing key"]);
        bad::<File>(
            &format!("{start}{{from: 2, to: x}}"),
            &["f:2:24: outputs.to: expected a whole number from 0 to 255, found \"x\""],
        );
    }

    #[test]
    fn nothing_is_none_and_not_a_text() {
        good::<Vec<Option<String>>>("[~, null, '', 'null', x, nul]", {
            let text = |text: &str| Some(text.to_owned());
            vec![None, None, text(""), text("null"), text("x"), text("nul")]
        });
        bad::<Vec<String>>(
            "[~, a, null]",
            &["f:1:2: [0]: expected a string, found nothing", "f:1:8: [2]: expected a string, found nothing"],
        );
        bad::<File>("checks:", &["f:1:7: checks: expected a list, found nothing"]);
        bad::<File>("", &["f:1:1: checks: missing key"]);
        bad::<File>("[]", &["f:1:1: expected a mapping, found a list"]);
    }

    #[test]
    fn numbers_are_strict() {
        good::<Vec<i8>>("[0, -0, 12, -128]", vec![0, 0, 12, -128]);
        good::<Vec<f64>>("[0, -0.5, 1e3, 1.5E-1, 5.]", vec![0.0, -0.5, 1e3, 0.15, 5.0]);
        for text in ["1_000", "08", "+1", "0x10", "1e3", "1.0", "--1", "'1'", "１", "128"] {
            assert_eq!(faults_of::<Vec<i8>>(&format!("[{text}]")).1.len(), 1, "{text}");
        }
        for text in ["inf", ".inf", "nan", "1_0", "1e999", "e5", "--1", "01.5", "x", "'1'", "0x1"] {
            assert_eq!(faults_of::<Vec<f64>>(&format!("[{text}]")).1.len(), 1, "{text}");
        }
        for text in ["yes", "on", "True", "TRUE", "1", "'true'", "~"] {
            assert_eq!(faults_of::<Vec<bool>>(&format!("[{text}]")).1.len(), 1, "{text}");
        }
    }

    #[test]
    fn without_a_wanted_type_the_core_schema_decides_but_account_numbers_stay_text() {
        good::<serde_json::Value>(
            "a: [true, NO, 012, '5', 5, -5, 1.5, 0x1F, 0o17, ~, 2026-11-20, 18446744073709551616]\nb: {c: null}",
            serde_json::json!({
                "a": [true, "NO", "012", "5", 5, -5, 1.5, 31, 15, null, "2026-11-20", 18_446_744_073_709_551_616.0],
                "b": {"c": null}
            }),
        );
    }

    #[test]
    fn a_fault_of_the_tree_is_not_told_again_by_the_reader() {
        bad::<File>(
            "checks: [vitals, *nix]\noutputs: {from: x, to: *nix}",
            &[
                "f:1:18: checks[1]: unknown alias: there is no anchor &nix above",
                "f:2:17: outputs.from: expected a whole number from 0 to 255, found \"x\"",
                "f:2:24: outputs.to: unknown alias: there is no anchor &nix above",
            ],
        );
    }

    #[test]
    fn a_made_up_value_is_never_handed_out() {
        bad::<Range>("{from: 1, to: *nix}", &["f:1:15: to: unknown alias: there is no anchor &nix above"]);
        bad::<Vec<u8>>("[1, *nix]", &["f:1:5: [1]: unknown alias: there is no anchor &nix above"]);
    }

    #[test]
    fn words_that_were_read_elsewhere_are_part_of_the_advice() {
        let mut faults = Faults::default();
        let mut node = parse("f", "{evry: 5s, host: a}", &mut faults).unwrap();
        let _envelope = node.split(&["every"]);
        assert_eq!(read_rest::<Target>(&node, "checks[0].x", &["every"], &mut faults), None);
        assert_eq!(
            faults.to_string(),
            "f:1:2: checks[0].x.evry: unknown key; did you mean \"every\"? accepted: host, tls, port, every"
        );
    }

    #[test]
    fn the_number_of_faults_is_capped() {
        let text = format!("[{}]", "x, ".repeat(1000));
        let faults = faults_of::<Vec<u8>>(&text).1;
        assert_eq!(faults.len(), MOST_FAULTS + 1);
        assert_eq!(faults[0], "f:1:1: more than 100 faults; the rest is not shown");
    }

    #[test]
    fn no_clear_text_is_repeated_where_a_mapping_belongs() {
        let (_, faults) = faults_of::<File>("targets: {one: canary}\nchecks: canary\noutputs: canary");
        assert_eq!(faults.len(), 3);
        assert!(faults.iter().all(|fault| !fault.contains("canary")), "{faults:?}");
    }

    #[test]
    fn any_cut_and_any_changed_character_gives_a_value_or_faults_and_never_a_panic() {
        let text = "targets: {a: &t {host: x}}\nchecks:\n  - vitals\n  - sql_query: {name: b, metrics: [[x, 1]]}\n  - \
                    pg_subscription:\n      every: 5s\n      name: a\n      limit: 5\n      target: *t\n      code: 'a'\n";
        let check = |text: &str| {
            let mut faults = Faults::default();
            let node = parse("f", text, &mut faults);
            let of_the_tree = faults.len();
            let value = node.and_then(|node| read::<File>(&node, "", &mut faults));
            assert!(value.is_some() || !faults.is_empty(), "neither: {text}");
            assert!(value.is_none() || faults.len() == of_the_tree, "both: {text}");
        };
        for (n, letter) in text.char_indices() {
            let (before, after) = (&text[..n], &text[n + letter.len_utf8()..]);
            check(before);
            for change in ["", " ", "\n", "\t", ":", "-", "[", "}", "&", "*", "!", "'", "#", "~", "<<: ", "é"]
            {
                check(&format!("{before}{change}{after}"));
            }
        }
    }
}
