//! Arrays and numbers in files, the reference's among them.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use ventral::archive::Limits;
use ventral::archive::npy::{Array, Npz};

use super::shared;

pub type Arrays = Npz<BufReader<File>>;

#[track_caller]
pub fn open(path: &Path) -> Arrays {
    let file = BufReader::new(File::open(path).expect("the file opens"));
    Npz::open(file, &Limits::default()).expect("it is an npz file")
}

/// An `.npz` file of `../shared/fixtures`.
#[track_caller]
pub fn fixture(name: &str) -> Option<Arrays> {
    Some(open(&shared(&format!("fixtures/{name}"))?))
}

#[track_caller]
pub fn array(arrays: &mut Arrays, key: &str) -> Array {
    arrays.read(key).unwrap_or_else(|e| panic!("{key}: {e}"))
}

#[track_caller]
pub fn f32s(arrays: &mut Arrays, key: &str) -> Vec<f32> {
    array(arrays, key).data.to_f32()
}

#[track_caller]
pub fn f64s(arrays: &mut Arrays, key: &str) -> Vec<f64> {
    array(arrays, key).data.to_f64()
}

/// The reference's arrays, and its numbers by JSON pointer: `NAME.npz` and `NAME.json`.
pub struct Reference {
    pub arrays: Arrays,
    pub numbers: serde_json::Value,
}

impl Reference {
    pub fn open(name: &str) -> Option<Self> {
        let numbers = fs::read(shared(&format!("fixtures/{name}.json"))?).expect("it is readable");
        Some(Self {
            arrays: fixture(&format!("{name}.npz"))?,
            numbers: serde_json::from_slice(&numbers).expect("it is JSON"),
        })
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
