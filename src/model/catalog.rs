//! The models a visitor can choose from. The list itself is `static/models/catalog.json`, which
//! the page, the command line and the tests read alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A model of the catalog: shipped with the page, or published elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Unique, as it stands in addresses and on the command line.
    pub name: String,
    pub title: String,
    pub family: String,
    /// One or two sentences.
    pub description: String,
    /// The model the page starts with.
    pub default: bool,
    /// For a shipped model: its file beside the catalog, and its card.
    pub file: Option<String>,
    pub card: Option<String>,
    /// For a published one: its address.
    pub url: Option<String>,
    /// Whether the host lets a page on another site read the file.
    pub host_allows_cors: bool,
    /// What to do where it does not.
    pub instructions: Option<String>,
    pub licence: Option<String>,
    /// Size of the file, bytes; 0 when not known.
    pub bytes: u64,
    /// SHA-256 of the file, or its beginning where only that is published; hexadecimal.
    pub sha256: Option<String>,
    pub classes: usize,
    /// Side of the input, px.
    pub input: usize,
    /// Top-1 on the test set named in the card, 0 to 1.
    pub accuracy: Option<f32>,
    pub parameters: Option<u64>,
}

/// The catalog as built in.
pub const CATALOG: &str = include_str!("../../static/models/catalog.json");

/// The built-in catalog. It is a file of this repository, checked by a test.
pub fn entries() -> Vec<Entry> {
    parse(CATALOG).unwrap_or_default()
}

/// Reads a catalog.
pub fn parse(text: &str) -> Result<Vec<Entry>, serde_json::Error> {
    serde_json::from_str(text)
}

/// The entry called `name`.
///
/// ```
/// let entry = ventral::model::catalog::find("cornet-s").unwrap();
/// assert_eq!(entry.classes, 1000);
/// ```
pub fn find(name: &str) -> Option<Entry> {
    entries().into_iter().find(|entry| entry.name == name)
}

/// Labelled test images that come with the program, in `static/testset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestSet {
    /// As plans and the command line name it.
    pub name: &'static str,
    /// An archive of class folders.
    pub file: &'static str,
    /// What is in it, for people.
    pub title: &'static str,
    pub images: usize,
    /// It is taken for models of as many classes where no other images are given.
    pub classes: usize,
}

/// All of them, the one of the page's own model first.
pub const TEST_SETS: [TestSet; 2] = [
    TestSet {
        name: "cifar10-1000",
        file: "cifar10-1000.tar.gz",
        title: "CIFAR-10 test images",
        images: 1000,
        classes: 10,
    },
    TestSet {
        name: "tiny40-400",
        file: "tiny40-400.tar.gz",
        title: "Tiny ImageNet validation images",
        images: 400,
        classes: 40,
    },
];

impl TestSet {
    /// The set for models of so many classes.
    pub fn fitting(classes: usize) -> Option<&'static Self> {
        TEST_SETS.iter().find(|set| set.classes == classes)
    }

    /// The set of this name, or in this file.
    pub fn find(name: &str) -> Option<&'static Self> {
        TEST_SETS
            .iter()
            .find(|set| set.name == name || set.file == name)
    }
}

/// A share with its 95 % interval, all in [0, 1], and the images behind it, each counted once
/// whatever the number of seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub images: usize,
}

/// How robust a shipped model was found to be, on images of its shipped test set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Robustness {
    /// The plan behind the white-box mean, or the corruption mean where there is no other.
    pub plan: String,
    pub clean: Option<Measured>,
    pub white_box: Option<Measured>,
    pub corruption: Option<Measured>,
    /// Mean of white box and corruption.
    pub perturbation: Option<f64>,
    /// Mean of perturbation and clean.
    pub overall: Option<f64>,
}

impl Robustness {
    /// Takes over what `newer` has; a share of more images stays.
    pub fn merge(&mut self, newer: &Self) {
        let keep = |old: &mut Option<Measured>, new: Option<Measured>| {
            let images = |m: Option<Measured>| m.map_or(0, |m| m.images);
            if images(new) >= images(*old) {
                *old = new;
            }
        };
        keep(&mut self.clean, newer.clean);
        keep(&mut self.white_box, newer.white_box);
        keep(&mut self.corruption, newer.corruption);
        if newer.white_box.is_some() || self.plan.is_empty() {
            self.plan.clone_from(&newer.plan);
        }
        let value = |m: Option<Measured>| m.map(|m| m.value);
        let both = |a: Option<f64>, b: Option<f64>| Some((a? + b?) / 2.0);
        self.perturbation = both(value(self.white_box), value(self.corruption));
        self.overall = both(self.perturbation, value(self.clean));
    }
}

/// What `ventral report --record` has written, by the models' names.
#[cfg(feature = "compute")]
pub const ROBUSTNESS: &str = include_str!("../../static/models/robustness.json");

/// Reads such a file.
///
/// # Errors
/// Text that is none.
pub fn parse_robustness(text: &str) -> Result<BTreeMap<String, Robustness>, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_are_built_in_can_be_read() {
        assert!(parse(CATALOG).is_ok_and(|all| all.iter().filter(|e| e.default).count() == 1));
        assert!(parse_robustness(ROBUSTNESS).is_ok());
    }

    #[test]
    fn a_share_of_more_images_stays() {
        let of = |value, images| {
            Some(Measured {
                value,
                images,
                ..Measured::default()
            })
        };
        let mut known = Robustness {
            clean: of(0.9, 1000),
            corruption: of(0.7, 1000),
            ..Robustness::default()
        };
        known.merge(&Robustness {
            plan: "attacks".into(),
            clean: of(0.8, 200),
            white_box: of(0.1, 200),
            ..Robustness::default()
        });
        assert_eq!(known.clean, of(0.9, 1000));
        assert_eq!(known.plan, "attacks");
        let close = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-12);
        assert!(close(known.perturbation, 0.4) && close(known.overall, 0.65));
    }
}
