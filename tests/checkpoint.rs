//! Weight files: every fixture, both of PyTorch's formats, and files that are broken or hostile.

#![cfg(feature = "checkpoint")]

mod checkpoint_support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};

use checkpoint_support::*;
use half::{bf16, f16};
use ventral::model::checkpoint::npy::{Array, Data, Npz, NpzWriter, read_npy, write_npy};
use ventral::model::checkpoint::{
    Checkpoint, DType, Format, Limits, Value, published_prefix, sha256, write_safetensors,
};
use ventral::model::config::ModelConfig;
use ventral::model::family::BodyConfig;
use ventral::model::family::cornet_rt::Unrolling;
use ventral::model::family::resnet::ResBlock;
use ventral::model::family::vone::NoiseMode;
use ventral::model::recognise::{CONFIG_KEY, RecogniseError, Recognised, recognise};

/// The networks that are told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Architecture {
    CornetZ,
    CornetS,
    CornetRt,
    CornetR,
    ResNetBasic,
    ResNetBottleneck,
    AlexNet,
    SmallCnn,
    VOneCornetS,
    VOneResNetBasic,
    VOneResNetBottleneck,
    VOneAlexNet,
}

fn architecture(config: &ModelConfig) -> Architecture {
    use Architecture as A;
    match (&config.body, config.front.is_some()) {
        (BodyConfig::CornetZ(_), _) => A::CornetZ,
        (BodyConfig::CornetS(_), false) => A::CornetS,
        (BodyConfig::CornetS(_), true) => A::VOneCornetS,
        (BodyConfig::CornetRt(c), _) => match c.unrolling {
            Unrolling::Biological => A::CornetRt,
            Unrolling::Sequential => A::CornetR,
        },
        (BodyConfig::ResNet(c), vone) => match (c.block, vone) {
            (ResBlock::Basic, false) => A::ResNetBasic,
            (ResBlock::Basic, true) => A::VOneResNetBasic,
            (ResBlock::Bottleneck, false) => A::ResNetBottleneck,
            (ResBlock::Bottleneck, true) => A::VOneResNetBottleneck,
        },
        (BodyConfig::AlexNet(_), false) => A::AlexNet,
        (BodyConfig::AlexNet(_), true) => A::VOneAlexNet,
        (BodyConfig::SmallCnn(_), _) => A::SmallCnn,
    }
}

/// Which network the file holds.
fn recognised_in(checkpoint: &Checkpoint<File>, name: &str) -> Recognised {
    recognise(&checkpoint.shapes(), &checkpoint.flags, name).unwrap()
}

type Bytes = Cursor<Vec<u8>>;

fn open(bytes: Vec<u8>) -> Checkpoint<Bytes> {
    match Checkpoint::open(Cursor::new(bytes), &Limits::default()) {
        Ok(checkpoint) => checkpoint,
        Err(e) => panic!("{e}"),
    }
}

/// The sentence with which a file is refused.
fn refusal(bytes: Vec<u8>) -> String {
    match Checkpoint::open(Cursor::new(bytes), &Limits::default()) {
        Ok(checkpoint) => panic!("opened: {:?}", checkpoint.tensors()),
        Err(e) => e.to_string(),
    }
}

#[track_caller]
fn assert_says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in {sentence:?}");
    }
}

/// A file in both formats that holds one bare tensor `w`.
fn both_formats(tensor: &Tensor, storage: &Storage) -> [Vec<u8>; 2] {
    let object = |legacy| ordered_dict(vec![("w".to_owned(), tensor.py(legacy))]);
    let storages = std::slice::from_ref(storage);
    [
        torch_zip(&object(false), storages, false),
        torch_legacy(&object(true), storages),
    ]
}

// The fixtures.

#[test]
fn every_fixture_opens_and_is_recognised() {
    let Some(fixtures) = fixtures() else { return };
    use Architecture as A;
    use Format::{Safetensors, TorchLegacy, TorchZip};
    // File, format, number of tensors (README of the fixtures), network.
    let expected = [
        ("cornet_rt_small.pth", TorchZip, 30, A::CornetRt),
        ("cornet_s_div8.pth", TorchZip, 164, A::CornetS),
        ("cornet_s_div8_legacy.pth", TorchLegacy, 164, A::CornetS),
        ("cornet_z_div8.pth", TorchZip, 10, A::CornetZ),
        ("small_cnn.safetensors", Safetensors, 6, A::SmallCnn),
        ("vonealexnet_small.pth.tar", TorchZip, 17, A::VOneAlexNet),
        ("vonecornets_small.pth.tar", TorchZip, 155, A::VOneCornetS),
        (
            "voneresnet50_small.pth.tar",
            TorchLegacy,
            101,
            A::VOneResNetBottleneck,
        ),
    ];
    for (name, format, count, architecture) in expected {
        let file = File::open(fixtures.join(name)).unwrap();
        let mut checkpoint = Checkpoint::open(file, &Limits::default()).unwrap();
        assert_eq!(checkpoint.format, format, "{name}");
        assert_eq!(checkpoint.tensors().len(), count, "{name}");
        let recognised = recognised_in(&checkpoint, name);
        assert_eq!(
            self::architecture(&recognised.config),
            architecture,
            "{name}"
        );
        let infos = checkpoint.tensors().clone();
        for (tensor, info) in infos {
            assert!(!tensor.starts_with("module."), "{name}: {tensor}");
            let values = checkpoint.read_f32(&tensor).unwrap();
            assert_eq!(values.len(), info.elements(), "{name}: {tensor}");
            assert!(values.iter().all(|x| x.is_finite()), "{name}: {tensor}");
        }
    }
}

#[test]
fn all_weight_files_among_the_fixtures_are_covered() {
    let Some(fixtures) = fixtures() else { return };
    let mut opened = 0;
    for entry in fs::read_dir(fixtures).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_string_lossy().into_owned();
        if [".pth", ".pth.tar", ".safetensors"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            let file = File::open(&path).unwrap();
            let checkpoint = Checkpoint::open(file, &Limits::default()).unwrap();
            assert!(
                checkpoint.remarks.is_empty(),
                "{name}: {:?}",
                checkpoint.remarks
            );
            opened += 1;
        }
    }
    assert_eq!(opened, 8);
}

#[test]
fn legacy_and_zip_hold_the_same_bits() {
    let Some(fixtures) = fixtures() else { return };
    let open = |name: &str| {
        let file = File::open(fixtures.join(name)).unwrap();
        Checkpoint::open(file, &Limits::default()).unwrap()
    };
    let mut zip = open("cornet_s_div8.pth");
    let mut legacy = open("cornet_s_div8_legacy.pth");
    assert_eq!(zip.shapes(), legacy.shapes());
    for name in zip.shapes().keys() {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let a = bits(zip.read_f32(name).unwrap());
        let b = bits(legacy.read_f32(name).unwrap());
        assert_eq!(a, b, "{name}");
    }
    assert_eq!(
        legacy.flags.get("model"),
        Some(&Value::Text("S".to_owned()))
    );
    assert_eq!(legacy.flags.get("lr"), Some(&Value::Float(0.1)));
    assert_eq!(legacy.flags.get("epoch"), Some(&Value::Int(43)));
    assert!(!legacy.flags.contains_key("optimizer"));
}

#[test]
fn values_are_the_bytes_of_their_entry() {
    let Some(fixtures) = fixtures() else { return };
    let path = fixtures.join("cornet_s_div8.pth");
    // As an independent reader finds them; the first storage is the first tensor's.
    let mut archive = zip::ZipArchive::new(File::open(&path).unwrap()).unwrap();
    let mut raw = Vec::new();
    let mut entry = archive.by_name("cornet_s_div8/data/0").unwrap();
    entry.read_to_end(&mut raw).unwrap();
    let mut checkpoint = Checkpoint::open(File::open(&path).unwrap(), &Limits::default()).unwrap();
    assert_eq!(
        f32_bytes(&checkpoint.read_f32("V1.conv1.weight").unwrap()),
        raw
    );
}

#[test]
fn the_flags_of_a_vonenet_become_its_settings() {
    let Some(fixtures) = fixtures() else { return };
    let meta = fs::read_to_string(fixtures.join("vonenet_small_meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    for (key, mode) in [
        ("resnet50", NoiseMode::Neuronal),
        ("cornets", NoiseMode::Neuronal),
        ("alexnet", NoiseMode::Gaussian),
    ] {
        let meta = &meta[key];
        let flags = &meta["flags"];
        let name = meta["file"].as_str().unwrap();
        let file = File::open(fixtures.join(name)).unwrap();
        let checkpoint = Checkpoint::open(file, &Limits::default()).unwrap();
        let recognised = recognised_in(&checkpoint, name);
        let front = recognised.config.front.unwrap();
        assert_eq!(front.stride as u64, flags["stride"].as_u64().unwrap());
        assert_eq!(front.kernel as u64, flags["ksize"].as_u64().unwrap());
        assert_eq!(front.simple_channels, 32);
        assert_eq!(front.complex_channels, 32);
        assert_eq!(
            front.visual_degrees,
            flags["visual_degrees"].as_f64().unwrap()
        );
        assert_eq!(front.k_exc, 25.0);
        assert_eq!(front.noise.mode, mode);
        assert_eq!(front.noise.scale, flags["noise_scale"].as_f64().unwrap());
        let crop = recognised.config.preprocessing.crop as u64;
        assert_eq!(crop, flags["image_size"].as_u64().unwrap());
        assert_eq!(recognised.config.preprocessing.mean, [0.5; 3]);
        assert!(recognised.remarks.is_empty());
    }
}

// Full size.

struct Listing {
    shapes: BTreeMap<String, Vec<usize>>,
    parameters: u64,
}

fn full_size() -> Option<BTreeMap<String, Listing>> {
    let path = fixtures()?.join("state_dict_keys_fullsize.json");
    let json = fs::read_to_string(path).unwrap();
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
    let listing = |value: serde_json::Value| {
        let keys: Vec<(String, Vec<usize>, String)> =
            serde_json::from_value(value["keys"].clone()).unwrap();
        let plain = |name: String| name.strip_prefix("module.").unwrap_or(&name).to_owned();
        Listing {
            shapes: keys.into_iter().map(|(n, s, _)| (plain(n), s)).collect(),
            parameters: value["n_params"].as_u64().unwrap(),
        }
    };
    Some(all.into_iter().map(|(k, v)| (k, listing(v))).collect())
}

fn full(name: &str, file: &str) -> Option<(Recognised, Listing)> {
    let listing = full_size()?.remove(name).unwrap();
    let recognised = recognise(&listing.shapes, &BTreeMap::new(), file).unwrap();
    Some((recognised, listing))
}

#[test]
fn full_size_networks_are_recognised() {
    use Architecture as A;
    let expected = [
        ("cornet_z", A::CornetZ, "CORnet-Z"),
        ("cornet_s", A::CornetS, "CORnet-S"),
        ("cornet_rt", A::CornetRt, "CORnet-RT"),
        ("cornet_r", A::CornetR, "CORnet-R"),
        ("voneresnet50", A::VOneResNetBottleneck, "VOneResNet-50"),
        ("vonealexnet", A::VOneAlexNet, "VOneAlexNet"),
        ("vonecornets", A::VOneCornetS, "VOneCORnet-S"),
        ("torchvision_resnet50", A::ResNetBottleneck, "ResNet-50"),
        ("torchvision_resnet18", A::ResNetBasic, "ResNet-18"),
        ("torchvision_alexnet", A::AlexNet, "AlexNet"),
    ];
    for (key, architecture, name) in expected {
        let Some((found, listing)) = full(key, &format!("{key}-0123abcd.pth")) else {
            return;
        };
        assert_eq!(self::architecture(&found.config), architecture, "{key}");
        assert_eq!(found.name, name);
        assert_eq!(found.parameters, listing.parameters, "{key}");
        assert_eq!(found.config.classes, 1000, "{key}");
        assert!(found.remarks.is_empty(), "{key}: {:?}", found.remarks);
        assert!(found.dropped.is_empty(), "{key}");
        assert_eq!(found.config.preprocessing.crop, 224, "{key}");
    }
}

#[test]
fn full_size_networks_have_the_official_sizes() {
    use ventral::model::family::alexnet::AlexNetConfig;
    use ventral::model::family::cornet_rt::CornetRtConfig;
    use ventral::model::family::cornet_s::CornetSConfig;
    use ventral::model::family::cornet_z::CornetZConfig;
    use ventral::model::family::resnet::ResNetConfig;
    use ventral::model::family::traits::Family;
    use ventral::model::family::vone::VOneConfig;
    let body = |key: &str, file: &str| full(key, file).map(|(r, _)| r.config.body);
    let Some(s) = body("cornet_s", "cornet_s-1d3f7974.pth") else {
        return;
    };
    assert_eq!(s, BodyConfig::CornetS(CornetSConfig::official()));
    let z = body("cornet_z", "cornet_z-5c427c9c.pth");
    assert_eq!(z, Some(BodyConfig::CornetZ(CornetZConfig::official())));
    for (key, file, unrolling) in [
        ("cornet_rt", "cornet_rt-933c001c.pth", Unrolling::Biological),
        ("cornet_r", "cornet_r-5930a990.pth", Unrolling::Sequential),
    ] {
        let official = CornetRtConfig::unrolled(unrolling);
        assert_eq!(body(key, file), Some(BodyConfig::CornetRt(official)));
    }
    let r50 = body("torchvision_resnet50", "resnet50-0676ba61.pth");
    assert_eq!(r50, Some(BodyConfig::ResNet(ResNetConfig::resnet50())));
    let r18 = body("torchvision_resnet18", "resnet18-f37072fd.pth");
    assert_eq!(r18, Some(BodyConfig::ResNet(ResNetConfig::resnet18())));
    let alexnet = body("torchvision_alexnet", "alexnet-owt-7be5be79.pth");
    assert_eq!(
        alexnet,
        Some(BodyConfig::AlexNet(AlexNetConfig::official()))
    );
    let (vone, _) = full("voneresnet50", "voneresnet50_e70.pth.tar").unwrap();
    assert_eq!(vone.config.front, Some(VOneConfig::official()));
    let (quiet, _) = full("voneresnet50", "voneresnet50_ns_e70.pth.tar").unwrap();
    assert_eq!(quiet.config.front.unwrap().noise.mode, NoiseMode::None);
}

#[test]
fn two_known_extras_are_dropped_and_others_refused() {
    let Some((_, mut listing)) = full("voneresnet50", "") else {
        return;
    };
    for name in ["vone_block.div_u.weight", "vone_block.div_t.weight"] {
        listing.shapes.insert(name.to_owned(), vec![512, 1, 3, 3]);
    }
    let found = recognise(&listing.shapes, &BTreeMap::new(), "voneresnet50_at_e96").unwrap();
    assert_eq!(found.dropped.len(), 2);
    assert_says(&found.remarks.join(" "), &["vone_block.div_u.weight"]);

    listing
        .shapes
        .insert("model.layer1.0.se.fc1.weight".to_owned(), vec![16, 64]);
    let error = recognise(&listing.shapes, &BTreeMap::new(), "").unwrap_err();
    assert_says(
        &error.to_string(),
        &["looks like VOneResNet", "`model.layer1.0.se.fc1.weight`"],
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let Some((_, listing)) = full("cornet_s", "") else {
        return;
    };
    let none = BTreeMap::new();
    // Every tensor that is left out is named, also those that decide the sizes.
    for name in listing.shapes.keys().filter(|n| !n.ends_with("_tracked")) {
        let mut shapes = listing.shapes.clone();
        shapes.remove(name);
        let error = recognise(&shapes, &none, "").unwrap_err();
        assert_says(
            &error.to_string(),
            &["looks like CORnet-S", name, "is missing"],
        );
    }
    let mut shapes = listing.shapes.clone();
    shapes.insert("V4.conv2.weight".to_owned(), vec![1024, 1024, 3, 5]);
    let error = recognise(&shapes, &none, "").unwrap_err().to_string();
    assert_says(
        &error,
        &[
            "`V4.conv2.weight`",
            "[1024, 1024, 3, 5]",
            "[1024, 1024, 3, 3]",
        ],
    );
    let strange = [("encoder.layers.weight".to_owned(), vec![3, 3])];
    let error = recognise(&strange.into(), &none, "")
        .unwrap_err()
        .to_string();
    assert_says(
        &error,
        &[
            "no network that this program knows",
            "encoder.layers.weight",
            "nearest",
        ],
    );
}

#[test]
fn hostile_shapes_and_settings_are_refused() {
    let Some((_, listing)) = full("vonecornets", "") else {
        return;
    };
    for (flag, value) in [
        ("stride", Value::Int(0)),
        ("image_size", Value::Int(1 << 40)),
        ("visual_degrees", Value::Float(f64::NAN)),
        ("noise_scale", Value::Float(0.0)),
        ("sf_max", Value::Float(f64::INFINITY)),
    ] {
        let flags = [(flag.to_owned(), value)].into();
        let error = recognise(&listing.shapes, &flags, "").unwrap_err();
        use RecogniseError::{Config, Setting};
        assert!(
            matches!(error, Setting { .. } | Config(_)),
            "{flag}: {error}"
        );
    }
    // Sizes that would overflow when multiplied.
    for name in listing.shapes.keys() {
        for shape in [
            vec![],
            vec![0; 4],
            vec![usize::MAX / 3; 4],
            vec![usize::MAX; 2],
        ] {
            let mut shapes = listing.shapes.clone();
            shapes.insert(name.clone(), shape);
            let _ = recognise(&shapes, &BTreeMap::new(), "");
        }
    }
}

#[test]
fn a_file_of_our_own_describes_itself() {
    let Some((found, listing)) = full("cornet_s", "") else {
        return;
    };
    let mut own = found.config.clone();
    let BodyConfig::CornetS(body) = &mut own.body else {
        panic!("not CORnet-S");
    };
    body.stem.as_mut().unwrap().stride = 1;
    body.stem.as_mut().unwrap().pool = false;
    own.preprocessing.crop = 32;
    let flags = |config: &ModelConfig| {
        let json = serde_json::to_string(config).unwrap();
        BTreeMap::from([(CONFIG_KEY.to_owned(), Value::Text(json))])
    };
    let again = recognise(&listing.shapes, &flags(&own), "").unwrap();
    assert_eq!(again.config, own);
    // One that does not fit, and would take for ever to spell out, is not believed.
    let BodyConfig::CornetS(body) = &mut own.body else {
        panic!("not CORnet-S");
    };
    body.times = [usize::MAX; 3];
    let doubted = recognise(&listing.shapes, &flags(&own), "").unwrap();
    assert_eq!(doubted.config, found.config);
    assert_says(&doubted.remarks.join(" "), &["own description"]);
}

// Both formats, built here.

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

// Hostile and broken pickles.

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
        // The same place for many values.
        (&[1000, 1000], &[0, 0], "overlap"),
        (&[2], &[-1], "negative"),
        (&[-2], &[1], "negative"),
    ];
    for (shape, strides, part) in cases {
        for file in huge(shape, strides, 2) {
            assert_says(&refusal(file), &["`w`", part]);
        }
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

// Other files.

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

// Safetensors.

type Named = (String, Vec<usize>, Vec<f32>);

fn small_tensors() -> Vec<Named> {
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

fn views(tensors: &[Named]) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
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

// NumPy.

#[test]
fn every_array_of_the_fixtures_is_read() {
    let Some(fixtures) = fixtures() else { return };
    let mut arrays = 0;
    for entry in fs::read_dir(&fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "npz") {
            let mut npz = Npz::open(File::open(&path).unwrap(), &Limits::default()).unwrap();
            let names: Vec<String> = npz.names().map(str::to_owned).collect();
            for name in names {
                let array = npz.read(&name).unwrap();
                assert_eq!(
                    array.shape.iter().product::<usize>(),
                    array.data.len(),
                    "{name}"
                );
                arrays += 1;
            }
        }
    }
    assert!(arrays > 400, "{arrays}");
    // A few as the README lists them.
    let open = |name: &str| {
        Npz::open(File::open(fixtures.join(name)).unwrap(), &Limits::default()).unwrap()
    };
    let mut inputs = open("attack_inputs.npz");
    assert_eq!(inputs.read("x_small").unwrap().shape, [4, 3, 32, 32]);
    let mean = inputs.read("mean").unwrap().data;
    assert_eq!(mean, Data::F32(vec![0.485, 0.456, 0.406]));
    let labels = inputs.read("y_small").unwrap().data.to_i64().unwrap();
    assert!(labels.iter().all(|y| (0..10).contains(y)));
    let mut attacks = open("attacks_small_cnn.npz");
    let success = attacks.read("fgsm/eps0/success").unwrap();
    assert!(matches!(success.data, Data::Bool(ref v) if v.len() == 4));
    let loss = attacks.read("clean_ce_sum").unwrap();
    assert!(loss.shape.is_empty() && loss.data.to_f32()[0] > 0.0);
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

// The published files' hashes.

#[test]
fn a_file_is_known_by_the_start_of_its_hash() {
    let mut checkpoint = open(small(true, false));
    let size = small(true, false).len() as u64;
    let mut last = 0;
    let hash = sha256(checkpoint.source_mut(), |done| last = done).unwrap();
    assert_eq!(last, size);
    assert_eq!(hash.len(), 64);
    let name = format!("small-{}.pth", &hash[..8]);
    assert!(hash.starts_with(published_prefix(&name).unwrap()));
    // The tensors can still be read.
    assert_eq!(checkpoint.read_f32("a.bias").unwrap(), [10., 20.]);
}

#[test]
fn small_networks_are_recognised_without_any_fixture() {
    let areas = [
        ("V1", 3, 8, 7),
        ("V2", 8, 16, 3),
        ("V4", 16, 32, 3),
        ("IT", 32, 64, 3),
    ];
    let mut z = BTreeMap::from([
        ("decoder.linear.weight".to_owned(), vec![10, 64]),
        ("decoder.linear.bias".to_owned(), vec![10]),
    ]);
    let mut rt = z.clone();
    for (area, from, to, kernel) in areas {
        z.insert(
            format!("{area}.conv.weight"),
            vec![to, from, kernel, kernel],
        );
        z.insert(format!("{area}.conv.bias"), vec![to]);
        // Group norms have 32 groups: four times as wide.
        let (from, to) = (if from == 3 { 3 } else { 4 * from }, 4 * to);
        for (name, shape) in [
            ("conv_input.weight", vec![to, from, kernel, kernel]),
            ("conv_input.bias", vec![to]),
            ("norm_input.weight", vec![to]),
            ("norm_input.bias", vec![to]),
            ("conv1.weight", vec![to, to, 3, 3]),
            ("norm1.weight", vec![to]),
            ("norm1.bias", vec![to]),
        ] {
            rt.insert(format!("{area}.{name}"), shape);
        }
    }
    rt.insert("decoder.linear.weight".to_owned(), vec![10, 256]);
    let none = BTreeMap::new();
    let found = recognise(&z, &none, "mine.pth").unwrap();
    assert_eq!(architecture(&found.config), Architecture::CornetZ);
    assert_eq!(found.config.classes, 10);
    let BodyConfig::CornetZ(body) = found.config.body else {
        panic!("not CORnet-Z");
    };
    assert_eq!((body.widths, body.v1_kernel), ([8, 16, 32, 64], 7));

    let found = recognise(&rt, &none, "mine.pth").unwrap();
    assert_eq!(architecture(&found.config), Architecture::CornetRt);
    assert_says(&found.remarks.join(" "), &["CORnet-R", "assumed"]);
    let flags = BTreeMap::from([("model".to_owned(), Value::Text("R".to_owned()))]);
    let found = recognise(&rt, &flags, "mine.pth").unwrap();
    assert_eq!(architecture(&found.config), Architecture::CornetR);
    assert!(found.remarks.is_empty());

    z.remove("V4.conv.bias");
    let error = recognise(&z, &none, "mine.pth").unwrap_err().to_string();
    assert_says(
        &error,
        &["looks like CORnet-Z", "`V4.conv.bias`", "is missing"],
    );
}

#[test]
fn a_basic_vone_resnet_is_recognised() {
    // VOneResNet-18 (Baidya et al. 2021): there is no fixture, so its names are made here from
    // ResNet-18's.
    let Some((_, resnet)) = full("torchvision_resnet18", "") else {
        return;
    };
    let body = resnet
        .shapes
        .into_iter()
        .filter(|(name, _)| !name.starts_with("conv1.") && !name.starts_with("bn1."));
    let mut shapes: BTreeMap<_, _> = body.map(|(n, s)| (format!("model.{n}"), s)).collect();
    for (name, shape) in [
        ("vone_block.simple_conv_q0.weight", vec![512, 3, 25, 25]),
        ("vone_block.simple_conv_q1.weight", vec![512, 3, 25, 25]),
        ("bottleneck.weight", vec![64, 512, 1, 1]),
    ] {
        shapes.insert(name.to_owned(), shape);
    }
    let flags = BTreeMap::from([
        ("image_size".to_owned(), Value::Int(64)),
        ("visual_degrees".to_owned(), Value::Int(2)),
        ("stride".to_owned(), Value::Int(2)),
        ("k_exc".to_owned(), Value::Float(23.5)),
    ]);
    let found = recognise(&shapes, &flags, "").unwrap();
    assert_eq!(architecture(&found.config), Architecture::VOneResNetBasic);
    assert_eq!(found.name, "VOneResNet-18");
    let front = found.config.front.unwrap();
    assert_eq!((front.image_size, front.stride, front.k_exc), (64, 2, 23.5));
    assert_eq!(found.config.preprocessing.resize, 73);
    let BodyConfig::ResNet(body) = found.config.body else {
        panic!("not a ResNet");
    };
    assert_eq!(body.block, ResBlock::Basic);
    assert_eq!(body.layers, [2, 2, 2, 2]);
}
