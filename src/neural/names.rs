//! Matching stimuli with pictures by their names.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

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
    /// The same letters, composed here and decomposed there (Unicode's normal form C).
    Normalised,
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
            Self::Normalised => "letter by letter, however accents are written",
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
/// A key that several names share matches none of them, nor does one with a letter that could not be
/// read.
pub(super) fn pairs(given: &[String], wanted: &[String]) -> Vec<(usize, usize, Rule)> {
    const RULES: [Rule; 5] = [
        Rule::Exact,
        Rule::Normalised,
        Rule::FileName,
        Rule::Stem,
        Rule::AnyCase,
    ];
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
        if !taken[place] && !name.contains(char::REPLACEMENT_CHARACTER) {
            let entry = keys.entry(key(name, rule));
            entry.and_modify(|at| *at = None).or_insert(Some(place));
        }
    }
    keys
}

fn key(name: &str, rule: Rule) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let normalised = |text: &str| text.nfc().collect::<String>();
    match rule {
        Rule::Exact | Rule::Order => name.to_owned(),
        Rule::Normalised => normalised(name),
        Rule::FileName => normalised(file),
        Rule::Stem => normalised(stem(file)),
        // A capital may decompose where its small letter does not.
        Rule::AnyCase => normalised(&normalised(stem(file)).to_lowercase()),
    }
}

/// Two names that stand in the order of their letters and would stand the other way round by their
/// numbers (`10.png` before `2.png`); `None` where both orders are one, or names follow neither.
pub(super) fn natural_order(names: &[String]) -> Option<(String, String)> {
    if !names.is_sorted() {
        return None;
    }
    let keys: Vec<Vec<Chunk>> = names.iter().map(|name| chunks(name)).collect();
    let place = keys.windows(2).position(|pair| pair[0] > pair[1])?;
    Some((shorten(&names[place]), shorten(&names[place + 1])))
}

/// A run of digits as its number, or another letter.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Chunk {
    /// Its digits, and without leading zeros: the longer is the larger.
    Number(usize, String),
    Letter(char),
}

fn chunks(name: &str) -> Vec<Chunk> {
    let mut found = Vec::new();
    let mut letters = name.chars().peekable();
    while let Some(first) = letters.next() {
        if !first.is_ascii_digit() {
            found.push(Chunk::Letter(first));
            continue;
        }
        let mut digits = first.to_string();
        while let Some(digit) = letters.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        let number = digits.trim_start_matches('0').to_owned();
        found.push(Chunk::Number(number.len(), number));
    }
    found
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
