//! Pickles that are hostile or broken: nothing is run, and memory stays bounded.

use ventral::model::checkpoint::Value;

use super::{assert_says, both_formats, open, refusal};
use crate::common::torch::{
    Py, Tensor, archive, dict, f32_bytes, ints, ordered_dict, pickle, text, torch_legacy, torch_zip,
};

/// A zip file with this pickle as it stands.
fn with_pickle(code: &[u8]) -> Vec<u8> {
    archive(&[("x/data.pkl", code), ("x/byteorder", b"little")], false)
}

#[test]
fn nothing_is_run_and_what_wanted_to_is_named() {
    let tensor = Tensor::whole("0", "FloatStorage", &[2]);
    let evil = Py::Call("posix", "system", vec![text("touch /tmp/owned")]);
    let storages = [("0", 4, f32_bytes(&[1., 2.]))];
    let whole = |object: &Py| {
        [
            torch_zip(object, &storages, false),
            torch_legacy(object, &storages),
        ]
    };
    let mut files = vec![
        // Ancient, binary, and thrown away at once.
        b"cposix\nsystem\n(S'touch /tmp/owned'\ntR.".to_vec(),
        b"\x80\x02cposix\nsystem\nX\x01\0\0\0x\x85R.".to_vec(),
        b"(S'x'\niposix\nsystem\n.".to_vec(),
        with_pickle(b"\x80\x02cposix\nsystem\nX\x01\0\0\0x\x85R0}."),
        with_pickle(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R."),
    ];
    for legacy in [false, true] {
        let py = tensor.py(legacy);
        files.extend(whole(&evil));
        files.extend(whole(&dict([
            ("state_dict", dict([("w", py.clone())])),
            ("x", evil.clone()),
        ])));
        // Deep within what is not needed.
        files.extend(whole(&dict([
            ("state_dict", dict([("w", py)])),
            ("optimizer", dict([("state", Py::List(vec![evil.clone()]))])),
        ])));
    }
    for file in files {
        assert_says(
            &refusal(file),
            &["asks to run", "`posix.system`", "nothing was run"],
        );
    }
    assert!(!std::path::Path::new("/tmp/owned").exists());
    for (module, name) in [
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("runpy", "_run_code"),
        ("importlib", "import_module"),
    ] {
        let sentence = refusal(with_pickle(&pickle(&Py::Call(module, name, vec![]))));
        assert_says(&sentence, &[&format!("`{module}.{name}`")]);
    }
}

#[test]
fn an_unknown_call_at_the_top_is_refused_and_elsewhere_remarked_upon() {
    let tensor = Tensor::whole("0", "FloatStorage", &[2]);
    let storages = [("0", 4, f32_bytes(&[1., 2.]))];
    let unknown = Py::Call("mylab.tools", "make", vec![]);
    let weights = dict([("w", tensor.py(false))]);
    let top = dict([("state_dict", weights.clone()), ("x", unknown.clone())]);
    assert_says(
        &refusal(torch_zip(&top, &storages, false)),
        &["`mylab.tools.make`", "nothing was run"],
    );
    let deep = dict([
        ("state_dict", weights),
        ("optimizer", Py::List(vec![unknown])),
    ]);
    let mut checkpoint = open(torch_zip(&deep, &storages, false));
    assert_eq!(checkpoint.read_f32("w").unwrap(), [1., 2.]);
    assert_says(&checkpoint.remarks.join(" "), &["`mylab.tools.make`"]);
}

#[test]
fn files_without_a_table_of_weights_say_what_they_hold() {
    let tensor = Tensor::whole("0", "FloatStorage", &[2]);
    let storages = [("0", 4, f32_bytes(&[1., 2.]))];
    let model = Py::Instance(
        "mylab.models",
        "Net",
        vec![(text("training"), Py::Bool(true))],
    );
    let cases = [
        (
            model,
            vec!["whole `mylab.models.Net` object", "state_dict()"],
        ),
        (tensor.py(false), vec!["single tensor"]),
        (Py::List(vec![tensor.py(false)]), vec!["a list"]),
        (Py::Int(5), vec!["single plain value"]),
        (Py::Dict(vec![]), vec!["empty table"]),
        (
            dict([("epoch", Py::Int(1)), ("loss", Py::Float(0.5))]),
            vec!["`epoch`", "`loss`"],
        ),
        (
            dict([("optimizer", dict([("m", tensor.py(false))]))]),
            vec!["`optimizer`", "state_dict"],
        ),
    ];
    for (object, parts) in cases {
        assert_says(&refusal(torch_zip(&object, &storages, false)), &parts);
    }
}

#[test]
fn bombs_stay_small() {
    let tensor = Tensor::whole("0", "FloatStorage", &[2]);
    let storages = [("0", 4, f32_bytes(&[1., 2.]))];
    // A thousand million laughs: every list holds the one before ten times.
    let mut laughs = b"]q\x00".to_vec();
    for i in 0..9u8 {
        laughs.extend([b']', b'(']);
        for _ in 0..10 {
            laughs.extend([b'h', i]);
        }
        laughs.extend([b'e', b'q', i + 1]);
        // The list before is left on the stack: take it away.
        laughs.extend([b'0', b'h', i + 1]);
    }
    let object = dict([
        ("state_dict", dict([("w", tensor.py(false))])),
        (
            "flags",
            dict([("laughs", Py::Raw(with_rest_dropped(laughs)))]),
        ),
    ]);
    let mut checkpoint = open(torch_zip(&object, &storages, false));
    assert_eq!(checkpoint.read_f32("w").unwrap(), [1., 2.]);

    // A list within a list within a list …, half a million deep.
    let mut nested = vec![b']'; 500_000];
    nested.extend(vec![b'a'; 499_999]);
    let object = dict([
        ("state_dict", dict([("w", tensor.py(false))])),
        ("flags", dict([("deep", Py::Raw(nested.clone()))])),
    ]);
    let checkpoint = open(torch_zip(&object, &storages, true));
    assert!(matches!(checkpoint.flags.get("deep"), Some(Value::List(_))));
    nested.push(b'.');
    assert_says(&refusal(with_pickle(&nested)), &["a list"]);

    // A list that holds itself.
    let object = dict([
        ("state_dict", dict([("w", tensor.py(false))])),
        ("flags", dict([("me", Py::Raw(b"]q\x00h\x00a".to_vec()))])),
    ]);
    open(torch_zip(&object, &storages, false));

    // Copies of copies: a dictionary made of one that is made of one.
    let mut copies = b"](".to_vec();
    for i in 0..1000u16 {
        copies.extend(b"](K\x01M");
        copies.extend(i.to_le_bytes());
        copies.push(b'e');
    }
    copies.extend(b"eq\x00");
    for _ in 0..100_000 {
        copies.extend(b"0ccollections\nOrderedDict\nh\x00\x85R");
    }
    copies.push(b'.');
    assert_says(
        &refusal(with_pickle(&copies)),
        &["too large", "number of values"],
    );

    // More values than anyone needs.
    let mut many = vec![b'}'; 2_000_000];
    many.push(b'.');
    assert_says(&refusal(with_pickle(&many)), &["number of values"]);
}

/// Code that leaves several values, the last of which is wanted: as a tuple's last member.
fn with_rest_dropped(code: Vec<u8>) -> Vec<u8> {
    [b"(".to_vec(), code, b"t".to_vec()].concat()
}

#[test]
fn claimed_lengths_are_not_believed() {
    // 2 GiB, 4 GiB and 2^63 bytes of text in a pickle of a few bytes.
    for claim in [
        b"\x80\x02X\xff\xff\xff\x7f".to_vec(),
        b"\x80\x02X\xff\xff\xff\xff".to_vec(),
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(),
        b"\x80\x02\x8b\xff\xff\xff\x7f".to_vec(),
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
    ] {
        assert_says(
            &refusal(with_pickle(&claim)),
            &["cut off", "table of contents"],
        );
    }
    let huge = |shape: &[i64], strides: &[i64], length: i64| {
        let tensor = Tensor {
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            length,
            ..Tensor::whole("0", "FloatStorage", &[2])
        };
        both_formats(&tensor, &("0", 4, f32_bytes(&[1., 2.])))
    };
    let cases: [(&[i64], &[i64], &str); 8] = [
        // A product that overflows, with and without something behind it.
        (&[1 << 33, 1 << 33], &[1, 1], "larger than"),
        (&[i64::MAX, 2], &[0, 0], "larger than"),
        (&[1 << 40], &[1], "larger than"),
        (&[3], &[1], "needs 3 values"),
        (&[2], &[i64::MAX], "needs"),
        // The same places for many values, other than by an axis that repeats what is there.
        (&[1 << 20, 1 << 20], &[0, 0], "larger than"),
        (&[2], &[-1], "negative"),
        (&[-2], &[1], "negative"),
    ];
    for (shape, strides, part) in cases {
        for file in huge(shape, strides, 2) {
            assert_says(&refusal(file), &["`w`", part]);
        }
    }
    let three = |shape: &[i64], strides: &[i64]| {
        let tensor = Tensor {
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            ..Tensor::whole("0", "FloatStorage", &[3])
        };
        both_formats(&tensor, &("0", 4, f32_bytes(&[1., 2., 3.])))
    };
    for file in three(&[2, 2], &[1, 1]) {
        assert_says(&refusal(file), &["`w`", "overlap"]);
    }
    // `expand` repeats what is there, and is no claim of more.
    for file in three(&[2, 3], &[0, 1]) {
        let mut checkpoint = crate::open(file);
        let values = checkpoint.read_f32("w").unwrap();
        assert_eq!(values, [1., 2., 3., 1., 2., 3.]);
    }
    // The storage itself claims more than there is.
    let [zip, legacy] = huge(&[1000], &[1], 1000);
    assert_says(&refusal(zip), &["`w`", "needs 1000 values", "holds 2"]);
    assert_says(&refusal(legacy), &["should hold 1000 values and claims 2"]);
    let [zip, legacy] = huge(&[2], &[1], i64::MAX);
    assert_says(&refusal(zip), &["`w`", "claims"]);
    refusal(legacy);
}

#[test]
fn a_tensor_that_cannot_be_read_is_named() {
    let good = Tensor::whole("0", "FloatStorage", &[2]);
    let storages = [("0", 4, f32_bytes(&[1., 2.]))];
    let complex = Tensor::whole("0", "ComplexFloatStorage", &[1]);
    let elsewhere = Tensor::whole("99", "FloatStorage", &[2]);
    let sparse = Py::Call("torch._utils", "_rebuild_sparse_tensor", vec![]);
    let incomplete = Py::Call("torch._utils", "_rebuild_tensor_v2", vec![Py::Int(1)]);
    let no_storage = Py::Call(
        "torch._utils",
        "_rebuild_tensor_v2",
        vec![Py::Int(1), Py::Int(0), ints(&[1]), ints(&[1])],
    );
    let ranks = Tensor {
        strides: vec![1, 1],
        ..good.clone()
    };
    let cases = [
        (complex.py(false), "ComplexFloatStorage"),
        (elsewhere.py(false), "`data/99` are missing"),
        (sparse, "_rebuild_sparse_tensor"),
        (incomplete, "incomplete"),
        (no_storage, "names no storage"),
        (ranks.py(false), "1 dimensions and 2 strides"),
    ];
    for (py, part) in cases {
        let object = ordered_dict(vec![
            ("good".to_owned(), good.py(false)),
            ("module.V1.bad".to_owned(), py.clone()),
        ]);
        assert_says(
            &refusal(torch_zip(&object, &storages, false)),
            &["`V1.bad`", part],
        );
        // In an optimizer nobody minds.
        let object = dict([
            ("state_dict", dict([("good", good.py(false))])),
            ("optimizer", dict([("x", py)])),
        ]);
        open(torch_zip(&object, &storages, false));
    }
    let twice = Py::Dict(vec![
        (text("w"), good.py(false)),
        (text("module.w"), good.py(false)),
    ]);
    assert_says(
        &refusal(torch_zip(&twice, &storages, false)),
        &["`w`", "two tensors have this name"],
    );
}

#[test]
fn malformed_pickles_are_damage_not_panics() {
    for code in [
        &b"."[..],
        b"0.",
        b"1.",
        b"t.",
        b"a.",
        b"]a.",
        b"K\x01K\x02a.",
        b"}K\x01s.",
        b"(K\x01d.",
        b"h\x05.",
        b"g9\n.",
        b"gx\n.",
        b"R.",
        b"K\x01R.",
        b"b.",
        b"\x86.",
        b"(\x85.",
        b"(o.",
        b"I1x\n.",
        b"\x82\x01.",
        b"\xff.",
        b"\x93.",
        b"K\x01K\x02\x93.",
        b"K\x01Q.",
        b"Pxyz\n.",
        b"X\x07\0\0\0storage\x85Q.",
        b"(K\x01(K\x02b.",
        b"}.K\x01",
    ] {
        refusal(with_pickle(code));
        let mut legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
        legacy.extend(b"\x80\x02M\xe9\x03.\x80\x02}.");
        legacy.extend(code);
        refusal(legacy);
        refusal(code.to_vec());
    }
}
