//! The command `ventral` as a user runs it.
#![cfg(feature = "cli")]

mod common;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::command::{command, fails, run, succeeds};
use common::shared;
use serde_json::Value;
use ventral::image::{self, Picture, encode_png};
use ventral::model::checkpoint::Limits;
use ventral::model::checkpoint::npy::{Array, Data, Npz, read_npy, write_npy};
use ventral::perturb::attack::Setting;
use ventral::perturb::attack::registry::ATTACKS;
use ventral::perturb::corruption::{Corruption, Image, Setting, Textures, corrupt_numbered};
use ventral::rng::Rng;
use ventral::serve::{BackgroundServer, ServeOptions};

fn open(path: &Path) -> Npz<BufReader<File>> {
    let file = BufReader::new(File::open(path).unwrap());
    Npz::open(file, &Limits::default()).unwrap()
}

fn values(npz: &mut Npz<BufReader<File>>, name: &str) -> Vec<f32> {
    npz.read(name).unwrap().data.to_f32()
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= tolerance * scale, "{a} against {b}");
    }
}

/// Puts the reference's normalised input into `x.npy`.
fn write_input(reference: &str, folder: &Path) -> bool {
    let Some(path) = shared(&format!("fixtures/{reference}")) else {
        eprintln!("skipped: no shared fixtures here");
        return false;
    };
    let input = open(&path).read("input").unwrap();
    write_npy(File::create(folder.join("x.npy")).unwrap(), &input).unwrap();
    true
}

#[test]
fn infer_writes_the_taps_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    if !write_input("cornet_s_div8_io.npz", folder.path()) {
        return;
    }
    let weights = shared("fixtures/cornet_s_div8.pth").unwrap();
    let weights = weights.to_str().unwrap();
    let arguments = [
        "infer",
        "--weights",
        weights,
        "--input",
        "x.npy",
        "--raw",
        "--taps",
        "V1,V4.t2,IT,logits",
        "--output",
        "out.npz",
    ];
    succeeds(&arguments, folder.path());
    let mut ours = open(&folder.path().join("out.npz"));
    let mut theirs = open(&shared("fixtures/cornet_s_div8_io.npz").unwrap());
    for (tap, key) in [
        ("V1", "V1"),
        ("V4.t2", "V4_t2"),
        ("IT", "IT"),
        ("logits", "decoder"),
    ] {
        let theirs = values(&mut theirs, key);
        assert_close(&values(&mut ours, tap), &theirs, 1e-4);
    }
    let said = fails(
        &[
            "infer",
            "--weights",
            weights,
            "--input",
            "x.npy",
            "--taps",
            "V5",
            "--output",
            "no.npz",
        ],
        folder.path(),
    );
    assert!(said.contains("V5"), "{said}");
    assert!(!folder.path().join("no.npz").exists());
}

/// The whole way of published weights: a server, shards in f16, an inference from them.
#[test]
fn fetch_keeps_a_published_file_as_shards() {
    let folder = tempfile::tempdir().unwrap();
    if !write_input("voneresnet50_small_io.npz", folder.path()) {
        return;
    }
    let site = folder.path().join("site");
    fs::create_dir(&site).unwrap();
    // The server wants a page to serve.
    fs::write(site.join("index.html"), "<!doctype html>").unwrap();
    let published = shared("fixtures/voneresnet50_small.pth.tar").unwrap();
    fs::copy(&published, site.join("voneresnet50_e70.pth.tar")).unwrap();
    fs::copy(&published, site.join("cornet_s-1d3f7974.pth")).unwrap();
    let server = BackgroundServer::start(&ServeOptions::new(&site)).unwrap();
    let mirror = format!("{}/", server.url().trim_end_matches('/'));

    // 1 MB shards, so that there are several.
    let fetch = ["fetch", "voneresnet50", "--from", &mirror, "--shard", "1"];
    let said = succeeds(&fetch, folder.path());
    assert!(said.contains("f16 shards"), "{said}");
    let models = folder.path().join("models");
    assert!(models.join("voneresnet50.safetensors.index.json").is_file());
    assert!(!models.join("voneresnet50_e70.pth.tar").exists());

    let arguments = [
        "infer",
        "--model",
        "voneresnet50",
        "--input",
        "x.npy",
        "--raw",
        "--taps",
        "logits",
        "--output",
        "out.npz",
    ];
    succeeds(&arguments, folder.path());
    let mut ours = open(&folder.path().join("out.npz"));
    let mut theirs = open(&shared("fixtures/voneresnet50_small_io.npz").unwrap());
    let theirs = values(&mut theirs, "logits");
    // Eleven bits of mantissa through a score of layers.
    assert_close(&values(&mut ours, "logits"), &theirs, 2e-2);

    // A file that is not what its name says.
    let said = fails(&["fetch", "cornet-s", "--from", &mirror], folder.path());
    assert!(said.contains("1d3f7974"), "{said}");
    assert!(!models.join("cornet-s.safetensors.index.json").exists());
}

#[test]
fn a_model_that_is_not_there_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let said = fails(
        &[
            "infer", "--model", "vgg", "--input", "x.npy", "--taps", "logits", "--output", "o.npz",
        ],
        folder.path(),
    );
    assert!(said.contains("ventral models"), "{said}");
    let said = fails(&["fetch", "vgg"], folder.path());
    assert!(said.contains("cornet-s"), "{said}");
}

/// Pictures shipped with the page, 32 px.
const CLASSES: [&str; 3] = ["airplane", "cat", "truck"];

/// Builds with the feature have a GPU, or another sentence for why there is none.
#[cfg(not(feature = "gpu"))]
#[test]
fn a_gpu_that_cannot_be_had_is_a_sentence() {
    let here = tempfile::tempdir().unwrap();
    for backend in ["gpu", "gpu-f16"] {
        let plan = ["evaluate", "quick", "--models", "resnet-cifar10"];
        let said = fails(
            &[&plan[..], &["--dry-run", "--backend", backend]].concat(),
            here.path(),
        );
        assert!(said.contains("no GPU can be used"), "{said}");
        assert!(said.contains("--features gpu"), "{said}");
    }
}

/// `set/CLASS/0.png` for three classes, and what does not belong there.
fn write_set(folder: &Path) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/samples/cifar");
    for class in CLASSES {
        let place = folder.join("set").join(class);
        fs::create_dir_all(&place).unwrap();
        fs::copy(samples.join(format!("{class}.png")), place.join("0.png")).unwrap();
    }
}

fn read_picture(path: &Path) -> image::Pixels {
    image::decode(&fs::read(path).unwrap())
        .unwrap()
        .picture
        .to_pixels()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn setting(corruption: Corruption, severity: u8, eight_bit: bool) -> Setting {
    Setting {
        corruption,
        severity,
        table: None,
        seed: 0,
        eight_bit,
    }
}

/// What the library makes of an image.
fn corrupted(pixels: &image::Pixels, number: u64, setting: Setting) -> Vec<f32> {
    let image = Image {
        pixels: &pixels.data,
        channels: 3,
        height: pixels.height,
        width: pixels.width,
    };
    corrupt_numbered(image, number, &setting, &Textures::default()).unwrap()
}

#[test]
fn corrupt_keeps_a_folders_structure_and_goes_on_past_a_bad_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    fs::write(at("set/cat/broken.jpg"), b"no picture").unwrap();
    fs::write(at("set/notes.txt"), b"no picture either").unwrap();
    let arguments = [
        "corrupt",
        "--kind",
        "gaussian-noise",
        "--severity",
        "3",
        "set",
        "out",
    ];
    let output = run(&arguments, folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("cat/broken.jpg"), "{said}");
    // Numbers are places among all the pictures, the bad one among them.
    for (class, number) in CLASSES.into_iter().zip([0, 1, 3]) {
        let name = format!("{class}/0.png");
        let ours = read_picture(&at("out").join(&name));
        let clean = read_picture(&at("set").join(&name));
        let expected = corrupted(&clean, number, setting(Corruption::GaussianNoise, 3, true));
        assert_eq!(ours.data, expected, "{name}");
    }
    assert!(!at("out/cat/broken.png").exists());

    let recipe = read_json(&at("out/recipe.json"));
    assert_eq!(recipe["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(recipe["seed"], 0);
    assert_eq!(recipe["settings"][0]["corruption"], "gaussian_noise");
    assert_eq!(recipe["failed"][0]["name"], "cat/broken.jpg");
    let names: Vec<&str> = recipe["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| {
            assert_eq!(input["sha256"].as_str().unwrap().len(), 64);
            input["name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(names, CLASSES.map(|class| format!("{class}/0.png")));

    // The recipe's own command line, into another folder, gives the same bytes.
    let command = recipe["command"].as_array().unwrap();
    let command: Vec<&str> = command.iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(command[0], "ventral");
    fs::rename(at("out"), at("first")).unwrap();
    succeeds(&command[1..], folder.path());
    for class in CLASSES {
        let name = format!("{class}/0.png");
        let first = fs::read(at("first").join(&name)).unwrap();
        assert_eq!(fs::read(at("out").join(&name)).unwrap(), first, "{name}");
    }
    // Another seed does not.
    let mut other = arguments.to_vec();
    other.splice(1..1, ["--seed", "1"]);
    *other.last_mut().unwrap() = "other";
    succeeds(&other, folder.path());
    let first = fs::read(at("first/cat/0.png")).unwrap();
    assert_ne!(fs::read(at("other/cat/0.png")).unwrap(), first);
}

#[test]
fn corrupt_lays_kinds_and_severities_out_as_imagenet_c_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    let run = |kind: &str, severity: &str, more: &[&str], output: &str| {
        let mut arguments = vec!["corrupt", "--kind", kind, "--severity", severity];
        arguments.extend(more);
        arguments.extend(["set", output]);
        succeeds(&arguments, folder.path())
    };
    run("all", "1,4", &[], "all");
    for corruption in Corruption::ALL {
        for severity in [1, 4] {
            let name = format!("all/{corruption}/{severity}/cat/0.png");
            let clean = read_picture(&at("set/cat/0.png"));
            let expected = corrupted(&clean, 1, setting(corruption, severity, true));
            assert_eq!(read_picture(&at(&name)).data, expected, "{name}");
        }
    }
    assert_eq!(
        read_json(&at("all/recipe.json"))["settings"]
            .as_array()
            .unwrap()
            .len(),
        38
    );

    // Published parameters of another set, and f32 throughout, are other pictures.
    run("contrast", "2-3", &["--table", "imagenet"], "table");
    run("contrast", "2-3", &["--f32"], "float");
    let plain = |severity: u8| setting(Corruption::Contrast, severity, true);
    let clean = read_picture(&at("set/truck/0.png"));
    for severity in [2, 3] {
        let name = format!("contrast/{severity}/truck/0.png");
        let cut = corrupted(&clean, 2, plain(severity));
        assert_ne!(read_picture(&at("table").join(&name)).data, cut);
        let rounded = image::Pixels {
            data: corrupted(&clean, 2, setting(Corruption::Contrast, severity, false)),
            ..clean.clone()
        };
        let rounded = rounded.to_picture().unwrap().to_pixels().data;
        assert_eq!(read_picture(&at("float").join(&name)).data, rounded);
        assert_ne!(rounded, cut);
    }

    // Frost from the user's own textures is another one.
    run("frost", "5", &[], "grown");
    run("frost", "5", &["--textures", "set"], "laid");
    assert_ne!(
        fs::read(at("grown/cat/0.png")).unwrap(),
        fs::read(at("laid/cat/0.png")).unwrap()
    );
    let recipe = read_json(&at("laid/recipe.json"));
    assert_eq!(recipe["textures"], "supplied");
    assert_eq!(recipe["texture_files"].as_array().unwrap().len(), 3);
}

fn write_array(path: &Path, shape: &[usize], data: Data) {
    let array = Array::new(shape.to_vec(), data).unwrap();
    write_npy(File::create(path).unwrap(), &array).unwrap();
}

fn read_array(path: &Path) -> Array {
    let file = BufReader::new(File::open(path).unwrap());
    read_npy(file, &Limits::default()).unwrap()
}

#[test]
fn corrupt_takes_arrays_and_single_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    let clean = CLASSES.map(|class| read_picture(&at(&format!("set/{class}/0.png"))));
    let pixels: Vec<f32> = clean.iter().flat_map(|p| p.data.clone()).collect();
    write_array(&at("x.npy"), &[3, 3, 32, 32], Data::F32(pixels));
    let corrupt = ["corrupt", "--kind", "shot_noise", "--severity", "5"];
    let run = |more: &[&str]| succeeds(&[&corrupt[..], more].concat(), folder.path());
    run(&["x.npy", "float.npy"]);
    run(&["--eight-bit", "x.npy", "bytes.npy"]);
    for (name, eight_bit) in [("float.npy", false), ("bytes.npy", true)] {
        let ours = read_array(&at(name));
        assert_eq!(ours.shape, [3, 3, 32, 32]);
        let expected: Vec<f32> = (0..)
            .zip(&clean)
            .flat_map(|(number, clean)| {
                corrupted(clean, number, setting(Corruption::ShotNoise, 5, eight_bit))
            })
            .collect();
        assert_eq!(ours.data, Data::F32(expected), "{name}");
    }
    assert_eq!(read_json(&at("float.json"))["inputs"][0]["name"], "x.npy");

    run(&["set/cat/0.png", "cat.png"]);
    let expected = corrupted(&clean[1], 0, setting(Corruption::ShotNoise, 5, true));
    assert_eq!(read_picture(&at("cat.png")).data, expected);
    assert_eq!(read_json(&at("cat.json"))["inputs"][0]["name"], "0.png");
    // A file and several severities: a folder for each.
    let several = [
        "corrupt",
        "--kind",
        "fog",
        "--severity",
        "1-2",
        "x.npy",
        "both",
    ];
    succeeds(&several, folder.path());
    let ours = read_array(&at("both/fog/2/x.npy"));
    let Data::F32(values) = ours.data else {
        panic!("not f32");
    };
    let expected = corrupted(&clean[0], 0, setting(Corruption::Fog, 2, false));
    assert_eq!(values[..expected.len()], expected);
}

#[test]
fn corrupt_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    fs::create_dir(at("bad")).unwrap();
    fs::write(at("bad/a.png"), b"no picture").unwrap();
    fs::create_dir(at("empty")).unwrap();
    write_array(&at("small.npy"), &[1, 3, 8, 8], Data::F32(vec![0.5; 192]));
    write_array(
        &at("bright.npy"),
        &[1, 3, 32, 32],
        Data::F32(vec![2.0; 3072]),
    );
    write_array(&at("bytes.npy"), &[1, 3, 32, 32], Data::U8(vec![2; 3072]));
    write_array(&at("last.npy"), &[1, 32, 32, 3], Data::F32(vec![0.5; 3072]));
    for (kind, severity, input, output, expected) in [
        ("smoke", "3", "set", "out", "gaussian-noise"),
        ("fog", "6", "set", "out", "1 to 5"),
        ("fog", "3", "gone", "out", "gone"),
        ("fog", "3", "empty", "out", "empty"),
        ("fog", "3", "bad", "out", "a.png"),
        ("fog", "3", "set", "set/out", "lies in the input"),
        ("fog", "3", "set/cat/0.png", "out.jpg", ".png"),
        ("fog", "3", "small.npy", "out.npy", "32 px"),
        ("fog", "3", "bright.npy", "out.npy", "the value 2"),
        ("fog", "3", "bytes.npy", "out.npy", "integers"),
        ("fog", "3", "last.npy", "out.npy", "[1, 32, 32, 3]"),
    ] {
        let arguments = [
            "corrupt",
            "--kind",
            kind,
            "--severity",
            severity,
            input,
            output,
        ];
        let said = fails(&arguments, folder.path());
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(
            said.lines()
                .filter(|line| line.starts_with("error"))
                .count()
                == 1,
            "{said}"
        );
        assert!(!at("out.npy").exists() && !at("out/recipe.json").exists());
    }
}

/// The small network of the fixtures, with its images and labels as `x.npy` and `y.npy`.
fn write_small(folder: &Path) -> Option<String> {
    let weights = shared("fixtures/small_cnn.safetensors")?;
    let mut inputs = open(&shared("fixtures/attack_inputs.npz")?);
    for (array, name) in [("x_small", "x.npy"), ("y_small", "y.npy")] {
        let array = inputs.read(array).unwrap();
        write_npy(File::create(folder.join(name)).unwrap(), &array).unwrap();
    }
    Some(weights.to_str().unwrap().to_owned())
}

fn flags(npz: &mut Npz<BufReader<File>>, name: &str) -> Vec<bool> {
    match npz.read(name).unwrap().data {
        Data::Bool(flags) => flags,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn attack_finds_what_the_reference_finds() {
    let folder = tempfile::tempdir().unwrap();
    let Some(weights) = write_small(folder.path()) else {
        return eprintln!("skipped: no shared fixtures here");
    };
    let small = [
        "attack",
        "--weights",
        &weights,
        "--input",
        "x.npy",
        "--labels",
        "y.npy",
    ];
    let pgd: &[&str] = &["--steps", "10", "--rel-step", "0.033333333"];
    let mut theirs = open(&shared("fixtures/attacks_small_cnn.npz").unwrap());
    for (key, attack, eps, more) in [
        ("fgsm/eps0", "fgsm", "4/255", &[][..]),
        ("fgsm/eps1", "fgsm", "16/255", &[]),
        ("linf_pgd/eps0", "pgd", "4/255", pgd),
        ("linf_pgd/eps1", "pgd", "16/255", pgd),
        ("l2_bim/eps0", "bim", "1", &["--norm", "l2"]),
    ] {
        let asked = ["--attack", attack, "--eps", eps, "--output", "out.npz"];
        let said = succeeds(&[&small[..], &asked, more].concat(), folder.path());
        let mut ours = open(&folder.path().join("out.npz"));
        let adv = ours.read("adv").unwrap();
        assert_eq!(adv.shape, [4, 3, 32, 32]);
        let expected = values(&mut theirs, &format!("{key}/adv"));
        let pairs = adv.data.to_f32();
        let pairs = pairs.iter().zip(&expected);
        let close = pairs.filter(|(a, b)| (**a - **b).abs() <= 1e-4).count();
        assert!(
            close * 100 >= expected.len() * 99,
            "{key}: {close} pixels agree"
        );
        let expected = flags(&mut theirs, &format!("{key}/success"));
        assert_eq!(flags(&mut ours, "success"), expected, "{key}");
        let expected = values(&mut theirs, &format!("{key}/logits"));
        assert_close(&values(&mut ours, "logits"), &expected, 1e-2);
        let norms = values(&mut theirs, &format!("{key}/norms_l1_l2_linf"));
        for (column, name) in ["l1", "l2", "linf"].into_iter().enumerate() {
            let expected: Vec<f32> = norms.iter().skip(column).step_by(3).copied().collect();
            assert_close(&values(&mut ours, name), &expected, 1e-2);
        }
        let labels = ours.read("labels").unwrap();
        assert_eq!(labels, read_array(&folder.path().join("y.npy")));

        let recipe = read_json(&folder.path().join("out.json"));
        let fell = flags(&mut ours, "success").iter().filter(|s| **s).count();
        assert_eq!(recipe["summary"]["success"], fell as f64 / 4.0);
        assert_eq!(
            recipe["summary"]["robust_accuracy"],
            1.0 - fell as f64 / 4.0
        );
        assert!(
            said.contains("y.npy") && said.contains("robust accuracy"),
            "{said}"
        );
        assert_eq!(recipe["inputs"][0]["name"], "x.npy");
        assert_eq!(recipe["model"]["hash"].as_str().unwrap().len(), 16);
    }
}

#[test]
fn every_attack_with_a_name_runs_and_stays_in_its_ball() {
    let folder = tempfile::tempdir().unwrap();
    let Some(weights) = write_small(folder.path()) else {
        return eprintln!("skipped: no shared fixtures here");
    };
    let small = [
        "attack",
        "--weights",
        &weights,
        "--input",
        "x.npy",
        "--labels",
        "y.npy",
    ];
    for attack in ATTACKS {
        let asked = ["--attack", attack.name, "--output", "out.npz"];
        let mut arguments = [&small[..], &asked].concat();
        // Draws without a direction need more room to fool anything in a few queries.
        let blind = attack.takes(Setting::Queries);
        let (eps, radius) = if blind { ("0.9", 0.9) } else { ("0.1", 0.1) };
        for taken in attack.settings {
            match taken.setting {
                Setting::Eps => arguments.extend(["--eps", eps]),
                Setting::Steps => arguments.extend(["--steps", "3"]),
                Setting::Queries => arguments.extend(["--queries", "5"]),
                _ => {}
            }
        }
        succeeds(&arguments, folder.path());
        if attack.takes(Setting::Eps) {
            let norm = read_json(&folder.path().join("out.json"));
            let (_, settings) = norm["plan"]["attack"]
                .as_object()
                .unwrap()
                .iter()
                .next()
                .unwrap();
            let norm = settings["norm"].as_str().unwrap();
            let mut ours = open(&folder.path().join("out.npz"));
            let norms = values(&mut ours, norm);
            assert!(
                norms.iter().all(|v| *v <= radius),
                "{}: {norms:?}",
                attack.name
            );
            assert!(norms.iter().any(|v| *v > 0.0), "{}: {norms:?}", attack.name);
        }
    }
}

/// The attack that most tests of the shipped model ask for.
const SHIPPED: [&str; 9] = [
    "attack",
    "--model",
    "cornet-s-cifar10",
    "--attack",
    "pgd",
    "--steps",
    "3",
    "--input",
    "set",
];

#[test]
fn attack_takes_folders_and_writes_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    let run = |more: &[&str]| succeeds(&[&SHIPPED[..], more].concat(), folder.path());
    let said = run(&[
        "--eps",
        "8/255",
        "--eight-bit",
        "--images",
        "pictures",
        "--output",
        "labelled.npz",
    ]);
    assert!(said.contains("the folders' names"), "{said}");
    let mut labelled = open(&at("labelled.npz"));
    let labels = labelled.read("labels").unwrap();
    assert_eq!(labels.data, Data::I64(vec![0, 3, 9]));
    // Rounded before they are judged: the pictures are the images.
    let adv = labelled.read("adv").unwrap();
    assert_eq!(adv.shape, [3, 3, 32, 32]);
    let pictures: Vec<f32> = CLASSES
        .iter()
        .flat_map(|class| read_picture(&at(&format!("pictures/{class}/0.png"))).data)
        .collect();
    assert_eq!(adv.data.to_f32(), pictures);
    let norms = values(&mut labelled, "linf");
    assert!(norms.iter().all(|v| *v <= 8.0 / 255.0), "{norms:?}");
    assert!(flags(&mut labelled, "success").contains(&true));
    // The model's own word for it, on the same images.
    let logits = labelled.read("logits").unwrap();
    fs::rename(at("pictures/cat/0.png"), at("cat.png")).unwrap();
    let infer = [
        "infer",
        "--model",
        "cornet-s-cifar10",
        "--input",
        "cat.png",
        "--output",
        "o.npz",
    ];
    succeeds(&infer, folder.path());
    let seen = values(&mut open(&at("o.npz")), "logits");
    assert_close(&seen, &logits.data.to_f32()[10..20], 1e-4);

    // Without folders nobody knows the labels: the model is asked, and that is said.
    fs::create_dir(at("flat")).unwrap();
    for class in CLASSES {
        let name = format!("flat/{class}.png");
        fs::copy(at(&format!("set/{class}/0.png")), at(&name)).unwrap();
    }
    let mut arguments = SHIPPED.to_vec();
    *arguments.last_mut().unwrap() = "flat";
    arguments.extend(["--eps", "8/255", "--eight-bit", "--output", "flat.npz"]);
    let said = succeeds(&arguments, folder.path());
    assert!(
        said.contains("what the model says of the clean images"),
        "{said}"
    );
    let recipe = read_json(&at("flat.json"));
    assert_eq!(recipe["summary"]["clean_accuracy"], 1.0);
    assert_eq!(recipe["summary"]["met_before"], 0);
}

#[test]
fn attack_repeats_itself_from_its_seed_its_plan_and_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    let adv = |more: &[&str], output: &str| {
        let asked = [&SHIPPED[..], more, &["--output", output]].concat();
        succeeds(&asked, folder.path());
        values(&mut open(&at(output)), "adv")
    };
    let drawn = ["--eps", "8/255", "--random-start"];
    let first = adv(&[&drawn[..], &["--seed", "5"]].concat(), "first.npz");
    let other = adv(&[&drawn[..], &["--seed", "6"]].concat(), "other.npz");
    assert_ne!(first, other);

    let recipe = read_json(&at("first.json"));
    let command = recipe["command"].as_array().unwrap();
    let command: Vec<&str> = command.iter().map(|word| word.as_str().unwrap()).collect();
    let bytes = fs::read(at("first.npz")).unwrap();
    fs::remove_file(at("first.npz")).unwrap();
    succeeds(&command[1..], folder.path());
    assert_eq!(fs::read(at("first.npz")).unwrap(), bytes);

    // A recipe is a plan, and so is what it holds.
    let plan = serde_json::to_vec(&recipe["plan"]).unwrap();
    fs::write(at("plan.json"), plan).unwrap();
    for plan in ["first.json", "plan.json"] {
        let asked = [
            "attack",
            "--model",
            "cornet-s-cifar10",
            "--input",
            "set",
            "--plan",
            plan,
            "--output",
            "again.npz",
        ];
        succeeds(&asked, folder.path());
        assert_eq!(values(&mut open(&at("again.npz")), "adv"), first, "{plan}");
    }

    // What draws nothing is the same in any batches, to rounding; what draws is a seed's own.
    let whole = adv(&["--eps", "8/255"], "whole.npz");
    let parts = adv(&["--eps", "8/255", "--batch", "2"], "parts.npz");
    let close = whole
        .iter()
        .zip(&parts)
        .filter(|(a, b)| (**a - **b).abs() <= 1e-4);
    assert!(close.count() * 100 >= whole.len() * 95);
    let batches = [&drawn[..], &["--seed", "5", "--batch", "2"]].concat();
    let parts = adv(&batches, "parts.npz");
    assert_eq!(parts, adv(&batches, "parts.npz"));
    // The first batch keeps the seed, the next has another.
    let length = 2 * 3 * 32 * 32;
    let moved = |values: &[f32]| values.iter().zip(&first).filter(|(a, b)| a != b).count();
    assert!(moved(&parts[..length]) * 20 < length);
    let last: Vec<f32> = first[length..].to_vec();
    let differs = parts[length..]
        .iter()
        .zip(&last)
        .filter(|(a, b)| a != b)
        .count();
    assert!(differs * 2 > last.len(), "{differs}");
}

#[test]
fn attack_reaches_targets_and_checks_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let Some(weights) = write_small(folder.path()) else {
        return eprintln!("skipped: no shared fixtures here");
    };
    let small = [
        "attack",
        "--weights",
        &weights,
        "--input",
        "x.npy",
        "--labels",
        "y.npy",
    ];
    let run = |more: &[&str]| {
        let asked = [&small[..], more, &["--output", "out.npz"]].concat();
        let said = succeeds(&asked, folder.path());
        (said, open(&folder.path().join("out.npz")))
    };
    for attack in ["bim", "apgd-ce", "apgd-dlr"] {
        let target = ["--attack", attack, "--eps", "0.3", "--target", "4"];
        let (_, mut reached) = run(&target);
        assert_eq!(flags(&mut reached, "success"), [true; 4], "{attack}");
        for row in values(&mut reached, "logits").chunks(10) {
            assert!(row.iter().all(|v| *v <= row[4]), "{attack}: {row:?}");
        }
    }
    // More than the largest probability: a larger one.
    let sure = ["--attack", "bim", "--eps", "0.3", "--confidence", "0.9"];
    let (_, mut reached) = run(&sure);
    let logits = values(&mut reached, "logits");
    for (row, success) in logits.chunks(10).zip(flags(&mut reached, "success")) {
        let sum: f32 = row.iter().map(|v| v.exp()).sum();
        let best = row.iter().fold(0.0_f32, |m, v| m.max(v.exp() / sum));
        assert!(!success || best >= 0.9, "{row:?}");
    }
    let (said, _) = run(&["--attack", "bim", "--eps", "16/255", "--check"]);
    assert!(said.contains("no sign of a masked gradient"), "{said}");
    let recipe = read_json(&folder.path().join("out.json"));
    assert_eq!(recipe["check"]["large_radius"], 1.0);
    assert_eq!(recipe["check"]["flags"], serde_json::json!([]));
}

/// A VOneNet draws noise: fresh at every pass, the same at every pass, or none.
#[test]
fn attack_knows_the_noise_of_a_stochastic_model() {
    let folder = tempfile::tempdir().unwrap();
    let Some(weights) = shared("fixtures/voneresnet50_small.pth.tar") else {
        return eprintln!("skipped: no shared fixtures here");
    };
    let pixels = (0..2 * 3 * 64 * 64).map(|i| (i * 7919 % 256) as f32 / 255.0);
    let shape = [2, 3, 64, 64];
    write_array(
        &folder.path().join("x.npy"),
        &shape,
        Data::F32(pixels.collect()),
    );
    let run = |noise: &str, passes: &str, batch: &str| {
        let arguments = [
            "attack",
            "--weights",
            weights.to_str().unwrap(),
            "--input",
            "x.npy",
            "--attack",
            "bim",
            "--steps",
            "2",
            "--eps",
            "4/255",
            "--eot",
            "2",
            "--noise",
            noise,
            "--passes",
            passes,
            "--batch",
            batch,
            "--output",
            "out.npz",
        ];
        succeeds(&arguments, folder.path());
        let recipe = read_json(&folder.path().join("out.json"));
        let adv = values(&mut open(&folder.path().join("out.npz")), "adv");
        (adv, recipe["summary"]["passes"].as_u64().unwrap(), recipe)
    };
    let (off, passes, recipe) = run("off", "3", "2");
    assert_eq!((passes, &recipe["noise"]), (1, &Value::from("off")));
    let backwards = |recipe: &Value| recipe["summary"]["backwards"].as_u64().unwrap();
    assert_eq!(backwards(&recipe), 2 * 2);
    let (fresh, passes, recipe) = run("fresh", "3", "2");
    assert_eq!(passes, 3);
    // Images that most passes call otherwise at the start are not attacked.
    let attacked = 2 - recipe["summary"]["met_before"].as_u64().unwrap();
    assert_eq!(backwards(&recipe), 2 * 2 * attacked);
    assert_eq!(run("fresh", "3", "2").0, fresh);
    assert_ne!(fresh, off);
    let (fixed, passes, recipe) = run("7", "3", "2");
    assert_eq!((passes, &recipe["noise"]["seed"]), (1, &Value::from(7)));
    assert_ne!(fixed, off);
    // One sample for all: it does not matter which images go together.
    let (alone, ..) = run("7", "3", "1");
    let close = fixed
        .iter()
        .zip(&alone)
        .filter(|(a, b)| (**a - **b).abs() <= 1e-4);
    assert!(close.count() * 100 >= fixed.len() * 95);
}

#[test]
fn attack_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let Some(weights) = write_small(folder.path()) else {
        return eprintln!("skipped: no shared fixtures here");
    };
    let at = |name: &str| folder.path().join(name);
    write_set(folder.path());
    write_array(&at("three.npy"), &[3], Data::I64(vec![1; 3]));
    write_array(&at("far.npy"), &[4], Data::I64(vec![0, 1, 2, 10]));
    write_array(&at("wide.npy"), &[1, 3, 32, 40], Data::F32(vec![0.5; 3840]));
    write_array(
        &at("large.npy"),
        &[1, 3, 64, 64],
        Data::F32(vec![0.5; 12288]),
    );
    fs::write(
        at("plan.json"),
        br#"{"attack":{"descent":{"epsilon":1}},"seed":0}"#,
    )
    .unwrap();
    let eps = ["--attack", "pgd", "--eps", "8/255"];
    let with = |more: &[&'static str]| [&eps[..], more].concat();
    let table: [(&str, Vec<&str>, &str); 21] = [
        (
            "x.npy",
            vec!["--attack", "pdg", "--eps", "1"],
            "fgsm, pgd, bim",
        ),
        ("x.npy", vec!["--attack", "pgd"], "8/255"),
        (
            "x.npy",
            vec!["--attack", "pgd", "--eps", "big"],
            "`big` is no radius",
        ),
        (
            "x.npy",
            vec!["--attack", "square", "--eps", "9", "--norm", "l1"],
            "not in L1",
        ),
        (
            "x.npy",
            vec!["--attack", "cw", "--eps", "1"],
            "takes no eps",
        ),
        ("x.npy", with(&["--norm", "l7"]), "linf, l2, l1"),
        ("x.npy", with(&["--steps", "0"]), "at least one step"),
        (
            "x.npy",
            with(&["--labels", "three.npy"]),
            "3 labels for 4 images",
        ),
        (
            "x.npy",
            with(&["--labels", "far.npy"]),
            "label 10 of image 3",
        ),
        ("x.npy", with(&["--labels", "x.npy"]), "integers"),
        ("x.npy", with(&["--target", "10"]), "`10` is no class"),
        ("x.npy", with(&["--confidence", "2"]), "from 0 to 1"),
        ("x.npy", with(&["--batch", "0"]), "at least 1"),
        ("x.npy", with(&["--noise", "loud"]), "`loud`"),
        ("x.npy", with(&["--plan", "plan.json"]), "--plan"),
        ("x.npy", vec!["--plan", "plan.json"], "epsilon"),
        ("x.npy", with(&["--output", "out.npy"]), ".npz"),
        (
            "x.npy",
            with(&["--output", "gone/out.npz"]),
            "does not exist",
        ),
        ("wide.npy", eps.to_vec(), "square"),
        ("large.npy", eps.to_vec(), "32 px a side"),
        ("set", eps.to_vec(), "`airplane`"),
    ];
    for (input, more, expected) in table {
        let mut arguments = vec!["attack", "--weights", &weights, "--input", input];
        arguments.extend(&more);
        if !more.contains(&"--output") {
            arguments.extend(["--output", "out.npz"]);
        }
        let said = fails(&arguments, folder.path());
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(
            said.lines()
                .filter(|line| line.starts_with("error"))
                .count()
                == 1,
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");
        assert!(!at("out.npz").exists() && !at("out.json").exists());
    }
    let help = succeeds(&["attack", "--help"], folder.path());
    for attack in ATTACKS {
        assert!(
            help.contains(attack.name) && help.contains(attack.paper),
            "{help}"
        );
    }
}

/// Names of all that lies in a folder, and below.
fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(listing(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Runs a command, sends it Ctrl-C once it listens for that and is at work, and returns what it
/// says.
#[cfg(target_os = "linux")]
fn interrupted(arguments: &[&str], folder: &Path) -> String {
    use std::time::{Duration, Instant};

    let mut child = command(arguments, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let listens = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        // SIGINT is the second signal.
        u64::from_str_radix(caught.unwrap().trim(), 16).unwrap() & 2 != 0
    };
    while !listens() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it never listens"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    let interrupt = format!("kill -INT {}", child.id());
    let sent = Command::new("sh").args(["-c", &interrupt]).status();
    assert!(sent.unwrap().success());
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_attack_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    write_set(folder.path());
    let before = listing(folder.path());
    let mut arguments = SHIPPED.to_vec();
    arguments[6] = "1000000";
    arguments.extend(["--eps", "8/255", "--output", "out.npz"]);
    let said = interrupted(&arguments, folder.path());
    assert!(said.contains("nothing was written"), "{said}");
    assert_eq!(listing(folder.path()), before);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_corruption_leaves_whole_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/samples/lorikeet.jpg");
    fs::create_dir(at("set")).unwrap();
    for number in 0..200 {
        fs::copy(&sample, at(&format!("set/{number}.jpg"))).unwrap();
    }
    fs::create_dir(at("out")).unwrap();
    fs::write(at("out/recipe.json"), "{}").unwrap();
    let kinds = [
        "corrupt",
        "--kind",
        "fog,all",
        "--severity",
        "1-5",
        "set",
        "out",
    ];
    let said = interrupted(&kinds, folder.path());
    assert!(said.contains("there is no recipe"), "{said}");
    // The old recipe is gone, and so is whatever was not finished.
    let left = listing(&at("out"));
    assert!(!left.is_empty());
    for path in left {
        assert!(!read_picture(&path).data.is_empty(), "{}", path.display());
    }
}

#[test]
fn responses_are_understood_and_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("it.csv"), "image,n1,n2\na,1,2\nb,3,5\nc,2,2\n").unwrap();
    fs::create_dir(at("pictures")).unwrap();
    for name in ["a.png", "b.png"] {
        fs::write(at("pictures").join(name), []).unwrap();
    }
    let arguments = ["responses", "it.csv", "--images", "pictures"];
    let said = succeeds(&arguments, folder.path());
    assert!(said.contains("Stimuli with a picture: 2"), "{said}");
    assert!(said.contains("Stimuli without a picture: 1 (c)"), "{said}");
    let json = succeeds(&["responses", "it.csv", "--json"], folder.path());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["kept"], serde_json::json!([3, 1, 2]));
    fs::write(at("it.csv"), "image,n1\na,1\nb,x\nc,3\n").unwrap();
    let output = run(&["responses", "it.csv"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("“x” in line 3, column 2"), "{said}");
}

/// An alignment of a few steps; `target` and what else the plan says.
fn write_plan(folder: &Path, target: &str, rest: &str) {
    let plan = format!(
        "name = \"small\"\nmodel = \"cornet-s-cifar10\"\nsteps = 3\nbatch = 8\n\
         target = {target}\n{rest}\n[validation]\nevery = 2\nstimuli = 0.25\nneuroids = 0.0\n"
    );
    fs::write(folder.join("plan.toml"), plan).unwrap();
}

#[test]
fn align_runs_a_plan_with_its_control_and_says_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let target = "{ kind = \"population\", model = \"resnet-cifar10\", tap = \"layer2\", \
                  neuroids = 20, repetitions = 4 }";
    write_plan(
        folder,
        target,
        "data = { images = \"cifar10-1000\", stimuli = 40 }",
    );
    let arguments = [
        "align",
        "plan.toml",
        "--controls",
        "shuffled",
        "--robustness",
        "none",
        "--seeds",
        "0,1",
        "--data",
        "cifar10-1000",
        "--output",
        "out",
    ];
    let said = succeeds(&arguments, folder);
    assert!(
        said.contains("| aligned | 2 |") && said.contains("| shuffled | 2 |"),
        "{said}"
    );
    assert!(said.contains("control"), "{said}");
    let document = read_json(&folder.join("out/small.json"));
    let runs = document["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        assert_eq!(run["steps"], 3);
        assert_eq!(run["after"]["images"], 960);
        let ceiling = run["ceiling"]["reliability"].as_f64().unwrap();
        assert!(ceiling > 0.1 && ceiling <= 1.0, "{ceiling}");
        assert_eq!(run["gain"].is_object(), run["control"] == "none", "{run}");
    }
    // What is written is a model like any other.
    let aligned = folder.join("out/small-aligned-seed1.safetensors");
    let plan = "version = 1\nname = \"clean\"\nimages = 960\n";
    fs::write(folder.join("clean.toml"), plan).unwrap();
    let arguments = [
        "evaluate",
        "clean.toml",
        "--models",
        aligned.to_str().unwrap(),
        "--output",
        "clean",
    ];
    succeeds(&arguments, folder);
}

#[test]
fn align_takes_recorded_responses_to_a_folder_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut table, mut rng) = (String::from("picture,a,b,c\n"), Rng::from_seed(4));
    for (number, class) in (0..48).zip(["cat", "dog", "ship"].into_iter().cycle()) {
        let below = folder.join("pictures").join(class);
        fs::create_dir_all(&below).unwrap();
        let pixels =
            (0..3 * 32 * 32).map(|at| (at * (number as usize + 1) / 7 + rng.below(40)) as u8);
        let picture = Picture::from_rgb(32, 32, pixels.collect()).unwrap();
        fs::write(
            below.join(format!("{number}.png")),
            encode_png(&picture).unwrap(),
        )
        .unwrap();
        let answers: Vec<String> = (0..3)
            .map(|i| format!("{:.2}", f64::from(number * i) + rng.normal_f64()))
            .collect();
        table += &format!("{number}.png,{}\n", answers.join(","));
    }
    fs::write(folder.join("it.csv"), &table).unwrap();
    let target = "{ kind = \"responses\", file = \"it.csv\" }";
    write_plan(folder, target, "data = { images = \"pictures\" }");
    let arguments = [
        "align",
        "plan.toml",
        "--robustness",
        "none",
        "--output",
        "out",
    ];
    let said = succeeds(&arguments, folder);
    assert!(said.contains("| aligned | 1 |"), "{said}");
    assert_eq!(
        read_json(&folder.join("out/small.json"))["runs"][0]["steps"],
        3
    );

    // Classes from a table, and heat maps from pictures of which some are missing.
    let classes: Vec<String> = (0..48_usize)
        .map(|number| format!("{number}.png,{}", ["frog", "horse"][number % 2]))
        .collect();
    let table = format!("image,class\n{}\n", classes.join("\n"));
    fs::write(folder.join("classes.csv"), table).unwrap();
    fs::create_dir_all(folder.join("maps")).unwrap();
    let mut grey = Vec::new();
    let encoder = ::image::codecs::png::PngEncoder::new(&mut grey);
    let levels: Vec<u8> = (0..64).collect();
    let kind = ::image::ExtendedColorType::L8;
    ::image::ImageEncoder::write_image(encoder, &levels, 8, 8, kind).unwrap();
    for number in 0..40 {
        fs::write(folder.join(format!("maps/{number}.png")), &grey).unwrap();
    }
    let with = ["--labels", "classes.csv", "--heat-maps", "maps"];
    let output = run(&[&arguments[..], &with].concat(), folder);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("40 of 48 stimuli have a heat map"), "{said}");
    fs::write(folder.join("classes.csv"), "image,class\n0.png,\n").unwrap();
    let said = String::from_utf8_lossy(&run(&[&arguments[..], &with].concat(), folder).stderr)
        .into_owned();
    assert!(
        said.contains("classes.csv") && said.contains("line 2"),
        "{said}"
    );

    // A response too few, and a place that is no folder.
    fs::write(folder.join("it.csv"), "a,b\n1,2\n3,4\n").unwrap();
    let output = run(&arguments, folder);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("it.csv") && said.contains("48"), "{said}");
    let arguments = ["align", "plan.toml", "--data", "nowhere", "--output", "out"];
    let said = String::from_utf8_lossy(&run(&arguments, folder).stderr).into_owned();
    assert!(said.contains("folder of the pictures"), "{said}");
}
