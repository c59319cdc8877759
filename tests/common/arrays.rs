//! Arrays and numbers in files, the reference's among them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use ventral::archive::Limits;
use ventral::archive::npy::{Array, Npz};

use super::{reference, shared, shared_quietly, skip};

pub type Arrays = Npz<BufReader<File>>;

#[track_caller]
pub fn open(path: &Path) -> Arrays {
    let file = BufReader::new(File::open(path).expect("the file opens"));
    Npz::open(file, &Limits::default()).expect("it is an npz file")
}

/// Arrays by name.
pub trait Named {
    /// The array of this name.
    fn take(&mut self, key: &str) -> Array;

    /// Whether it is here. Of a [`Fixture`] it is missed only where the full reference set is, which is a
    /// [`skip`].
    fn has(&self, key: &str) -> bool;
}

impl Named for Arrays {
    fn take(&mut self, key: &str) -> Array {
        self.read(key).unwrap_or_else(|e| panic!("{key}: {e}"))
    }

    fn has(&self, key: &str) -> bool {
        self.names().any(|name| name == key)
    }
}

/// An `.npz` file of the reference: this repository's part of it and, where it lies beside this
/// checkout, the full one.
pub struct Fixture {
    name: String,
    own: Arrays,
    full: Option<Arrays>,
}

impl Fixture {
    pub fn open(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            own: open(&reference(name)),
            full: shared_quietly(&format!("fixtures/{name}")).map(|path| open(&path)),
        }
    }

    /// The names of all arrays.
    pub fn names(&self) -> BTreeSet<String> {
        let all = [Some(&self.own), self.full.as_ref()];
        let names = all.into_iter().flatten().flat_map(Arrays::names);
        names.map(str::to_owned).collect()
    }
}

impl Named for Fixture {
    fn take(&mut self, key: &str) -> Array {
        match (self.own.read(key), &mut self.full) {
            (Ok(array), _) => array,
            (Err(_), Some(full)) => full.take(key),
            (Err(error), None) => panic!("{key} of {}: {error}", self.name),
        }
    }

    fn has(&self, key: &str) -> bool {
        let (own, name) = (self.own.has(key), &self.name);
        match &self.full {
            Some(full) => assert!(own || full.has(key), "{name} has no {key}"),
            None if own => {}
            None => skip(format!(
                "{key} of {name} is in the full reference set only, ../shared/fixtures"
            )),
        }
        own || self.full.is_some()
    }
}

/// An `.npz` file of the reference.
#[track_caller]
pub fn fixture(name: &str) -> Fixture {
    Fixture::open(name)
}

/// An `.npz` file of the full reference set alone.
#[track_caller]
pub fn full_fixture(name: &str) -> Option<Arrays> {
    Some(open(&shared(&format!("fixtures/{name}"))?))
}

#[track_caller]
pub fn array(arrays: &mut (impl Named + ?Sized), key: &str) -> Array {
    arrays.take(key)
}

#[track_caller]
pub fn f32s(arrays: &mut (impl Named + ?Sized), key: &str) -> Vec<f32> {
    array(arrays, key).data.to_f32()
}

#[track_caller]
pub fn f64s(arrays: &mut (impl Named + ?Sized), key: &str) -> Vec<f64> {
    array(arrays, key).data.to_f64()
}

/// The reference's arrays, and its numbers by JSON pointer: `NAME.npz` and `NAME.json`.
pub struct Reference {
    pub arrays: Fixture,
    pub numbers: serde_json::Value,
}

impl Reference {
    #[track_caller]
    pub fn open(name: &str) -> Self {
        let numbers = fs::read(reference(&format!("{name}.json"))).expect("it is readable");
        Self {
            arrays: fixture(&format!("{name}.npz")),
            numbers: serde_json::from_slice(&numbers).expect("it is JSON"),
        }
    }

    pub fn array(&mut self, name: &str) -> Array {
        array(&mut self.arrays, name)
    }

    pub fn number(&self, pointer: &str) -> f64 {
        let value = self.numbers.pointer(pointer);
        value.and_then(|v| v.as_f64()).expect(pointer)
    }
}

#[track_caller]
pub fn close(ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{ours} and {theirs}");
}

/// Relative to the largest of the reference's values.
#[track_caller]
pub fn all_close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!(
            (a - b).abs() <= tolerance * largest,
            "{a} and {b}, largest {largest}"
        );
    }
}
