//! How the values of a check went over the last hours, for the page: a few series a check, 72 pieces of time each.
//!
//! The pieces begin as short as the check's interval allows and are joined in pairs when all are used, until they are five
//! minutes long; so a young process shows minutes and an old one hours, in the same memory.

use crate::check::headline::{Headline, Many};
use metrics::{Answer, Column, Kind, Values};
use std::time::Duration;

/// Pieces of time of a series.
pub const PIECES: usize = 72;
/// Series of one check; those of its headlines first.
const MOST_SERIES: usize = 12;
/// The shortest piece, in seconds.
const SHORTEST: i64 = 5;
/// Pieces do not become longer than this by joining, in seconds: 72 of them are 6.4 hours.
const LONGEST: i64 = 320;

/// The lowest and the highest value in a piece of time; NaN where there was none.
pub type Piece = [f32; 2];

const NOTHING: Piece = [f32::NAN; 2];

/// The series of one check.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Seconds of a piece; 0 before the first value.
    width: i64,
    /// Number of the piece that comes first: Unix time by width.
    first: i64,
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
struct Series {
    key: Box<str>,
    pieces: Vec<Piece>,
}

impl History {
    /// Takes the gauges of a good run that ended at `now`, Unix time in seconds.
    pub fn record(&mut self, answer: &Answer, headlines: &[Headline], every: Duration, now: i64) {
        let at = self.make_room(every, now);
        let headline =
            |column: &&Column| headlines.iter().position(|one| one.family == column.family().prometheus());
        let mut columns: Vec<&Column> = answer.columns().iter().filter(|column| is_gauge(column)).collect();
        columns.sort_by_key(|column| headline(column).unwrap_or(usize::MAX));
        for column in columns {
            let Values::Numbers(numbers) = column.values() else { continue };
            let family = column.family().prometheus();
            if numbers.len() > 1 {
                let many =
                    headlines.iter().find(|one| one.family == family).map_or(Many::Highest, |one| one.many);
                self.note(&family, at, many.one(numbers.iter().copied()));
            }
            for (row, number) in numbers.iter().enumerate() {
                let only = numbers.len() == 1;
                let name = if only { family.clone() } else { key(&family, column.labels(row)) };
                self.note(&name, at, Some(*number));
            }
        }
        self.series.retain(|series| series.pieces.iter().any(|piece| !piece[0].is_nan()));
    }

    /// The pieces of all samples of a family together, the oldest first: their sum or their highest, as its headline says.
    pub fn together(&self, family: &str) -> Option<&[Piece]> {
        self.find(family)
    }

    /// The pieces of one of several samples of a family, the oldest first.
    pub fn of<'a>(&self, family: &str, labels: impl Iterator<Item = &'a str>) -> Option<&[Piece]> {
        self.find(&key(family, labels))
    }

    fn find(&self, wanted: &str) -> Option<&[Piece]> {
        self.series.iter().find(|series| &*series.key == wanted).map(|series| series.pieces.as_slice())
    }

    /// How far back it goes.
    pub fn span(&self) -> Duration {
        let used = self.series.iter().map(|series| series.pieces.len()).max().unwrap_or_default();
        Duration::from_secs(self.width.unsigned_abs() * used as u64)
    }

    /// The place of `now`; older pieces are joined or go.
    fn make_room(&mut self, every: Duration, now: i64) -> usize {
        if self.width == 0 {
            let every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX / 4).max(1);
            self.width = SHORTEST;
            while self.width < every {
                self.width *= 2;
            }
            self.first = now.div_euclid(self.width);
        }
        loop {
            let place = now.div_euclid(self.width) - self.first;
            // A clock that was put back writes on where it was.
            let place = usize::try_from(place).unwrap_or_default();
            if place < PIECES {
                return place;
            }
            if self.width < LONGEST && place < 2 * PIECES {
                self.join();
            } else {
                let gone = place + 1 - PIECES;
                for series in &mut self.series {
                    series.pieces.drain(..gone.min(series.pieces.len()));
                }
                self.first += i64::try_from(gone).unwrap_or_default();
            }
        }
    }

    /// Makes one piece of two.
    fn join(&mut self) {
        let odd = self.first.rem_euclid(2) == 1;
        for series in &mut self.series {
            if odd {
                series.pieces.insert(0, NOTHING);
            }
            let joined = series
                .pieces
                .chunks(2)
                .map(|pair| pair.iter().fold(NOTHING, |a, b| [a[0].min(b[0]), a[1].max(b[1])]));
            series.pieces = joined.collect();
        }
        self.width *= 2;
        self.first = self.first.div_euclid(2);
    }

    fn note(&mut self, key: &str, at: usize, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else { return };
        let place = self.series.iter().position(|series| &*series.key == key);
        let place = match place {
            Some(place) => place,
            None if self.series.len() < MOST_SERIES => {
                self.series.push(Series { key: key.into(), pieces: Vec::new() });
                self.series.len() - 1
            }
            None => return,
        };
        let Some(series) = self.series.get_mut(place) else { return };
        if series.pieces.len() <= at {
            series.pieces.resize(at + 1, NOTHING);
        }
        if let Some(piece) = series.pieces.get_mut(at) {
            // min and max leave out what is no number.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a picture of 20 pixels needs no more digits"
            )]
            let value = value as f32;
            *piece = [piece[0].min(value), piece[1].max(value)];
        }
    }
}

fn is_gauge(column: &Column) -> bool {
    column.family().kind == Kind::Gauge && !column.family().is_info()
}

fn key<'a>(family: &str, labels: impl Iterator<Item = &'a str>) -> String {
    let mut key = family.to_owned();
    for label in labels {
        key.push('\u{1f}');
        key.push_str(label);
    }
    key
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers are kept as they are")]
mod tests {
    use super::*;
    use metrics::{Metric, Unit};

    static AGE: Metric<1> = Metric::gauge("test.age", Unit::Seconds, &["name"], "");
    static COUNT: Metric<1> = Metric::counter("test.count", Unit::None, &["name"], "");
    const EVERY: Duration = Duration::from_secs(5);

    fn answer(values: &[(&str, f64)]) -> Answer {
        let mut answer = Answer::new();
        for (name, value) in values {
            answer.set(&AGE, [name], *value);
            answer.set(&COUNT, [name], *value);
        }
        answer.seal();
        answer
    }

    fn seen(history: &History) -> Vec<Piece> {
        history.together("test_age_seconds").unwrap().to_vec()
    }

    fn has(history: &History, name: &str) -> bool {
        history.of("test_age_seconds", [name].into_iter()).is_some()
    }

    #[test]
    fn a_low_and_a_high_value_of_a_piece_are_both_kept() {
        let mut history = History::default();
        for (now, value) in [(100, 2.0), (101, 7.0), (102, 1.0), (106, 4.0)] {
            history.record(&answer(&[("a", value)]), &[], EVERY, now);
        }
        assert_eq!(seen(&history), [[1.0, 7.0], [4.0, 4.0]]);
        assert!(history.together("test_count_total").is_none(), "a counter has no course");
    }

    #[test]
    fn pieces_are_joined_until_they_are_long_and_then_go() {
        let mut history = History::default();
        for second in 0..40_000 {
            history.record(&answer(&[("a", f64::from(second))]), &[], EVERY, i64::from(second));
        }
        let pieces = seen(&history);
        assert!(pieces.len() <= PIECES && pieces.len() > PIECES / 2, "{}", pieces.len());
        assert_eq!(history.width, LONGEST);
        assert_eq!(pieces.last().unwrap()[1], 39_999.0);
        let whole = pieces.windows(2).all(|pair| pair[0][1] + 1.0 == pair[1][0]);
        assert!(whole, "joined pieces lie end to end: {pieces:?}");
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let mut history = History::default();
        history.record(&answer(&[("a", 1.0)]), &[], EVERY, 0);
        history.record(&answer(&[("a", 2.0)]), &[], EVERY, 20);
        let pieces = seen(&history);
        assert_eq!(pieces.len(), 5);
        assert!(pieces[1..4].iter().all(|piece| piece[0].is_nan()));
    }

    #[test]
    fn several_samples_have_a_course_each_and_one_together_and_the_number_is_bounded() {
        let many: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        let many: Vec<(&str, f64)> = many.iter().map(|name| (name.as_str(), 1.0)).collect();
        let mut history = History::default();
        let sum = [Headline::sum("test_age_seconds", "names")];
        history.record(&answer(&many), &sum, EVERY, 0);
        assert_eq!(seen(&history), [[40.0, 40.0]]);
        assert_eq!(history.series.len(), MOST_SERIES);
        assert!(!has(&history, "39"));
    }

    #[test]
    fn a_series_that_is_gone_makes_room() {
        let mut history = History::default();
        history.record(&answer(&[("a", 1.0), ("b", 1.0)]), &[], EVERY, 0);
        for second in (0..60_000).step_by(60) {
            history.record(&answer(&[("a", 1.0), ("c", 1.0)]), &[], EVERY, second);
        }
        assert!(!has(&history, "b"));
        assert!(has(&history, "c"));
    }

    #[test]
    fn a_leap_of_the_clock_harms_nothing() {
        let mut history = History::default();
        for now in [1_000_000_000, 10, 2_000_000_000, 2_000_000_001] {
            history.record(&answer(&[("a", 1.0)]), &[], EVERY, now);
        }
        assert!(seen(&history).len() <= PIECES);
    }
}
