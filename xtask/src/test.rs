//! The checks, from the quickest to the slowest, with a summary at the end: each one's time, and every
//! test that did not run, with its reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::page;
use crate::progress::{Outcome, Progress, bytes, seconds};
use crate::setup::{self, Need};
use crate::shell::{Shell, run};
use crate::times::Times;
use crate::wasm::{self, TARGET};

/// Which tests to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Format, lints and native tests.
    pub native: bool,
    /// The page's size and the tests of the harness and of the library in Chromium.
    pub browser: bool,
    /// The page's size and the tests of the page in Chromium.
    pub e2e: bool,
    /// The tests on a GPU through its native driver. Only by name: compiling them takes a quarter of
    /// an hour, and few test machines have a GPU.
    pub gpu: bool,
}

impl Groups {
    /// The same, or all of them when none was named.
    pub fn or_all(self) -> Self {
        if self != Self::default() {
            return self;
        }
        Self {
            native: true,
            browser: true,
            e2e: true,
            gpu: false,
        }
    }

    fn in_browser(self) -> bool {
        self.browser || self.e2e
    }
}

/// One check.
struct Check {
    name: &'static str,
    wanted: fn(Groups) -> bool,
    run: fn(&Shell) -> Result<String>,
}

const CHECKS: &[Check] = &[
    Check {
        name: "format",
        wanted: |groups| groups.native,
        run: |shell| cargo(shell, &["fmt", "--all", "--check"]),
    },
    Check {
        name: "lints, native",
        wanted: |groups| groups.native,
        run: |shell| lint(shell, &["--workspace", "--all-targets"]),
    },
    Check {
        name: "lints, GPU",
        wanted: |groups| groups.native || groups.gpu,
        run: |shell| lint(shell, &[&["--all-targets"], ON_GPU].concat()),
    },
    // The page's own build of it needs the standard library's source, which not every machine has.
    Check {
        name: "lints, worker with threads",
        wanted: |groups| groups.native,
        run: |shell| lint(shell, &[&["--bin", "worker"], WITH_THREADS].concat()),
    },
    Check {
        name: "native tests",
        wanted: |groups| groups.native,
        run: native_tests,
    },
    Check {
        name: "examples in the docs",
        wanted: |groups| groups.native,
        run: |shell| cargo(shell, &["test", "--release", "--workspace", "--doc"]),
    },
    Check {
        name: "licences and sources of dependencies",
        wanted: |groups| groups.native,
        run: |shell| match shell.find("cargo-deny") {
            Some(_) => cargo(shell, &["deny", "check", "licenses", "bans", "sources"]),
            None => Ok(format!("{SKIPPED}cargo-deny is not installed")),
        },
    },
    Check {
        name: "tests on the GPU",
        wanted: |groups| groups.gpu,
        run: |shell| {
            let arguments = ["test", "--release", "--test", GPU_TEST];
            cargo(
                shell,
                &[&arguments, ON_GPU, &["--", "--nocapture"]].concat(),
            )
        },
    },
    Check {
        name: "page",
        wanted: Groups::in_browser,
        run: |shell| {
            page::build(shell)?;
            Ok("built".into())
        },
    },
    Check {
        name: "lints, page",
        wanted: Groups::in_browser,
        run: page_lints,
    },
    Check {
        name: "page's size",
        wanted: Groups::in_browser,
        run: page_size,
    },
    Check {
        name: "harness in Chromium",
        wanted: |groups| groups.browser,
        run: |shell| in_chromium(shell, "harness", PAGE_TESTS),
    },
    Check {
        name: "library in Chromium",
        wanted: |groups| groups.browser,
        run: |shell| in_chromium(shell, "browser", WORKER_TESTS),
    },
    Check {
        name: "page in Chromium",
        wanted: |groups| groups.e2e,
        run: |shell| in_chromium(shell, "e2e", PAGE_TESTS),
    },
];

/// Features of the command line for a GPU.
const ON_GPU: &[&str] = &["--features", "gpu"];

/// Features of the worker that computes on all of the CPU.
const WITH_THREADS: &[&str] = &["--no-default-features", "--features", "worker-threads"];

/// Lints are errors.
const DENY: &[&str] = &["--", "--deny", "warnings"];

/// Features of the tests of the page: the server and nothing that takes minutes to compile.
const PAGE_TESTS: &[&str] = &["--no-default-features", "--features", "serve,checkpoint"];

/// Features of the worker's tests: those of the native tests, which are compiled already.
const WORKER_TESTS: &[&str] = &["--workspace"];

/// Variables with the places of the page and the browser; a test without them is skipped.
const TEST_VARIABLES: &[&str] = &["VENTRAL_DIST", "VENTRAL_CHROMIUM", "VENTRAL_CHROMEDRIVER"];

/// Tests that drive a browser. Natively they would find none and test nothing.
const BROWSER_TESTS: [&str; 3] = ["browser", "e2e", "harness"];

/// The test on a GPU.
const GPU_TEST: &str = "gpu";

/// Why a test may be left out where nobody looks on: parts of reasons. Anything else fails there.
const ALLOWED_SKIPS: &[&str] = &[
    // What a checkout does not hold, and what repeats at another size what it holds.
    "../shared/",
    // Done by hand, for minutes or to be looked at.
    "VENTRAL_LONG",
    "VENTRAL_PICTURE",
    "VENTRAL_SCREENSHOTS",
    // A tool that a machine may lack.
    "cargo-deny is not installed",
];

/// How the text of a check begins that did not run.
const SKIPPED: &str = "skipped: ";

/// Where tests write what they leave out, and why; one line each.
fn skips_file(shell: &Shell) -> PathBuf {
    shell.state().join("skips.txt")
}

/// Runs the groups' checks to the end, even past a failed one.
///
/// # Errors
/// When something is missing from the machine or a check failed.
pub fn run_all(shell: &Shell, groups: Groups) -> Result<()> {
    let needs: &[Need] = match groups.in_browser() {
        true => &[Need::Page, Need::Lints, Need::Browser],
        false => &[Need::Lints],
    };
    setup::obtain_all(shell, needs)?;
    let begun = Instant::now();
    let wanted: Vec<&Check> = CHECKS
        .iter()
        .filter(|check| (check.wanted)(groups))
        .collect();
    let mut times = Times::read(shell);
    times.announce(wanted.iter().map(|check| check.name));
    // Left of an earlier run; where there is none, there is nothing to remove.
    let _ = std::fs::remove_file(skips_file(shell));
    let mut progress = Progress::new("test", wanted.len());
    let mut endings = Vec::new();
    for check in wanted {
        let started = Instant::now();
        Progress::announce("test", times.beside(check.name));
        let ending = progress.step(check.name, || Ok(Outcome::Done((check.run)(shell)?)));
        if ending.is_ok() {
            times.keep(check.name, started.elapsed());
        }
        endings.push((check.name, ending, started.elapsed()));
    }
    times.write(shell)?;
    let skipped = Skips::read(&skips_file(shell), &endings);
    if let Err(error) = skipped.check(std::env::var_os("CI").is_some()) {
        endings.push(("tests that were left out", Err(error), Duration::ZERO));
    }
    let ending = sum_up(&endings, begun.elapsed());
    skipped.print();
    ending
}

/// What did not run: `name: reason`, each once.
struct Skips(BTreeSet<String>);

impl Skips {
    /// Those that tests have written down, and the checks that were left out.
    fn read(file: &Path, endings: &[(&str, Result<Outcome>, Duration)]) -> Self {
        let tests = std::fs::read_to_string(file).unwrap_or_default();
        let checks = endings.iter().filter_map(|(name, ending, _)| {
            let reason = skipped(ending.as_ref().ok()?)?;
            Some(format!("{name}: {reason}"))
        });
        Self(tests.lines().map(str::to_owned).chain(checks).collect())
    }

    /// # Errors
    /// Where `is_strict`: those whose reason is none of [`ALLOWED_SKIPS`].
    fn check(&self, is_strict: bool) -> Result<()> {
        let is_allowed = |line: &str| ALLOWED_SKIPS.iter().any(|reason| line.contains(reason));
        let lines = self.0.iter().map(String::as_str);
        let others: Vec<&str> = lines.filter(|line| !is_allowed(line)).collect();
        match is_strict && !others.is_empty() {
            true => bail!("with CI set these must run: {}", others.join("; ")),
            false => Ok(()),
        }
    }

    fn print(&self) {
        println!();
        self.0.iter().for_each(|line| println!("skipped {line}"));
        println!("{} skipped, whole tests or parts of them", self.count());
    }

    /// How many tests and checks: one may leave out several parts.
    fn count(&self) -> usize {
        let names = self.0.iter().map(|line| line.split(": ").next());
        names.collect::<BTreeSet<_>>().len()
    }
}

/// Why a check did not run, if it did not.
fn skipped(ending: &Outcome) -> Option<&str> {
    match ending {
        Outcome::Done(text) => text.strip_prefix(SKIPPED),
        _ => None,
    }
}

fn sum_up(endings: &[(&str, Result<Outcome>, Duration)], took: Duration) -> Result<()> {
    println!();
    let mut failed = Vec::new();
    for (name, ending, took) in endings {
        let took = seconds(*took);
        match ending {
            Ok(ending) => match skipped(ending) {
                Some(reason) => println!("skipped {name}: {reason}"),
                None => println!("ok      {name} ({took})"),
            },
            Err(error) => {
                println!("FAILED  {name} ({took}): {error:#}");
                failed.push(*name);
            }
        }
    }
    let (all, took) = (endings.len(), seconds(took));
    println!("{} of {all} checks passed in {took}", all - failed.len());
    match failed.is_empty() {
        true => Ok(()),
        false => bail!("failed: {}", failed.join(", ")),
    }
}

fn lint(shell: &Shell, arguments: &[&str]) -> Result<String> {
    cargo(shell, &[&["clippy", "--release"], arguments, DENY].concat())
}

fn cargo(shell: &Shell, arguments: &[&str]) -> Result<String> {
    run(native_cargo(shell).args(arguments))?;
    Ok("passed".into())
}

fn native_cargo(shell: &Shell) -> Command {
    let mut cargo = shell.command("cargo");
    for name in TEST_VARIABLES {
        cargo.env_remove(name);
    }
    cargo.env("VENTRAL_SKIPS", skips_file(shell));
    cargo
}

fn native_tests(shell: &Shell) -> Result<String> {
    if shell.find("cargo-nextest").is_some() {
        let others = BROWSER_TESTS.map(|name| format!("not binary({name})"));
        let filter = others.join(" and ");
        let nextest = ["nextest", "run", "--release", "--workspace", "-E", &filter];
        return cargo(shell, &nextest);
    }
    let names = native_test_names(&shell.root.join("tests"))?;
    let each = names.iter().flat_map(|name| ["--test", name]);
    let targets = ["test", "--release", "--workspace", "--lib", "--bins"];
    let arguments: Vec<&str> = targets.into_iter().chain(each).collect();
    cargo(shell, &arguments)
}

/// The test programs of a folder that need neither a browser nor a GPU: a file or a folder each.
fn native_test_names(tests: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(tests).with_context(|| tests.display().to_string())? {
        let path = entry?.path();
        let is_program =
            path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").is_file();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if is_program && !BROWSER_TESTS.contains(&name.as_str()) && name != GPU_TEST {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Lints the page's programs, with their features and target.
fn page_lints(shell: &Shell) -> Result<String> {
    let compiler = wasm::compiler(shell).context("no compiler builds for the web")?;
    let lint = wasm::can_lint(compiler);
    for program in page::PROGRAMS {
        let mut cargo = wasm::command(shell, "cargo", compiler)?;
        cargo
            .arg(if lint { "clippy" } else { "check" })
            .args(["--offline", "--target", TARGET, "--no-default-features"])
            .args(["--features", program.feature, "--bin", program.name])
            .args(["--profile", program.profile]);
        if lint {
            cargo.args(DENY);
        }
        run(&mut cargo)?;
    }
    Ok(match lint {
        true => "passed".into(),
        false => "compiled only: this compiler came without clippy".into(),
    })
}

fn page_size(shell: &Shell) -> Result<String> {
    let mut texts = Vec::new();
    let mut over = Vec::new();
    for size in page::sizes(shell)? {
        let (name, gzip) = (size.program.name, bytes(size.gzip));
        let text = format!("{name} {gzip} gzipped of {}", bytes(size.program.budget));
        match size.gzip <= size.program.budget {
            true => texts.push(text),
            false => over.push(text),
        }
    }
    match over.is_empty() {
        true => Ok(texts.join(", ")),
        false => bail!("too large: {}", over.join(", ")),
    }
}

/// Runs one file of tests with the page and the browser named in its environment, one test at a
/// time: a browser with the worker in it needs the machine for itself.
fn in_chromium(shell: &Shell, test: &str, features: &[&str]) -> Result<String> {
    let chromium = setup::chromium(shell).context("Chromium is missing")?;
    let driver = setup::chromedriver(shell).context("chromedriver is missing")?;
    let mut cargo = native_cargo(shell);
    cargo
        .args(["test", "--release"])
        .args(features)
        .args(["--test", test, "--", "--test-threads=1", "--nocapture"])
        .env("VENTRAL_DIST", page::dist(shell))
        .env("VENTRAL_CHROMIUM", chromium)
        .env("VENTRAL_CHROMEDRIVER", driver);
    run(&mut cargo)?;
    Ok("passed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_means_all_and_a_named_one_only_itself() {
        let none = Groups::default();
        let count = |groups: Groups| CHECKS.iter().filter(|c| (c.wanted)(groups)).count();
        // But the tests on a GPU, which are run by name.
        assert_eq!(count(none.or_all()), CHECKS.len() - 1);
        let gpu = Groups { gpu: true, ..none };
        assert_eq!(count(gpu), 2);
        let native = Groups {
            native: true,
            ..none
        };
        assert_eq!(native.or_all(), native);
        assert_eq!(count(native), 7);
    }

    #[test]
    fn a_test_left_out_for_another_reason_fails_where_nobody_looks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("skips.txt");
        let endings = [
            ("a", Ok(Outcome::Done("passed".into())), Duration::ZERO),
            (
                "b",
                Ok(Outcome::Done("skipped: cargo-deny is not installed".into())),
                Duration::ZERO,
            ),
        ];
        let read = || Skips::read(&file, &endings);
        assert_eq!(
            read().0.into_iter().collect::<Vec<_>>(),
            ["b: cargo-deny is not installed"]
        );
        let fine = "tests/e2e/page.rs all: VENTRAL_LONG gives no number of seconds to wait";
        let part = "tests/attack.rs one: fgsm/eps1 is in ../shared/fixtures";
        let other = "tests/attack.rs one: the moon is down";
        std::fs::write(&file, format!("{fine}\n{fine}\n{part}\n")).unwrap();
        assert_eq!(read().count(), 3);
        assert!(read().check(true).is_ok());
        std::fs::write(&file, format!("{fine}\n{part}\n{other}\n")).unwrap();
        assert_eq!(read().count(), 3);
        assert!(read().check(false).is_ok());
        let error = read().check(true).unwrap_err().to_string();
        assert!(error.contains(other) && !error.contains(fine), "{error}");
    }

    #[test]
    fn tests_that_need_a_browser_or_a_gpu_are_none_of_the_native_ones() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        let names = native_test_names(&tests).unwrap();
        assert!(
            ["attack", "cli", "session"]
                .iter()
                .all(|name| names.iter().any(|n| n == name))
        );
        let others = [&BROWSER_TESTS[..], &[GPU_TEST, "common", "fixtures"]].concat();
        assert!(!names.iter().any(|name| others.contains(&name.as_str())));
    }

    #[test]
    fn one_failure_fails_the_whole_and_is_named() {
        let fine = ("a", Ok(Outcome::Done("well".into())), Duration::ZERO);
        let bad = ("b", Err(anyhow::anyhow!("broken")), Duration::ZERO);
        let time = Duration::from_secs(1);
        let error = sum_up(&[fine, bad], time).unwrap_err().to_string();
        assert_eq!(error, "failed: b");
        let fine = ("a", Ok(Outcome::Done("well".into())), Duration::ZERO);
        assert!(sum_up(&[fine], time).is_ok());
    }
}
