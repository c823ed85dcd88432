//! A set of completion indexes, kept as ranges: a Job of 100,000 indexes that were done in order is
//! one range. Written as Kubernetes writes it: `0-3,5,7-9`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of numbers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IndexSet {
    /// First and last of each range; in order, neither touching nor empty.
    ranges: Vec<(u32, u32)>,
}

impl IndexSet {
    /// Whether a number is in it.
    pub fn contains(&self, index: u32) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= index);
        after.checked_sub(1).is_some_and(|at| index <= self.ranges[at].1)
    }

    /// Adds a number; false if it was there.
    pub fn insert(&mut self, index: u32) -> bool {
        if self.contains(index) {
            return false;
        }
        let at = self.ranges.partition_point(|(first, _)| *first < index);
        let follows = at > 0 && self.ranges[at - 1].1.checked_add(1) == Some(index);
        let precedes =
            self.ranges.get(at).is_some_and(|(first, _)| index.checked_add(1) == Some(*first));
        match (follows, precedes) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = index,
            (false, true) => self.ranges[at].0 = index,
            (false, false) => self.ranges.insert(at, (index, index)),
        }
        true
    }

    /// How many numbers below `bound` are in it.
    pub fn count_below(&self, bound: u32) -> u32 {
        let below = self.ranges.iter().filter(|(first, _)| *first < bound);
        below.fold(0, |sum, (first, last)| sum.saturating_add((*last).min(bound - 1) - first + 1))
    }

    /// How many numbers of `other` below `bound` are in it.
    pub fn common_below(&self, other: &Self, bound: u32) -> u32 {
        let mut common = 0_u32;
        for (first, last) in &self.ranges {
            for (from, to) in &other.ranges {
                let (from, to) =
                    ((*first).max(*from), (*last).min(*to).min(bound.saturating_sub(1)));
                if bound > 0 && from <= to {
                    common = common.saturating_add(to - from + 1);
                }
            }
        }
        common
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Reads `0-3,5`: numbers and ranges that rise and do not meet
    /// (`validateIndexesFormat` of Kubernetes' batch validation).
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut set = Self::default();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let number = |text: &str| {
                let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let number = is_plain.then(|| text.parse::<u32>().ok()).flatten();
                number.ok_or_else(|| format!("{text:?} is not a completion index"))
            };
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last || (part.contains('-') && first == last) {
                return Err(format!("{part:?} must name a lower index first"));
            }
            match set.ranges.last_mut() {
                Some((_, before)) if *before >= first => {
                    return Err(format!("{part:?} must come after {before}"));
                }
                Some((_, before)) if *before + 1 == first => *before = last,
                _ => set.ranges.push((first, last)),
            }
        }
        Ok(set)
    }
}

impl fmt::Display for IndexSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                // Kubernetes writes two neighbours as two numbers.
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for IndexSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for IndexSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IndexSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_read_as_kubernetes_writes_them() {
        let table: [(&[u32], &str); 5] = [
            (&[], ""),
            (&[3], "3"),
            (&[0, 1, 2], "0-2"),
            (&[4, 0, 1, 7, 6, 5, 2], "0-2,4-7"),
            (&[1, 2, 5], "1,2,5"),
        ];
        for (indexes, text) in table {
            let mut set = IndexSet::default();
            for index in indexes {
                assert!(set.insert(*index));
            }
            assert_eq!(set.to_string(), text);
            assert_eq!(IndexSet::parse(text), Ok(set), "{text}");
        }
    }

    #[test]
    fn what_is_no_set_of_indexes_is_told() {
        for text in ["x", "1-", "-1", "3-1", "1,1", "2,1", "0-4,3", "1-1", "99999999999", "1,,2"] {
            assert!(IndexSet::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set(indexes in prop::collection::vec(0_u32..60, 0..80), bound in 0_u32..70) {
            let mut set = IndexSet::default();
            let mut plain = BTreeSet::new();
            for index in indexes {
                prop_assert_eq!(set.insert(index), plain.insert(index));
            }
            for index in 0..70 {
                prop_assert_eq!(set.contains(index), plain.contains(&index));
            }
            let below = plain.iter().filter(|index| **index < bound).count();
            prop_assert_eq!(usize::try_from(set.count_below(bound)).expect("fits"), below);
            prop_assert_eq!(set.common_below(&set, bound), set.count_below(bound));
            prop_assert_eq!(IndexSet::parse(&set.to_string()), Ok(set));
        }
    }
}
