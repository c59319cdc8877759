//! The compiler that builds the page: the installed one with the wasm target, or Debian's packages
//! where the Rust download host cannot be reached.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::setup::apt_install;
use crate::shell::{QUICK, Shell, read, run_within};

/// The target triple of the page.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's compiler for the web: rustc, cargo, the standard library's source (it is compiled with
/// the page) and the linker, which `rust-web-llvm` does not depend on.
const DEBIAN_PACKAGES: &[&str] = &[
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-llvm",
    "lld-22",
];

/// Where Debian puts them.
const DEBIAN_FOLDER: &str = "/usr/bin";

/// The longest time for a download by rustup.
pub const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// A compiler that can build for [`TARGET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// The one that cargo uses natively.
    Own,
    /// Debian's packages, the standard library built from source.
    Debian,
}

/// The compiler to build the page with, when there is one. `VENTRAL_WASM` restricts the choice.
pub fn compiler(shell: &Shell) -> Option<Compiler> {
    let wanted = std::env::var("VENTRAL_WASM").unwrap_or_default();
    if wanted != "debian" && has_own(shell) {
        return Some(Compiler::Own);
    }
    (wanted != "rustup" && has_debian(shell)).then_some(Compiler::Debian)
}

/// A description of [`compiler`]'s choice.
pub fn find(shell: &Shell) -> Option<String> {
    Some(match compiler(shell)? {
        Compiler::Own => format!("{TARGET} of {}", version(shell)),
        Compiler::Debian => {
            let version = command(shell, "rustc", Compiler::Debian)
                .map(|mut rustc| read(rustc.arg("--version"), QUICK));
            let version = version.and_then(|text| text).unwrap_or_default();
            format!("Debian's {version}, standard library from source")
        }
    })
}

/// The first way: rustup.
///
/// # Errors
/// Without rustup, and when the download fails or takes longer than a minute.
pub fn by_rustup(shell: &Shell) -> Result<()> {
    if std::env::var("VENTRAL_WASM").is_ok_and(|wanted| wanted == "debian") {
        bail!("VENTRAL_WASM=debian rules it out");
    }
    shell.find("rustup").context("rustup is not installed")?;
    let mut rustup = shell.command("rustup");
    run_within(rustup.args(["target", "add", TARGET]), RUSTUP_LIMIT)
}

/// The second way: Debian's packages.
///
/// # Errors
/// Where they cannot be installed.
pub fn by_debian(shell: &Shell) -> Result<()> {
    if std::env::var("VENTRAL_WASM").is_ok_and(|wanted| wanted == "rustup") {
        bail!("VENTRAL_WASM=rustup rules it out");
    }
    apt_install(shell, DEBIAN_PACKAGES)
}

/// A command whose `cargo` and `rustc` are the given compiler's. Debian's writes into
/// `target/wasm`: two compilers in one target folder would always rebuild each other's output.
///
/// # Errors
/// When the search path cannot be set.
pub fn command(shell: &Shell, program: &str, compiler: Compiler) -> Result<Command> {
    let mut command = shell.command(program);
    if compiler == Compiler::Debian {
        let folder = Path::new(DEBIAN_FOLDER);
        if matches!(program, "cargo" | "rustc") {
            let file = folder.join(program);
            let cleaned = std::mem::replace(&mut command, Command::new(file));
            adopt(&mut command, &cleaned);
        }
        command
            .env("PATH", shell.with_first(folder)?)
            .env("CARGO_TARGET_DIR", target(shell, compiler));
        with_source(&mut command);
        for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO_BUILD_RUSTC"] {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Where [`command`]'s cargo writes.
pub fn target(shell: &Shell, compiler: Compiler) -> PathBuf {
    match compiler {
        Compiler::Own => shell.target.clone(),
        Compiler::Debian => shell.target.join("wasm"),
    }
}

/// Makes cargo compile the standard library with the program.
pub fn with_source(command: &mut Command) {
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort");
}

/// Gets the standard library's source. Debian's compiler has it.
///
/// # Errors
/// Without rustup, and when the download fails or takes longer than a minute.
pub fn obtain_source(shell: &Shell, compiler: Compiler) -> Result<()> {
    if compiler == Compiler::Debian || has_source(shell) {
        return Ok(());
    }
    shell.find("rustup").context("rustup is not installed")?;
    let mut rustup = shell.command("rustup");
    run_within(rustup.args(["component", "add", "rust-src"]), RUSTUP_LIMIT)?;
    match has_source(shell) {
        true => Ok(()),
        false => bail!("rustup added it elsewhere"),
    }
}

fn has_source(shell: &Shell) -> bool {
    let root = shell.first_line("rustc", &["--print", "sysroot"]);
    let library = |root: String| Path::new(&root).join("lib/rustlib/src/rust/library/std");
    root.map(library).is_some_and(|folder| folder.is_dir())
}

/// Copies the folder and the environment of another command.
fn adopt(command: &mut Command, other: &Command) {
    if let Some(folder) = other.get_current_dir() {
        command.current_dir(folder);
    }
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// Whether the compiler can lint for the page: Debian's clippy is a separate package.
pub fn can_lint(compiler: Compiler) -> bool {
    match compiler {
        Compiler::Own => true,
        Compiler::Debian => Path::new(DEBIAN_FOLDER).join("cargo-clippy").is_file(),
    }
}

fn version(shell: &Shell) -> String {
    shell
        .first_line("rustc", &["--version"])
        .unwrap_or_default()
}

fn has_own(shell: &Shell) -> bool {
    // Asking the compiler itself also finds a standard library that came without rustup.
    let arguments = ["--print", "target-libdir", "--target", TARGET];
    let Some(folder) = shell.first_line("rustc", &arguments) else {
        return false;
    };
    let Ok(files) = std::fs::read_dir(folder) else {
        return false;
    };
    files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

fn has_debian(shell: &Shell) -> bool {
    let mut arguments = vec!["--show", "--showformat=${db:Status-Status}\n"];
    arguments.extend(DEBIAN_PACKAGES);
    let mut query = shell.command("dpkg-query");
    read(query.args(arguments), QUICK).is_ok_and(|text| {
        text.lines().filter(|line| *line == "installed").count() == DEBIAN_PACKAGES.len()
    })
}
