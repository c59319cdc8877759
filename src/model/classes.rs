//! Which class of a model a class of a set is.

use std::collections::BTreeMap;

/// A set's classes that a model does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model has no class for {}{}", list(.0), if .0.len() > 5 { ", …" } else { "" })]
pub struct Unknown(pub Vec<String>);

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().take(5).map(|n| format!("“{n}”")).collect();
    quoted.join(", ")
}

/// The names of several models' classes where all have the same; none otherwise, where numbers
/// have to do.
pub fn shared<'a>(mut lists: impl Iterator<Item = &'a [String]>) -> Vec<String> {
    let first = lists.next().unwrap_or_default();
    match lists.all(|list| list == first) {
        true => first.to_vec(),
        false => Vec::new(),
    }
}

/// A class by its name, whatever the case and with `-` or `_` for a space, or by its number.
pub fn class_of(text: &str, classes: &[String]) -> Option<usize> {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_'], " ");
    let named = classes.iter().position(|name| plain(name) == plain(text));
    let numbered = || {
        text.parse::<usize>()
            .ok()
            .filter(|class| *class < classes.len())
    };
    named.or_else(numbered)
}

/// Whether the names, each once, are all of a model's classes by their WordNet ids, whose order is
/// that of ImageNet's classes.
pub fn are_wordnet_ids<'a>(names: impl ExactSizeIterator<Item = &'a str>, classes: usize) -> bool {
    let is_id = |name: &str| {
        let digits = name.strip_prefix('n').unwrap_or_default();
        digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit())
    };
    names.len() == classes && { names }.all(is_id)
}

/// The class of `model` for each class of `set`, where it can be told by its name, its number or,
/// of a set of all WordNet ids, its place among these.
pub fn by_name(set: &[String], model: &[String]) -> Vec<Option<usize>> {
    if !are_wordnet_ids(set.iter().map(String::as_str), model.len()) {
        return set.iter().map(|name| class_of(name, model)).collect();
    }
    let mut sorted: Vec<&String> = set.iter().collect();
    sorted.sort();
    let place = |name| sorted.binary_search(&name).ok();
    set.iter().map(place).collect()
}

/// What is written instead of a class for one that is left out.
pub const LEFT_OUT: &str = "";

/// The class of `model` for each class of `set`, `None` for one that is left out. `chosen` comes
/// first: a class of the set, and the name or number of one of the model or [`LEFT_OUT`]. The rest
/// go by name or number, or in the order of the WordNet ids where the set has all of them.
///
/// # Errors
/// [`Unknown`] with the names that fit nothing, of the set or chosen.
pub fn match_classes(
    set: &[String],
    model: &[String],
    chosen: &BTreeMap<String, String>,
) -> Result<Vec<Option<usize>>, Unknown> {
    let mut unknown = Vec::new();
    let find = |(name, own): (&String, Option<usize>)| match chosen.get(name).map(String::as_str) {
        Some(LEFT_OUT) => None,
        wanted => {
            let found = wanted.map_or(own, |class| class_of(class, model));
            if found.is_none() {
                unknown.push(wanted.unwrap_or(name).to_owned());
            }
            found
        }
    };
    let found = set.iter().zip(by_name(set, model)).map(find).collect();
    match unknown.is_empty() {
        true => Ok(found),
        false => Err(Unknown(unknown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn classes_match_by_name_number_or_wordnet_id() {
        let model = owned(&["cat", "fire engine", "7"]);
        let set = owned(&["Fire_Engine", "7", "0"]);
        let plain = |set: &[String], model: &[String]| match_classes(set, model, &BTreeMap::new());
        let all = |classes: &[usize]| Ok(classes.iter().copied().map(Some).collect());
        assert_eq!(plain(&set, &model), all(&[1, 2, 0]));
        let error = plain(&owned(&["cat", "dog", "emu"]), &model).expect_err("no dogs");
        assert_eq!(error.to_string(), "the model has no class for “dog”, “emu”");
        assert!(plain(&owned(&["n02", "n01"]), &model).is_err());
        let ids = owned(&["n01443537", "n01440764"]);
        assert_eq!(plain(&ids, &owned(&["tench", "goldfish"])), all(&[1, 0]));
    }

    #[test]
    fn a_choice_comes_before_the_name() {
        let model = owned(&["cat", "dog"]);
        let set = owned(&["cat", "kitten", "background"]);
        let choice = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            match_classes(&set, &model, &pairs.collect())
        };
        let both = [("kitten", "Cat"), ("background", LEFT_OUT)];
        assert_eq!(choice(&both), Ok(vec![Some(0), Some(0), None]));
        // What the set does not have changes nothing; a number is a class too.
        let more = [("kitten", "1"), ("background", LEFT_OUT), ("emu", "dog")];
        assert_eq!(choice(&more), Ok(vec![Some(0), Some(1), None]));
        let error = choice(&[("kitten", "lion")]).expect_err("no lions");
        assert_eq!(error.0, owned(&["lion", "background"]));
    }
}
