//! Amounts of CPU, memory and anything else that is counted: `500m`, `1Gi`, `2e3`.
//!
//! Kept as whole nano-units in an `i128`, so that comparing and adding never rounds and `1000m`
//! equals `1`. The grammar and the canonical form are Kubernetes' `resource.Quantity`: the value is
//! printed in the family of suffixes it was written in, with the largest suffix that keeps it whole.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

const NANO: i128 = 1_000_000_000;
/// Kubernetes caps a quantity at 2^63-1; so do we, in nano-units.
const NANO_MAX: i128 = (i64::MAX as i128) * NANO;

/// The family of suffixes a quantity is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suffixes {
    /// `n u m "" k M G T P E`: powers of 1000.
    #[default]
    Decimal,
    /// `Ki Mi Gi Ti Pi Ei`: powers of 1024.
    Binary,
    /// `e3`, `E6`: powers of ten.
    Exponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    suffixes: Suffixes,
}

const BINARY: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const DECIMAL: [(&str, i128); 10] = [
    ("E", NANO * 1_000_000_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("G", NANO * 1_000_000_000),
    ("M", NANO * 1_000_000),
    ("k", NANO * 1_000),
    ("", NANO),
    ("m", NANO / 1_000),
    ("u", NANO / 1_000_000),
    ("n", 1),
];

impl Quantity {
    /// Nothing of it.
    pub const ZERO: Self = Self { nano: 0, suffixes: Suffixes::Decimal };

    /// A whole number of units.
    pub const fn units(units: i64) -> Self {
        Self { nano: units as i128 * NANO, suffixes: Suffixes::Decimal }
    }

    /// Thousandths: how CPU is counted.
    pub const fn millis(millis: i64) -> Self {
        Self { nano: millis as i128 * (NANO / 1000), suffixes: Suffixes::Decimal }
    }

    /// Bytes, shown with binary suffixes.
    pub const fn bytes(bytes: i64) -> Self {
        Self { nano: bytes as i128 * NANO, suffixes: Suffixes::Binary }
    }

    /// Reads Kubernetes' notation; the error says what a quantity looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_inner(text).ok_or_else(|| {
            format!("'{text}' is not a quantity: write a number with an optional suffix, as in 500m, 1.5 or 64Mi")
        })
    }

    fn parse_inner(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let negative = text.starts_with('-');
        let digits_end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (multiplier, suffixes) = multiplier(suffix)?;
        let magnitude = scaled(whole, fraction, multiplier)?;
        let nano = if negative { -magnitude } else { magnitude };
        Some(Self { nano, suffixes })
    }

    /// In thousandths, rounded up as Kubernetes' `MilliValue` does.
    pub fn as_millis(&self) -> i64 {
        saturate(div_ceil(self.nano, NANO / 1000))
    }

    /// In whole units, rounded up as Kubernetes' `Value` does.
    pub fn as_units(&self) -> i64 {
        saturate(div_ceil(self.nano, NANO))
    }

    /// The same amount, to be printed in decimal suffixes whatever family it was written in: equal
    /// amounts then have equal texts.
    #[must_use]
    pub const fn in_decimal(self) -> Self {
        Self { nano: self.nano, suffixes: Suffixes::Decimal }
    }

    /// So many of it.
    #[must_use]
    pub const fn times(self, count: u32) -> Self {
        Self { nano: self.nano.saturating_mul(count as i128), suffixes: self.suffixes }
    }

    /// How it compares to `ratio` times `other`.
    pub fn cmp_times(&self, ratio: &Self, other: &Self) -> std::cmp::Ordering {
        // A product that is cut short is above any that is not.
        self.nano.saturating_mul(NANO).cmp(&ratio.nano.saturating_mul(other.nano))
    }

    /// Whether it is exactly nothing.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// Whether it is below nothing.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether it is a whole number of units; extended resources must be.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

/// The nano-units that one unit of `suffix` has.
fn multiplier(suffix: &str) -> Option<(i128, Suffixes)> {
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((power * NANO, Suffixes::Binary));
    }
    if let Some((_, nano)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((*nano, Suffixes::Decimal));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = u32::try_from(exponent.checked_add(9)?).ok()?;
    Some((10_i128.checked_pow(power)?, Suffixes::Exponent))
}

/// `whole.fraction × multiplier` in nano-units, capped; a part below a nano-unit rounds up.
fn scaled(whole: &str, fraction: &str, multiplier: i128) -> Option<i128> {
    let mut nano: i128 = 0;
    for digit in whole.bytes() {
        nano = nano.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    nano = nano.checked_mul(multiplier).unwrap_or(NANO_MAX);
    let mut unit = multiplier;
    let mut lost = false;
    let mut divisor: i128 = 1;
    for digit in fraction.bytes() {
        let digit = i128::from(digit - b'0');
        divisor = divisor.saturating_mul(10);
        let (part, rest) = ((unit * digit) / divisor.max(1), (unit * digit) % divisor.max(1));
        nano = nano.saturating_add(part);
        lost |= rest != 0;
        // Keep the product within range for long fractions: past 10^18 nothing is left to add.
        if divisor > 1_000_000_000_000_000_000 {
            unit = 0;
        }
    }
    Some((nano + i128::from(lost)).min(NANO_MAX))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        if self.suffixes == Suffixes::Binary
            && self.nano % NANO == 0
            && (self.nano / NANO).abs() >= 1024
        {
            let units = self.nano / NANO;
            let best = BINARY.iter().find(|(_, power)| units % power == 0);
            return match best {
                Some((suffix, power)) => write!(f, "{}{suffix}", units / power),
                None => write!(f, "{units}"),
            };
        }
        if self.suffixes == Suffixes::Exponent {
            let (mut mantissa, mut exponent) = (self.nano, -9_i32);
            while mantissa % 1000 == 0 {
                mantissa /= 1000;
                exponent += 3;
            }
            return match exponent {
                0 => write!(f, "{mantissa}"),
                _ => write!(f, "{mantissa}e{exponent}"),
            };
        }
        let (suffix, unit) =
            DECIMAL.iter().find(|(_, unit)| self.nano % unit == 0).unwrap_or(&("n", 1));
        write!(f, "{}{suffix}", self.nano / unit)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let suffixes = if self.nano == 0 { other.suffixes } else { self.suffixes };
        Self { nano: self.nano.saturating_add(other.nano), suffixes }
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_sub(other.nano), suffixes: self.suffixes }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ratio_of_two_amounts_is_not_rounded() {
        use std::cmp::Ordering::{Equal, Greater, Less};
        for (one, ratio, other, expected) in [
            ("2", "2", "1", Equal),
            ("2Gi", "2", "1Gi", Equal),
            ("2000000001n", "2", "1", Greater),
            ("1500m", "1.6", "1", Less),
            ("9E", "1", "9E", Equal),
            ("9E", "9E", "9E", Less),
            ("1", "3", "0", Greater),
        ] {
            let quantity = |text| Quantity::parse(text).expect("a quantity");
            let found = quantity(one).cmp_times(&quantity(ratio), &quantity(other));
            assert_eq!(found, expected, "{one} to {ratio} times {other}");
        }
    }

    #[test]
    fn quantities_are_read_and_printed_as_kubernetes_does() {
        let table = [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("0.1", "100m"),
            ("100m", "100m"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("64Mi", "64Mi"),
            ("512", "512"),
            ("1k", "1k"),
            ("1000", "1k"),
            ("12e6", "12e6"),
            ("1e3", "1e3"),
            ("-1", "-1"),
            ("+1", "1"),
            (".5", "500m"),
            ("1.", "1"),
            ("0.1n", "1n"),
            ("0.5Ki", "512"),
        ];
        for (text, canonical) in table {
            let quantity = Quantity::parse(text).expect(text);
            assert_eq!(quantity.to_string(), canonical, "{text}");
        }
        for text in ["", "1x", "1.2.3", "Mi", "1 Gi", "1Gib", "e3", "0x10", "1e", "--1", "1mm"] {
            assert!(Quantity::parse(text).is_err(), "{text:?} is not a quantity");
        }
    }

    #[test]
    fn equal_amounts_are_equal_however_written() {
        let parse = |text| Quantity::parse(text).expect("parses");
        assert_eq!(parse("1000m"), parse("1"));
        assert_eq!(parse("1Gi"), parse("1073741824"));
        assert!(parse("1G") < parse("1Gi"));
        assert_eq!(parse("100m").as_millis(), 100);
        assert_eq!(parse("1500m").as_units(), 2, "rounds up");
        assert_eq!(parse("9E").as_units(), 9_000_000_000_000_000_000);
        assert_eq!(parse("100E").as_units(), i64::MAX, "capped");
        for text in ["1Ki", "1024", "1.024k", "1024e0", "1024000m"] {
            assert_eq!(parse(text).in_decimal().to_string(), "1024", "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_keeps_the_amount(millis in -1_000_000_000_000_i64..1_000_000_000_000) {
            let quantity = Quantity::millis(millis);
            prop_assert_eq!(Quantity::parse(&quantity.to_string()).expect("own text"), quantity);
        }

        #[test]
        fn bytes_keep_the_amount(bytes in 0_i64..i64::MAX / 2) {
            let quantity = Quantity::bytes(bytes);
            prop_assert_eq!(Quantity::parse(&quantity.to_string()).expect("own text"), quantity);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Quantity::parse(&text);
        }
    }
}
