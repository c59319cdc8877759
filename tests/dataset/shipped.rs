//! The test sets that come with the program, and Tiny ImageNet.

use std::fs;
use std::path::Path;

use ventral::image::dataset::{
    LoadOptions, OpenOptions, Opened, Split, load_tiny_imagenet, open, quiet,
};
use ventral::model::catalog::{TEST_SETS, TestSet};
use ventral::model::classes::by_name;

use crate::support::{flat, options, write_tree};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A shipped set as a page opens it.
fn shipped(set: &TestSet, size: usize) -> Opened {
    let path = root().join("static/testset").join(set.file);
    let how = OpenOptions {
        size,
        images: usize::MAX,
        without: Vec::new(),
        flat: false,
        in_order: false,
    };
    open(&fs::read(path).unwrap(), set.file, &how, &mut quiet).unwrap()
}

#[test]
fn the_shipped_sets_are_whole_balanced_and_small() {
    for set in &TEST_SETS {
        let Opened {
            set: found,
            skipped,
            ..
        } = shipped(set, 32);
        assert!(skipped.is_empty(), "{skipped:?}");
        assert_eq!(
            (found.len(), found.classes.len()),
            (set.images, set.classes)
        );
        let each = set.images / set.classes;
        assert!(found.counts().iter().all(|n| *n == each), "{}", set.name);
        let path = root().join("static/testset").join(set.file);
        assert!(fs::metadata(path).unwrap().len() < 1_200_000);
        // Both ways by which it is found.
        assert_eq!(TestSet::find(set.name), Some(set));
        assert_eq!(TestSet::fitting(found.classes.len()), Some(set));
    }
    assert_eq!(TestSet::fitting(1000), None);
    assert_eq!(TestSet::find("tiny40"), None);
}

/// The names that a recipe puts behind its WordNet ids, in their order: those of its model's
/// classes.
fn classes_of_recipe(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("recipes").join(file)).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("  \"n"));
    let name = |line: &str| line.split_once("\", # ").unwrap().1.to_owned();
    lines.map(name).collect()
}

#[test]
fn the_forty_classes_that_are_shipped_are_those_of_the_recipes() {
    let Opened { set, .. } = shipped(&TEST_SETS[1], 64);
    assert_eq!(set.classes.len(), 40);
    for recipe in ["resnet", "voneresnet", "cornet-s"] {
        let model = classes_of_recipe(&format!("{recipe}-tiny40.toml"));
        let found: Option<Vec<usize>> = by_name(&set.classes, &model).into_iter().collect();
        let mut found = found.expect("every folder is a class of the model");
        found.sort_unstable();
        assert_eq!(found, (0..40).collect::<Vec<usize>>(), "{recipe}");
        let mut sorted = model.clone();
        sorted.sort();
        assert_eq!(sorted, set.classes, "{recipe}");
    }
    // Photographs of 64 px, not of one colour.
    let first = set.image(0).unwrap();
    assert_eq!(first.len(), 3 * 64 * 64);
    assert!(first.iter().any(|byte| *byte != first[0]));
}

/// Some copies of Tiny ImageNet hold two classes more than the original.
#[test]
fn tiny_imagenet_has_no_gorilla_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("t/train/n01443537/images/n01443537_0.JPEG", flat(8, [1; 3])),
        ("t/train/n02480855/images/n02480855_0.JPEG", flat(8, [2; 3])),
        ("t/train/n02480855/.DS_Store", b"not a class".to_vec()),
        (
            "t/words.txt",
            b"n01443537\tgoldfish\nn02480855\tgorilla\n".to_vec(),
        ),
    ];
    write_tree(folder.path(), &files);
    let read = |only: &[&str]| {
        let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
        load_tiny_imagenet(
            folder.path(),
            Split::Train,
            &options(None),
            &only,
            &mut quiet,
        )
    };
    assert_eq!(read(&[]).unwrap().classes, ["goldfish"]);
    assert_eq!(read(&["gorilla"]).unwrap().classes, ["gorilla"]);
}

/// The whole archive, where it is at hand. Takes half a minute: `--ignored`.
#[test]
#[ignore = "decodes twenty thousand pictures"]
fn forty_classes_of_the_shared_tiny_imagenet() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/tiny-imagenet-200.tar.xz");
    let how = LoadOptions {
        size: 64,
        cache: None,
    };
    let all = load_tiny_imagenet(&path, Split::Test, &how, &[], &mut quiet).unwrap();
    assert_eq!((all.classes.len(), all.len()), (200, 10_000));
    assert!(all.counts().iter().all(|n| *n == 50));
    let forty = &all.classes[..40];
    let set = load_tiny_imagenet(&path, Split::Train, &how, forty, &mut quiet).unwrap();
    assert_eq!((set.classes.as_slice(), set.len()), (forty, 20_000));
    assert!(set.counts().iter().all(|n| *n == 500));
}
