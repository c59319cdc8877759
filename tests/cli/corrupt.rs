//! `ventral corrupt`.

use std::fs;
use std::path::Path;

use ventral::archive::npy::Data;
use ventral::image;
use ventral::perturb::corruption::{Corruption, Image, Setting, Textures, corrupt_numbered};

use super::{
    CLASSES, interrupted, listing, read_array, read_json, read_picture, write_array, write_set,
};
use crate::common::command::{fails, run, succeeds};

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
    write_array(&at("whole.npy"), &[1, 3, 32, 32], Data::I64(vec![1; 3072]));
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
        ("fog", "3", "whole.npy", "out.npy", "integers"),
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
