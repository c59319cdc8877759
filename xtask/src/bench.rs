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
    setup::obtain_all(shell, &needs(is_in_browser, asks("--native")))?;
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

/// What a benchmark needs, and nothing for one that was not asked for.
fn needs(in_browser: bool, native: bool) -> Vec<Need> {
    let mut needs = Vec::new();
    if in_browser {
        needs.extend(setup::PAGE);
        needs.extend([Need::Browser, Need::Peers]);
    }
    if native {
        needs.push(Need::Torch);
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytorch_is_installed_for_the_native_benchmark_alone() {
        assert!(!needs(true, false).contains(&Need::Torch));
        assert!(!needs(false, true).contains(&Need::Peers));
        assert!(needs(true, true).contains(&Need::Torch));
    }
}
