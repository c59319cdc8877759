//! Folders and archives on the disk, and the cache.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ventral::image::dataset::{
    DatasetError, LoadOptions, Split, load, load_cifar10, load_classes, load_readable, quiet,
};

use crate::support::{classes, flat, gzip, options, small_set, small_tree, tar, write_tree, zip};

#[test]
fn folders_and_archives_hold_the_same_set() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_tree(&root.join("tree"), &small_tree());
    fs::write(root.join("set.tar"), tar(&small_tree())).unwrap();
    fs::write(root.join("set.tar.gz"), gzip(&tar(&small_tree()))).unwrap();
    fs::write(root.join("set.zip"), zip(&small_tree())).unwrap();
    for source in ["tree", "tree/set", "set.tar", "set.tar.gz", "set.zip"] {
        for split in [Split::Train, Split::Test] {
            let set = load(&root.join(source), split, &options(None), &mut quiet).unwrap();
            assert_eq!(set, small_set(split), "{source} {split:?}");
        }
    }
}

/// The fixture holds the files of `small_tree`, packed by another program.
#[test]
fn xz_is_unpacked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("tests/fixtures/image/set.tar.xz");
    for split in [Split::Train, Split::Test] {
        let set = load(&path, split, &options(None), &mut quiet).unwrap();
        assert_eq!(set, small_set(split));
    }
}

#[test]
fn class_folders_alone_are_both_splits() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("b/x.png", flat(8, [1, 2, 3])),
        ("a/y.png", flat(8, [4, 5, 6])),
    ];
    write_tree(folder.path(), &files);
    for split in [Split::Train, Split::Test] {
        let set = load(folder.path(), split, &options(None), &mut quiet).unwrap();
        assert_eq!(set.classes, ["a", "b"]);
        assert_eq!(set.image(0).unwrap()[..64], [4; 64]);
        assert_eq!(set.counts(), [1, 1]);
    }
}

/// The layout of Tiny ImageNet: no class folders in val, ids for names.
#[test]
fn annotations_label_the_held_out_part() {
    let folder = tempfile::tempdir().unwrap();
    let notes = b"val_0.JPEG\tn02\t0\t0\t1\t1\nval_1.JPEG\tn01\t0\t0\t1\t1\n";
    let words = b"n01\ttench, Tinca tinca\nn02\tgoldfish, Carassius auratus\n";
    let files = [
        ("t/train/n01/images/n01_0.JPEG", flat(8, [1; 3])),
        ("t/train/n02/images/n02_0.JPEG", flat(8, [2; 3])),
        (
            "t/train/n01/n01_boxes.txt",
            b"n01_0.JPEG\t0\t0\t1\t1\n".to_vec(),
        ),
        ("t/val/images/val_0.JPEG", flat(8, [3; 3])),
        ("t/val/images/val_1.JPEG", flat(8, [4; 3])),
        ("t/val/val_annotations.txt", notes.to_vec()),
        ("t/words.txt", words.to_vec()),
    ];
    write_tree(folder.path(), &files);
    let train = load(folder.path(), Split::Train, &options(None), &mut quiet).unwrap();
    let test = load(folder.path(), Split::Test, &options(None), &mut quiet).unwrap();
    assert_eq!(train.classes, ["tench", "goldfish"]);
    assert_eq!(test.classes, train.classes);
    assert_eq!((train.labels, test.labels), (vec![0, 1], vec![1, 0]));
    assert_eq!(test.images[0], 3);
}

#[test]
fn faults_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut files = small_tree();
    files.push(("set/train/dog/9.png", b"\x89PNG\r\n\x1A\nrubbish".to_vec()));
    write_tree(&root.join("tree"), &files);
    let error = load(&root.join("tree"), Split::Train, &options(None), &mut quiet).unwrap_err();
    assert!(error.to_string().contains("set/train/dog/9.png"), "{error}");
    // The other split does not hold it.
    assert!(load(&root.join("tree"), Split::Test, &options(None), &mut quiet).is_ok());

    let cut = gzip(&tar(&small_tree()));
    fs::write(root.join("cut.tar.gz"), &cut[..cut.len() / 2]).unwrap();
    let error = load(
        &root.join("cut.tar.gz"),
        Split::Train,
        &options(None),
        &mut quiet,
    );
    assert!(matches!(error.unwrap_err(), DatasetError::Read { .. }));

    for (name, said) in [
        ("set.rar", "is not a folder"),
        ("set.zip", "is cut off"),
        ("set.npz", "is empty"),
    ] {
        File::create(root.join(name)).unwrap();
        let error = load(&root.join(name), Split::Train, &options(None), &mut quiet);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
    }

    let error = load(&root.join("none"), Split::Train, &options(None), &mut quiet);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("none cannot be read")
    );

    fs::create_dir(root.join("empty")).unwrap();
    let error = load(
        &root.join("empty"),
        Split::Train,
        &options(None),
        &mut quiet,
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no labelled train pictures")
    );

    let error = load_cifar10(&root.join("tree"), Split::Test, None, &mut quiet).unwrap_err();
    assert!(
        error.to_string().contains("its classes are cat, dog"),
        "{error}"
    );
}

#[test]
fn unreadable_pictures_are_listed_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = small_tree();
    files.push(("set/test/dog/2.png", b"no picture".to_vec()));
    files.push(("set/test/bird/1.png", b"nor this".to_vec()));
    write_tree(folder.path(), &files);
    let how = options(Some(folder.path().join("cache")));
    for _ in 0..2 {
        let opened = load_readable(folder.path(), Split::Test, &how, &mut quiet).unwrap();
        assert_eq!(opened.set.classes, ["bird", "cat", "dog"]);
        assert_eq!(opened.set.labels, [1, 2]);
        assert_eq!(opened.set.images, small_set(Split::Test).images);
        // The second time too: a set with gaps is not kept.
        assert_eq!(opened.skipped.len(), 2);
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for size in [0, 1025, usize::MAX] {
        let how = LoadOptions { size, cache: None };
        let error = load(Path::new("."), Split::Train, &how, &mut quiet).unwrap_err();
        assert!(matches!(error, DatasetError::Size(_)), "{error}");
    }
}

#[test]
fn cancel_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    write_tree(folder.path(), &small_tree());
    let mut stages = Vec::new();
    for stop_at in ["reading", "decoding"] {
        let error = load(
            folder.path(),
            Split::Train,
            &options(None),
            &mut |progress| {
                stages.push(progress.stage);
                if progress.stage == stop_at {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        // Three small pictures may be decoded before anyone asks.
        if stop_at == "reading" || stages.contains(&"decoding") {
            assert!(matches!(error.unwrap_err(), DatasetError::Cancelled));
        }
    }
}

#[test]
fn slices_and_inputs() {
    let set = small_set(Split::Train);
    assert_eq!(set.slice(1..9).labels, [0, 1]);
    assert_eq!(set.slice(1..2).images, set.image(1).unwrap());
    assert!(set.slice(7..9).is_empty());
    let thin = set.thinned(2);
    assert_eq!((thin.labels.as_slice(), thin.images[0]), (&[0, 0][..], 10));
    assert_eq!(set.thinned(9), set);
    assert!(set.thinned(0).is_empty());
    let mut batch = Vec::new();
    assert_eq!(set.push_input(2, &mut batch), Some(1));
    assert_eq!(batch.len(), 192);
    assert_eq!(batch[64], 31.0 / 255.0);
    assert_eq!(set.push_input(3, &mut batch), None);
    assert_eq!(batch.len(), 192);
}

#[test]
fn a_choice_of_classes_is_labelled_and_kept_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, cache) = (folder.path().join("tree"), folder.path().join("cache"));
    write_tree(&tree, &small_tree());
    let how = options(Some(cache.clone()));
    for _ in 0..2 {
        let dogs = load_classes(&tree, Split::Train, &how, &classes(&["dog"]), &mut quiet).unwrap();
        assert_eq!(
            (dogs.classes, dogs.labels),
            (vec!["dog".to_owned()], vec![0])
        );
        assert_eq!(dogs.images[0], 30);
    }
    let all = load(&tree, Split::Train, &how, &mut quiet).unwrap();
    assert_eq!(all, small_set(Split::Train));
    assert_eq!(kept(&cache).len(), 2);
    let error = load_classes(&tree, Split::Train, &how, &classes(&["cow"]), &mut quiet);
    assert!(error.unwrap_err().to_string().contains("“cow”"));
    // The same choice of a decoded set.
    assert_eq!(all.only(&classes(&["dog"])).unwrap().images[0], 30);
    assert_eq!(all.only(&classes(&["cat", "dog"])).unwrap(), all);
}

fn kept(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_cache_is_used_until_the_source_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, cache) = (folder.path().join("tree"), folder.path().join("a/cache"));
    write_tree(&tree, &small_tree());
    let how = options(Some(cache.clone()));
    let first = load(&tree, Split::Train, &how, &mut quiet).unwrap();
    let mut asked = 0;
    let again = load(&tree, Split::Train, &how, &mut |_| {
        asked += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(again.unwrap(), first);
    assert_eq!(asked, 0, "it was decoded again");
    assert_eq!(kept(&cache).len(), 1);
    write_tree(&tree, &[("set/train/dog/2.png", flat(8, [60, 61, 62]))]);
    let changed = load(&tree, Split::Train, &how, &mut quiet).unwrap();
    assert_eq!(changed.labels, [0, 0, 1, 1]);
}

#[test]
fn a_spoilt_cache_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, cache) = (folder.path().join("tree"), folder.path().join("cache"));
    write_tree(&tree, &small_tree());
    let how = options(Some(cache.clone()));
    let set = load(&tree, Split::Train, &how, &mut quiet).unwrap();
    let path = kept(&cache).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut label = whole.clone();
    let labels = whole.len() - set.images.len() - 6;
    label[labels] = 200;
    for spoilt in [
        &whole[..whole.len() - 1],
        &whole[..20],
        b"",
        b"VNTRSET1\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        &label,
    ] {
        fs::write(&path, spoilt).unwrap();
        assert_eq!(load(&tree, Split::Train, &how, &mut quiet).unwrap(), set);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
