//! The numbers in `static/models/robustness.json`, which README and page show, found again on some of
//! their images.

use std::path::Path;

use ventral::measure::interval::wilson;
use ventral::model::catalog::{Measured, ROBUSTNESS, Robustness, parse_robustness};

use crate::common::command::succeeds;
use crate::common::root;

/// The first images of those that were published with, by a plan of this repository.
fn measure(plan: &str, images: &str, folder: &Path) -> Robustness {
    let plan = root().join("plans").join(plan);
    let model = ["--models", "resnet-cifar10", "--images", images];
    let evaluate = ["evaluate", plan.to_str().unwrap(), "--output", "run"];
    succeeds(&[&evaluate[..], &model].concat(), folder);
    std::fs::write(folder.join("found.json"), "{}").unwrap();
    succeeds(&["report", "run", "--record", "found.json"], folder);
    let found = std::fs::read_to_string(folder.join("found.json")).unwrap();
    let mut found = parse_robustness(&found).unwrap();
    found.remove("resnet-cifar10").unwrap()
}

/// Whether the published share is one that the images found here allow, and theirs one that the
/// published images allow.
#[track_caller]
fn agree(found: Option<Measured>, published: Option<Measured>, images: usize) {
    let (found, published) = (found.unwrap(), published.unwrap());
    assert_eq!(found.images, images);
    println!("{found:?} of the published {published:?}");
    assert!(found.low <= published.value && published.value <= found.high);
    let (low, high) = wilson(published.value, images);
    assert!(low <= found.value && found.value <= high);
}

fn published() -> Robustness {
    let mut all = parse_robustness(ROBUSTNESS).unwrap();
    all.remove("resnet-cifar10").unwrap()
}

#[test]
fn the_published_white_box_mean_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let found = measure("white-box.toml", "40", folder.path());
    agree(found.white_box, published().white_box, 40);
}

#[test]
fn the_published_corruption_mean_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let found = measure("corruptions.toml", "60", folder.path());
    agree(found.corruption, published().corruption, 60);
}
