//! The name that was meant, where a finger slipped.

/// Slips that are forgiven, in words of so many letters. Of shorter ones nothing is left.
const FORGIVEN: [(usize, usize); 2] = [(5, 2), (3, 1)];
/// Names are not longer.
const CHARS_MAX: usize = 64;

/// The one of `names` that is nearest to what was typed, if any is near.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let letters = typed.chars().count();
    let (_, slips_max) = FORGIVEN.into_iter().find(|(letters_min, _)| letters >= *letters_min)?;
    let near = names.map(|name| (slips(name, typed), name)).filter(|(slips, _)| *slips <= slips_max);
    near.min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}

/// Letters that are missing, too many, wrong, or in each other's place.
fn slips(name: &str, typed: &str) -> usize {
    let [name, typed] = [name, typed].map(|text| text.chars().take(CHARS_MAX).collect::<Vec<_>>());
    let row = || vec![0; typed.len() + 1];
    let (mut older, mut old, mut new) = (row(), row(), Vec::from_iter(0..=typed.len()));
    for (i, left) in name.iter().enumerate() {
        (older, old, new) = (old, new, older);
        new[0] = i + 1;
        for (j, right) in typed.iter().enumerate() {
            let replaced = old[j] + usize::from(left != right);
            let swapped = match i > 0 && j > 0 && *left == typed[j - 1] && name[i - 1] == *right {
                true => older[j - 1] + 1,
                false => usize::MAX,
            };
            new[j + 1] = replaced.min(swapped).min(old[j + 1] + 1).min(new[j] + 1);
        }
    }
    new[typed.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;

    #[test]
    fn slips_are_counted() {
        for (name, typed, wanted) in [
            ("", "", 0),
            ("rate", "rate", 0),
            ("rate", "rote", 1),
            ("rate", "rat", 1),
            ("rate", "", 4),
            ("", "rate", 4),
            ("slo", "sol", 1),
            ("json", "sol", 2),
            ("duration", "dUration", 1),
            ("weight", "wieghts", 2),
        ] {
            assert_eq!(slips(name, typed), wanted, "{name} {typed}");
        }
    }

    #[test]
    fn what_is_far_from_all_names_is_near_to_none() {
        let near = |typed| nearest(typed, ["json", "slo"].into_iter());
        assert_eq!((near("sol"), near("jsno"), near("jason")), (Some("slo"), Some("json"), Some("json")));
        assert_eq!((near("bogus"), near("so"), near("")), (None, None, None));
        assert_eq!(nearest("slo", std::iter::empty()), None);
    }

    #[test]
    fn two_slips_in_a_short_word_are_another_word() {
        let near = |typed| nearest(typed, KEYS.iter().map(|key| key.name));
        assert_eq!(["tls", "log", "port", "name", "path"].map(near), [None; 5]);
        assert_eq!((near("sol"), near("rote"), near("sed")), (Some("slo"), Some("rate"), Some("seed")));
        assert_eq!(near("durtoin"), Some("duration"), "longer ones have both");
    }
}
