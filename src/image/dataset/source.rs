//! Where a set lies: the files of a folder, a tar or a zip archive, visited in one way.

use std::fs;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::archive::zip::Directory;
use crate::archive::{read_checked, shorten};

use super::error::{DatasetError, archive_error, read_error};
use super::layout::{file_name, is_picture};
use super::progress::{Progress, Report, quiet, tell};

/// The largest single file that is taken from a set, in bytes, and the largest binary batch: all
/// 50,000 training pictures of CIFAR-100 are one file of 153.7 MB.
pub(super) const MAX_FILE: u64 = 64_000_000;
pub(super) const MAX_BATCH: u64 = 256_000_000;

/// The most a set may unpack to, and the most its decoded pictures may take, in bytes: on a disk,
/// and in memory, where a page holds it beside the archive itself and has 4 GB at most.
pub(super) const MOST_UNPACKED: u64 = 16 << 30;
pub(super) const MOST_IN_MEMORY: u64 = 1 << 30;

/// The most the directory of a zip archive may take, in bytes.
const MAX_DIRECTORY: u64 = 128_000_000;

/// The form of a source.
#[derive(Clone, Copy)]
pub(super) enum Packing {
    Folder,
    Tar,
    TarGzip,
    TarXz,
    Zip,
    Arrays,
    Batch,
}

/// The form of a file, by the end of its name.
const ENDINGS: [(&str, Packing); 8] = [
    (".tar", Packing::Tar),
    (".tar.gz", Packing::TarGzip),
    (".tgz", Packing::TarGzip),
    (".tar.xz", Packing::TarXz),
    (".txz", Packing::TarXz),
    (".zip", Packing::Zip),
    (".npz", Packing::Arrays),
    (".bin", Packing::Batch),
];

fn packing(path: &Path) -> Result<Packing, DatasetError> {
    let name = path.to_string_lossy().to_ascii_lowercase();
    let found = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
    found.map_or_else(|| Err(not_a_set(path)), |&(_, packing)| Ok(packing))
}

fn not_a_set(path: &Path) -> DatasetError {
    DatasetError::NotASet {
        path: path.to_owned(),
    }
}

pub(super) trait ReadSeek: Read + Seek {}

impl<R: Read + Seek> ReadSeek for R {}

type Reader<'a> = BufReader<Counted<Box<dyn ReadSeek + 'a>>>;

/// Reports how many bytes of a packed archive have been read.
pub(super) struct Counted<R> {
    inner: R,
    done: Arc<AtomicUsize>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.done.fetch_add(read, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Fails beyond a limit. A packed archive can unpack to a thousand times its size, whatever its
/// headers say.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// A folder or a file that holds a set, opened.
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub packing: Packing,
    /// The most it may unpack to, in bytes.
    pub limit: u64,
    /// The file; empty for a folder.
    pub reader: Reader<'a>,
    /// Bytes of the file.
    total: u64,
    done: Arc<AtomicUsize>,
}

impl<'a> Source<'a> {
    /// Opens a path on the disk.
    pub fn on_disk(path: &'a Path) -> Result<Self, DatasetError> {
        let meta = fs::metadata(path).map_err(read_error(path))?;
        if meta.is_dir() {
            return Ok(Self::new(path, Packing::Folder, Box::new(io::empty()), 0));
        }
        let file = fs::File::open(path).map_err(read_error(path))?;
        Ok(Self::new(path, packing(path)?, Box::new(file), meta.len()))
    }

    /// A file that is in memory. Its decoded pictures have to fit there too.
    pub fn in_memory(name: &'a Path, bytes: &'a [u8]) -> Result<Self, DatasetError> {
        let (reader, total) = (Box::new(io::Cursor::new(bytes)), bytes.len() as u64);
        Ok(Self {
            limit: MOST_IN_MEMORY,
            ..Self::new(name, packing(name)?, reader, total)
        })
    }

    fn new(path: &'a Path, packing: Packing, inner: Box<dyn ReadSeek + 'a>, total: u64) -> Self {
        let done = Arc::<AtomicUsize>::default();
        let counted = Counted {
            inner,
            done: Arc::clone(&done),
        };
        Self {
            path,
            packing,
            limit: MOST_UNPACKED,
            reader: BufReader::with_capacity(1 << 16, counted),
            total,
            done,
        }
    }

    /// Reads a file that is one batch, whatever its name.
    pub fn read_batch(self) -> Result<(String, Vec<u8>), DatasetError> {
        let name = self.path.to_string_lossy().into_owned();
        check_length(&name, self.total, MAX_BATCH)?;
        let mut bytes = Vec::new();
        let read = self.reader.take(MAX_BATCH).read_to_end(&mut bytes);
        read.map_err(read_error(self.path))?;
        Ok((name, bytes))
    }

    /// Visits every file of a folder or an archive. `wanted` gets its path inside, with `/`, and
    /// answers how many bytes it may have, or `None` for a file to skip; `each` gets what is there of
    /// the others, or why they cannot be read.
    pub fn visit(
        self,
        wanted: &mut dyn FnMut(&str) -> Option<u64>,
        each: &mut dyn FnMut(String, Result<Entry, DatasetError>),
        report: Report<'_>,
    ) -> Result<(), DatasetError> {
        let reader = self.reader;
        let visit = Visit {
            path: self.path,
            limit: self.limit,
            total: self.total,
            done: self.done,
            wanted,
            each,
            report,
        };
        match self.packing {
            Packing::Folder => visit.folder(),
            Packing::Tar => visit.tar(reader),
            Packing::TarGzip => visit.tar(flate2::bufread::MultiGzDecoder::new(reader)),
            Packing::TarXz => visit.tar(lzma_rust2::XzReader::new(reader, true)),
            Packing::Zip => visit.zip(reader),
            Packing::Arrays | Packing::Batch => Err(not_a_set(self.path)),
        }
    }
}

/// What an archive holds under a name.
pub(super) enum Entry {
    Bytes(Vec<u8>),
    /// The file of this path, perhaps.
    LinkTo(String),
}

struct Visit<'a> {
    path: &'a Path,
    limit: u64,
    total: u64,
    done: Arc<AtomicUsize>,
    wanted: &'a mut dyn FnMut(&str) -> Option<u64>,
    each: &'a mut dyn FnMut(String, Result<Entry, DatasetError>),
    report: Report<'a>,
}

impl Visit<'_> {
    fn folder(self) -> Result<(), DatasetError> {
        let files = files_below(self.path)?;
        let (stage, total) = ("reading", files.len() as u64);
        for (done, (name, path)) in (0..).zip(files) {
            tell(self.report, Progress { stage, done, total })?;
            if let Some(most) = (self.wanted)(&name) {
                let bytes = read_file(&name, &path, most);
                (self.each)(name, bytes.map(Entry::Bytes));
            }
        }
        Ok(())
    }

    fn tar(mut self, unpacked: impl Read) -> Result<(), DatasetError> {
        let mut archive = tar::Archive::new(Limited {
            inner: unpacked,
            left: self.limit,
        });
        let (path, limit) = (self.path, self.limit);
        let fail = |cause: io::Error| match cause.kind() {
            io::ErrorKind::FileTooLarge => too_much(path, limit),
            _ => read_error(path)(cause),
        };
        for entry in archive.entries().map_err(fail)? {
            let mut entry = entry.map_err(fail)?;
            self.tell()?;
            let kind = entry.header().entry_type();
            if !(kind.is_file() || kind.is_hard_link() || kind.is_symlink()) {
                continue;
            }
            let name = entry.path().map_err(fail)?;
            let name = name.to_string_lossy().replace('\\', "/");
            let Some(most) = (self.wanted)(&name) else {
                continue;
            };
            if !kind.is_file() {
                let target = entry.link_name().map_err(fail)?.unwrap_or_default();
                let target = target.to_string_lossy().replace('\\', "/");
                let target = link_target(&name, &target, kind.is_symlink());
                (self.each)(name, Ok(Entry::LinkTo(target)));
                continue;
            }
            let mut bytes = Vec::new();
            let checked = check_entry(&name, entry.size(), most);
            if checked.is_ok() {
                // The size is only the header's word: what is there is read, up to the limit.
                entry.read_to_end(&mut bytes).map_err(fail)?;
            }
            (self.each)(name, checked.map(|()| Entry::Bytes(bytes)));
        }
        Ok(())
    }

    fn zip(mut self, mut reader: Reader<'_>) -> Result<(), DatasetError> {
        let damaged = archive_error(self.path);
        let size = reader
            .seek(SeekFrom::End(0))
            .map_err(read_error(self.path))?;
        let directory = Directory::read(&mut reader, size, MAX_DIRECTORY).map_err(&damaged)?;
        let mut left = self.limit;
        for (listed, entry) in &directory.entries {
            self.tell()?;
            let name = listed.replace('\\', "/");
            let wanted = match name.ends_with('/') {
                true => None,
                false => (self.wanted)(&name),
            };
            let Some(most) = wanted else { continue };
            if let Err(fault) = check_entry(&name, entry.length, most) {
                (self.each)(name, Err(fault));
                continue;
            }
            // Entries may overlap: each counts for what it unpacks to.
            let rest = left.checked_sub(entry.length);
            left = rest.ok_or_else(|| too_much(self.path, self.limit))?;
            let found = directory.locate(&mut reader, size, listed);
            let bytes = found.and_then(|backing| match backing {
                Some(backing) => read_checked(&mut reader, listed, &backing, most),
                // Every name comes from the directory itself.
                None => Ok(Vec::new()),
            });
            (self.each)(name, bytes.map(Entry::Bytes).map_err(&damaged));
        }
        Ok(())
    }

    fn tell(&mut self) -> Result<(), DatasetError> {
        let progress = Progress {
            stage: "reading",
            done: self.done.load(Ordering::Relaxed) as u64,
            total: self.total,
        };
        tell(self.report, progress)
    }
}

/// The path inside the archive that a link names: a hard link's begins at the archive's root, a
/// symbolic one's in the link's own folder.
fn link_target(name: &str, target: &str, is_symbolic: bool) -> String {
    let folder = match is_symbolic && !target.starts_with('/') {
        true => name.rsplit_once('/').map_or("", |(folder, _)| folder),
        false => "",
    };
    let mut path: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path.join("/")
}

fn too_much(path: &Path, limit: u64) -> DatasetError {
    DatasetError::TooMuch {
        path: path.to_owned(),
        limit,
    }
}

fn check_length(name: &str, len: u64, limit: u64) -> Result<(), DatasetError> {
    if len <= limit {
        return Ok(());
    }
    Err(DatasetError::TooLarge {
        name: name.to_owned(),
        limit,
    })
}

/// Whether an entry of an archive may be read. Nothing is ever written under its name; one that
/// leads out of the archive is still no class of the set.
fn check_entry(name: &str, len: u64, limit: u64) -> Result<(), DatasetError> {
    if name.split('/').any(|part| part == "..") {
        return Err(DatasetError::Path {
            name: shorten(name),
        });
    }
    check_length(&shorten(name), len, limit)
}

fn read_file(name: &str, path: &Path, limit: u64) -> Result<Vec<u8>, DatasetError> {
    let len = fs::metadata(path).map_err(read_error(path))?.len();
    check_length(name, len, limit)?;
    fs::read(path).map_err(read_error(path))
}

/// Every file below `root`: its path inside the set, with `/`, and on the disk. Sorted.
pub(super) fn files_below(root: &Path) -> Result<Vec<(String, PathBuf)>, DatasetError> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), root.to_owned())];
    while let Some((prefix, folder)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(read_error(&folder))? {
            let entry = entry.map_err(read_error(&folder))?;
            let kind = entry.file_type().map_err(read_error(&folder))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                folders.push((format!("{name}/"), entry.path()));
            } else {
                // A link to a file is read, a link to a folder (perhaps to itself) is not followed.
                found.push((name, entry.path()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The pictures of a folder and of all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PicturesBelow {
    /// Their paths inside the folder, with `/`, and on the disk; in the order of the former.
    pub pictures: Vec<(String, PathBuf)>,
    /// How many other files there are; hidden ones do not count.
    pub others: usize,
}

/// Looks for pictures by the endings of their names. Hidden files are no pictures, a link to a
/// folder is not followed.
///
/// # Errors
/// [`DatasetError::Read`], for a folder that cannot be read.
pub fn pictures_below(root: &Path) -> Result<PicturesBelow, DatasetError> {
    let hidden = |name: &str| name.split('/').any(|part| part.starts_with('.'));
    let files = files_below(root)?
        .into_iter()
        .filter(|(name, _)| !hidden(name));
    let (pictures, others): (Vec<_>, Vec<_>) = files.partition(|(name, _)| is_picture(name));
    Ok(PicturesBelow {
        pictures,
        others: others.len(),
    })
}

/// The names of the pictures in a folder or in an archive (`.zip`, `.tar`, `.tar.gz`, `.tar.xz`)
/// of any split, in alphabetical order. Nothing is decoded.
///
/// # Errors
/// [`DatasetError::NotASet`] for a file that keeps no pictures under names, otherwise as for
/// [`load`](super::load()).
pub fn picture_names(path: &Path) -> Result<Vec<String>, DatasetError> {
    if path.is_dir() {
        let found = pictures_below(path)?.pictures;
        return Ok(found.into_iter().map(|(name, _)| name).collect());
    }
    let mut names = Vec::new();
    let mut list = |name: &str| {
        let file = file_name(name);
        if !file.starts_with('.') && is_picture(file) {
            names.push(name.to_owned());
        }
        None
    };
    Source::on_disk(path)?.visit(&mut list, &mut |_, _| (), &mut quiet)?;
    names.sort();
    Ok(names)
}
