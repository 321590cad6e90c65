//! Durations as counts per width, from which quantiles are read.

/// Each power of two is cut into this many widths: a quantile is at most 1/16, about 6 %, above the true one.
const WIDTHS: u64 = 16;
const BITS: u32 = WIDTHS.trailing_zeros();

/// Counts of durations in microseconds. Grows with the number of different widths, of which there are fewer than 1,000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Index of the width and count, in the order of the index.
    counts: Vec<(u16, u64)>,
    all: u64,
    largest: u64,
}

impl Times {
    /// Adds a duration.
    pub fn add(&mut self, micros: u64) {
        self.all += 1;
        self.largest = self.largest.max(micros);
        let width = index(micros);
        match self.counts.binary_search_by_key(&width, |(width, _)| *width) {
            Ok(at) => {
                if let Some((_, count)) = self.counts.get_mut(at) {
                    *count += 1;
                }
            }
            Err(at) => self.counts.insert(at, (width, 1)),
        }
    }

    /// The duration in microseconds that this share of all does not exceed; `None` when there is none.
    ///
    /// It is the upper end of a width, so it is never too low and at most 1/16 too high, and never above the largest.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        if self.all == 0 {
            return None;
        }
        // Counts stay far below 2^52, where f64 is exact.
        let wanted = (self.all as f64 * share).ceil().max(1.0);
        let mut passed = 0;
        for (width, count) in &self.counts {
            passed += count;
            if passed as f64 >= wanted {
                return Some(upper_end(*width).min(self.largest));
            }
        }
        Some(self.largest)
    }

    /// The longest; `None` when there is none.
    pub fn largest(&self) -> Option<u64> {
        (self.all > 0).then_some(self.largest)
    }
}

/// Below 16 each value has a width of its own; above, the highest bits choose the power of two, the four behind them the width.
fn index(micros: u64) -> u16 {
    if let Some(small) = u16::try_from(micros).ok().filter(|small| u64::from(*small) < WIDTHS) {
        return small;
    }
    let power = micros.ilog2();
    let place = (micros >> (power - BITS)) & (WIDTHS - 1);
    let index = u64::from(power - BITS + 1) * WIDTHS + place;
    u16::try_from(index).unwrap_or(u16::MAX)
}

fn upper_end(index: u16) -> u64 {
    let index = u64::from(index);
    if index < WIDTHS {
        return index;
    }
    let (power, place) = (index / WIDTHS - 1, index % WIDTHS);
    let low = u128::from(WIDTHS + place + 1) << power;
    u64::try_from(low - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_duration_gives_no_quantile() {
        assert_eq!(Times::default().quantile(0.5), None);
        assert_eq!(Times::default().largest(), None);
    }

    #[test]
    fn every_duration_lies_in_its_width_and_the_width_is_narrow() {
        let powers = (0..64).map(|power| 1_u64 << power);
        let around = powers.flat_map(|power| [power - 1, power, power + power / 3, power + (power - 1)]);
        for micros in around.chain(0..5000).chain([u64::MAX]) {
            let end = upper_end(index(micros));
            assert!(end >= micros, "{micros} ends at {end}");
            assert!(end - micros <= micros / WIDTHS, "{micros} ends at {end}");
        }
    }

    #[test]
    fn widths_are_in_the_order_of_durations() {
        let all: Vec<u16> = (0..100_000).map(index).collect();
        assert!(all.is_sorted());
    }

    #[test]
    fn quantiles_are_within_a_sixteenth_of_the_true_ones() {
        let mut times = Times::default();
        for micros in (1..=10_000).rev() {
            times.add(micros);
        }
        for (share, exact) in [(0.0, 1), (0.5, 5000), (0.95, 9500), (1.0, 10_000)] {
            let got = times.quantile(share).unwrap();
            assert!(got >= exact && got <= exact + exact / WIDTHS, "{share}: {got}");
        }
        assert_eq!(times.largest(), Some(10_000));
    }
}
