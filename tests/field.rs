//! Inputs as people have them, each made after a public report of a tool that went wrong with it
//! (`../shared/field-cases/README.md`). A file is read right, or refused with a sentence that says what
//! to change; none is read as something else.
#![cfg(feature = "cli")]

mod common;

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::command::{fails, run, succeeds};
use ventral::archive::Limits;
use ventral::archive::npy::Npz;
use ventral::image::dataset::{LoadOptions, Opened, Split, load_readable, picture_names};
use ventral::neural::{self, ReadOptions};

fn case(name: &str) -> Option<PathBuf> {
    common::shared(&format!("field-cases/{name}"))
}

/// The recordings that every well-formed file carries, `[40, 5]`, in the order of the pictures.
fn truth(folder: &Path) -> Vec<f64> {
    let file = BufReader::new(File::open(folder.join("truth.npz")).unwrap());
    let mut archive = Npz::open(file, &Limits::default()).unwrap();
    archive.read("R").unwrap().data.to_f64()
}

/// The responses of a file to the pictures, in their order.
fn read(file: &Path, pictures: &[String], options: &ReadOptions) -> Result<Vec<f32>, String> {
    let name = file.file_name().unwrap().to_string_lossy();
    let bytes = std::fs::read(file).unwrap();
    let responses = neural::read(&name, bytes, options).map_err(|e| e.to_string())?;
    let (_, aligned) = neural::interpret(&responses, Some(pictures)).map_err(|e| e.to_string())?;
    assert_eq!(
        aligned.images,
        (0..pictures.len()).collect::<Vec<_>>(),
        "{name}"
    );
    Ok(aligned.responses.mean())
}

/// Every readable form of the one recording, and how near its numbers are kept.
const FORMS: [(&str, f64); 12] = [
    ("matlab73.mat", 1e-6),
    ("pandas.h5", 1e-6),
    ("pandas-table.h5", 1e-6),
    ("half.h5", 2e-3),
    ("compound.h5", 1e-3),
    ("decimal-comma.csv", 1e-3),
    ("decimal-comma-one-column.csv", 1e-3),
    ("utf16.csv", 1e-3),
    ("sep-line.csv", 1e-3),
    ("large-string-zstd.parquet", 1e-6),
    ("lz4-v2pages.parquet", 1e-6),
    ("string-view-brotli.parquet", 1e-6),
];

#[test]
fn every_form_of_a_recording_holds_the_same_numbers_for_the_same_pictures() {
    let Some(folder) = case("neural") else { return };
    let (truth, pictures) = (
        truth(&folder),
        picture_names(&folder.join("pictures")).unwrap(),
    );
    for (name, tolerance) in FORMS {
        let found = read(&folder.join(name), &pictures, &ReadOptions::default());
        let found = found.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.len(), truth.len(), "{name}");
        for (at, (found, truth)) in found.iter().zip(&truth).enumerate() {
            assert!(
                (f64::from(*found) - truth).abs() <= tolerance,
                "{name} {at}: {found} {truth}"
            );
        }
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_asked_about() {
    let Some(folder) = case("neural") else { return };
    let pictures = picture_names(&folder.join("pictures")).unwrap();
    let table = [
        ("group.h5", "session1/responses"),
        ("maps-39.npy", "heat maps"),
        ("matlab5.mat", "-v7.3"),
        ("latest-unlimited2.h5", "libver"),
        ("crlf-ragged.csv", "line 5 has 7"),
        ("lf-ragged.csv", "line 5 has 7"),
        ("crlf-word.csv", "line 5, column 3"),
        ("lf-word.csv", "line 5, column 3"),
    ];
    for (name, part) in table {
        let said = read(&folder.join(name), &pictures, &ReadOptions::default()).unwrap_err();
        assert!(said.contains(part), "{name}: {said}");
    }
    // Named, it is read.
    let options = ReadOptions {
        array: Some("session2/responses".to_owned()),
        ..ReadOptions::default()
    };
    assert_eq!(
        read(&folder.join("group.h5"), &pictures, &options)
            .unwrap()
            .len(),
        200
    );
}

/// Recordings in whole numbers that a scale and an offset turn into rates.
#[test]
fn packed_numbers_are_unpacked() {
    let Some(folder) = case("neural") else { return };
    let bytes = std::fs::read(folder.join("packed.nc")).unwrap();
    let responses = neural::read("packed.nc", bytes, &ReadOptions::default()).unwrap();
    let filled: Vec<bool> = responses.values().iter().map(|v| v.is_nan()).collect();
    assert_eq!(filled.iter().filter(|is_nan| **is_nan).count(), 1);
    let finite = responses.values().iter().filter(|v| v.is_finite());
    // Rates of some spikes, and not thousands of steps.
    assert!(
        finite.clone().all(|v| v.abs() < 40.0),
        "{:?}",
        responses.values()
    );
    assert!(finite.clone().any(|v| v.fract().abs() > 1e-3));
}

fn images(path: &Path) -> Opened {
    let options = LoadOptions {
        size: 32,
        cache: None,
    };
    let read = load_readable(path, Split::Test, &options, &mut |_| {
        ControlFlow::Continue(())
    });
    read.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn sets_are_tested_by_their_test_part_and_whole() {
    let Some(folder) = case("sets") else { return };
    let table = [
        ("capitals.zip", 20, Some("Test")),
        ("usual.zip", 20, Some("test")),
        ("valid.zip", 20, Some("valid")),
        ("hardlinks.tar", 40, None),
        ("plain.tar", 20, None),
        ("cp437.zip", 20, None),
        ("windows.zip", 20, None),
        ("mac.zip", 20, None),
    ];
    for (name, count, part) in table {
        let opened = images(&folder.join(name));
        assert_eq!(opened.set.len(), count, "{name}");
        assert_eq!(opened.part.as_deref(), part, "{name}");
        assert!(opened.skipped.is_empty(), "{name}");
        assert_eq!(opened.set.classes.len(), 10, "{name}");
    }
}

/// Names in another encoding, or with accents written in another way, are the same names.
#[test]
fn accents_are_matched_however_they_are_written() {
    let (Some(neural), Some(sets)) = (case("neural"), case("sets")) else {
        return;
    };
    let table = [
        ("nfc.csv", neural.join("pictures-nfd"), "40 stimuli"),
        ("umlauts.csv", sets.join("cp437-names.zip"), "10 stimuli"),
        (
            "umlauts-cp1252.csv",
            sets.join("cp437-names.zip"),
            "10 stimuli",
        ),
    ];
    for (name, pictures, part) in table {
        let (file, pictures) = (neural.join(name), pictures);
        let arguments = [
            file.to_str().unwrap(),
            "--images",
            pictures.to_str().unwrap(),
        ];
        let said = succeeds(&[&["responses"], &arguments[..]].concat(), &neural);
        let used = said.lines().find(|line| line.starts_with("To be used"));
        assert!(
            used.is_some_and(|line| line.contains(part)),
            "{name}: {said}"
        );
    }
}

#[test]
fn pixels_are_what_they_seem_or_are_refused() {
    let Some(folder) = case("npy") else { return };
    let out = tempfile::tempdir().unwrap();
    let infer = |name: &str| {
        let input = folder.join(name);
        let model = ["infer", "--model", "resnet-cifar10"];
        let files = ["--input", input.to_str().unwrap(), "--output", "out.npz"];
        run(&[&model[..], &files].concat(), out.path())
    };
    let answers = |name: &str| {
        let output = infer(name);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines
            .lines()
            .map(|line| line.split(',').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let expected = answers("x.npy");
    assert_eq!(answers("x-u8.npy"), expected);
    let dusty = answers("x-float-dust.npy");
    assert_eq!(dusty, expected[..dusty.len()]);
    for (name, part) in [
        ("x-0-255.npy", "divide these by 255"),
        ("x-normalised.npy", "--raw"),
        ("x-nan.npy", "NaN"),
    ] {
        let output = infer(name);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(part),
            "{name}: {said}"
        );
    }
}

/// A radius in steps of 8 bits, at both doors, before anything is computed.
#[test]
fn a_radius_beyond_all_images_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |norm: &str, eps: &str| {
        format!(
            "version = 1\nname = \"x\"\nmodels = [\"resnet-cifar10\"]\nimages = 10\n\
             [[attacks]]\nattack = \"pgd\"\nnorm = \"{norm}\"\neps = [\"{eps}\"]\n"
        )
    };
    for (norm, eps, part) in [
        ("linf", "8", "8/255"),
        ("l2", "60", "60"),
        ("l1", "4000", "4000"),
    ] {
        std::fs::write(folder.path().join("plan.toml"), plan(norm, eps)).unwrap();
        let evaluate = ["evaluate", "plan.toml", "--output", "run"];
        let said = fails(&evaluate, folder.path());
        assert!(
            said.contains(part) && said.contains("resnet-cifar10"),
            "{said}"
        );
    }
    for (norm, eps) in [("linf", "1"), ("l2", "55"), ("l1", "3000")] {
        std::fs::write(folder.path().join("plan.toml"), plan(norm, eps)).unwrap();
        succeeds(&["evaluate", "plan.toml", "--dry-run"], folder.path());
    }
}
