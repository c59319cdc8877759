//! `ventral train`, interrupted and resumed, and `ventral export`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::command::{command, fails, succeeds};
use crate::common::root;

/// Two epochs of a small ResNet, with everything in it that a resumed run must take up again:
/// momentum, a schedule, shuffled and augmented batches, a moving average.
const RECIPE: &str = r#"
name = "small"
title = "A small ResNet"
seed = 3
epochs = 2
batch = 20
shards = 2
ema = 0.9
[data]
set = "folder"
[optimiser]
momentum = 0.9
weight_decay = 5e-4
[schedule]
peak = 0.05
warm_up = 0.1
[augmentation]
flip = true
shift = 2
[model]
classes = 10
[model.preprocessing]
resize = 32
crop = 32
mean = [0.491, 0.482, 0.447]
std = [0.247, 0.243, 0.262]
[model.body.res-net]
stem = { kernel = 3, stride = 1, pool = true }
width = 16
block = "basic"
planes = [16, 32, 64, 128]
layers = [1, 1, 1, 0]
"#;

/// Pictures of each of the ten classes.
const TRAINING: usize = 20;
const TEST: usize = 5;

/// The recipe, and `set/train` and `set/test` of the shipped test images.
fn prepare(folder: &Path) {
    fs::write(folder.join("recipe.toml"), RECIPE).unwrap();
    let archive = File::open(root().join("static/testset/cifar10-1000.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut counts = BTreeMap::<String, usize>::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let (Some(class), Some(name)) = (path.parent().and_then(Path::file_name), path.file_name())
        else {
            continue;
        };
        let class = class.to_string_lossy().into_owned();
        let count = counts.entry(class.clone()).or_default();
        let split = match *count {
            0..TRAINING => "train",
            TRAINING..25 => "test",
            _ => continue,
        };
        let mut bytes = Vec::new();
        if entry.read_to_end(&mut bytes).unwrap() == 0 {
            continue;
        }
        *count += 1;
        let place = folder.join("set").join(split).join(&class);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(name), bytes).unwrap();
    }
    assert_eq!(counts.len(), 10);
    assert!(counts.values().all(|count| *count == TRAINING + TEST));
}

const TRAIN: [&str; 6] = [
    "train",
    "--recipe",
    "recipe.toml",
    "--data",
    "set",
    "--output",
];

#[test]
fn a_killed_training_goes_on_to_the_weights_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let said = succeeds(&[&TRAIN[..], &["whole"]].concat(), folder);
    assert!(
        said.contains("200 training and 50 test images of 10 classes"),
        "{said}"
    );

    let weights = |run: &str| folder.join(run).join("small.safetensors");
    let mut child = command(&[&TRAIN[..], &["killed"]].concat(), folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The metrics are written last of what is kept after an epoch.
    let kept = folder.join("killed/metrics.jsonl");
    let begun = Instant::now();
    while fs::metadata(&kept).map_or(0, |file| file.len()) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "no epoch ends");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !weights("killed").exists(),
        "it was killed in its second epoch"
    );

    let said = succeeds(&[&TRAIN[..], &["killed"]].concat(), folder);
    let epochs = |said: &str| {
        said.lines()
            .filter(|line| line.starts_with("epoch "))
            .count()
    };
    assert_eq!(epochs(&said), 1, "the first epoch is not run again: {said}");
    let (whole, killed) = (fs::read(weights("whole")), fs::read(weights("killed")));
    assert!(whole.unwrap() == killed.unwrap(), "other weights");

    // Another recipe does not go on from this one's state.
    fs::write(
        folder.join("recipe.toml"),
        RECIPE.replace("seed = 3", "seed = 4"),
    )
    .unwrap();
    let said = fails(&[&TRAIN[..], &["killed"]].concat(), folder);
    assert!(said.contains("recipe"), "{said}");
}

#[test]
fn export_writes_onnx_that_names_its_input_and_output() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let export = |model: &str| {
        let arguments = ["export", "--model", model, "--output", "model.onnx"];
        succeeds(&arguments, folder)
    };
    let said = export("voneresnet-cifar10");
    assert!(
        said.contains("32 px, 10 classes, without the front-end's noise"),
        "{said}"
    );
    let said = export("resnet-cifar10");
    assert!(
        said.contains("32 px, 10 classes, as it is read here"),
        "{said}"
    );
    // The weights as f32, which are f16 in the shipped file, and little beside them.
    let file = fs::read(folder.join("model.onnx")).unwrap();
    let shipped = root().join("static/models/resnet-cifar10.safetensors");
    let share = file.len() as f64 / fs::metadata(shipped).unwrap().len() as f64;
    assert!((1.95..2.05).contains(&share), "{share}");
    for name in [&b"pixels"[..], b"logits", b"Conv"] {
        assert!(file.windows(name.len()).any(|window| window == name));
    }
    let missing = ["export", "--model", "resnet50", "--output", "other.onnx"];
    assert!(fails(&missing, folder).contains("ventral fetch resnet50"));
    assert!(!folder.join("other.onnx").exists());
}
