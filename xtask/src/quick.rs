//! The page as `cargo xtask serve` makes it: soon there before small.
//!
//! It is the same page from the same sources, by a profile that compiles in less time, and neither
//! optimised nor compressed afterwards. It answers when the program for the CPU is there; the one for
//! the GPU, most of what there is to compile, follows, and the page takes it when it has come.
//! Published is what `cargo xtask build` makes, with trunk.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};

use crate::page;
use crate::progress::{Outcome, Progress};
use crate::setup::{self, Need};
use crate::shell::{Shell, run};
use crate::wasm::{self, TARGET};

/// Cargo profile that it is compiled with.
const PROFILE: &str = "serve";

/// What stands in the place of the program for the GPU; `worker_boot.js` knows it.
const NOT_COMPILED: &str = "self.notCompiledYet = true;\n";

/// The folder of the page.
pub fn folder(shell: &Shell) -> PathBuf {
    shell.state().join("page")
}

/// Whether the page is whole and of these sources.
///
/// # Errors
/// When a source cannot be read.
pub fn is_whole(shell: &Shell) -> Result<bool> {
    let stamp = fs::read_to_string(folder(shell).join(page::STAMP)).ok();
    Ok(stamp.is_some() && stamp == Some(stamp_of(shell)?))
}

fn stamp_of(shell: &Shell) -> Result<String> {
    Ok(format!("{PROFILE} {}", page::fingerprint(shell)?))
}

/// Makes a page that answers: the app and the worker that computes on the CPU.
///
/// # Errors
/// When something is missing or does not compile.
pub fn begin(shell: &Shell) -> Result<()> {
    setup::obtain_all(shell, &[Need::Compile])?;
    // Every compilation has stretches that one core does alone: the other takes the next one's.
    let (app, threads) = thread::scope(|scope| {
        let threads = scope.spawn(|| page::compile_threads(shell, PROFILE));
        let app = setup::obtain_all(shell, &[Need::Bind]).and_then(|()| {
            Progress::announce("app", "compiling the page");
            compile(shell, "app", "page")
        });
        (app, threads.join())
    });
    let (app, threads) = (
        app?,
        threads.map_err(|_| anyhow!("the compilation panicked"))??,
    );
    let folder = folder(shell);
    // An older page's files would stay.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder)?;
    page::bind(shell, &app, "web", "app", &folder)?;
    lay_out(&shell.root, &folder)?;
    fs::write(folder.join("worker.js"), NOT_COMPILED)?;
    match threads {
        Ok(made) => page::bind_threads(shell, &made, &folder.join("threads")),
        // Then there is no program for the CPU alone, and the page has to wait for the other.
        Err(why) => {
            Progress::announce("threads", format!("left out, for {why:#}"));
            page::write_no_threads(&folder.join("threads"))?;
            finish(shell)
        }
    }
}

/// Adds the worker that owns the GPU.
///
/// # Errors
/// When it does not compile.
pub fn finish(shell: &Shell) -> Result<()> {
    let stamp = stamp_of(shell)?;
    let made = compile(shell, "worker", "worker")?;
    let parts = shell.state().join("part");
    fs::create_dir_all(&parts)?;
    page::bind(shell, &made, "no-modules", "worker", &parts)?;
    let folder = folder(shell);
    // The script comes last: with it the page asks for the rest.
    for name in ["worker_bg.wasm", "worker.js"] {
        fs::rename(parts.join(name), folder.join(name))?;
    }
    Ok(fs::write(folder.join(page::STAMP), stamp)?)
}

fn compile(shell: &Shell, name: &str, feature: &str) -> Result<PathBuf> {
    let compiler = wasm::compiler(shell).context("no compiler builds for the web")?;
    let mut cargo = wasm::command(shell, "cargo", compiler)?;
    cargo
        .args(["build", "--bin", name, "--no-default-features"])
        .args(["--features", feature, "--profile", PROFILE])
        .args(["--target", TARGET]);
    run(&mut cargo)?;
    let target = wasm::target(shell, compiler).join(TARGET).join(PROFILE);
    Ok(target.join(format!("{name}.wasm")))
}

/// Copies what `index.html` links to, and writes it with links to the copies.
fn lay_out(root: &Path, folder: &Path) -> Result<()> {
    let read = |name: &str| fs::read_to_string(root.join(name)).context(name.to_owned());
    let (page, trunk) = (read("index.html")?, read("Trunk.toml")?);
    let trunk: toml::Table = trunk.parse().context("Trunk.toml")?;
    let script = trunk["build"]["pattern_script"].as_str();
    let script = script.context("Trunk.toml has no pattern_script")?;
    let mut lines = Vec::new();
    for line in page.lines() {
        match line.contains("data-trunk") {
            true => lines.extend(linked(line, script, root, folder)?),
            false => lines.push(line.to_owned()),
        }
    }
    Ok(fs::write(folder.join("index.html"), lines.join("\n"))?)
}

/// What stands in the page in the place of one of trunk's links, its files copied.
fn linked(line: &str, script: &str, root: &Path, folder: &Path) -> Result<Option<String>> {
    let value = |name: &str| attribute(line, name).context(format!("{line}: no {name}"));
    let copied = || -> Result<String> {
        let from = value("href")?;
        let name = from.rsplit('/').next().unwrap_or(from);
        copy(&root.join(from), &folder.join(name))?;
        Ok(name.to_owned())
    };
    Ok(match value("rel")? {
        "css" => Some(format!("<link rel=\"stylesheet\" href=\"/{}\">", copied()?)),
        "icon" => Some(format!("<link rel=\"icon\" href=\"/{}\">", copied()?)),
        "rust" => (value("data-bin")? == "app").then(|| {
            let names = [
                ("{base}", "/"),
                ("{js}", "app.js"),
                ("{wasm}", "app_bg.wasm"),
            ];
            let fill = |text: String, (name, with): (&str, &str)| text.replace(name, with);
            names.into_iter().fold(script.to_owned(), fill)
        }),
        // "copy-file" and "copy-dir".
        _ => {
            copied()?;
            None
        }
    })
}

/// The value of a tag's attribute.
fn attribute<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    Some(rest.split_once('"')?.0)
}

/// Copies a file, or a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in page::files_under(from)? {
        let below = file.strip_prefix(from)?;
        let to = match below.as_os_str().is_empty() {
            true => to.to_owned(),
            false => to.join(below),
        };
        fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        fs::copy(&file, &to).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// What is left to do behind a page that answers, with the sentence for its end.
pub fn follow(shell: &Shell) {
    let mut progress = Progress::new("serve", 1);
    let done = || finish(shell).map(|()| Outcome::Done("the page takes it now".into()));
    if let Err(error) = progress.step("program for the GPU", done) {
        eprintln!("xtask: the page goes on with the CPU: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_laid_out_as_trunk_does_it() {
        let shell = Shell::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        lay_out(&shell.root, folder.path()).unwrap();
        let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
        assert!(!page.contains("data-trunk"), "{page}");
        let script = "<script src=\"/boot.js\" data-js=\"/app.js\" data-wasm=\"/app_bg.wasm\">";
        assert!(page.contains(script), "{page}");
        assert!(page.contains("<link rel=\"stylesheet\" href=\"/style.css\">"));
        for name in [
            "style.css",
            "worker_boot.js",
            "models/catalog.json",
            "samples/samples.json",
        ] {
            assert!(folder.path().join(name).is_file(), "{name}");
        }
    }

    #[test]
    fn the_loader_knows_what_stands_for_a_program_to_come() {
        let shell = Shell::new().unwrap();
        let loader = fs::read_to_string(shell.root.join("static/worker_boot.js")).unwrap();
        let (name, _) = NOT_COMPILED.split_once(" =").unwrap();
        assert!(loader.contains(name), "{name}");
    }
}
