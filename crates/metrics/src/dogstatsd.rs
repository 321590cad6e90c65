//! A snapshot as `DogStatsD` lines (<https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>).

use crate::answer::{Buckets, Values};
use crate::delta::{self, Deltas, Gain};
use crate::family::{Family, Kind};
use crate::group::{Member, View};
use crate::number;
use crate::snapshot::Snapshot;
use std::time::Instant;

/// Datadog cuts longer tags; cut here, equal on every way to it.
const LONGEST_TAG_VALUE: usize = 200;

/// What the configuration says about the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Put before every name but a `datadog_name`, with a dot between them.
    pub prefix: String,
    /// Tags of every line.
    pub tags: Vec<(String, String)>,
    /// Labels that are not sent. Gauges that differ only in them overwrite each other, counts add up.
    pub drop_labels: Vec<String>,
}

/// Hands over one line per sample, without line end: gauges every time, totals as what they gained since `deltas` last
/// saw them. Nothing is handed over for NaN and infinities, which the agent refuses, and for families that are not pushed.
///
/// Histograms go the way of Datadog's own `OpenMetrics` check: `.count`, `.sum`, and a `.bucket` for every bound with
/// the tag `upper_bound`, cumulative, all of them counts. The tag's values are floats that show it: `upper_bound:0.1`,
/// `upper_bound:1.0`, `upper_bound:3600.0`. There is no bucket for `+Inf`: that is `.count`.
pub fn render(
    snapshot: &Snapshot,
    now: Instant,
    options: &Options,
    deltas: &mut Deltas,
    emit: &mut dyn FnMut(&str),
) {
    let view = View::new(snapshot, now, |_| true);
    let constant = Tags::new(options.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    for group in view.groups.iter().filter(|group| group.family.pushed) {
        let name = name(group.family, options);
        for member in &group.members {
            let mut line = Line::new(&name, &constant, member, options);
            match (member.column.values(), member.column.family().kind) {
                (Values::Numbers(values), Kind::Gauge | Kind::Histogram) => {
                    for (row, value) in values.iter().enumerate() {
                        if !member.hides(row) {
                            line.emit("", *value, "|g", row, "", emit);
                        }
                    }
                }
                (Values::Numbers(totals), Kind::Counter(origin)) => {
                    let base = deltas.base(group, member);
                    for (row, total) in totals.iter().enumerate() {
                        if !member.hides(row)
                            && let Some(gain) =
                                deltas.number(delta::key(&base, member, row), *total, origin, now)
                        {
                            line.emit("", gain, "|c", row, "", emit);
                        }
                    }
                }
                (Values::Histograms(bounds, rows), _) => {
                    let base = deltas.base(group, member);
                    let bounds: Vec<String> = bounds
                        .iter()
                        .map(|bound| format!("upper_bound:{}", number::with_point(*bound)))
                        .collect();
                    for (row, total) in rows.iter().enumerate() {
                        if !member.hides(row)
                            && let Some(gain) = deltas.histogram(delta::key(&base, member, row), total, now)
                        {
                            line.emit_histogram(&gain, &bounds, row, emit);
                        }
                    }
                }
            }
        }
    }
    deltas.sweep(now);
}

/// The name of a family, with nothing in it that could end it early.
fn name(family: &Family, options: &Options) -> String {
    let name = match &family.datadog_name {
        Some(name) => name.clone(),
        None if options.prefix.is_empty() || options.prefix.ends_with('.') => {
            format!("{}{}", options.prefix, family.name)
        }
        None => format!("{}.{}", options.prefix, family.name),
    };
    name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_', "_")
}

/// Cleaned tags, joined: `check:orders,team:core`.
#[derive(Clone, Default)]
struct Tags(String);

impl Tags {
    fn new<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut tags = Self::default();
        for (name, value) in labels {
            tags.add(&clean_name(name), value);
        }
        tags
    }

    /// A tag without a value says what its absence says, and the agent would cut its colon: it is left out.
    fn add(&mut self, clean_name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(clean_name);
        self.0.push(':');
        push_clean(&mut self.0, value);
    }
}

/// A tag's name ends at its first colon.
fn clean_name(name: &str) -> String {
    let mut clean = String::with_capacity(name.len());
    push_clean(&mut clean, name);
    clean.replace(|c: char| c == ':' || c.is_whitespace(), "_")
}

/// No label value can end its tag or its line and begin another metric. Lower case is made by the agent.
fn push_clean(out: &mut String, text: &str) {
    let ends_something = |c: char| matches!(c, '|' | ',' | '#') || c.is_control();
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'|' | b',' | b'#') || byte == b' ';
    if text.len() <= LONGEST_TAG_VALUE && text.bytes().all(plain) {
        out.push_str(text);
        return;
    }
    out.extend(text.chars().take(LONGEST_TAG_VALUE).map(|c| if ends_something(c) { '_' } else { c }));
}

/// Lines of one column, in one buffer.
struct Line<'a> {
    name: &'a str,
    member: &'a Member<'a>,
    /// Tags of all rows.
    common: Tags,
    /// The clean names of the family's own labels; `None` is not sent.
    names: Vec<Option<String>>,
    text: Vec<u8>,
    tags: Tags,
}

impl<'a> Line<'a> {
    fn new(name: &'a str, constant: &Tags, member: &'a Member<'a>, options: &Options) -> Self {
        let sent = |name: &str| options.drop_labels.iter().all(|dropped| dropped != name);
        let mut common = constant.clone();
        for (name, value) in member.shared().filter(|(name, _)| sent(name)) {
            common.add(&clean_name(name), value);
        }
        let own = member.column.family().labels.iter();
        let names = own.map(|name| sent(name).then(|| clean_name(name))).collect();
        Self { name, member, common, names, text: Vec::new(), tags: Tags::default() }
    }

    fn emit(
        &mut self,
        suffix: &str,
        value: f64,
        kind: &str,
        row: usize,
        tag: &str,
        emit: &mut dyn FnMut(&str),
    ) {
        if !value.is_finite() {
            return;
        }
        self.tags.0.clone_from(&self.common.0);
        for (name, value) in self.names.iter().zip(self.member.column.labels(row)) {
            if let Some(name) = name {
                self.tags.add(name, value);
            }
        }
        if !tag.is_empty() {
            if !self.tags.0.is_empty() {
                self.tags.0.push(',');
            }
            self.tags.0.push_str(tag);
        }
        self.text.clear();
        for piece in [self.name, suffix, ":"] {
            self.text.extend_from_slice(piece.as_bytes());
        }
        number::push(&mut self.text, value);
        self.text.extend_from_slice(kind.as_bytes());
        if !self.tags.0.is_empty() {
            self.text.extend_from_slice(b"|#");
            self.text.extend_from_slice(self.tags.0.as_bytes());
        }
        if let Ok(line) = std::str::from_utf8(&self.text) {
            emit(line);
        }
    }

    fn emit_histogram(&mut self, gain: &Gain, bounds: &[String], row: usize, emit: &mut dyn FnMut(&str)) {
        let Gain { buckets: Buckets { counts, sum }, first } = gain;
        self.emit(".count", gain.buckets.count() as f64, "|c", row, "", emit);
        self.emit(".sum", *sum, "|c", row, "", emit);
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(counts) {
            below += count;
            if below > 0 || *first {
                self.emit(".bucket", below as f64, "|c", row, bound, emit);
            }
        }
    }
}
