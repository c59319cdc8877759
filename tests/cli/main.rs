//! The command `ventral` as a user runs it.
#![cfg(feature = "cli")]

mod align;
mod attack;
#[path = "../common/mod.rs"]
mod common;
mod corrupt;
mod evaluate;
mod infer;
mod published;
mod train;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use ventral::archive::Limits;
use ventral::archive::npy::{Array, Data, read_npy, write_npy};
use ventral::image;

use crate::common::command::command;

/// Pictures shipped with the page, 32 px.
const CLASSES: [&str; 3] = ["airplane", "cat", "truck"];

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

fn write_array(path: &Path, shape: &[usize], data: Data) {
    let array = Array::new(shape.to_vec(), data).unwrap();
    write_npy(File::create(path).unwrap(), &array).unwrap();
}

fn read_array(path: &Path) -> Array {
    let file = BufReader::new(File::open(path).unwrap());
    read_npy(file, &Limits::default()).unwrap()
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
