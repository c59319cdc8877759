//! Builds, serves, tests and measures Ventral, and installs what that needs: `cargo xtask help`.

mod bench;
mod page;
mod progress;
mod serve;
mod setup;
mod shell;
mod test;
mod testset;
mod times;
mod wasm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use setup::Need;
use shell::Shell;
use test::Groups;

const HELP: &str = "\
Ventral's own tasks.

    cargo xtask serve [--port N] [--no-open]
        Get what is missing, build the page, serve it on 127.0.0.1 and open the browser.
    cargo xtask test [--native] [--browser] [--e2e] [--gpu]
        Format, lints, native tests, the page's build and size, tests in Chromium.
        Without an option: all of them but --gpu, the networks and kernels natively on this
        machine's GPU (Vulkan, Metal or DirectX; a driver in software will do).
    cargo xtask bench [--browser | --native | --gpu] [--webgpu] [--memory | --growth] [--only=ENGINE]… [--batch=N] [--rounds=N] [MODEL…]
        Measure Ventral beside ONNX Runtime Web and TensorFlow.js in Chromium, and beside PyTorch
        natively, on the same weights and in turns. --webgpu: the small models on a WebGPU adapter.
        --gpu: natively on this machine's GPU, beside the CPU.
        In the place of times, --memory: the most the tab holds for each engine; --growth: how
        Ventral's times grow with the batch, the image's side and an attack's steps.
        The peers are installed beside the tools; every number goes to target/bench.json.
    cargo xtask setup
        Get what is missing for building and testing, and nothing more.
    cargo xtask build
        Build the page into dist/.
    cargo xtask testset NAME ARCHIVE
        Pick a shipped test set from a published one: cifar10-1000 from CIFAR-10 as JPEG files,
        tiny40-400 from Tiny ImageNet, each a .tar.xz. Writes static/testset/NAME.tar.gz.
    cargo xtask help
        This text.

Environment:
    VENTRAL_CACHE=DIR            where tools are installed (default: ventral/ in the user's cache)
    VENTRAL_WASM=rustup|debian   which compiler builds the page (default: whichever is there)
    CARGO_TARGET_DIR=DIR         as for cargo
";

/// One command line.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Serve { port: u16, open: bool },
    Test(Groups),
    Bench(Vec<String>),
    Setup,
    Build,
    TestSet { name: String, archive: PathBuf },
    Help,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match parse(&words).and_then(perform) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Task> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        [] | ["help" | "--help" | "-h", ..] | [_, "--help" | "-h"] => Task::Help,
        ["serve", rest @ ..] => parse_serve(rest)?,
        ["test", rest @ ..] => Task::Test(parse_test(rest)?),
        ["bench", rest @ ..] => Task::Bench(parse_bench(rest)?),
        ["setup"] => Task::Setup,
        ["build"] => Task::Build,
        ["testset", name, archive] => Task::TestSet {
            name: (*name).to_owned(),
            archive: PathBuf::from(archive),
        },
        ["testset", ..] => bail!("`testset` takes a name and an archive: see `cargo xtask help`"),
        [task @ ("setup" | "build"), extra, ..] => bail!("`{task}` takes no `{extra}`"),
        [other, ..] => bail!("there is no task `{other}`: see `cargo xtask help`"),
    })
}

fn parse_serve(mut words: &[&str]) -> Result<Task> {
    let (mut port, mut open) = (ventral::serve::DEFAULT_PORT, true);
    loop {
        words = match words {
            [] => return Ok(Task::Serve { port, open }),
            ["--no-open", rest @ ..] => {
                open = false;
                rest
            }
            ["--port", number, rest @ ..] => {
                let Ok(number) = number.parse() else {
                    bail!("`--port {number}` is no port: give a number from 0 to 65535");
                };
                port = number;
                rest
            }
            ["--port"] => bail!("`--port` needs a number"),
            [other, ..] => bail!("`serve` takes no `{other}`: see `cargo xtask help`"),
        }
    }
}

fn parse_test(words: &[&str]) -> Result<Groups> {
    let mut groups = Groups::default();
    for word in words {
        match *word {
            "--native" => groups.native = true,
            "--browser" => groups.browser = true,
            "--e2e" => groups.e2e = true,
            "--gpu" => groups.gpu = true,
            other => bail!("`test` takes no `{other}`: see `cargo xtask help`"),
        }
    }
    Ok(groups.or_all())
}

fn parse_bench(words: &[&str]) -> Result<Vec<String>> {
    const OPTIONS: [&str; 6] = [
        "--browser",
        "--native",
        "--gpu",
        "--webgpu",
        "--memory",
        "--growth",
    ];
    const VALUED: [&str; 3] = ["--only=", "--batch=", "--rounds="];
    let unknown = |word: &&&str| {
        let is_valued = VALUED.iter().any(|option| word.starts_with(option));
        word.starts_with('-') && !OPTIONS.contains(word) && !is_valued
    };
    match words.iter().find(unknown) {
        Some(other) => bail!("`bench` takes no `{other}`: see `cargo xtask help`"),
        None => Ok(words.iter().map(|&word| word.to_owned()).collect()),
    }
}

fn perform(task: Task) -> Result<()> {
    let shell = Shell::new()?;
    match task {
        Task::Help => print!("{HELP}"),
        Task::Setup => setup::obtain_all(&shell, &[Need::Page, Need::Lints, Need::Browser])?,
        Task::Build => {
            setup::obtain_all(&shell, &[Need::Page])?;
            page::build(&shell)?;
        }
        Task::Serve { port, open } => {
            setup::obtain_all(&shell, &[Need::Page])?;
            page::build(&shell)?;
            serve::run(&shell, port, open)?;
        }
        Task::Test(groups) => test::run_all(&shell, groups)?,
        Task::Bench(words) => bench::run_all(&shell, &words)?,
        Task::TestSet { name, archive } => testset::write(&shell, &name, &archive)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn command_lines_are_read() {
        let all = Groups {
            native: true,
            browser: true,
            e2e: true,
            gpu: false,
        };
        let e2e = Groups {
            e2e: true,
            ..Groups::default()
        };
        let gpu = Groups {
            gpu: true,
            ..Groups::default()
        };
        let table = [
            ("", Task::Help),
            ("serve --help", Task::Help),
            ("setup", Task::Setup),
            ("build", Task::Build),
            (
                "testset tiny40-400 t.tar.xz",
                Task::TestSet {
                    name: "tiny40-400".to_owned(),
                    archive: PathBuf::from("t.tar.xz"),
                },
            ),
            ("test", Task::Test(all)),
            ("test --e2e", Task::Test(e2e)),
            ("test --gpu", Task::Test(gpu)),
            (
                "serve",
                Task::Serve {
                    port: 8080,
                    open: true,
                },
            ),
            (
                "serve --no-open --port 9000",
                Task::Serve {
                    port: 9000,
                    open: false,
                },
            ),
        ];
        for (line, task) in table {
            assert_eq!(parsed(line).unwrap(), task, "{line}");
        }
    }

    #[test]
    fn a_wrong_word_is_named() {
        let table = [
            ("fly", "fly"),
            ("serve --port", "--port"),
            ("serve --port 70000", "70000"),
            ("serve --fast", "--fast"),
            ("test --slow", "--slow"),
            ("build --release", "--release"),
            ("testset tiny40-400", "an archive"),
        ];
        for (line, word) in table {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
