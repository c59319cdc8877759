//! Labelled sets from archives, folders and binary batches, and their cache.
#![cfg(feature = "dataset")]

use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ventral::archive::npy::{Array, Data, NpzWriter};
use ventral::image::dataset::{
    CIFAR10_CLASSES, CIFAR100_CLASSES, Cifar, Classes, DatasetError, LabelledSet, LoadOptions,
    OpenOptions, Opened, Split, load, load_cifar10, load_classes, load_readable,
    load_tiny_imagenet, open, quiet,
};
use ventral::image::{Picture, encode_png};
use ventral::model::catalog::{TEST_SETS, TestSet};
use ventral::model::classes::by_name;

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

/// Every other entry deflated, so that both ways are read.
fn zip(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    use zip::CompressionMethod::{Deflated, Stored};
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (i, (name, bytes)) in files.iter().enumerate() {
        let method = if i % 2 == 0 { Deflated } else { Stored };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

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

fn opened(bytes: &[u8], name: &str, images: usize) -> Result<Opened, DatasetError> {
    let options = OpenOptions {
        size: 8,
        images,
        without: Vec::new(),
        flat: false,
        in_order: false,
    };
    open(bytes, name, &options, &mut quiet)
}

#[test]
fn archives_in_memory_give_classes_their_turns() {
    let bad = b"no picture".to_vec();
    let files = [
        ("cat/1.png", flat(8, [1; 3])),
        ("cat/2.png", bad.clone()),
        ("cat/3.png", flat(8, [3; 3])),
        ("dog/1.png", flat(8, [11; 3])),
        ("dog/2.png", flat(8, [12; 3])),
        ("emu/1.png", bad),
        ("emu/2.png", flat(8, [22; 3])),
        ("../outside/1.png", flat(8, [9; 3])),
    ];
    for (name, bytes) in [("a.zip", zip(&files)), ("a.tar", tar(&files[..7]))] {
        let all = opened(&bytes, name, 100).unwrap();
        assert_eq!(all.set.classes, ["cat", "dog", "emu"], "{name}");
        assert_eq!(all.set.labels, [0, 1, 2, 0, 1]);
        let first: Vec<u8> = all.set.images.chunks(192).map(|image| image[0]).collect();
        assert_eq!(first, [1, 11, 22, 3, 12]);
        let skipped: Vec<&str> = all.skipped.iter().map(|(name, _)| name.as_str()).collect();
        let expected: &[&str] = match name {
            "a.zip" => &["../outside/1.png", "emu/1.png", "cat/2.png"],
            _ => &["emu/1.png", "cat/2.png"],
        };
        assert_eq!(skipped, expected);
        // Fewer are the first of these.
        let four = opened(&bytes, name, 4).unwrap();
        assert_eq!(four.set, all.set.slice(0..4));
        let options = OpenOptions {
            size: 8,
            images: 3,
            without: vec!["dog".to_owned()],
            flat: false,
            in_order: false,
        };
        let two = open(&bytes, name, &options, &mut quiet).unwrap();
        assert_eq!(
            (two.set.classes, two.set.labels),
            (all.set.classes, vec![0, 2, 0])
        );
    }
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

/// An array as NumPy writes it.
fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
}

fn npz(arrays: &[(&str, Array)]) -> Vec<u8> {
    let mut out = NpzWriter::new(Vec::new());
    for (name, array) in arrays {
        out.add(name, array).unwrap();
    }
    out.finish().unwrap()
}

fn array(shape: &[usize], data: Data) -> Array {
    Array::new(shape.to_vec(), data).unwrap()
}

#[test]
fn arrays_in_every_layout_are_the_same_set() {
    // Two pictures of 8 px: red rises along the rows, green along the columns, blue is the number.
    let value = |n: usize, y: usize, x: usize, c: usize| [16 * y, 16 * x, 100 + n][c] as u8;
    let indices = |order: &dyn Fn(usize, usize, usize, usize) -> u8, dims: [usize; 3]| {
        let [a, b, c] = dims;
        let each = |i: usize| order(i / (a * b * c), i / (b * c) % a, i / c % b, i % c);
        (0..2 * a * b * c).map(each).collect::<Vec<u8>>()
    };
    let last = indices(&|n, y, x, c| value(n, y, x, c), [8, 8, 3]);
    let first = indices(&|n, c, y, x| value(n, y, x, c), [3, 8, 8]);
    let unit = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|b| f32::from(*b) / 255.0)
            .collect::<Vec<f32>>()
    };
    let labels = || array(&[2], Data::I64(vec![2, 0]));
    let shapes: [(&[usize], Data); 4] = [
        (&[2, 8, 8, 3], Data::U8(last.clone())),
        (&[2, 3, 8, 8], Data::U8(first.clone())),
        (&[2, 3, 8, 8], Data::F32(unit(&first))),
        (
            &[2, 8, 8, 3],
            Data::I64(last.iter().map(|b| i64::from(*b)).collect()),
        ),
    ];
    for (shape, data) in shapes {
        let bytes = npz(&[("images", array(shape, data)), ("labels", labels())]);
        let set = opened(&bytes, "a.npz", 9).unwrap().set;
        assert_eq!(set.classes, ["0", "1", "2"]);
        // In turns: the first class has the second picture.
        assert_eq!((set.labels.as_slice(), set.images[128]), (&[0, 2][..], 101));
        assert_eq!(set.image(1).unwrap(), &first[..192], "{shape:?}");
    }
    // From a file, in the archive's own order; at another size; names, a column of labels and grey.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grey.npz");
    let utf32: Vec<u8> = "catemu"
        .chars()
        .flat_map(|c| (c as u32).to_le_bytes())
        .collect();
    let arrays = [
        (
            "X_test.npy",
            npy("|u1", "(2, 4, 4)", &[[7; 16], [9; 16]].concat()),
        ),
        ("y_test.npy", npy("|i1", "(2, 1)", &[1, 0])),
        ("classes.npy", npy("<U3", "(2,)", &utf32)),
    ];
    fs::write(&path, zip(&arrays)).unwrap();
    let set = load(&path, Split::Test, &options(None), &mut quiet).unwrap();
    assert_eq!(set.classes, ["cat", "emu"]);
    assert_eq!((set.labels.as_slice(), set.len()), (&[1, 0][..], 2));
    assert_eq!(set.images, [[7; 192], [9; 192]].concat());
    let error = load(&path, Split::Train, &options(None), &mut quiet).unwrap_err();
    assert!(
        error.to_string().contains("but X_test, classes, y_test"),
        "{error}"
    );
}

#[test]
fn arrays_that_are_no_set_are_said_to_be_so() {
    let images = || array(&[2, 2, 2, 3], Data::U8(vec![1; 24]));
    let numbers = |values: &[i64]| array(&[values.len()], Data::I64(values.to_vec()));
    let labelled = |images: Array, labels: Array| npz(&[("images", images), ("labels", labels)]);
    let fraction = |x: f32| array(&[1, 1, 1, 3], Data::F32(vec![0.0, 1.0, x]));
    let huge = npy("|u1", "(1000000000000, 32, 32, 3)", &[0; 9]);
    let lying = npy("|u1", "(100, 32, 32, 3)", &[0; 9]);
    let objects = npy("|O", "(2,)", b"pickle");
    let one = npy("|u1", "(1,)", &[0]);
    let with_images = |images: Vec<u8>| zip(&[("images.npy", images), ("labels.npy", one.clone())]);
    let with_names = zip(&[
        ("images.npy", npy("|u1", "(1, 1, 1)", &[0])),
        ("labels.npy", one.clone()),
        ("classes.npy", objects),
    ]);
    let table = [
        (
            npz(&[("images", images())]),
            "holds no arrays `images` and `labels`",
        ),
        (labelled(images(), numbers(&[1])), "2 pictures and 1 labels"),
        (labelled(images(), numbers(&[1, -1])), "the label -1"),
        (
            labelled(images(), array(&[2], Data::F32(vec![0.0, 1.0]))),
            "not one whole number",
        ),
        (
            labelled(array(&[2, 12], Data::U8(vec![0; 24])), numbers(&[0, 1])),
            "of shape [2, 12]",
        ),
        (
            labelled(fraction(-0.1), numbers(&[0])),
            "the pixel value -0.1",
        ),
        (
            labelled(fraction(f32::NAN), numbers(&[0])),
            "the pixel value NaN",
        ),
        (with_images(huge), "larger than"),
        (with_images(lying), "it is cut off"),
        (with_names, "only strings are names"),
    ];
    for (bytes, said) in table {
        let error = opened(&bytes, "a.npz", 9).unwrap_err().to_string();
        assert!(
            error.starts_with("a.npz") && error.contains(said),
            "{said}: {error}"
        );
    }
}

#[test]
fn hostile_archives_end_in_a_sentence() {
    // Two hundred megabytes of nothing in two hundred kilobytes, as one entry and as a name.
    let zeros = vec![0; 200_000_000];
    let bomb = zip(&[("cat/1.png", zeros.clone()), ("cat/2.png", flat(8, [1; 3]))]);
    assert!(bomb.len() < 1_000_000);
    let found = opened(&bomb, "bomb.zip", 9).unwrap();
    assert_eq!((found.set.len(), found.skipped.len()), (1, 1));
    assert!(
        found.skipped[0]
            .1
            .to_string()
            .contains("larger than the 64 MB")
    );
    // A length that no stream of this size can hold.
    let mut lying = zip(&[("cat/1.png", vec![7; 1000])]);
    let directory = lying.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    lying[directory + 24..directory + 28].copy_from_slice(&60_000_000_u32.to_le_bytes());
    let error = opened(&lying, "lying.zip", 9).unwrap_err().to_string();
    assert!(error.contains("claims 60000000 bytes"), "{error}");
    // Bytes that are not those of the checksum.
    let mut damaged = zip(&[("a/1.png", flat(8, [1; 3])), ("b/1.png", flat(8, [1; 3]))]);
    let stored = damaged.windows(4).rposition(|w| w == b"IHDR").unwrap();
    damaged[stored + 6] ^= 1;
    let found = opened(&damaged, "damaged.zip", 9).unwrap();
    assert_eq!(
        (found.set.labels.len(), found.skipped[0].0.as_str()),
        (1, "b/1.png")
    );
    // An archive that unpacks to more than memory is for.
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(2_000_000_000);
    header.set_cksum();
    packer.write_all(header.as_bytes()).unwrap();
    (0..10).for_each(|_| packer.write_all(&zeros).unwrap());
    let bomb = packer.finish().unwrap();
    let error = opened(&bomb, "bomb.tgz", 9).unwrap_err().to_string();
    assert!(error.contains("takes more than 1073 MB"), "{error}");
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
