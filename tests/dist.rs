//! What `cargo xtask dist` writes, tried where nothing else of this project is.
#![cfg(feature = "serve")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::browser::{Browser, Gpu, named};
use common::host::bare_host;
use common::root;

/// Waits for the first prediction of a model that the page ships.
fn predicts(browser: &mut Browser, address: &str) {
    browser.goto_elsewhere(&format!("{address}#see?model=cornet-s-cifar10"));
    browser.wait_for_element("[data-testid=top5] li", 120);
    browser.expect_no_errors(&[]);
}

/// Below a folder of a host that knows none of our headers.
#[test]
fn the_site_works_in_a_folder_of_a_plain_host() {
    let Some(site) = named("VENTRAL_SITE") else {
        return;
    };
    let host = tempfile::tempdir().expect("a temporary folder");
    let below = host.path().join("demos/ventral");
    let archive = File::open(&site).expect("the site's archive");
    let mut archive = zip::ZipArchive::new(archive).expect("a zip archive");
    archive.extract(&below).expect("it can be unpacked");
    let Some(mut browser) = Browser::on(&below, Gpu::Absent) else {
        return;
    };
    let address = bare_host(host.path().to_owned());
    predicts(&mut browser, &format!("{address}demos/ventral/"));
    browser.wait_for(
        "shared memory by the service worker",
        "return crossOriginIsolated",
        30,
    );
}

/// The command line in a folder of its own, with nothing of the user's but a cache folder.
struct Copied {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Copied {
    fn of(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = program.file_name().expect("a file's path");
        let copy = folder.path().join(name);
        fs::copy(program, &copy).expect("it can be copied");
        Self {
            program: copy,
            folder,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        command
    }

    fn says(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn the_program_needs_nothing_beside_it() {
    let Some(program) = named("VENTRAL_PROGRAM") else {
        return;
    };
    let copied = Copied::of(&program);
    let said = copied.says(&["models"]);
    let here = root().display().to_string();
    assert!(!said.contains(&here), "{said}");
    let cache = copied.folder.path().join("cache/ventral/shipped-");
    let shipped = said.matches(&cache.display().to_string()).count();
    assert_eq!(shipped, 11, "{said}");

    let picture = root().join("static/samples/cifar/cat.png");
    fs::copy(picture, copied.folder.path().join("cat.png")).expect("a sample");
    let model = ["infer", "--model", "resnet-cifar10"];
    let files = ["--input", "cat.png", "--output", "out.npz"];
    let said = copied.says(&[&model[..], &files].concat());
    assert!(said.contains("cat"), "{said}");
}

/// A server that ends with this value.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_serves_the_page_that_it_carries() {
    let Some(program) = named("VENTRAL_PROGRAM") else {
        return;
    };
    let copied = Copied::of(&program);
    let mut serve = copied.command(&["serve", "--port", "0"]);
    let child = serve.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut serving = Serving(child);
    let output = serving.0.stdout.take().expect("its output was asked for");
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .expect("it says where it is");
    let address = line
        .split_whitespace()
        .find(|word| word.starts_with("http"));
    let address = address.unwrap_or_else(|| panic!("no address: {line}"));
    let Some(mut browser) = Browser::on_built_page(Gpu::Absent) else {
        return;
    };
    predicts(&mut browser, address);
    assert_eq!(browser.run("return crossOriginIsolated", &[]), true);
}
