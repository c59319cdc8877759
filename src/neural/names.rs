//! Matching stimuli with pictures by their names.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::archive::shorten;

/// A column of names, one a stimulus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name in the file: `image_id`.
    pub name: String,
    pub values: Vec<String>,
}

/// The rule by which two names match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Letter by letter.
    Exact,
    /// Without folders.
    FileName,
    /// Without folders and the ending.
    Stem,
    /// The same, whatever the case.
    AnyCase,
    /// By their order, for there are no names.
    Order,
}

impl Rule {
    /// A clause: "letter by letter".
    pub fn says(self) -> &'static str {
        match self {
            Self::Exact => "letter by letter",
            Self::FileName => "without their folders",
            Self::Stem => "without folders and endings",
            Self::AnyCase => "without folders and endings, whatever the case",
            Self::Order => "by their order, for the stimuli have no names",
        }
    }
}

/// The number of entries, and the first few of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub count: usize,
    pub first: Vec<String>,
}

impl Listed {
    const MOST: usize = 5;

    pub(super) fn of(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut listed = Self::default();
        for name in names {
            if listed.count < Self::MOST {
                listed.first.push(shorten(name.as_ref()));
            }
            listed.count += 1;
        }
        listed
    }
}

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count > self.first.len() {
            true => write!(f, ", … ({} in all)", self.count),
            false => Ok(()),
        }
    }
}

/// The first few names in a row.
pub(super) fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => Listed::of(names).to_string(),
    }
}

/// The result of matching names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// The name of the matched column: `image_id`.
    pub column: Option<String>,
    pub count: usize,
    /// How many by each rule.
    pub by: Vec<(Rule, usize)>,
    /// Pictures without a stimulus.
    pub missing: Listed,
    /// Stimuli without a picture.
    pub extra: Listed,
}

/// Pairs of (place among `wanted`, place among `given`) in the order of `wanted`, with their rule.
/// A key that several names share matches none of them.
pub(super) fn pairs(given: &[String], wanted: &[String]) -> Vec<(usize, usize, Rule)> {
    const RULES: [Rule; 4] = [Rule::Exact, Rule::FileName, Rule::Stem, Rule::AnyCase];
    let mut found: Vec<(usize, usize, Rule)> = Vec::new();
    let mut is_given = vec![false; given.len()];
    let mut is_wanted = vec![false; wanted.len()];
    for rule in RULES {
        let (ours, theirs) = (keys(given, rule, &is_given), keys(wanted, rule, &is_wanted));
        for (key, place) in theirs {
            if let (Some(want), Some(Some(give))) = (place, ours.get(&key)) {
                found.push((want, *give, rule));
                is_wanted[want] = true;
                is_given[*give] = true;
            }
        }
    }
    found.sort_unstable();
    found
}

/// The place of each key among the names not yet taken; none where several have it.
fn keys(names: &[String], rule: Rule, taken: &[bool]) -> HashMap<String, Option<usize>> {
    let mut keys = HashMap::new();
    for (place, name) in names.iter().enumerate() {
        if !taken[place] {
            let entry = keys.entry(key(name, rule));
            entry.and_modify(|at| *at = None).or_insert(Some(place));
        }
    }
    keys
}

fn key(name: &str, rule: Rule) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    match rule {
        Rule::Exact | Rule::Order => name.to_owned(),
        Rule::FileName => file.to_owned(),
        Rule::Stem => stem(file).to_owned(),
        Rule::AnyCase => stem(file).to_lowercase(),
    }
}

/// Without an ending; what is longer than any picture's is none (`v1.2015-03`).
fn stem(file: &str) -> &str {
    match file.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && ending.len() <= 4 => stem,
        _ => file,
    }
}

pub(super) fn report(
    column: Option<&Column>,
    pairs: &[(usize, usize, Rule)],
    wanted: &[String],
) -> Matched {
    let given = column.map_or(&[][..], |c| &c.values);
    let mut by: Vec<(Rule, usize)> = Vec::new();
    for (_, _, rule) in pairs {
        match by.iter_mut().find(|(known, _)| known == rule) {
            Some((_, count)) => *count += 1,
            None => by.push((*rule, 1)),
        }
    }
    by.sort_unstable();
    let wanted_found: std::collections::HashSet<usize> = pairs.iter().map(|p| p.0).collect();
    let given_found: std::collections::HashSet<usize> = pairs.iter().map(|p| p.1).collect();
    let left = |names: &[String], found: &std::collections::HashSet<usize>| {
        let names = names.iter().enumerate();
        Listed::of(
            names
                .filter(|(i, _)| !found.contains(i))
                .map(|(_, n)| n.as_str()),
        )
    };
    Matched {
        column: column.map(|c| c.name.clone()),
        count: pairs.len(),
        by,
        missing: left(wanted, &wanted_found),
        extra: left(given, &given_found),
    }
}

/// The values at `indices`; indices beyond the end are left out.
pub(super) fn picked<T: Clone>(values: &[T], indices: &[usize]) -> Vec<T> {
    let found = indices.iter().filter_map(|index| values.get(*index));
    found.cloned().collect()
}
