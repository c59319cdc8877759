//! Labelled sets from archives, folders and binary batches, and their cache.
#![cfg(feature = "dataset")]

use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ventral::image::dataset::{
    CIFAR10_CLASSES, Classes, DatasetError, LabelledSet, LoadOptions, Split, load, load_cifar10,
    load_classes, load_tiny_imagenet, quiet,
};
use ventral::image::{Picture, encode_png};

/// A picture of one colour, as a PNG file.
fn flat(size: usize, colour: [u8; 3]) -> Vec<u8> {
    let data = colour.repeat(size * size);
    encode_png(&Picture::from_rgb(size, size, data).unwrap()).unwrap()
}

fn write_tree(root: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Two classes; the files are not in the order of their classes.
fn small_tree() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("set/train/dog/1.png", flat(8, [30, 31, 32])),
        ("set/train/cat/2.png", flat(8, [20, 21, 22])),
        ("set/train/cat/1.png", flat(8, [10, 11, 12])),
        ("set/train/cat/notes.md", b"not a picture".to_vec()),
        ("set/train/.DS_Store", b"nor this".to_vec()),
        ("set/test/dog/1.png", flat(16, [50, 51, 52])),
        ("set/test/cat/1.png", flat(8, [40, 41, 42])),
    ]
}

fn small_set(split: Split) -> LabelledSet {
    let colours: &[[u8; 3]] = match split {
        Split::Train => &[[10, 11, 12], [20, 21, 22], [30, 31, 32]],
        Split::Test => &[[40, 41, 42], [50, 51, 52]],
    };
    let planes = colours.iter().flatten();
    LabelledSet {
        classes: vec!["cat".to_owned(), "dog".to_owned()],
        images: planes.flat_map(|&c| [c; 64]).collect(),
        labels: match split {
            Split::Train => vec![0, 0, 1],
            Split::Test => vec![0, 1],
        },
        size: 8,
    }
}

fn options(cache: Option<PathBuf>) -> LoadOptions {
    LoadOptions { size: 8, cache }
}

fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn folders_and_archives_hold_the_same_set() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_tree(&root.join("tree"), &small_tree());
    fs::write(root.join("set.tar"), tar(&small_tree())).unwrap();
    fs::write(root.join("set.tar.gz"), gzip(&tar(&small_tree()))).unwrap();
    for source in ["tree", "tree/set", "set.tar", "set.tar.gz"] {
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

/// A record of a CIFAR-10 batch: its label and a plane of each colour.
fn record(label: u8, colour: [u8; 3]) -> Vec<u8> {
    let planes = colour.iter().flat_map(|&c| [c; 1024]);
    std::iter::once(label).chain(planes).collect()
}

#[test]
fn binary_batches_are_cifar10() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("c/data_batch_2.bin", record(9, [4, 5, 6])),
        (
            "c/data_batch_1.bin",
            [record(3, [1, 2, 3]), record(0, [7, 8, 9])].concat(),
        ),
        ("c/test_batch.bin", record(5, [10, 11, 12])),
    ];
    let path = folder.path().join("cifar.tar.gz");
    fs::write(&path, gzip(&tar(&files))).unwrap();
    let train = load_cifar10(&path, Split::Train, None, &mut quiet).unwrap();
    assert_eq!(train.labels, [3, 0, 9]);
    assert_eq!(train.classes, CIFAR10_CLASSES);
    assert_eq!(train.image(2).unwrap()[1024], 5);
    assert_eq!(train.image(3), None);
    let test = load_cifar10(&path, Split::Test, None, &mut quiet).unwrap();
    assert_eq!((test.labels.clone(), test.images[2048]), (vec![5], 12));
    // At another size the planes are resized.
    let half = LoadOptions {
        size: 16,
        cache: None,
    };
    let small = load(&path, Split::Test, &half, &mut quiet).unwrap();
    assert_eq!((small.images.len(), small.images[512]), (768, 12));
}

#[test]
fn bad_batches_leave_the_set_as_it_was() {
    let mut set = LabelledSet::cifar10();
    set.push_cifar10_batch("one", &record(1, [0; 3])).unwrap();
    let before = set.clone();
    let cut = &record(1, [0; 3])[1..];
    let error = set.push_cifar10_batch("two", cut).unwrap_err();
    assert!(
        error.to_string().contains("two is 3072 bytes long"),
        "{error}"
    );
    let error = set
        .push_cifar10_batch("three", &record(10, [0; 3]))
        .unwrap_err();
    assert!(error.to_string().contains("label 10"), "{error}");
    assert!(set.push_cifar10_batch("four", &[]).is_err());
    assert_eq!(set, before);
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

    File::create(root.join("set.zip")).unwrap();
    let error = load(
        &root.join("set.zip"),
        Split::Train,
        &options(None),
        &mut quiet,
    );
    assert!(error.unwrap_err().to_string().contains("is not a folder"));

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

fn classes(only: &[&str]) -> Classes {
    Classes {
        only: only.iter().map(|&name| name.to_owned()).collect(),
        ..Classes::default()
    }
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

#[test]
fn binary_batches_have_their_classes_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let batch = [
        record(3, [1, 2, 3]),
        record(0, [7, 8, 9]),
        record(9, [4, 5, 6]),
    ]
    .concat();
    write_tree(folder.path(), &[("c/data_batch_1.bin", batch)]);
    let how = LoadOptions {
        size: 32,
        cache: None,
    };
    let wanted = classes(&["truck", "Cat"]);
    let set = load_classes(folder.path(), Split::Train, &how, &wanted, &mut quiet).unwrap();
    assert_eq!(
        (set.classes.as_slice(), set.labels.as_slice()),
        (&["cat".to_owned(), "truck".to_owned()][..], &[0, 1][..])
    );
    assert_eq!((set.images[0], set.images[3072]), (1, 4));
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
