//! A course of values as a line of a few pixels.

use super::html::{escape, readable};
use crate::board::history::Piece;

/// Width and height of the picture, as the style sheet has them; the line keeps one from the upper and lower edge.
const WIDTH: f64 = 110.0;
const HEIGHT: f64 = 20.0;
/// Points of a line in the table of all checks: two hundred of them have to fit a page.
const FEW: usize = 24;

/// A short line of the highest values, for the table of all checks. Nothing for less than two points.
pub(super) fn short(pieces: &[Piece]) -> String {
    let joined = pieces.len().div_ceil(FEW).max(1);
    let points: Vec<Option<f64>> = pieces.chunks(joined).map(|chunk| highest(chunk.iter())).collect();
    let path = line(&points, range(pieces));
    if path.is_empty() {
        return path;
    }
    format!("<svg><path d=\"{path}\"/></svg>")
}

/// A line of the highest values and one of the lowest, with words for those who do not see it.
pub(super) fn whole(pieces: &[Piece], name: &str) -> String {
    let (low, high) = range(pieces);
    let value = |at: usize| -> Vec<Option<f64>> {
        pieces
            .iter()
            .map(|piece| piece.get(at).copied().map(f64::from).filter(|value| value.is_finite()))
            .collect()
    };
    let (lows, highs) = (line(&value(0), (low, high)), line(&value(1), (low, high)));
    if highs.is_empty() {
        return highs;
    }
    let least = pieces
        .iter()
        .filter_map(|piece| Some(f64::from(piece[0])).filter(|value| value.is_finite()))
        .fold(f64::INFINITY, f64::min);
    let words = format!("from {} to {}", readable(name, least), readable(name, high));
    format!(
        "<svg role=\"img\" aria-label=\"{}\"><path class=\"low\" d=\"{lows}\"/><path d=\"{highs}\"/></svg>",
        escape(&words)
    )
}

fn highest<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Option<f64> {
    pieces.map(|piece| f64::from(piece[1])).filter(|value| value.is_finite()).reduce(f64::max)
}

/// What the picture spans: from 0, unless there is less.
fn range(pieces: &[Piece]) -> (f64, f64) {
    let values = pieces.iter().flatten().map(|value| f64::from(*value)).filter(|value| value.is_finite());
    values.fold((0.0, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The line; a gap of one point is bridged, a longer one is a gap.
fn line(points: &[Option<f64>], (low, high): (f64, f64)) -> String {
    if points.iter().flatten().count() < 2 {
        return String::new();
    }
    let span = if high > low { high - low } else { 1.0 };
    let height = |value: f64| (HEIGHT - 1.0 - (value - low) / span * (HEIGHT - 2.0)).round();
    let (mut path, mut last): (String, Option<usize>) = (String::new(), None);
    for (at, value) in points.iter().enumerate() {
        let Some(value) = value else { continue };
        let y = height(*value);
        let word = if last.is_some_and(|last| at - last <= 2) { 'L' } else { 'M' };
        let x = (at as f64 * WIDTH / (points.len() - 1) as f64).round();
        path.push_str(&format!("{word}{x} {y}"));
        last = Some(at);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_spans_the_picture_from_zero_and_leaves_gaps() {
        let pieces: Vec<Piece> =
            [0.0, 10.0, f32::NAN, 5.0, f32::NAN, f32::NAN, 10.0].map(|value| [value, value]).into();
        assert_eq!(short(&pieces), "<svg><path d=\"M0 19L18 1L55 10M110 1\"/></svg>");
        assert!(whole(&pieces, "a_seconds").contains("aria-label=\"from 0 s to 10.0 s\""));
    }

    #[test]
    fn one_value_is_no_line_and_many_are_joined() {
        assert_eq!(short(&[[1.0, 1.0]]), "");
        let many = vec![[1.0, 2.0]; 72];
        let line = short(&many);
        assert!(line.matches('L').count() < FEW && line.len() < 220, "{line}");
        assert!(line.contains("M0 1L5 1"), "a steady value is a line at the top: {line}");
    }
}
