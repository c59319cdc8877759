//! What can be taken away: the page as an archive of static files, and the command line as one file
//! that holds the page and the shipped models.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use ventral::appended;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::page;
use crate::progress::{Outcome, Progress, bytes};
use crate::setup;
use crate::shell::{Shell, run};

/// Copies that only our own server knows how to send.
const COMPRESSED: [&str; 2] = ["br", "gz"];

/// What [`make`] has written.
pub struct Dist {
    /// The page as static files.
    pub site: PathBuf,
    /// The command line.
    pub program: PathBuf,
}

/// Builds the page and the command line and writes both.
///
/// # Errors
/// When something is missing or does not compile, or the disk is full.
pub fn make(shell: &Shell) -> Result<Dist> {
    setup::obtain_all(shell, &setup::PAGE)?;
    page::build(shell)?;
    let folder = shell.target.join("dist");
    fs::create_dir_all(&folder)?;
    let version = env!("CARGO_PKG_VERSION");
    let dist = Dist {
        site: folder.join(format!("ventral-site-{version}.zip")),
        program: folder.join(format!("ventral{}", std::env::consts::EXE_SUFFIX)),
    };
    let files = files(&page::dist(shell))?;
    let mut progress = Progress::new("dist", 2);
    progress.step("site", || {
        write_site(&files, &dist.site)?;
        done(&dist.site)
    })?;
    progress.step("program", || {
        Progress::announce("program", "compiling the command line");
        write_program(&compile(shell)?, &files, &dist.program)?;
        done(&dist.program)
    })?;
    Ok(dist)
}

fn done(file: &Path) -> Result<Outcome> {
    let size = bytes(file.metadata()?.len());
    Ok(Outcome::Done(format!("{}, {size}", file.display())))
}

/// A file of the page: its path below the page's folder, with `/` between folders, and its bytes.
type PageFile = (String, Vec<u8>);

/// All files of the page, in the order of their names, with addresses that hold in any folder of a
/// host.
fn files(folder: &Path) -> Result<Vec<PageFile>> {
    let mut files = Vec::new();
    for file in page::files_under(folder)? {
        let below = file.strip_prefix(folder)?;
        let name = below.to_string_lossy().replace('\\', "/");
        let ending = below.extension().and_then(|ending| ending.to_str());
        let is_copy = ending.is_some_and(|ending| COMPRESSED.contains(&ending));
        // A test set is compressed by itself and has no other form.
        let is_copy = is_copy && file.with_extension("").is_file();
        if !is_copy && !name.starts_with('.') {
            files.push((name, fs::read(&file)?));
        }
    }
    files.sort();
    let page = files.iter_mut().find(|(name, _)| name == "index.html");
    let (_, page) = page.context("the page has no index.html")?;
    *page = relative(std::str::from_utf8(page)?).into_bytes();
    Ok(files)
}

/// The page with addresses that begin where it lies, and not at the host's root.
fn relative(page: &str) -> String {
    page.replace("=\"/", "=\"./")
}

fn write_site(files: &[PageFile], to: &Path) -> Result<()> {
    let mut out = ZipWriter::new(BufWriter::new(File::create(to)?));
    for (name, bytes) in files {
        out.start_file(name, SimpleFileOptions::default())?;
        out.write_all(bytes)?;
    }
    Ok(out.finish()?.flush()?)
}

/// The command line's program file.
fn compile(shell: &Shell) -> Result<PathBuf> {
    // As the tests are compiled: nothing is compiled twice.
    let arguments = ["build", "--release", "--workspace", "--bin", "ventral"];
    run(shell.command("cargo").args(arguments))?;
    let name = format!("ventral{}", std::env::consts::EXE_SUFFIX);
    Ok(shell.target.join("release").join(name))
}

fn write_program(program: &Path, files: &[PageFile], to: &Path) -> Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    let archive = archive.into_inner()?.finish()?;
    // The copy keeps the file's permission to be run. One that runs cannot be written over.
    let _ = fs::remove_file(to);
    fs::copy(program, to).with_context(|| program.display().to_string())?;
    let mut out = File::options().append(true).open(to)?;
    ensure!(
        appended::find(File::open(program)?)?.is_none(),
        "{} carries something already",
        program.display()
    );
    Ok(appended::append(&mut out, &archive)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_packed_whole_without_the_copies_of_our_server() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("index.html", "<script src=\"/boot.js\" data-a=\"b\">");
        write("boot.js", "x");
        write("boot.js.br", "y");
        write("testset/images.tar.gz", "z");
        write(page::STAMP, "hash");
        let found = files(folder.path()).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["boot.js", "index.html", "testset/images.tar.gz"]);
        assert_eq!(found[1].1, b"<script src=\"./boot.js\" data-a=\"b\">");
    }
}
