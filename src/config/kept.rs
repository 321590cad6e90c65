//! Strings of the configuration that are kept elsewhere: found when the type that reads them wants their value, and never repeated in a fault.

use super::fault::{Fault, Faults, Place};
use super::node::{Content, Node};
use super::secret::{Environment, FORMS, Reference, Secret, read_here};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// So many letters of a value give it away, in a fault about it ...
const TELLING: usize = 4;
/// ... and in a fault about something else, where a short one may be a word of ours.
const TELLING_ELSEWHERE: usize = 8;

/// Where the values of one reading of the configuration come from, and what they were.
pub(super) struct Sources {
    environment: Environment,
    /// Relative paths begin here.
    base: PathBuf,
    /// What AWS keeps, as far as it was asked for.
    fetched: BTreeMap<Reference, Secret>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Variables and files: one answer a reading, however often it is wanted.
    here: BTreeMap<Reference, Value>,
    /// What AWS keeps, and is wanted and not known yet, with the place and the path of who wants it.
    unknown: BTreeMap<Reference, (Place, String)>,
    /// What was handed out, and where.
    given: Vec<Given>,
}

/// A value that was handed out, and to whom.
struct Given {
    place: Place,
    path: String,
    reference: String,
    value: Arc<str>,
}

/// A scalar that is a reference, for whoever reads it as something else.
pub(super) struct Kept {
    written: Arc<str>,
    sources: Arc<Sources>,
    value: OnceLock<Value>,
}

/// What is behind a reference.
#[derive(Clone)]
pub(super) enum Value {
    /// This.
    Known(Arc<str>),
    /// Only AWS knows.
    Unknown,
    /// Nothing that can be used: why, and what to do.
    Fault(String),
}

/// Whether a text is a reference and nothing else: one that begins like it and has a blank in it is a text.
pub(super) fn is_reference(text: &str) -> bool {
    let schemes = ["env:", "file:", "ssm:", "secretsmanager:"];
    schemes.iter().any(|scheme| text.starts_with(scheme)) && !text.contains(char::is_whitespace)
}

impl Sources {
    /// Nothing was wanted yet.
    pub(super) fn new(
        environment: Environment,
        base: &Path,
        fetched: BTreeMap<Reference, Secret>,
    ) -> Arc<Self> {
        Arc::new(Self { environment, base: base.to_owned(), fetched, seen: Mutex::default() })
    }

    /// What was wanted and only AWS knows.
    pub(super) fn unknown(&self) -> BTreeMap<Reference, (Place, String)> {
        self.seen().unknown.clone()
    }

    /// Takes values out of faults: they may be secrets that stand at the wrong key.
    pub(super) fn hide(&self, faults: &mut Faults) {
        let seen = self.seen();
        faults.change(|fault| {
            for given in &seen.given {
                given.hide(fault);
            }
        });
    }

    fn find(&self, written: &str, place: &Place, path: &str) -> Value {
        let Some(reference) = Reference::parse(written) else {
            return Value::Fault(format!("not a whole reference; write {FORMS}"));
        };
        let mut seen = self.seen();
        let known = seen.here.get(&reference).cloned();
        let value = known.unwrap_or_else(|| match read_here(&self.environment, &self.base, &reference) {
            Some(Ok(value)) => Value::Known(Arc::from(value.expose())),
            Some(Err(problem)) => Value::Fault(problem.to_string()),
            None => match self.fetched.get(&reference) {
                Some(value) => Value::Known(Arc::from(value.expose())),
                None => Value::Unknown,
            },
        });
        seen.here.insert(reference.clone(), value.clone());
        match &value {
            Value::Known(text) => seen.given.push(Given {
                place: place.clone(),
                path: path.to_owned(),
                reference: reference.to_string(),
                value: Arc::clone(text),
            }),
            Value::Unknown => {
                seen.unknown.entry(reference).or_insert_with(|| (place.clone(), path.to_owned()));
            }
            Value::Fault(_) => {}
        }
        value
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Given {
    /// Takes the value out of a fault.
    fn hide(&self, fault: &mut Fault) {
        let Self { place, path, reference, value } = self;
        let own = fault.place.as_ref() == Some(place);
        // One about all of a list or a mapping is about what is in it, too.
        let about = own || !fault.key.is_empty() && path.starts_with(&fault.key);
        let long = value.chars().count() >= if about { TELLING } else { TELLING_ELSEWHERE };
        for text in std::iter::once(&mut fault.message).chain(&mut fault.hint) {
            if long {
                *text = text.replace(&**value, reference);
            } else if about {
                for quote in ['"', '`'] {
                    *text = text.replace(&format!("{quote}{value}{quote}"), reference);
                }
            }
        }
        if own {
            fault.hint = fault.hint.take().filter(|hint| !tells(hint, value));
            if tells(&fault.message, value) {
                fault.message = format!("what {reference} holds is not accepted here");
            } else if !fault.message.contains(reference) {
                fault.message.push_str(&format!(" (as {reference} has it)"));
            }
        }
    }
}

impl Kept {
    pub(super) fn new(written: Arc<str>, sources: Arc<Sources>) -> Self {
        Self { written, sources, value: OnceLock::new() }
    }

    /// The reference itself.
    pub(super) fn written(&self) -> &Arc<str> {
        &self.written
    }

    /// What it holds; looked for when it is wanted for the first time.
    pub(super) fn value(&self, place: &Place, path: impl FnOnce() -> String) -> &Value {
        self.value.get_or_init(|| self.sources.find(&self.written, place, &path()))
    }
}

impl Node {
    /// What a scalar means: its text, or what the reference holds as far as that is known.
    pub fn value(&self) -> Option<&str> {
        let Content::Kept(kept) = &self.content else { return self.text() };
        match kept.value(self.place(), String::new) {
            Value::Known(text) => Some(text),
            Value::Unknown | Value::Fault(_) => None,
        }
    }

    /// Takes the texts that are references for what they hold. Keys stay what they are.
    pub(super) fn resolve(&mut self, sources: &Arc<Sources>) {
        match &mut self.content {
            Content::Scalar(text, _) if is_reference(text) => {
                self.content = Content::Kept(Arc::new(Kept::new(Arc::clone(text), Arc::clone(sources))));
            }
            Content::List(items) => items.iter_mut().for_each(|item| item.resolve(sources)),
            Content::Mapping(entries) => entries.iter_mut().for_each(|entry| entry.value.resolve(sources)),
            Content::Scalar(..) | Content::Kept(_) | Content::Broken => {}
        }
    }

    /// Refuses a reference where a name stands: what has the name would be another one when the value changes.
    pub(super) fn refuse_reference(&self, path: &str, faults: &mut Faults) -> bool {
        let kept = matches!(self.content, Content::Kept(_));
        if kept {
            let fault = Fault::new(self.place(), path, "a name cannot be kept elsewhere");
            faults.push(fault.hint("write it here"));
        }
        kept
    }
}

/// Whether a text gives a value away: has it, or a piece of it.
fn tells(text: &str, value: &str) -> bool {
    let letters: Vec<char> = value.chars().collect();
    if letters.len() < TELLING {
        return text.contains(value);
    }
    letters.windows(TELLING).any(|piece| text.contains(&piece.iter().collect::<String>()))
}
