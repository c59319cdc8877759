//! PyTorch's two file formats, built here: every layout and type of number.

use half::{bf16, f16};
use ventral::model::checkpoint::{DType, Value};

use super::{assert_says, both_formats, open, refusal};
use crate::common::torch::{
    Py, Tensor, dict, f32_bytes, i64_bytes, ints, ordered_dict, small, text, torch_legacy,
    torch_legacy_on, torch_zip, torch_zip_in_order,
};

#[test]
fn a_wrapped_state_dict_is_found_in_every_format() {
    for bytes in [small(true, false), small(false, false), small(false, true)] {
        let mut checkpoint = open(bytes);
        let names: Vec<&str> = checkpoint.tensors().keys().map(String::as_str).collect();
        // Neither the optimizer's momentum nor the prefix.
        assert_eq!(names, ["a.bias", "a.weight", "steps"]);
        assert_eq!(
            checkpoint.read_f32("a.weight").unwrap(),
            [0., 1., 2., 3., 4., 5.]
        );
        assert_eq!(checkpoint.read_f32("a.bias").unwrap(), [10., 20.]);
        assert_eq!(checkpoint.read_f32("steps").unwrap(), [7.]);
        assert_eq!(checkpoint.tensors()["steps"].dtype, DType::I64);
        assert!(checkpoint.tensors()["steps"].shape.is_empty());
        let flags: Vec<_> = checkpoint
            .flags
            .iter()
            .map(|(k, v)| (&**k, v.clone()))
            .collect();
        let expected = [
            ("epoch", Value::Int(43)),
            ("noise_scale", Value::Float(0.35)),
            ("stride", Value::Int(2)),
        ];
        assert_eq!(flags, expected);
        let unknown = checkpoint.read_f32("module.a.weight").unwrap_err();
        assert_says(&unknown.to_string(), &["module.a.weight"]);
    }
}

#[test]
fn views_are_put_into_row_major_order() {
    let storage = ("0", 4, f32_bytes(&[0., 1., 2., 3., 4., 5., 6., 7.]));
    let base = Tensor {
        length: 8,
        ..Tensor::whole("0", "FloatStorage", &[2, 3])
    };
    let cases = [
        // Offset into the storage.
        (2, vec![2, 3], vec![3, 1], vec![2., 3., 4., 5., 6., 7.]),
        // Transposed.
        (0, vec![3, 2], vec![1, 3], vec![0., 3., 1., 4., 2., 5.]),
        // Every second value.
        (1, vec![3], vec![2], vec![1., 3., 5.]),
        // Strides of dimensions of 1 mean nothing.
        (4, vec![1, 2, 1], vec![77, 1, 99], vec![4., 5.]),
        // No values, although the strides point nowhere.
        (0, vec![0, 3], vec![1 << 40, 1], vec![]),
    ];
    for (offset, shape, strides, expected) in cases {
        let tensor = Tensor {
            offset,
            shape: shape.clone(),
            strides,
            ..base.clone()
        };
        for bytes in both_formats(&tensor, &storage) {
            let mut checkpoint = open(bytes);
            assert_eq!(checkpoint.read_f32("w").unwrap(), expected, "{shape:?}");
        }
    }
}

#[test]
fn storages_are_shared_and_viewed() {
    let a = Tensor {
        length: 6,
        ..Tensor::whole("7", "FloatStorage", &[2])
    };
    let b = Tensor {
        offset: 1,
        view: Some((2, 4)),
        ..a.clone()
    };
    let object = ordered_dict(vec![
        ("a".to_owned(), a.py(true)),
        ("b".to_owned(), b.py(true)),
    ]);
    let storage = ("7", 4, f32_bytes(&[0., 1., 2., 3., 4., 5.]));
    let mut checkpoint = open(torch_legacy(&object, std::slice::from_ref(&storage)));
    assert_eq!(checkpoint.read_f32("a").unwrap(), [0., 1.]);
    assert_eq!(checkpoint.read_f32("b").unwrap(), [3., 4.]);

    let beyond = Tensor {
        view: Some((2, 2)),
        ..b
    };
    let object = ordered_dict(vec![("b".to_owned(), beyond.py(true))]);
    let sentence = refusal(torch_legacy(&object, &[storage]));
    assert_says(&sentence, &["`b`", "needs 3 values", "holds 2"]);
}

#[test]
fn every_type_of_number_is_converted() {
    let values = [-2.0f32, 0.0, 1.0, 0.5];
    let cases: [(&str, usize, Vec<u8>, Vec<f32>); 7] = [
        (
            "HalfStorage",
            2,
            values
                .iter()
                .flat_map(|x| f16::from_f32(*x).to_le_bytes())
                .collect(),
            values.to_vec(),
        ),
        (
            "BFloat16Storage",
            2,
            values
                .iter()
                .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
                .collect(),
            values.to_vec(),
        ),
        (
            "DoubleStorage",
            8,
            values
                .iter()
                .flat_map(|x| f64::from(*x).to_le_bytes())
                .collect(),
            values.to_vec(),
        ),
        (
            "LongStorage",
            8,
            i64_bytes(&[-5, 1 << 24, 0, 1]),
            vec![-5., 16_777_216., 0., 1.],
        ),
        (
            "ByteStorage",
            1,
            vec![0, 1, 128, 255],
            vec![0., 1., 128., 255.],
        ),
        (
            "CharStorage",
            1,
            vec![0, 1, 128, 255],
            vec![0., 1., -128., -1.],
        ),
        ("BoolStorage", 1, vec![0, 1, 1, 0], vec![0., 1., 1., 0.]),
    ];
    for (class, size, bytes, expected) in cases {
        let tensor = Tensor::whole("0", class, &[4]);
        for file in both_formats(&tensor, &("0", size, bytes.clone())) {
            assert_eq!(open(file).read_f32("w").unwrap(), expected, "{class}");
        }
    }
}

#[test]
fn big_endian_values_are_turned() {
    let tensor = Tensor::whole("0", "FloatStorage", &[2]);
    let object = dict([("w", tensor.py(false))]);
    let bytes = [1.5f32, -3.0]
        .iter()
        .flat_map(|x| x.to_be_bytes())
        .collect();
    let file = torch_zip_in_order(&object, &[("0", 4, bytes)], false, "big");
    assert_eq!(open(file).read_f32("w").unwrap(), [1.5, -3.0]);

    let storages = [("0", 4, f32_bytes(&[1.5, -3.0]))];
    let file = torch_zip_in_order(&object, &storages, false, "middle");
    assert_says(&refusal(file), &["byte order", "`middle`"]);

    // PyTorch writes legacy values little-endian on every machine.
    let object = dict([("w", tensor.py(true))]);
    let mut legacy = open(torch_legacy_on(&object, &storages, false));
    assert_eq!(legacy.read_f32("w").unwrap(), [1.5, -3.0]);
    assert_says(&legacy.remarks.join(" "), &["big-endian"]);
}

#[test]
fn the_containers_met_in_the_wild_are_understood() {
    let tensor = Tensor::whole("0", "FloatStorage", &[2]);
    let py = tensor.py(false);
    let parameter = Py::Call(
        "torch._utils",
        "_rebuild_parameter",
        vec![py.clone(), Py::Bool(true), Py::None],
    );
    let arguments = vec![
        tensor.storage(false),
        Py::Int(0),
        Py::Call("torch", "Size", vec![ints(&[2])]),
        ints(&[1]),
    ];
    let typed = Py::Call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        vec![
            Py::Global("torch._utils", "_rebuild_tensor_v2"),
            Py::Global("torch.nn.parameter", "Parameter"),
            Py::Tuple(arguments),
            dict([("tag", Py::Int(1))]),
        ],
    );
    let untyped = Tensor {
        class: "UntypedStorage",
        length: 8,
        ..tensor.clone()
    };
    let third = Py::Call(
        "torch._utils",
        "_rebuild_tensor_v3",
        vec![
            untyped.storage(false),
            Py::Int(0),
            ints(&[2]),
            ints(&[1]),
            Py::Bool(false),
            Py::None,
            Py::Global("torch", "float32"),
            Py::None,
        ],
    );
    let state = |py: &Py| ordered_dict(vec![("module.w".to_owned(), py.clone())]);
    let python2 = Py::Call(
        "collections",
        "OrderedDict",
        vec![Py::List(vec![Py::List(vec![text("w"), py.clone()])])],
    );
    let cases = [
        ("bare", state(&py)),
        ("parameter", state(&parameter)),
        ("subclass", state(&typed)),
        ("python 2", python2),
        ("third version", state(&third)),
        (
            "state_dict",
            dict([("state_dict", state(&py)), ("epoch", Py::Int(1))]),
        ),
        ("model", dict([("model", state(&py))])),
        (
            "compiled",
            dict([("net", dict([("_orig_mod.module.w", py.clone())]))]),
        ),
        (
            "memory format",
            dict([(
                "state_dict",
                ordered_dict(vec![
                    ("w".to_owned(), py.clone()),
                    ("_extra_state".to_owned(), Py::None),
                ]),
            )]),
        ),
    ];
    for (what, object) in cases {
        for deflated in [false, true] {
            let storages = [("0", 4, f32_bytes(&[1., 2.]))];
            let mut checkpoint = open(torch_zip(&object, &storages, deflated));
            assert_eq!(checkpoint.read_f32("w").unwrap(), [1., 2.], "{what}");
            assert_eq!(checkpoint.tensors().len(), 1, "{what}");
        }
    }
}

#[test]
fn settings_of_all_kinds_become_flags() {
    let tensor = Tensor::whole("0", "FloatStorage", &[2]);
    // numpy.float64(0.75), as protocol 2 spells it.
    let dtype = {
        let mut code = b"cnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R(K\x03X\x01\0\0\0<NNN".to_vec();
        code.extend(b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb");
        Py::Raw(code)
    };
    let latin1: String = 0.75f64
        .to_le_bytes()
        .iter()
        .map(|b| char::from(*b))
        .collect();
    let encoded = Py::Call("_codecs", "encode", vec![Py::Text(latin1), text("latin1")]);
    let scalar = Py::Call("numpy.core.multiarray", "scalar", vec![dtype, encoded]);
    let namespace = Py::Instance(
        "argparse",
        "Namespace",
        vec![
            (text("lr"), Py::Float(0.1)),
            (text("stages"), Py::List(vec![Py::Int(3), Py::Int(4)])),
            (
                text("device"),
                Py::Call("torch", "device", vec![text("cuda")]),
            ),
            (text("secret"), Py::Call("mylab.tools", "make", vec![])),
        ],
    );
    let object = dict([
        ("state_dict", dict([("w", tensor.py(false))])),
        ("args", namespace),
        ("best_acc1", scalar),
        ("arch", text("resnet50")),
        ("lr", Py::Float(99.0)),
        ("config", Py::Instance("mylab.config", "Config", vec![])),
        ("ema", tensor.py(false)),
    ]);
    let checkpoint = open(torch_zip(&object, &[("0", 4, f32_bytes(&[1., 2.]))], false));
    let flag = |name: &str| checkpoint.flags.get(name).cloned().unwrap();
    // The settings table wins over the top level.
    assert_eq!(flag("lr"), Value::Float(0.1));
    assert_eq!(
        flag("stages"),
        Value::List(vec![Value::Int(3), Value::Int(4)])
    );
    assert_eq!(flag("best_acc1"), Value::Float(0.75));
    assert_eq!(flag("arch"), Value::Text("resnet50".to_owned()));
    assert_eq!(flag("device"), Value::Opaque("torch.device".to_owned()));
    assert_eq!(flag("secret"), Value::Opaque("mylab.tools.make".to_owned()));
    assert_eq!(flag("ema"), Value::Opaque("a tensor".to_owned()));
    assert_says(
        &checkpoint.remarks.join(" "),
        &["`mylab.tools.make`", "`mylab.config.Config`"],
    );
}
