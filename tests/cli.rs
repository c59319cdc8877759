//! The command `ventral` as a user runs it.
#![cfg(feature = "cli")]

mod common;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Output};

use common::shared;
use ventral::model::checkpoint::Limits;
use ventral::model::checkpoint::npy::{Npz, write_npy};
use ventral::serve::{BackgroundServer, ServeOptions};

fn ventral(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ventral"))
        .args(arguments)
        .current_dir(folder)
        .env("VENTRAL_MODELS", folder.join("models"))
        .output()
        .expect("the binary of this test starts")
}

#[track_caller]
fn succeeds(arguments: &[&str], folder: &Path) -> String {
    let output = ventral(arguments, folder);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn fails(arguments: &[&str], folder: &Path) -> String {
    let output = ventral(arguments, folder);
    assert!(!output.status.success(), "{arguments:?} did not fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

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
