//! Safetensors, written and read.

use std::collections::BTreeMap;

use half::{bf16, f16};
use ventral::model::checkpoint::{DType, Format, Value, write_safetensors};

use super::{assert_says, open, refusal};
use crate::common::torch::f32_bytes;

pub type Named = (String, Vec<usize>, Vec<f32>);

pub fn small_tensors() -> Vec<Named> {
    vec![
        (
            "a.weight".to_owned(),
            vec![2, 3],
            vec![0., 1., 2., 3., 4., 5.],
        ),
        ("a.bias".to_owned(), vec![2], vec![10., 20.]),
        ("steps".to_owned(), vec![], vec![0.1]),
        ("none".to_owned(), vec![0, 4], vec![]),
    ]
}

pub fn views(tensors: &[Named]) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
    tensors
        .iter()
        .map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice()))
}

#[test]
fn safetensors_are_written_as_the_reference_reads_them() {
    let tensors = small_tensors();
    let metadata = BTreeMap::from([("format".to_owned(), "pt\n\"quoted\"".to_owned())]);
    for as_f16 in [false, true] {
        let mut file = Vec::new();
        write_safetensors(&mut file, views(&tensors), as_f16, &metadata).unwrap();
        let mut again = Vec::new();
        write_safetensors(&mut again, views(&tensors), as_f16, &metadata).unwrap();
        assert_eq!(file, again);

        let reference = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(reference.len(), 4);
        let mut checkpoint = open(file.clone());
        assert_eq!(checkpoint.format, Format::Safetensors);
        assert_eq!(
            checkpoint.flags["format"],
            Value::Text("pt\n\"quoted\"".to_owned())
        );
        for (name, shape, values) in &tensors {
            let theirs = reference.tensor(name).unwrap();
            assert_eq!(theirs.shape(), shape);
            let ours = checkpoint.read_f32(name).unwrap();
            let (expected, bytes): (Vec<f32>, Vec<u8>) = if as_f16 {
                let halves: Vec<f16> = values.iter().map(|x| f16::from_f32(*x)).collect();
                (
                    halves.iter().map(|x| x.to_f32()).collect(),
                    halves.iter().flat_map(|x| x.to_le_bytes()).collect(),
                )
            } else {
                (values.clone(), f32_bytes(values))
            };
            assert_eq!(ours, expected, "{name}");
            assert_eq!(theirs.data(), bytes, "{name}");
        }
    }
}

#[test]
fn safetensors_of_other_types_are_read() {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let values = [1.5f32, -2.0];
    let halves: Vec<u8> = values
        .iter()
        .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
        .collect();
    let doubles: Vec<u8> = values
        .iter()
        .flat_map(|x| f64::from(*x).to_le_bytes())
        .collect();
    let file = serialize(
        [
            ("b", TensorView::new(Dtype::BF16, vec![2], &halves).unwrap()),
            (
                "d",
                TensorView::new(Dtype::F64, vec![1, 2], &doubles).unwrap(),
            ),
            (
                "i",
                TensorView::new(Dtype::I64, vec![], &[7, 0, 0, 0, 0, 0, 0, 0]).unwrap(),
            ),
        ],
        None,
    )
    .unwrap();
    let mut checkpoint = open(file);
    assert_eq!(checkpoint.read_f32("b").unwrap(), values);
    assert_eq!(checkpoint.read_f32("d").unwrap(), values);
    assert_eq!(checkpoint.read_f32("i").unwrap(), [7.0]);
    assert_eq!(checkpoint.tensors()["d"].dtype, DType::F64);
}

#[test]
fn malformed_safetensors_are_refused() {
    let file = |header: &str, data: usize| {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.extend(vec![0; data]);
        file
    };
    let entry = |name: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |shape: &str, offsets: &str| format!("{{{}}}", entry("w", shape, offsets));
    let deep = format!("{{\"w\":{}", "[".repeat(100_000));
    let dimensions = format!("[{}1]", "1,".repeat(100));
    let cases = [
        (one("[2]", "[0,4]"), 8, "needs 8 bytes and it has 4"),
        (one("[2]", "[0,8]"), 4, "cut off"),
        (one("[2]", "[8,0]"), 8, "before they begin"),
        (one("[4294967296,4294967296]", "[0,8]"), 8, "larger than"),
        (
            one("[2]", "[18446744073709551608,18446744073709551615]"),
            8,
            "`w`",
        ),
        (one("[-1]", "[0,8]"), 8, "prescribes"),
        (one("[1.5]", "[0,8]"), 8, "prescribes"),
        (one(&dimensions, "[0,4]"), 8, "32 dimensions"),
        ("{\"w\":5}".to_owned(), 8, "prescribes"),
        ("{\"w\"".to_owned(), 8, "prescribes"),
        (deep, 8, "prescribes"),
        ("{}".to_owned(), 0, "empty"),
        (
            one("[2]", "[0,8]").replace("F32", "F8_E4M3"),
            8,
            "`F8_E4M3`",
        ),
        (
            format!(
                "{{{},{}}}",
                entry("w", "[2]", "[0,8]"),
                entry("w", "[2]", "[8,16]")
            ),
            16,
            "two tensors have this name",
        ),
        (
            format!(
                "{{{},{}}}",
                entry("w", "[2]", "[0,8]"),
                entry("v", "[2]", "[4,12]")
            ),
            16,
            "overlap",
        ),
    ];
    for (header, data, part) in cases {
        assert_says(&refusal(file(&header, data)), &[part]);
    }
    let mut huge = file("{}", 0);
    huge[..8].copy_from_slice(&0x7fff_ffffu64.to_le_bytes());
    assert_says(&refusal(huge), &["table of contents"]);
}

#[test]
fn what_cannot_be_written_is_said() {
    let none = BTreeMap::new();
    let write = |tensors: &[(&'static str, &'static [usize], &'static [f32])], as_f16| {
        write_safetensors(Vec::new(), tensors.iter().copied(), as_f16, &none)
            .unwrap_err()
            .to_string()
    };
    assert_says(
        &write(&[("w", &[2], &[1.0])], false),
        &["`w`", "[2]", "1 values"],
    );
    assert_says(
        &write(&[("w", &[1], &[1.0]), ("w", &[1], &[1.0])], false),
        &["`w`", "taken"],
    );
    assert_says(&write(&[("w", &[1], &[1e6])], true), &["`w`", "1000000"]);
}
