//! Files that are no weights, and archives that are damaged, too large or cut off.

use std::collections::BTreeMap;
use std::io::Cursor;

use ventral::model::checkpoint::{Checkpoint, Limits, write_safetensors};

use super::safetensors::{small_tensors, views};
use super::{assert_says, open, refusal};
use crate::common::torch::{
    Py, Tensor, archive, dict, f32_bytes, ordered_dict, pickle, small, torch_zip,
};

#[test]
fn other_files_are_told_apart() {
    let mut tar = vec![0; 600];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: [(Vec<u8>, &str); 17] = [
        (vec![], "empty"),
        (b"<!DOCTYPE html><html><body>404".to_vec(), "web page"),
        (b"\n  <html lang=en>".to_vec(), "web page"),
        (b"\xef\xbb\xbf<HTML>".to_vec(), "web page"),
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied".to_vec(),
            "XML",
        ),
        (b"{\"message\": \"Not Found\"}".to_vec(), "JSON"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n".to_vec(),
            "Git LFS pointer",
        ),
        (b"\x1f\x8b\x08\0\0\0".to_vec(), "gzip"),
        (tar, "tar archive"),
        (b"\x93NUMPY\x01\0".to_vec(), "NumPy array"),
        (b"\x89PNG\r\n\x1a\n".to_vec(), "PNG"),
        (b"\xff\xd8\xff\xe0".to_vec(), "JPEG"),
        (b"\x89HDF\r\n\x1a\n".to_vec(), "HDF5"),
        (b"hello there".to_vec(), "11 bytes in a format"),
        (
            b"class,label\ncat,3\ndog,5\n".to_vec(),
            "24 bytes in a format",
        ),
        (b"(S'a'\nl.".to_vec(), "PyTorch did not write"),
        (pickle(&dict([("a", Py::Int(1))])), "PyTorch did not write"),
    ];
    for (bytes, part) in cases {
        assert_says(&refusal(bytes), &[part]);
    }
}

#[test]
fn other_zip_archives_are_told_apart() {
    let npz = archive(&[("a.npy", b"x"), ("b.npy", b"y")], false);
    assert_says(&refusal(npz), &[".npz archive of arrays"]);
    let other = archive(&[("weights.pth", b"x")], false);
    assert_says(&refusal(other), &["zip archive that PyTorch did not write"]);
    let script = archive(&[("m/data.pkl", b"}."), ("m/constants.pkl", b").")], false);
    assert_says(&refusal(script), &["TorchScript"]);
}

#[test]
fn damaged_archives_are_noticed() {
    let file = small(false, false);
    let place = file
        .windows(4)
        .position(|w| w == 20.0f32.to_le_bytes())
        .unwrap();
    let mut flipped = file.clone();
    flipped[place] ^= 1;
    let mut checkpoint = open(flipped);
    assert_eq!(checkpoint.read_f32("a.weight").unwrap().len(), 6);
    let error = checkpoint.read_f32("a.bias").unwrap_err().to_string();
    assert_says(&error, &["`a.bias`", "checksum"]);

    // A flag that says something else: noise_scale.
    let mut flipped = small(false, false);
    let scale = 0.35f64.to_be_bytes();
    let place = flipped.windows(8).position(|w| w == scale).unwrap();
    flipped[place] ^= 1;
    assert_says(&refusal(flipped), &["table of contents", "checksum"]);

    // Fields of the directory's entry for the storage 1: where it is, what it takes and holds.
    let edited = |offset: usize, bytes: &[u8]| {
        let mut file = small(false, true);
        let at = file.windows(11).rposition(|w| w == b"test/data/1").unwrap();
        let at = at - 46 + offset;
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let bomb = edited(24, &(1u32 << 30).to_le_bytes());
    assert_says(
        &refusal(bomb),
        &["`test/data/1`", "claims 1073741824 bytes"],
    );
    let beyond = edited(20, &(1u32 << 30).to_le_bytes());
    assert_says(&refusal(beyond), &["`test/data/1`"]);
    let lost = edited(42, &5u32.to_le_bytes());
    assert_says(&refusal(lost), &["lost", "`test/data/1`"]);
    let method = edited(10, &14u16.to_le_bytes());
    assert_says(&refusal(method), &["method 14"]);
    let password = edited(8, &1u16.to_le_bytes());
    assert_says(&refusal(password), &["password"]);
}

#[test]
fn a_zip_bomb_is_refused_by_what_it_would_take() {
    // A megabyte of zeros in a kilobyte, and a hundred tensors at its end.
    const VALUES: i64 = 1 << 18;
    let tensor = Tensor {
        length: VALUES,
        offset: VALUES - 1,
        ..Tensor::whole("0", "FloatStorage", &[1])
    };
    let entries = (0..100).map(|i| (format!("w{i}"), tensor.py(false)));
    let object = ordered_dict(entries.collect());
    let storage = ("0", 4, f32_bytes(&vec![0.0; VALUES as usize]));
    let file = torch_zip(&object, &[storage], true);
    assert!(file.len() < 40_000);
    let limits = Limits {
        max_total_bytes: 1 << 20,
        ..Limits::default()
    };
    let error = Checkpoint::open(Cursor::new(file.clone()), &limits).unwrap_err();
    assert_says(&error.to_string(), &["unpacked", "104857600"]);
    assert_eq!(open(file).read_f32("w99").unwrap(), [0.0]);
}

#[test]
fn limits_hold() {
    type Change = fn(&mut Limits);
    let cases: [(&str, Change); 5] = [
        ("number of tensors is 3", |l| l.max_tensors = 2),
        ("larger than the 5 values", |l| {
            l.max_elements_per_tensor = 5
        }),
        ("together in bytes is 36", |l| l.max_total_bytes = 35),
        ("in bytes", |l| l.max_pickle_bytes = 100),
        ("number of values", |l| l.max_values = 30),
    ];
    for (part, change) in cases {
        let mut limits = Limits::default();
        change(&mut limits);
        for file in [small(true, false), small(false, false)] {
            let error = Checkpoint::open(Cursor::new(file), &limits).unwrap_err();
            assert_says(&error.to_string(), &[part]);
        }
    }
}

#[test]
fn cut_off_anywhere_a_file_is_refused_or_whole() {
    let tensors = small_tensors();
    let mut safetensors = Vec::new();
    write_safetensors(&mut safetensors, views(&tensors), false, &BTreeMap::new()).unwrap();
    let files = [
        small(true, false),
        small(false, false),
        small(false, true),
        safetensors,
    ];
    for (kind, file) in files.into_iter().enumerate() {
        let mut opened = 0;
        for length in 0..file.len() {
            let cut = file[..length].to_vec();
            let Ok(mut checkpoint) = Checkpoint::open(Cursor::new(cut), &Limits::default()) else {
                continue;
            };
            // Only where it is the optimizer's part that is missing.
            assert_eq!(
                checkpoint.read_f32("a.weight").unwrap(),
                [0., 1., 2., 3., 4., 5.]
            );
            assert_eq!(checkpoint.read_f32("a.bias").unwrap(), [10., 20.]);
            assert_says(&checkpoint.remarks.join(" "), &["cut off"]);
            opened += 1;
        }
        // The legacy file's last storage: 24 bytes, a count of 8.
        assert_eq!(opened, if kind == 0 { 32 } else { 0 }, "{kind}");
    }
    // What is missing is named.
    let file = small(true, false);
    let cut = file[..file.len() - 32 - 8 - 4].to_vec();
    let sentence = refusal(cut);
    assert_says(&sentence, &["cut off", "`steps`", "8 bytes are needed"]);
}
