//! A snapshot as Prometheus text 0.0.4 or `OpenMetrics` 1.0.0.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use crate::answer::{Buckets, Values};
use crate::family::{Family, Kind};
use crate::group::{Group, Member, View};
use crate::number;
use crate::snapshot::{Part, Snapshot};
use std::time::Instant;

/// A guess at the bytes of a family's comment lines and of a sample's line: growing a body copies it again and again.
const HEAD_ROOM: usize = 160;
const LINE_ROOM: usize = 80;

/// Room for a sample's value and the punctuation around it; a wrong guess only costs one more growth of the buffer.
const VALUE_ROOM: usize = 16;

/// Which of the two text formats is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Prometheus text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

/// The `Content-Type` of a body.
pub const fn content_type(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Text => "text/plain; version=0.0.4; charset=utf-8",
        Dialect::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }
}

/// Writes what may be shown at `now`, all lines of a family in one group: families by name, parts as in the snapshot,
/// then rows. With `checks` only the parts whose label `check` is among them; for an unknown name that is nothing (in
/// `OpenMetrics` the end mark alone).
pub fn encode(snapshot: &Snapshot, now: Instant, dialect: Dialect, checks: &[String]) -> Vec<u8> {
    let wanted = |part: &Part| {
        checks.is_empty() || part.label("check").is_some_and(|name| checks.iter().any(|c| c == name))
    };
    let view = View::new(snapshot, now, wanted);
    let shared: Vec<Vec<u8>> = view.parts.iter().map(|part| pairs(labels_of(part))).collect();
    let rows: usize =
        view.groups.iter().flat_map(|group| &group.members).map(|member| member.column.len()).sum();
    let mut out = Vec::with_capacity(view.groups.len() * HEAD_ROOM + rows * LINE_ROOM);
    for group in &view.groups {
        let sample = write_head(&mut out, group, dialect);
        for member in &group.members {
            let own;
            let shared = match shared.get(member.at) {
                Some(ready) if !member.shadowed => ready,
                _ => {
                    own = pairs(member.shared());
                    &own
                }
            };
            match member.column.values() {
                Values::Numbers(numbers) => write_numbers(&mut out, sample, shared, member, numbers),
                Values::Histograms(bounds, rows) => {
                    let bounds = bounds.iter().map(|bound| spell_bound(*bound, dialect)).collect::<Vec<_>>();
                    write_histograms(&mut out, sample, shared, member, &bounds, rows);
                }
            }
        }
    }
    if dialect == Dialect::OpenMetrics {
        out.extend_from_slice(b"# EOF\n");
    }
    out
}

fn labels_of(part: &Part) -> impl Iterator<Item = (&str, &str)> {
    part.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// `a="1",b="2"`, escaped.
fn pairs<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        escape(&mut out, value);
        out.push(b'"');
    }
    out
}

/// Writes the comment lines of a family and returns the name of its samples.
fn write_head<'a>(out: &mut Vec<u8>, group: &'a Group<'_>, dialect: Dialect) -> &'a str {
    let family = group.family;
    let sample = group.name.as_str();
    let (name, kind) = match (dialect, family.kind) {
        (_, Kind::Histogram) => (sample, "histogram"),
        (Dialect::Text, Kind::Counter(_)) => (sample, "counter"),
        (Dialect::OpenMetrics, Kind::Counter(_)) => {
            (sample.strip_suffix("_total").unwrap_or(sample), "counter")
        }
        (Dialect::Text, Kind::Gauge) => (sample, "gauge"),
        (Dialect::OpenMetrics, Kind::Gauge) => match sample.strip_suffix("_info") {
            Some(stem) if family.is_info() && only_ones(group) => (stem, "info"),
            _ => (sample, "gauge"),
        },
    };
    if !family.help.is_empty() {
        comment(out, "HELP", name, |out| escape_help(out, &family.help, dialect));
    }
    comment(out, "TYPE", name, |out| out.extend_from_slice(kind.as_bytes()));
    if dialect == Dialect::OpenMetrics
        && let Some(unit) = unit(family)
    {
        comment(out, "UNIT", name, |out| out.extend_from_slice(unit.as_bytes()));
    }
    sample
}

/// `OpenMetrics` allows no other value in an info family; a configured gauge whose name looks like one stays a gauge.
fn only_ones(group: &Group<'_>) -> bool {
    #[expect(clippy::float_cmp, reason = "exactly 1 is the rule")]
    let ones =
        |values: &Values| matches!(values, Values::Numbers(numbers) if numbers.iter().all(|n| *n == 1.0));
    group.members.iter().all(|member| ones(member.column.values()))
}

fn comment(out: &mut Vec<u8>, word: &str, name: &str, rest: impl FnOnce(&mut Vec<u8>)) {
    for piece in ["# ", word, " ", name, " "] {
        out.extend_from_slice(piece.as_bytes());
    }
    rest(out);
    out.push(b'\n');
}

fn unit(family: &Family) -> Option<&'static str> {
    family.unit.suffix().strip_prefix('_')
}

/// The loop that costs: everything that is equal in all rows is joined before it.
fn write_numbers(out: &mut Vec<u8>, sample: &str, shared: &[u8], member: &Member<'_>, numbers: &[f64]) {
    let column = member.column;
    let mut piece = [sample.as_bytes(), if shared.is_empty() { b"" } else { b"{" }, shared].concat();
    let mut separator: &[u8] = if shared.is_empty() { b"{" } else { b"," };
    let mut pieces = Vec::with_capacity(column.family().labels.len());
    for label in column.family().labels.iter() {
        pieces.push([&piece, separator, label.as_bytes(), b"=\""].concat());
        piece.clear();
        separator = b"\",";
    }
    let end: &[u8] = match (pieces.is_empty(), shared.is_empty()) {
        (true, true) => b" ",
        (true, false) => b"} ",
        (false, _) => b"\"} ",
    };
    // Without own labels the one piece is the whole sample, and `end` closes it.
    let whole = if pieces.is_empty() { piece } else { Vec::new() };
    let fixed = whole.len() + pieces.iter().map(Vec::len).sum::<usize>() + end.len() + VALUE_ROOM;
    out.reserve(numbers.len() * fixed + column.arena().len());
    let plain = !needs_escape(column.arena());
    for (row, value) in numbers.iter().enumerate() {
        if member.hides(row) {
            continue;
        }
        out.extend_from_slice(&whole);
        for (piece, label) in pieces.iter().zip(column.labels(row)) {
            out.extend_from_slice(piece);
            if plain {
                out.extend_from_slice(label.as_bytes());
            } else {
                escape(out, label);
            }
        }
        out.extend_from_slice(end);
        number::push(out, *value);
        out.push(b'\n');
    }
}

/// A bound as it stands in the label `le`.
fn spell_bound(bound: f64, dialect: Dialect) -> Vec<u8> {
    match dialect {
        Dialect::OpenMetrics => number::canonical(bound).into_bytes(),
        Dialect::Text => {
            let mut out = Vec::new();
            number::push(&mut out, bound);
            out
        }
    }
}

fn write_histograms(
    out: &mut Vec<u8>,
    sample: &str,
    shared: &[u8],
    member: &Member<'_>,
    bounds: &[Vec<u8>],
    rows: &[Buckets],
) {
    let names: Vec<&str> = member.column.family().labels.iter().collect();
    for (row, buckets) in rows.iter().enumerate() {
        if member.hides(row) {
            continue;
        }
        let mut labels = shared.to_vec();
        let own = pairs(names.iter().copied().zip(member.column.labels(row)));
        if !labels.is_empty() && !own.is_empty() {
            labels.push(b',');
        }
        labels.extend_from_slice(&own);
        let comma: &[u8] = if labels.is_empty() { b"" } else { b"," };
        let total = buckets.count();
        let mut below = 0;
        let bounded = bounds.iter().map(Vec::as_slice).zip(&buckets.counts).map(|(bound, count)| {
            below += count;
            (bound, below)
        });
        for (bound, count) in bounded.chain([(&b"+Inf"[..], total)]) {
            for piece in [sample.as_bytes(), b"_bucket{", &labels, comma, b"le=\"", bound, b"\"} "] {
                out.extend_from_slice(piece);
            }
            number::push_count(out, count);
            out.push(b'\n');
        }
        let (open, close): (&[u8], &[u8]) = if labels.is_empty() { (b"", b" ") } else { (b"{", b"} ") };
        for (suffix, value) in [(&b"_sum"[..], None), (b"_count", Some(total))] {
            for piece in [sample.as_bytes(), suffix, open, &labels, close] {
                out.extend_from_slice(piece);
            }
            match value {
                Some(count) => number::push_count(out, count),
                None => number::push(out, buckets.sum),
            }
            out.push(b'\n');
        }
    }
}

/// One look at many bytes: counting has no early end, so the compiler turns it into vector instructions.
fn needs_escape(text: &str) -> bool {
    text.bytes().filter(|byte| matches!(byte, b'\\' | b'"' | b'\n')).count() > 0
}

fn escape(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
}

/// The older format leaves quotes in help texts alone.
fn escape_help(out: &mut Vec<u8>, help: &str, dialect: Dialect) {
    match dialect {
        Dialect::OpenMetrics => escape(out, help),
        Dialect::Text => {
            out.extend_from_slice(help.replace('\\', "\\\\").replace('\n', "\\n").as_bytes());
        }
    }
}
