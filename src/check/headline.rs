//! The value of a check that people want to see first.

/// One value out of many: the page shows it beside the check's name, with its course over the last hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headline {
    /// The family, by its Prometheus name.
    pub family: &'static str,
    /// What it says, in two or three words.
    pub words: &'static str,
    /// What stands for several samples.
    pub many: Many,
}

/// What stands for the samples of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// The highest, as of ages and lags.
    Highest,
    /// Their sum, as of counts.
    Sum,
}

impl Headline {
    /// The highest sample of a family.
    pub const fn highest(family: &'static str, words: &'static str) -> Self {
        Self { family, words, many: Many::Highest }
    }

    /// The sum of the samples of a family.
    pub const fn sum(family: &'static str, words: &'static str) -> Self {
        Self { family, words, many: Many::Sum }
    }
}

impl Many {
    /// One value for all; nothing for none. What is no number is left out.
    pub fn one(self, values: impl IntoIterator<Item = f64>) -> Option<f64> {
        let numbers = values.into_iter().filter(|value| value.is_finite());
        numbers.reduce(match self {
            Self::Highest => f64::max,
            Self::Sum => |a, b| a + b,
        })
    }
}
