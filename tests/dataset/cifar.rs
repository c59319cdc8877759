//! The binary batches of CIFAR-10 and CIFAR-100.

use std::fs;

use ventral::image::dataset::{
    CIFAR10_CLASSES, CIFAR100_CLASSES, Cifar, LabelledSet, LoadOptions, OpenOptions, Split, load,
    load_cifar10, load_classes, open, quiet,
};

use crate::support::{classes, gzip, record, tar, write_tree, zip};

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
    let mut set = LabelledSet::cifar(Cifar::Ten);
    let one = record(1, [0; 3]);
    set.push_cifar_batch(Cifar::Ten, "one", &one).unwrap();
    let before = set.clone();
    let error = set.push_cifar_batch(Cifar::Ten, "two", &one[1..]);
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("two is 3072 bytes long"),
        "{error}"
    );
    let error = set
        .push_cifar_batch(Cifar::Ten, "three", &record(10, [0; 3]))
        .unwrap_err();
    assert!(error.to_string().contains("label 10"), "{error}");
    assert!(set.push_cifar_batch(Cifar::Ten, "four", &[]).is_err());
    assert_eq!(set, before);
    let mut set = LabelledSet::cifar(Cifar::Hundred);
    let error = set
        .push_cifar_batch(Cifar::Hundred, "five", &record_100([0, 100], [0; 3]))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("label 100; CIFAR-100 ends at 99")
    );
    assert!(set.is_empty());
}

/// A record of CIFAR-100: a coarse label, a fine one, and the planes.
fn record_100([coarse, fine]: [u8; 2], colour: [u8; 3]) -> Vec<u8> {
    [vec![coarse], record(fine, colour)].concat()
}

/// As published, in an archive and as a folder, and each file by itself.
#[test]
fn binary_files_of_cifar_100_are_read_wherever_those_of_cifar_10_are() {
    let train = [
        record_100([11, 19], [1, 2, 3]),
        record_100([15, 29], [4, 5, 6]),
    ];
    let files = [
        ("cifar-100-binary/train.bin", train.concat()),
        ("cifar-100-binary/test.bin", record_100([10, 49], [7, 8, 9])),
        ("cifar-100-binary/fine_label_names.txt", b"apple\n".to_vec()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_tree(root, &files);
    fs::write(root.join("c.tar.gz"), gzip(&tar(&files))).unwrap();
    fs::write(root.join("c.zip"), zip(&files)).unwrap();
    let how = LoadOptions {
        size: 32,
        cache: None,
    };
    for source in ["cifar-100-binary", "c.tar.gz", "c.zip"] {
        let read = |split| load(&root.join(source), split, &how, &mut quiet).unwrap();
        let (train, test) = (read(Split::Train), read(Split::Test));
        assert_eq!(train.classes, CIFAR100_CLASSES, "{source}");
        assert_eq!((train.labels, train.images[3072]), (vec![19, 29], 4));
        assert_eq!((test.labels, test.images[2048]), (vec![49], 9));
    }
    // The page reads archives and single files in memory.
    let bytes = files[0].1.as_slice();
    let wanted = |images| OpenOptions {
        size: 32,
        images,
        without: vec!["cattle".to_owned()],
        flat: false,
        in_order: false,
    };
    let opened = open(bytes, "train.bin", &wanted(10), &mut quiet).unwrap();
    assert_eq!((opened.set.labels, opened.set.images[0]), (vec![29], 4));
    assert_eq!(CIFAR100_CLASSES[19..30], opened.set.classes[19..30]);
    assert_eq!(
        (CIFAR100_CLASSES[19], CIFAR100_CLASSES[99]),
        ("cattle", "worm")
    );
}

/// The published training part is one file of 153.7 MB, more than any other file may have.
#[test]
fn the_whole_of_cifar_100_is_not_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let batch = record_100([0, 99], [1, 2, 3]).repeat(50_000);
    write_tree(folder.path(), &[("c/train.bin", batch)]);
    let how = LoadOptions {
        size: 4,
        cache: None,
    };
    let set = load(folder.path(), Split::Train, &how, &mut quiet).unwrap();
    assert_eq!((set.len(), set.labels[49_999]), (50_000, 99));
}

#[test]
fn batches_of_two_sets_are_not_one() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("c/data_batch_1.bin", record(3, [1, 2, 3])),
        ("c/train.bin", record_100([0, 99], [1, 2, 3])),
    ];
    write_tree(folder.path(), &files);
    let how = LoadOptions {
        size: 32,
        cache: None,
    };
    let error = load(folder.path(), Split::Train, &how, &mut quiet).unwrap_err();
    let wanted = "train.bin is of CIFAR-100, and a batch before it of CIFAR-10";
    assert!(error.to_string().contains(wanted), "{error}");
}

#[test]
fn a_batch_by_itself_is_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.bin");
    fs::write(&path, [record(3, [1, 2, 3]), record(0, [7, 8, 9])].concat()).unwrap();
    let how = LoadOptions {
        size: 32,
        cache: None,
    };
    let set = load(&path, Split::Test, &how, &mut quiet).unwrap();
    assert_eq!((set.labels.as_slice(), set.images[0]), (&[3, 0][..], 1));
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
