//! `ventral infer`, `fetch` and `models`, and what every command says of a missing model or GPU.

use std::fs::{self, File};
use std::path::Path;

use ventral::archive::npy::write_npy;
use ventral::serve::{BackgroundServer, ServeOptions};

use crate::common::arrays::{all_close, array, f32s, fixture, open};
use crate::common::command::{fails, succeeds};
use crate::common::reference;

/// Puts the reference's normalised input into `x.npy`.
fn write_input(file: &str, folder: &Path) {
    let input = array(&mut fixture(file), "input");
    write_npy(File::create(folder.join("x.npy")).unwrap(), &input).unwrap();
}

#[test]
fn infer_writes_the_taps_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write_input("cornet_s_div32_parity.npz", folder.path());
    let weights = reference("cornet_s_div32.pth");
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
    let mut theirs = fixture("cornet_s_div32_parity.npz");
    for (tap, key) in [
        ("V1", "V1"),
        ("V4.t2", "V4_t2"),
        ("IT", "IT"),
        ("logits", "logits"),
    ] {
        let theirs = f32s(&mut theirs, key);
        all_close(&f32s(&mut ours, tap), &theirs, 1e-4);
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
    write_input("voneresnet50_small_parity.npz", folder.path());
    let site = folder.path().join("site");
    fs::create_dir(&site).unwrap();
    // The server wants a page to serve.
    fs::write(site.join("index.html"), "<!doctype html>").unwrap();
    let published = reference("voneresnet50_small.pth.tar");
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
    let mut theirs = fixture("voneresnet50_small_parity.npz");
    let theirs = f32s(&mut theirs, "logits");
    // Eleven bits of mantissa through a score of layers.
    all_close(&f32s(&mut ours, "logits"), &theirs, 2e-2);

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
