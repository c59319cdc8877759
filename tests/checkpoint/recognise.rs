//! Published weight files, and those of the same names and shapes: what network they hold.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;

use ventral::model::checkpoint::{Checkpoint, Format, Limits, Value, published_prefix, sha256};
use ventral::model::config::ModelConfig;
use ventral::model::family::BodyConfig;
use ventral::model::family::cornet_rt::Unrolling;
use ventral::model::family::resnet::ResBlock;
use ventral::model::family::vone::NoiseMode;
use ventral::model::recognise::{CONFIG_KEY, RecogniseError, Recognised, recognise};

use super::{assert_says, open};
use crate::common::torch::{f32_bytes, small};
use crate::common::{reference, references, shared};

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

impl Architecture {
    fn of(config: &ModelConfig) -> Self {
        match (&config.body, config.front.is_some()) {
            (BodyConfig::CornetZ(_), _) => Self::CornetZ,
            (BodyConfig::CornetS(_), false) => Self::CornetS,
            (BodyConfig::CornetS(_), true) => Self::VOneCornetS,
            (BodyConfig::CornetRt(c), _) => match c.unrolling {
                Unrolling::Biological => Self::CornetRt,
                Unrolling::Sequential => Self::CornetR,
            },
            (BodyConfig::ResNet(c), vone) => match (c.block, vone) {
                (ResBlock::Basic, false) => Self::ResNetBasic,
                (ResBlock::Basic, true) => Self::VOneResNetBasic,
                (ResBlock::Bottleneck, false) => Self::ResNetBottleneck,
                (ResBlock::Bottleneck, true) => Self::VOneResNetBottleneck,
            },
            (BodyConfig::AlexNet(_), false) => Self::AlexNet,
            (BodyConfig::AlexNet(_), true) => Self::VOneAlexNet,
            _ => Self::SmallCnn,
        }
    }
}

/// Which network the file holds.
fn recognised_in(checkpoint: &Checkpoint<File>, name: &str) -> Recognised {
    recognise(&checkpoint.shapes(), &checkpoint.flags, name).unwrap()
}

#[test]
fn every_fixture_opens_and_is_recognised() {
    use Architecture as A;
    use Format::{Safetensors, TorchLegacy, TorchZip};
    // File, format, number of tensors (README of the fixtures), network.
    let expected = [
        ("cornet_rt_small.pth", TorchZip, 30, A::CornetRt),
        ("cornet_s_div32.pth", TorchZip, 164, A::CornetS),
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
    let own = expected.map(|(name, ..)| Some(reference(name)));
    let wider = [
        ("cornet_s_div8.pth", TorchZip, 164, A::CornetS),
        ("cornet_s_div8_legacy.pth", TorchLegacy, 164, A::CornetS),
    ];
    let full = wider.map(|(name, ..)| shared(&format!("fixtures/{name}")));
    let all = expected.into_iter().chain(wider);
    for ((name, format, count, architecture), path) in all.zip(own.into_iter().chain(full)) {
        let Some(path) = path else { continue };
        let file = File::open(path).unwrap();
        let mut checkpoint = Checkpoint::open(file, &Limits::default()).unwrap();
        assert_eq!(checkpoint.format, format, "{name}");
        assert_eq!(checkpoint.tensors().len(), count, "{name}");
        let recognised = recognised_in(&checkpoint, name);
        assert_eq!(Architecture::of(&recognised.config), architecture, "{name}");
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
    let mut opened = 0;
    for name in references() {
        if [".pth", ".pth.tar", ".safetensors"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            let file = File::open(reference(&name)).unwrap();
            let checkpoint = Checkpoint::open(file, &Limits::default()).unwrap();
            assert!(
                checkpoint.remarks.is_empty(),
                "{name}: {:?}",
                checkpoint.remarks
            );
            opened += 1;
        }
    }
    assert_eq!(opened, 7);
}

#[test]
fn legacy_and_zip_hold_the_same_bits() {
    let names = ["cornet_s_div8.pth", "cornet_s_div8_legacy.pth"];
    let [Some(zip), Some(legacy)] = names.map(|name| shared(&format!("fixtures/{name}"))) else {
        return;
    };
    let open = |path| Checkpoint::open(File::open(path).unwrap(), &Limits::default()).unwrap();
    let (mut zip, mut legacy) = (open(zip), open(legacy));
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
    let path = reference("cornet_z_div8.pth");
    // As an independent reader finds them; the first storage is the first tensor's.
    let mut archive = zip::ZipArchive::new(File::open(&path).unwrap()).unwrap();
    let mut raw = Vec::new();
    let mut entry = archive.by_name("cornet_z_div8/data/0").unwrap();
    entry.read_to_end(&mut raw).unwrap();
    let mut checkpoint = Checkpoint::open(File::open(&path).unwrap(), &Limits::default()).unwrap();
    assert_eq!(
        f32_bytes(&checkpoint.read_f32("V1.conv.weight").unwrap()),
        raw
    );
}

#[test]
fn the_flags_of_a_vonenet_become_its_settings() {
    let meta = fs::read_to_string(reference("vonenet_small_meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    for (key, mode) in [
        ("resnet50", NoiseMode::Neuronal),
        ("cornets", NoiseMode::Neuronal),
        ("alexnet", NoiseMode::Gaussian),
    ] {
        let meta = &meta[key];
        let flags = &meta["flags"];
        let name = meta["file"].as_str().unwrap();
        let file = File::open(reference(name)).unwrap();
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

struct Listing {
    shapes: BTreeMap<String, Vec<usize>>,
    parameters: u64,
}

fn full_size() -> BTreeMap<String, Listing> {
    let json = fs::read_to_string(reference("state_dict_keys_fullsize.json")).unwrap();
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
    all.into_iter().map(|(k, v)| (k, listing(v))).collect()
}

fn full(name: &str, file: &str) -> (Recognised, Listing) {
    let listing = full_size().remove(name).unwrap();
    let recognised = recognise(&listing.shapes, &BTreeMap::new(), file).unwrap();
    (recognised, listing)
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
        let (found, listing) = full(key, &format!("{key}-0123abcd.pth"));
        assert_eq!(Architecture::of(&found.config), architecture, "{key}");
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
    let body = |key: &str, file: &str| full(key, file).0.config.body;
    let s = body("cornet_s", "cornet_s-1d3f7974.pth");
    assert_eq!(s, BodyConfig::CornetS(CornetSConfig::official()));
    let z = body("cornet_z", "cornet_z-5c427c9c.pth");
    assert_eq!(z, BodyConfig::CornetZ(CornetZConfig::official()));
    for (key, file, unrolling) in [
        ("cornet_rt", "cornet_rt-933c001c.pth", Unrolling::Biological),
        ("cornet_r", "cornet_r-5930a990.pth", Unrolling::Sequential),
    ] {
        let official = CornetRtConfig::unrolled(unrolling);
        assert_eq!(body(key, file), BodyConfig::CornetRt(official));
    }
    let r50 = body("torchvision_resnet50", "resnet50-0676ba61.pth");
    assert_eq!(r50, BodyConfig::ResNet(ResNetConfig::resnet50()));
    let r18 = body("torchvision_resnet18", "resnet18-f37072fd.pth");
    assert_eq!(r18, BodyConfig::ResNet(ResNetConfig::resnet18()));
    let alexnet = body("torchvision_alexnet", "alexnet-owt-7be5be79.pth");
    assert_eq!(alexnet, BodyConfig::AlexNet(AlexNetConfig::official()));
    let (vone, _) = full("voneresnet50", "voneresnet50_e70.pth.tar");
    assert_eq!(vone.config.front, Some(VOneConfig::official()));
    let (quiet, _) = full("voneresnet50", "voneresnet50_ns_e70.pth.tar");
    assert_eq!(quiet.config.front.unwrap().noise.mode, NoiseMode::None);
}

#[test]
fn two_known_extras_are_dropped_and_others_refused() {
    let (_, mut listing) = full("voneresnet50", "");
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
    let (_, listing) = full("cornet_s", "");
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
    let (_, listing) = full("vonecornets", "");
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
    let (found, listing) = full("cornet_s", "");
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
    assert_eq!(Architecture::of(&found.config), Architecture::CornetZ);
    assert_eq!(found.config.classes, 10);
    let BodyConfig::CornetZ(body) = found.config.body else {
        panic!("not CORnet-Z");
    };
    assert_eq!((body.widths, body.v1_kernel), ([8, 16, 32, 64], 7));

    let found = recognise(&rt, &none, "mine.pth").unwrap();
    assert_eq!(Architecture::of(&found.config), Architecture::CornetRt);
    assert_says(&found.remarks.join(" "), &["CORnet-R", "assumed"]);
    let flags = BTreeMap::from([("model".to_owned(), Value::Text("R".to_owned()))]);
    let found = recognise(&rt, &flags, "mine.pth").unwrap();
    assert_eq!(Architecture::of(&found.config), Architecture::CornetR);
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
    let (_, resnet) = full("torchvision_resnet18", "");
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
    assert_eq!(
        Architecture::of(&found.config),
        Architecture::VOneResNetBasic
    );
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
