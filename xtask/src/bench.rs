//! The benchmark: Ventral beside what others would use, in one run (`benches/peers.rs`).

use anyhow::{Context, Result};

use crate::page;
use crate::setup::{self, Need};
use crate::shell::{Shell, run};

/// Gets the peers, builds the page and measures; `words` go to the benchmark.
///
/// # Errors
/// When something is missing, or the page is not built.
pub fn run_all(shell: &Shell, words: &[String]) -> Result<()> {
    setup::obtain_all(shell, &[Need::Page, Need::Browser, Need::Bench])?;
    page::build(shell)?;
    let chromium = setup::chromium(shell).context("Chromium is missing")?;
    let driver = setup::chromedriver(shell).context("chromedriver is missing")?;
    let is_on_gpu = words.iter().any(|word| word == "--gpu");
    let features: &[&str] = if is_on_gpu {
        &["--features", "gpu"]
    } else {
        &[]
    };
    let mut cargo = shell.command("cargo");
    cargo
        .args(["bench", "--bench", "peers"])
        .args(features)
        .arg("--")
        .args(words)
        .env("VENTRAL_DIST", page::dist(shell))
        .env("VENTRAL_CHROMIUM", chromium)
        .env("VENTRAL_CHROMEDRIVER", driver)
        .env("VENTRAL_PEERS", setup::peers(shell));
    if let Some(python) = setup::python(shell) {
        cargo.env("VENTRAL_PYTHON", python);
    }
    run(&mut cargo)
}
