//! Which class of a model a class of a set is.

/// A set's classes that a model does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model has no class for {}{}", list(.0), if .0.len() > 5 { ", …" } else { "" })]
pub struct Unknown(pub Vec<String>);

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().take(5).map(|n| format!("“{n}”")).collect();
    quoted.join(", ")
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

/// The class of `model` for each class of `set`: by name or number, or in the order of the WordNet
/// ids where the set has all of them.
///
/// # Errors
/// [`Unknown`] with the names that fit nothing.
pub fn match_classes(set: &[String], model: &[String]) -> Result<Vec<usize>, Unknown> {
    if are_wordnet_ids(set.iter().map(String::as_str), model.len()) {
        let mut sorted: Vec<&String> = set.iter().collect();
        sorted.sort();
        let place = |name| sorted.binary_search(&name).unwrap_or_default();
        return Ok(set.iter().map(place).collect());
    }
    let found: Vec<Option<usize>> = set.iter().map(|name| class_of(name, model)).collect();
    let missing = set.iter().zip(&found).filter(|(_, class)| class.is_none());
    let missing: Vec<String> = missing.map(|(name, _)| name.clone()).collect();
    match missing.is_empty() {
        true => Ok(found.into_iter().flatten().collect()),
        false => Err(Unknown(missing)),
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
        assert_eq!(match_classes(&set, &model), Ok(vec![1, 2, 0]));
        let error = match_classes(&owned(&["cat", "dog", "emu"]), &model).expect_err("no dogs");
        assert_eq!(error.to_string(), "the model has no class for “dog”, “emu”");
        let ids = owned(&["n02", "n01"]);
        assert!(match_classes(&ids, &model).is_err());
        let ids = owned(&["n01443537", "n01440764"]);
        let fish = owned(&["tench", "goldfish"]);
        assert_eq!(match_classes(&ids, &fish), Ok(vec![1, 0]));
    }
}
