//! Archives in memory, of pictures and of arrays.

use std::fs;
use std::io::Write;

use ventral::archive::npy::{Array, Data, NpzWriter};
use ventral::image::dataset::{OpenOptions, Split, load, open, quiet};

use crate::support::{flat, opened, options, tar, zip};

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
