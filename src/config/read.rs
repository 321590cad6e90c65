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

/// Reads a value; every fault is noted with its place and its path below `path`. `None` when there was at least one.
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
    for _ in 0..MOST_PASSES {
        let trouble =
            match at(Reader { node, path: &path, also, repairs: &repairs, hollow: false }, PhantomData) {
                Ok(value) => return (faults.len() == before).then_some(value),
                Err(Error(trouble)) => *trouble,
            };
        if let Cause::Fault(fault) = trouble.cause {
            faults.push(fault);
        }
        if faults.len() - before >= MOST_FAULTS {
            let message = format!("more than {MOST_FAULTS} faults; the rest is not shown");
            faults.push(Fault::new(node.place(), path.to_string(), message));
            return None;
        }
        let Some(repair) = trouble.repair else { break };
        repairs.add(repair);
    }
    if faults.is_empty() {
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
            Cause::Fault(_) | Cause::Told => (cause, repair),
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
                let own = reader.node.text() == Some(&*word);
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
