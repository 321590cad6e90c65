//! Faults of a configuration: where, which key, what is wrong, what to write instead; all of them, not only the first.

use std::fmt;
use std::sync::Arc;

/// Words longer than this are not compared: no key is that long, and the comparison takes the product of both lengths.
const LONGEST_WORD: usize = 64;

/// A position in a file; line and column count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named to us.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where it stands; `None` for what is in no file (a command-line argument).
    pub place: Option<Place>,
    /// Path of the key, such as `checks[2].pg_subscription.every`; empty for the whole file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault at a place.
    pub fn new(place: &Place, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: Some(place.clone()), key: key.into(), message: message.into(), hint: None }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Collects faults, so that a person sees all of them at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Changes each fault.
    pub(super) fn change(&mut self, change: impl FnMut(&mut Fault)) {
        self.0.iter_mut().for_each(change);
    }

    /// No fault so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of faults so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The faults in the order of their places; those without a place come first.
    pub fn into_sorted(mut self) -> Vec<Fault> {
        self.0.sort();
        self.0
    }
}

impl fmt::Display for Faults {
    /// One fault a line, in the order of their places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.clone().into_sorted().iter().enumerate() {
            write!(f, "{}{fault}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Where a value stands inside the tree; written only when there is a fault to report.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    /// The node that reading began with, and its own path.
    Root(&'a str),
    /// A value of a mapping.
    Key(&'a Path<'a>, &'a str),
    /// An item of a list.
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(path) => f.write_str(path),
            Self::Key(Self::Root(""), key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The accepted word that is nearest to what was written, if one is near enough to be meant.
pub fn suggest<'a>(word: &str, accepted: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let near = accepted.into_iter().map(|known| (distance(word, known), known));
    near.filter(|(distance, known)| *distance <= allowed && *distance < known.len())
        .min_by_key(|(d, _)| *d)
        .map(|(_, known)| known)
}

/// `did you mean "every"? accepted: name, every`, as far as there is something to say.
pub(super) fn advice<'a>(word: &str, accepted: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let words: Vec<&str> = accepted.clone().into_iter().collect();
    let list = if words.is_empty() {
        "no keys are accepted here".to_owned()
    } else {
        format!("accepted: {}", words.join(", "))
    };
    match suggest(word, accepted) {
        Some(nearest) => format!("did you mean {nearest:?}? {list}"),
        None => list,
    }
}

/// A text of the configuration in quotes, cut so that a pasted file cannot fill the screen.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(LONGEST_WORD).collect::<String>())
}

/// Number of edits between two words: a letter added, lost, changed, or two neighbours swapped. Case and `-` for `_` cost nothing.
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| word.chars().take(LONGEST_WORD).map(plain).collect::<Vec<char>>();
    let (a, b) = (letters(a), letters(b));
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for (j, (to, pair)) in b.iter().zip(row.windows(2)).enumerate() {
            let &[corner, above] = pair else { continue };
            left = (corner + usize::from(from != to)).min(above + 1).min(left + 1);
            let last = (i.checked_sub(1).and_then(|i| a.get(i)), j.checked_sub(1).and_then(|j| b.get(j)));
            if let (true, Some(swapped)) =
                (last == (Some(to), Some(from)), j.checked_sub(1).and_then(|j| before.get(j)))
            {
                left = left.min(swapped + 1);
            }
            next.push(left);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(a.len())
}

fn plain(letter: char) -> char {
    if letter == '-' { '_' } else { letter.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["name", "every", "timeout", "verify-full", "pg_subscription"];
        for (word, expected) in [
            ("evry", Some("every")),
            ("Every", Some("every")),
            ("every_", Some("every")),
            ("nmae", Some("name")),
            ("tiemout", Some("timeout")),
            ("verify_full", Some("verify-full")),
            ("pg_subscripton", Some("pg_subscription")),
            ("interval", None),
            ("", None),
        ] {
            assert_eq!(suggest(word, words), expected, "{word}");
        }
        assert_eq!(suggest("x", ["a", "b"]), None, "one letter for another is no likeness");
    }

    #[test]
    fn a_fault_reads_place_key_message_hint() {
        let place = Place { file: "conf.yml".into(), line: 12, column: 7 };
        let fault = Fault::new(&place, "checks[2].pg_subscription.evry", "unknown key")
            .hint(advice("evry", ["name", "every"]));
        assert_eq!(
            fault.to_string(),
            "conf.yml:12:7: checks[2].pg_subscription.evry: unknown key; did you mean \"every\"? accepted: name, every"
        );
        let bare = Fault { place: None, key: String::new(), message: "no checks".into(), hint: None };
        assert_eq!(bare.to_string(), "no checks");
    }

    #[test]
    fn faults_are_listed_in_the_order_of_their_places() {
        let at = |line| Fault::new(&Place { file: "a.yml".into(), line, column: 1 }, "k", "m");
        let mut faults = Faults::default();
        for line in [10, 9, 2] {
            faults.push(at(line));
        }
        assert_eq!(faults.to_string(), "a.yml:2:1: k: m\na.yml:9:1: k: m\na.yml:10:1: k: m");
    }
}
