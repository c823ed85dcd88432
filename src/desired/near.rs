//! Which right name somebody may have meant who wrote a wrong one.

/// The candidate nearest to `text`, if one is near enough to be meant: the same but for case, or
/// a slip of a letter or two.
pub(super) fn nearest<'c>(
    text: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let slips_max = match text.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=10 => 2,
        _ => 3,
    };
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.eq_ignore_ascii_case(text) {
            return Some(candidate);
        }
        if candidate.len().abs_diff(text.len()) > slips_max {
            continue;
        }
        let slips = distance(&text.to_ascii_lowercase(), &candidate.to_ascii_lowercase());
        if slips <= slips_max && best.is_none_or(|(least, _)| slips < least) {
            best = Some((slips, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The longest word whose distance is worth computing: no field's name is longer.
const WORD_CHARS_MAX: usize = 64;

/// How many letters must be added, taken out, changed or swapped with their neighbour
/// (Damerau and Levenshtein, restricted).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > WORD_CHARS_MAX || b.len() > WORD_CHARS_MAX {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let swap = i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j];
            let mut cost = (last[j] + usize::from(a[i] != b[j]))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if swap {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let fields = [
            "image",
            "imagePullPolicy",
            "containers",
            "initContainers",
            "env",
            "args",
        ];
        let table = [
            ("imge", Some("image")),
            ("Image", Some("image")),
            ("iamge", Some("image")),
            ("imagepullpolicy", Some("imagePullPolicy")),
            ("imagePullPolcy", Some("imagePullPolicy")),
            ("container", Some("containers")),
            ("envs", Some("env")),
            ("en", None),
            ("foo", None),
            ("ENV", Some("env")),
            ("", None),
        ];
        for (text, meant) in table {
            assert_eq!(nearest(text, fields), meant, "{text:?}");
        }
    }

    #[test]
    fn distances_count_slips() {
        for (a, b, slips) in [
            ("", "", 0),
            ("ab", "ba", 1),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
        }
    }
}
