//! Building the page: trunk, then the worker with threads, which trunk cannot build, then wasm-opt,
//! then compressed copies for the server to send.
//!
//! Trunk could call wasm-opt itself. It is called here instead so that a machine without wasm-opt
//! still builds, and an unchanged wasm is not optimised again, which takes minutes for the worker's.

use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::progress::{Outcome, Progress, bytes};
use crate::setup::find_wasm_opt;
use crate::shell::{Shell, run};
use crate::wasm::{self, Compiler, TARGET};

/// Sources of the page: a change in any of these means a new build.
#[rustfmt::skip]
const SOURCES: &[&str] = &[
    ".cargo/config.toml", "Cargo.lock", "Cargo.toml", "Trunk.toml", "index.html", "src", "static",
];

/// A file in `dist` with the fingerprint of its sources. The server does not send names with a dot.
pub const STAMP: &str = ".built-from";

/// One of the programs.
pub struct Program {
    /// Its binary's name and cargo feature.
    pub name: &'static str,
    /// Cargo feature that it is built with.
    pub feature: &'static str,
    /// Cargo profile that it is built with.
    pub profile: &'static str,
    /// wasm-opt's level: small before fast for what must paint at once, fast for what computes.
    level: &'static str,
    /// Options for wasm features that it uses beside [`WASM_FEATURES`].
    extra: &'static [&'static str],
    /// Most bytes its wasm may have, gzipped.
    pub budget: u64,
}

/// The programs that trunk builds; `index.html` names the same features and profiles.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "app",
        feature: "page",
        profile: "page",
        level: "-Oz",
        extra: &[],
        budget: 400_000,
    },
    Program {
        name: "worker",
        feature: "worker",
        profile: "worker",
        level: "-Oz",
        extra: &[],
        budget: 5_000_000,
    },
];

/// The worker that computes on all of the CPU; `worker_boot.js` knows where it is in `dist`.
static THREADS: Program = Program {
    name: "threads",
    feature: "worker-threads",
    profile: "worker",
    level: "-Oz",
    extra: &["--enable-relaxed-simd", "--enable-threads"],
    budget: 3_000_000,
};

/// Its compiler flags, which replace those of `.cargo/config.toml`: threads share a memory that the
/// loader creates, and each has its own thread-local part of it.
const THREADS_FLAGS: &[&str] = &[
    "--cfg=getrandom_backend=\"wasm_js\"",
    "-Ctarget-feature=+simd128,+atomics,+bulk-memory",
    "-Clink-arg=--shared-memory",
    "-Clink-arg=--max-memory=4294967296",
    "-Clink-arg=--import-memory",
    "-Clink-arg=--export=__wasm_init_tls",
    "-Clink-arg=--export=__tls_size",
    "-Clink-arg=--export=__tls_align",
    "-Clink-arg=--export=__tls_base",
];

/// A program that is none.
const NO_THREADS: &str = "export default undefined;\n";

/// Everything that rustc's default wasm features and `+simd128` may use. Binaryen reads the list
/// that rustc leaves in the file as well; old versions, 108 among them, skip names they do not know.
#[rustfmt::skip]
const WASM_FEATURES: &[&str] = &[
    "--enable-bulk-memory", "--enable-multivalue", "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int", "--enable-reference-types", "--enable-sign-ext",
    "--enable-simd",
];

/// Endings of files that are worth compressing.
const COMPRESSIBLE: &[&str] = &[
    "css", "csv", "html", "js", "json", "svg", "toml", "txt", "wasm",
];

/// The smallest file that is compressed, in bytes.
const COMPRESS_FROM: u64 = 512;

/// How the compressed copies are made, for the cache: another way makes other files.
const COMPRESSION: &str = "zopfli and brotli 11 up to 2 MB, then deflate 9 and brotli 9";

/// Brotli's quality for large files: the last two of its eleven levels take ten times as long for
/// some 4 %.
const BROTLI_QUALITY: i32 = 9;

/// Brotli's best quality.
const BROTLI_BEST: i32 = 11;

/// Up to this size, in bytes, a file is compressed as well as can be: what must arrive before the
/// page paints. Beyond, that takes minutes.
const THOROUGH_UP_TO: usize = 2_000_000;

/// Brotli's window, as a power of two: the largest that every browser reads.
const BROTLI_WINDOW: i32 = 24;

/// The size of one program's wasm.
pub struct Size {
    /// The program.
    pub program: &'static Program,
    /// Bytes uncompressed.
    pub raw: u64,
    /// Bytes gzipped.
    pub gzip: u64,
    /// Bytes by brotli.
    pub brotli: u64,
}

/// The folder of the built page.
pub fn dist(shell: &Shell) -> PathBuf {
    shell.root.join("dist")
}

/// Builds the page unless it is built from the same sources with the same tools already.
///
/// # Errors
/// When a source is missing or a tool fails.
pub fn build(shell: &Shell) -> Result<()> {
    let _lock = shell.lock(&shell.state(), "page")?;
    let mut progress = Progress::new("page", 4);
    let stamp = fingerprint(shell)?;
    let stamp_file = dist(shell).join(STAMP);
    if is_built(shell)? {
        let mut progress = Progress::new("page", 1);
        progress.step("build", || Ok(Outcome::Ready(summary(shell)?)))?;
        return Ok(());
    }
    progress.step("trunk", || bundle(shell))?;
    progress.step("threads", || add_threads(shell))?;
    let mut kept = HashSet::new();
    progress.step("wasm-opt", || shrink_all(shell, &mut kept))?;
    progress.step("compress", || {
        let files = compress_all(shell, &mut kept)?;
        Ok(Outcome::Done(format!("{files} files; {}", summary(shell)?)))
    })?;
    forget_others(shell, &kept)?;
    fs::write(stamp_file, stamp).context("the page's folder cannot be written")
}

/// Whether the page in `dist` is of these sources and tools.
///
/// # Errors
/// When a source cannot be read.
pub fn is_built(shell: &Shell) -> Result<bool> {
    let stamp = fs::read_to_string(dist(shell).join(STAMP)).ok();
    Ok(stamp.is_some() && stamp == Some(fingerprint(shell)?))
}

/// The sizes of the programs' wasm, in the order of [`PROGRAMS`].
///
/// # Errors
/// When the page is not built.
pub fn sizes(shell: &Shell) -> Result<Vec<Size>> {
    let size = |program: &'static Program| -> Result<Size> {
        let file = wasm_of(shell, program)?;
        let length = |ending: &str| -> Result<u64> { Ok(beside(&file, ending).metadata()?.len()) };
        Ok(Size {
            program,
            raw: file.metadata()?.len(),
            gzip: length("gz")?,
            brotli: length("br")?,
        })
    };
    built(shell).into_iter().map(size).collect()
}

/// The programs that were built: the one with threads is optional.
fn built(shell: &Shell) -> Vec<&'static Program> {
    let threads = wasm_of(shell, &THREADS).is_ok().then_some(&THREADS);
    PROGRAMS.iter().chain(threads).collect()
}

fn summary(shell: &Shell) -> Result<String> {
    let describe = |size: &Size| {
        let (name, gzip) = (size.program.name, bytes(size.gzip));
        let (raw, brotli) = (bytes(size.raw), bytes(size.brotli));
        format!("{name} wasm {raw}, gzip {gzip}, brotli {brotli}")
    };
    let all: Vec<String> = sizes(shell)?.iter().map(describe).collect();
    Ok(all.join("; "))
}

fn bundle(shell: &Shell) -> Result<Outcome> {
    if !shell.root.join("index.html").is_file() {
        bail!("index.html is missing from the workspace");
    }
    let compiler = wasm::compiler(shell).context("no compiler builds for the web")?;
    Progress::announce("trunk", "compiling the page and the worker");
    let mut trunk = wasm::command(shell, "trunk", compiler)?;
    // Everything it needs has been downloaded already.
    trunk.args(["build", "--release", "--offline"]);
    // Trunk rejects `NO_COLOR=1`, which many systems set.
    trunk.env_remove("NO_COLOR");
    run(&mut trunk)?;
    let by = match compiler {
        Compiler::Own => "the installed compiler",
        Compiler::Debian => "Debian's compiler",
    };
    Ok(Outcome::Done(format!("dist/, by {by}")))
}

/// Builds the worker with threads into `dist/threads`, where the standard library's source is.
fn add_threads(shell: &Shell) -> Result<Outcome> {
    Progress::announce(THREADS.name, "compiling the worker with threads");
    let folder = dist(shell).join(THREADS.name);
    match compile_threads(shell, THREADS.profile)? {
        Ok(made) => {
            bind_threads(shell, &made, &folder)?;
            Ok(Outcome::Done("dist/threads".into()))
        }
        Err(why) => {
            write_no_threads(&folder)?;
            Ok(Outcome::Without(format!(
                "the CPU computes on one thread: the standard library's source is missing ({why:#})"
            )))
        }
    }
}

/// Written in place of the worker with threads where it cannot be built: the loader then takes the
/// other one.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_no_threads(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join("threads.js"), NO_THREADS)?)
}

/// Compiles the worker with threads and returns its wasm; inside, why there is none where the
/// standard library's source is missing.
///
/// # Errors
/// When cargo fails.
pub fn compile_threads(shell: &Shell, profile: &str) -> Result<Result<PathBuf>> {
    let compiler = wasm::compiler(shell).context("no compiler builds for the web")?;
    if let Err(why) = wasm::obtain_source(shell, compiler) {
        return Ok(Err(why));
    }
    let target = shell.target.join(THREADS.name);
    let mut cargo = wasm::command(shell, "cargo", compiler)?;
    cargo
        .args(["build", "--bin", "worker"])
        .args(["--no-default-features", "--features", THREADS.feature])
        .args(["--profile", profile, "--target", TARGET]);
    wasm::with_source(&mut cargo);
    cargo
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", THREADS_FLAGS.join("\u{1f}"));
    run(&mut cargo)?;
    Ok(Ok(target.join(TARGET).join(profile).join("worker.wasm")))
}

/// Writes the worker with threads as a browser loads it into a folder.
///
/// # Errors
/// When wasm-bindgen fails.
pub fn bind_threads(shell: &Shell, made: &Path, folder: &Path) -> Result<()> {
    bind(shell, made, "web", THREADS.name, folder)
}

/// Writes a program as a browser loads it: `NAME.js` and `NAME_bg.wasm`.
///
/// # Errors
/// When wasm-bindgen fails.
pub fn bind(shell: &Shell, made: &Path, kind: &str, name: &str, folder: &Path) -> Result<()> {
    let mut bindgen = shell.command("wasm-bindgen");
    bindgen
        .args(["--target", kind, "--no-typescript", "--out-name", name])
        .arg("--out-dir")
        .arg(folder)
        .arg(made);
    run(&mut bindgen)
}

/// Optimises each program's wasm in place; files that are used are added to `kept`.
fn shrink_all(shell: &Shell, kept: &mut HashSet<PathBuf>) -> Result<Outcome> {
    let Some(version) = find_wasm_opt(shell) else {
        return Ok(Outcome::Without(
            "the wasm stays as the compiler left it".into(),
        ));
    };
    let mut texts = Vec::new();
    for program in built(shell) {
        let file = wasm_of(shell, program)?;
        let content = fs::read(&file)?;
        let features = [WASM_FEATURES, program.extra].concat();
        let key = format!("{version} {} {features:?}", program.level);
        let made = remembered(shell, &content, &key, "wasm", kept, |_, to| {
            Progress::announce("wasm-opt", program.name);
            let mut opt = shell.command("wasm-opt");
            opt.arg(program.level).args(&features).arg(&file);
            run(opt.arg("--output").arg(to))
        })?;
        fs::copy(made, &file)?;
        let after = bytes(file.metadata()?.len());
        let before = bytes(content.len() as u64);
        texts.push(format!("{} {before} to {after}", program.name));
    }
    Ok(Outcome::Done(texts.join(", ")))
}

/// Writes a `.gz` and a `.br` beside every compressible file; returns their number.
fn compress_all(shell: &Shell, kept: &mut HashSet<PathBuf>) -> Result<usize> {
    let mut count = 0;
    for file in files_under(&dist(shell))? {
        let ending = file.extension().and_then(|ending| ending.to_str());
        if !ending.is_some_and(|ending| COMPRESSIBLE.contains(&ending)) {
            continue;
        }
        let content = fs::read(&file)?;
        if (content.len() as u64) < COMPRESS_FROM {
            continue;
        }
        for (ending, write) in [("gz", gzip as Encoder), ("br", brotli as Encoder)] {
            let made = remembered(shell, &content, COMPRESSION, ending, kept, write)?;
            fs::copy(made, beside(&file, ending))?;
        }
        count += 1;
    }
    Ok(count)
}

/// Encodes content into a file.
type Encoder = fn(&[u8], &Path) -> Result<()>;

fn gzip(content: &[u8], to: &Path) -> Result<()> {
    if content.len() <= THOROUGH_UP_TO {
        let options = zopfli::Options::default();
        let file = fs::File::create(to)?;
        return Ok(zopfli::compress(
            options,
            zopfli::Format::Gzip,
            content,
            file,
        )?);
    }
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(to)?, flate2::Compression::best());
    encoder.write_all(content)?;
    encoder.finish()?;
    Ok(())
}

fn brotli(content: &[u8], to: &Path) -> Result<()> {
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: match content.len() <= THOROUGH_UP_TO {
            true => BROTLI_BEST,
            false => BROTLI_QUALITY,
        },
        lgwin: BROTLI_WINDOW,
        size_hint: content.len(),
        ..Default::default()
    };
    let mut input = content;
    brotli::BrotliCompress(&mut input, &mut fs::File::create(to)?, &parameters)?;
    Ok(())
}

/// The file that `make` writes from `content`, cached by the hash of the content and of `key`, the
/// options of `make`.
fn remembered(
    shell: &Shell,
    content: &[u8],
    key: &str,
    ending: &str,
    kept: &mut HashSet<PathBuf>,
    make: impl FnOnce(&[u8], &Path) -> Result<()>,
) -> Result<PathBuf> {
    let folder = shell.state().join("made");
    fs::create_dir_all(&folder)?;
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update([0]);
    hash.update(content);
    let file = folder.join(format!("{:x}.{ending}", hash.finalize()));
    if !file.is_file() {
        // Renamed when complete, so that an interrupted build leaves no partial file.
        let part = folder.join(format!("part-{}.{ending}", std::process::id()));
        make(content, &part)?;
        fs::rename(part, &file)?;
    }
    kept.insert(file.clone());
    Ok(file)
}

/// Removes cached files that this build did not use.
fn forget_others(shell: &Shell, kept: &HashSet<PathBuf>) -> Result<()> {
    for file in files_under(&shell.state().join("made"))? {
        if !kept.contains(&file) {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// The wasm of a program: the main one's name carries a hash, the worker's does not.
fn wasm_of(shell: &Shell, program: &Program) -> Result<PathBuf> {
    let is_it = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix(program.name).unwrap_or("");
        rest.ends_with("_bg.wasm") && (rest == "_bg.wasm" || rest.starts_with('-'))
    };
    let files = files_under(&dist(shell))?;
    files.into_iter().find(is_it).with_context(|| {
        let name = program.name;
        format!("dist/ holds no wasm of `{name}`: index.html must name it with data-bin=\"{name}\"")
    })
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// All files below a folder (or the file itself), sorted.
pub fn files_under(place: &Path) -> Result<Vec<PathBuf>> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| place.display().to_string()),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.extend(files_under(&entry?.path())?);
    }
    files.sort();
    Ok(files)
}

/// A hash of the sources' contents and of the tools' versions. Contents, not dates: a fresh clone
/// has new dates and the same page.
pub fn fingerprint(shell: &Shell) -> Result<String> {
    let mut hash = Sha256::new();
    for source in SOURCES {
        for file in files_under(&shell.root.join(source))? {
            let name = file.strip_prefix(&shell.root).unwrap_or(&file);
            let content = fs::read(&file).with_context(|| file.display().to_string())?;
            hash.update(name.to_string_lossy().as_bytes());
            hash.update([0]);
            hash.update((content.len() as u64).to_le_bytes());
            hash.update(content);
        }
    }
    let tools = [wasm::find(shell), find_wasm_opt(shell)];
    hash.update(format!(
        "{tools:?} {WASM_FEATURES:?} {THREADS_FLAGS:?} {COMPRESSION}"
    ));
    let levels: Vec<&str> = PROGRAMS
        .iter()
        .chain([&THREADS])
        .map(|program| program.level)
        .collect();
    hash.update(levels.join(" "));
    Ok(format!("{:x}\n", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// A shell whose workspace is an empty folder.
    fn elsewhere(folder: &Path) -> Shell {
        let mut shell = Shell::new().unwrap();
        shell.root = folder.join("root");
        shell.target = folder.join("target");
        shell
    }

    #[test]
    fn both_compressions_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..200_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let file = folder.path().join("f");
        let mut back = Vec::new();
        gzip(&text, &file).unwrap();
        let packed = fs::read(&file).unwrap();
        assert!(packed.len() * 2 < text.len());
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == text);
        brotli(&text, &file).unwrap();
        let packed = fs::read(&file).unwrap();
        assert!(packed.len() * 2 < text.len());
        back.clear();
        brotli::BrotliDecompress(&mut packed.as_slice(), &mut back).unwrap();
        assert!(back == text);
    }

    #[test]
    fn a_thing_is_made_once_and_forgotten_when_unused() {
        let folder = tempfile::tempdir().unwrap();
        let shell = elsewhere(folder.path());
        let mut kept = HashSet::new();
        let mut calls = 0;
        let mut make = |content: &[u8], key: &str, kept: &mut HashSet<PathBuf>| {
            remembered(&shell, content, key, "x", kept, |content, to| {
                calls += 1;
                Ok(fs::write(to, content)?)
            })
            .unwrap()
        };
        let first = make(b"one", "", &mut kept);
        let again = make(b"one", "", &mut kept);
        let other_key = make(b"one", "-O2", &mut HashSet::new());
        assert_eq!(first, again);
        assert_ne!(first, other_key);
        assert_eq!(calls, 2);
        forget_others(&shell, &kept).unwrap();
        assert!(first.is_file() && !other_key.exists());
    }

    #[test]
    fn the_stamp_follows_contents_and_not_dates() {
        let folder = tempfile::tempdir().unwrap();
        let shell = elsewhere(folder.path());
        fs::create_dir_all(shell.root.join("src/a")).unwrap();
        let source = shell.root.join("src/a/b.rs");
        fs::write(&source, "fn a() {}").unwrap();
        let first = fingerprint(&shell).unwrap();
        fs::write(&source, "fn a() {}").unwrap();
        assert_eq!(fingerprint(&shell).unwrap(), first);
        fs::write(&source, "fn b() {}").unwrap();
        let second = fingerprint(&shell).unwrap();
        assert_ne!(second, first);
        fs::rename(&source, shell.root.join("src/a/c.rs")).unwrap();
        assert_ne!(fingerprint(&shell).unwrap(), second);
    }

    #[test]
    fn each_programs_wasm_is_found_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let shell = elsewhere(folder.path());
        let dist = dist(&shell);
        fs::create_dir_all(&dist).unwrap();
        let missing = wasm_of(&shell, &PROGRAMS[0]).unwrap_err().to_string();
        assert!(missing.contains("data-bin=\"app\""), "{missing}");
        for name in [
            "app-0f_bg.wasm",
            "worker_bg.wasm",
            "apple_bg.wasm",
            "app.js",
        ] {
            fs::write(dist.join(name), name).unwrap();
        }
        let found: Vec<PathBuf> = PROGRAMS
            .iter()
            .map(|program| wasm_of(&shell, program).unwrap())
            .collect();
        assert_eq!(
            found,
            [dist.join("app-0f_bg.wasm"), dist.join("worker_bg.wasm")]
        );
    }

    #[test]
    fn index_html_builds_the_same_programs_the_same_way() {
        let shell = Shell::new().unwrap();
        let page = fs::read_to_string(shell.root.join("index.html")).unwrap();
        for program in PROGRAMS {
            let bin = format!("data-bin=\"{}\"", program.name);
            let link = page.lines().find(|line| line.contains(&bin));
            let link = link.unwrap_or_else(|| panic!("no link has {bin}"));
            let features = format!("data-cargo-features=\"{}\"", program.feature);
            // Left out, trunk would run wasm-opt as well, and fail where there is none.
            let parts = [
                &features,
                "data-cargo-no-default-features",
                "data-wasm-opt=\"0\"",
            ];
            for part in parts {
                assert!(link.contains(part), "{} lacks {part}", program.name);
            }
            let profile = link.split("data-cargo-profile=\"").nth(1);
            let profile = profile.and_then(|rest| rest.split('"').next());
            assert_eq!(
                profile.unwrap_or("release"),
                program.profile,
                "{}",
                program.name
            );
        }
    }
}
