//! Times and counts as a scenario writes them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// A duration, or a time since the start of the scenario: `"200ms"`, `"12.5s"`, `"29m59.999s"`, `"24h"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut sum = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
            let (number, unit) = rest.split_at(digits);
            let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
            let (unit, next) = unit.split_at(end);
            let factor = match unit {
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 60e3,
                "h" => 3_600e3,
                _ => return None,
            };
            sum += number.parse::<f64>().ok()? * factor;
            rest = next;
        }
        // All times are whole milliseconds: tokio's timers are not finer.
        let ms = sum.round();
        let whole = !text.is_empty() && (sum - ms).abs() < 1e-6;
        whole.then(|| Self(Duration::from_millis(ms as u64)))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a time such as 12.5s or 1h30m")))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

/// A difference of a clock: `"+5m"` or `"-5m"`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    pub(crate) back: bool,
    pub(crate) by: Duration,
}

impl<'de> Deserialize<'de> for Shift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.split_at_checked(1).and_then(|(sign, rest)| {
            let by = Time::parse(rest)?.0;
            matches!(sign, "+" | "-").then_some(Self { back: sign == "-", by })
        });
        parsed.ok_or_else(|| D::Error::custom(format!("`{text}` is not a shift such as +5m or -1h")))
    }
}

/// What a value must be: one value, or any value from the first to the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range<T> {
    pub(crate) least: T,
    pub(crate) most: T,
}

impl<T: PartialOrd + Copy> Range<T> {
    pub(crate) fn exactly(value: T) -> Self {
        Self { least: value, most: value }
    }

    pub(crate) fn contains(&self, value: T) -> bool {
        self.least <= value && value <= self.most
    }
}

impl<'de, T: Deserialize<'de> + Copy + PartialOrd> Deserialize<'de> for Range<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "neither a value nor a list of two values")]
        enum OneOrTwo<T> {
            One(T),
            Two([T; 2]),
        }
        match OneOrTwo::deserialize(deserializer)? {
            OneOrTwo::One(value) => Ok(Self::exactly(value)),
            OneOrTwo::Two([least, most]) if least <= most => Ok(Self { least, most }),
            OneOrTwo::Two(_) => Err(D::Error::custom("the second value of a range is less than the first")),
        }
    }
}

impl<T: fmt::Display + PartialEq> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most { write!(f, "{}", self.least) } else { write!(f, "{} to {}", self.least, self.most) }
    }
}
