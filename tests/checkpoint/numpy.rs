//! NumPy's `.npy` and `.npz`, written and read.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::Path;

use half::f16;
use ventral::model::checkpoint::Limits;
use ventral::model::checkpoint::npy::{Array, Data, Npz, NpzWriter, read_npy, write_npy};

use super::assert_says;
use crate::common::torch::{archive, f32_bytes};
use crate::common::{reference, references, shared};

/// Reads every array of an `.npz` file; how many there are.
fn read_all(path: &Path) -> usize {
    if path.extension().is_none_or(|end| end != "npz") {
        return 0;
    }
    let mut npz = Npz::open(File::open(path).unwrap(), &Limits::default()).unwrap();
    let names: Vec<String> = npz.names().map(str::to_owned).collect();
    for name in &names {
        let array = npz.read(name).unwrap();
        let size = array.shape.iter().product::<usize>();
        assert_eq!(size, array.data.len(), "{name}");
    }
    names.len()
}

#[test]
fn every_array_of_the_fixtures_is_read() {
    let own = references();
    let arrays: usize = own.iter().map(|name| read_all(&reference(name))).sum();
    assert!(arrays > 300, "{arrays}");
    if let Some(full) = shared("fixtures") {
        let files = fs::read_dir(full).unwrap();
        let arrays: usize = files.map(|file| read_all(&file.unwrap().path())).sum();
        assert!(arrays > 400, "{arrays}");
    }
    // A few as the README lists them.
    let open =
        |name: &str| Npz::open(File::open(reference(name)).unwrap(), &Limits::default()).unwrap();
    let mut inputs = open("attack_inputs.npz");
    assert_eq!(inputs.read("x_small").unwrap().shape, [4, 3, 32, 32]);
    let mean = inputs.read("mean").unwrap().data;
    assert_eq!(mean, Data::F32(vec![0.485, 0.456, 0.406]));
    let labels = inputs.read("y_small").unwrap().data.to_i64().unwrap();
    assert!(labels.iter().all(|y| (0..10).contains(y)));
    let mut attacks = open("attacks_small_cnn.npz");
    let success = attacks.read("fgsm/eps0/success").unwrap();
    assert!(matches!(success.data, Data::Bool(ref v) if v.len() == 4));
    let margin = open("small_cnn_parity.npz").read("margin").unwrap();
    assert!(margin.shape.is_empty() && margin.data.to_f64()[0] > 0.0);
    let missing = attacks.read("nonsense").unwrap_err().to_string();
    assert_says(&missing, &["`nonsense`"]);
}

fn sample_arrays() -> Vec<(&'static str, Array)> {
    let new = |shape: &[usize], data| Array::new(shape.to_vec(), data).unwrap();
    vec![
        (
            "f32",
            new(&[2, 3], Data::F32(vec![0., -1.5, 2., 3., f32::MAX, 5.])),
        ),
        ("f64", new(&[2], Data::F64(vec![0.1, 1e300]))),
        ("taps/V1.t0", new(&[], Data::I64(vec![-7]))),
        ("u8", new(&[1, 2, 2], Data::U8(vec![0, 1, 254, 255]))),
        ("bool", new(&[3], Data::Bool(vec![true, false, true]))),
        ("none", new(&[0, 5], Data::F32(vec![]))),
    ]
}

#[test]
fn arrays_come_back_as_they_were_written() {
    let mut writer = NpzWriter::new(Vec::new());
    for (name, array) in sample_arrays() {
        let mut file = Vec::new();
        write_npy(&mut file, &array).unwrap();
        let elements = array.data.len();
        let size = match array.data {
            Data::F32(_) => 4,
            Data::F64(_) | Data::I64(_) => 8,
            Data::U8(_) | Data::Bool(_) => 1,
        };
        assert_eq!((file.len() - elements * size) % 64, 0, "{name}");
        assert_eq!(
            read_npy(Cursor::new(file), &Limits::default()).unwrap(),
            array
        );
        writer.add(name, &array).unwrap();
    }
    let file = writer.finish().unwrap();
    let mut npz = Npz::open(Cursor::new(file.clone()), &Limits::default()).unwrap();
    for (name, array) in sample_arrays() {
        assert_eq!(npz.read(name).unwrap(), array, "{name}");
    }
    // An independent reader checks names, sizes and checksums.
    let mut reference = zip::ZipArchive::new(Cursor::new(file)).unwrap();
    assert_eq!(reference.len(), sample_arrays().len());
    for (name, array) in sample_arrays() {
        let mut bytes = Vec::new();
        let mut entry = reference.by_name(&format!("{name}.npy")).unwrap();
        entry.read_to_end(&mut bytes).unwrap();
        assert_eq!(
            read_npy(Cursor::new(bytes), &Limits::default()).unwrap(),
            array
        );
    }
    assert!(Array::new(vec![2, 2], Data::U8(vec![1])).is_err());
}

/// A `.npy` file with this header.
fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(data);
    file
}

#[test]
fn arrays_of_other_layouts_are_read() {
    let header = |descr: &str, order: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
    };
    let read = |file: Vec<u8>| read_npy(Cursor::new(file), &Limits::default());
    let bytes = f32_bytes(&[0., 1., 2., 3., 4., 5.]);
    let columns = read(npy(&header("<f4", "True", "(2, 3)"), &bytes)).unwrap();
    assert_eq!(columns.shape, [2, 3]);
    assert_eq!(columns.data, Data::F32(vec![0., 2., 4., 1., 3., 5.]));
    let big = read(npy(&header(">i2", "False", "(2,)"), &[0xff, 0xfe, 1, 0])).unwrap();
    assert_eq!(big.data, Data::I64(vec![-2, 256]));
    let half = f16::from_f32(0.25).to_le_bytes();
    let half = read(npy(&header("<f2", "False", "()"), &half)).unwrap();
    assert_eq!(half.data, Data::F32(vec![0.25]));

    let refused = [
        (header("<f4", "False", "(7,)"), "cut off"),
        (
            header("<f4", "False", "(99999999999, 99999999999)"),
            "larger than",
        ),
        (header("<c8", "False", "(1,)"), "`<c8`"),
        (header("|O", "False", "(1,)"), "`|O`"),
        (header("<f4", "Maybe", "(1,)"), "malformed"),
        (header("<f4", "False", "(x,)"), "malformed"),
        (header("<f4", "False", "(1"), "malformed"),
        (
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}".to_owned(),
            "records",
        ),
        ("{}".to_owned(), "malformed"),
        ("\u{fffd}\u{fffd}".to_owned(), "malformed"),
    ];
    for (header, part) in refused {
        let error = read(npy(&header, &bytes)).unwrap_err().to_string();
        assert_says(&error, &[part]);
    }
    for file in [
        &b""[..],
        b"\x93NUM",
        b"PK\x03\x04aaaaaaaaaaaa",
        b"\x93NUMPY\x09\0aaaa",
    ] {
        read(file.to_vec()).unwrap_err();
    }
    let mut whole = Vec::new();
    write_npy(&mut whole, &sample_arrays()[0].1).unwrap();
    for length in 0..whole.len() {
        let error = read(whole[..length].to_vec()).unwrap_err().to_string();
        assert!(!error.is_empty());
    }
}

#[test]
fn a_damaged_array_is_noticed() {
    for deflated in [false, true] {
        let mut file = Vec::new();
        write_npy(&mut file, &sample_arrays()[0].1).unwrap();
        let archive = archive(&[("a.npy", &file)], deflated);
        // Behind the local header and the name, somewhere in the values.
        let local = 30 + "a.npy".len();
        let mut refused = 0;
        for at in local..local + 100 {
            let mut flipped = archive.clone();
            flipped[at] ^= 0x10;
            let mut npz = Npz::open(Cursor::new(flipped), &Limits::default()).unwrap();
            refused += usize::from(npz.read("a").is_err());
        }
        assert!(refused >= 95, "{refused}");
    }
}
