//! The benchmark: Ventral compared with other libraries, in one run (`benches/peers.rs`).

use anyhow::{Context, Result};

use crate::page;
use crate::setup::{self, Need};
use crate::shell::{Shell, run};

/// Options that need the page and the peers in a browser.
const IN_BROWSER: [&str; 4] = ["--browser", "--webgpu", "--memory", "--growth"];

/// Installs the peers and builds the page where they are needed, then measures. `words` are the
/// benchmark's arguments.
///
/// # Errors
/// When something is missing, or the page is not built.
pub fn run_all(shell: &Shell, words: &[String]) -> Result<()> {
    let asks = |option: &str| words.iter().any(|word| word == option);
    let is_native = asks("--native") || asks("--gpu");
    let is_in_browser = !is_native || IN_BROWSER.iter().any(|option| asks(option));
    let needs: &[Need] = match (is_in_browser, asks("--native")) {
        (true, _) => &[
            Need::Compile,
            Need::Bind,
            Need::Publish,
            Need::Browser,
            Need::Bench,
        ],
        (false, true) => &[Need::Bench],
        (false, false) => &[],
    };
    setup::obtain_all(shell, needs)?;
    let mut cargo = shell.command("cargo");
    cargo.args(["bench", "--bench", "peers"]);
    if asks("--gpu") {
        cargo.args(["--features", "gpu"]);
    }
    cargo.arg("--").args(words);
    if is_in_browser {
        page::build(shell)?;
        let chromium = setup::chromium(shell).context("Chromium is missing")?;
        let driver = setup::chromedriver(shell).context("chromedriver is missing")?;
        cargo
            .env("VENTRAL_DIST", page::dist(shell))
            .env("VENTRAL_CHROMIUM", chromium)
            .env("VENTRAL_CHROMEDRIVER", driver)
            .env("VENTRAL_PEERS", setup::peers(shell));
    }
    if let Some(python) = setup::python(shell) {
        cargo.env("VENTRAL_PYTHON", python);
    }
    run(&mut cargo)
}
