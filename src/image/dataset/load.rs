//! Reading a set from an archive or a folder, decoding on all cores, with a cache.

use std::fs;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::arrays::{self, Arrays};
use super::cache;
use super::layout::{self, Classes, File, Role};
use super::{
    CIFAR_SIZE, CIFAR10_CLASSES, Cifar, DatasetError, LabelledSet, MAX_SIZE, Split,
    TINY_IMAGENET_EXTRAS, decode_planar, turns,
};
use crate::archive::zip::Directory;
use crate::archive::{ArchiveError, read_checked, shorten};
use crate::image::ImageError;

/// The largest single file that is taken from a set, in bytes, and the largest binary batch: all
/// 50,000 training pictures of CIFAR-100 are one file of 153.7 MB.
const MAX_FILE: u64 = 64_000_000;
const MAX_BATCH: u64 = 256_000_000;

/// The most a set may unpack to, and the most its decoded pictures may take, in bytes: on a disk,
/// and in memory, where a page holds it beside the archive itself and has 4 GB at most.
const MOST_UNPACKED: u64 = 16 << 30;
const MOST_IN_MEMORY: u64 = 1 << 30;

/// The most the directory of a zip archive may take, in bytes.
const MAX_DIRECTORY: u64 = 128_000_000;

/// How often the caller is told (and may cancel) while pictures are decoded.
const TICK: Duration = Duration::from_millis(50);

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is happening, for people: "reading", "decoding".
    pub stage: &'static str,
    /// Bytes of the archive while reading, pictures while decoding.
    pub done: u64,
    /// 0 when unknown.
    pub total: u64,
}

/// A progress callback that says nothing and goes on.
pub fn quiet(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Called now and then; [`ControlFlow::Break`] cancels.
type Report<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// What to read and where to keep it.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Pictures of another size are resized and cropped to this side, in pixels.
    pub size: usize,
    /// Where decoded sets are kept, `.ventral/cache` by convention; `None` decodes every time.
    pub cache: Option<PathBuf>,
}

/// Reads one split of a labelled set.
///
/// `path` is a `.zip`, `.tar`, `.tar.gz` or `.tar.xz` archive or a folder. Inside lie `train/CLASS/…`
/// and `test/CLASS/…` (or `val`), as in Tiny ImageNet with its annotation file too; or class folders
/// alone, which are then both splits; or the binary batches of CIFAR-10 or CIFAR-100 as published.
/// Classes are in the order of their sorted folder names, pictures in the order of their paths.
///
/// Or it is one such batch (`.bin`), or an `.npz` file with an array of pictures, `[N, height,
/// width, channels]` or `[N, channels, height, width]` in bytes or from 0 to 1, one of labels
/// `[N]`, and perhaps one of class names.
///
/// With a cache, the decoded set is kept in one file and read back while the source is unchanged.
///
/// # Errors
/// A [`DatasetError`] naming the file at fault; [`DatasetError::Cancelled`] when `report` breaks.
pub fn load(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    load_classes(path, split, options, &Classes::default(), report)
}

/// [`load`], but only the classes that are `wanted`; labels count these alone. The others are not
/// decoded, and the cache holds the chosen ones in a file of their own.
///
/// # Errors
/// As [`load`]; [`DatasetError::NoClass`] and [`DatasetError::ManyClasses`] for a choice that
/// cannot be followed.
pub fn load_classes(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    wanted: &Classes,
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    let opened = read(path, split, options, wanted, report)?;
    match opened.skipped.into_iter().next() {
        Some((_, fault)) => Err(fault),
        None => Ok(opened.set),
    }
}

/// [`load`], but files that cannot be used are listed and left out.
///
/// # Errors
/// As [`load`]; [`DatasetError::NoPictures`] also where no picture at all can be decoded.
pub fn load_readable(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    report: Report<'_>,
) -> Result<Opened, DatasetError> {
    let opened = read(path, split, options, &Classes::default(), report)?;
    match opened.set.is_empty() {
        true => Err(no_pictures(path, split)),
        false => Ok(opened),
    }
}

fn no_pictures(path: &Path, split: Split) -> DatasetError {
    DatasetError::NoPictures {
        path: path.to_owned(),
        split,
    }
}

fn read(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    wanted: &Classes,
    report: Report<'_>,
) -> Result<Opened, DatasetError> {
    if !(1..=MAX_SIZE).contains(&options.size) {
        return Err(DatasetError::Size(options.size));
    }
    let place = match &options.cache {
        Some(folder) => Some(cache::Place::new(
            folder,
            path,
            split,
            options.size,
            wanted,
        )?),
        None => None,
    };
    let kept = place.as_ref().and_then(cache::Place::read);
    if let Some(set) = kept.filter(|set| set.size == options.size) {
        return Ok(Opened {
            set,
            skipped: Vec::new(),
            ..Opened::default()
        });
    }
    let (found, faults) = gather(path, split, report)?;
    let (set, more) = assemble(found, path, (split, options.size, wanted), report)?;
    let skipped: Vec<(String, DatasetError)> = faults.into_iter().chain(more).collect();
    // What is left out may be there the next time: only a whole set is kept.
    if let Some(place) = place.filter(|_| skipped.is_empty()) {
        place.write(&set)?;
    }
    Ok(Opened {
        set,
        skipped,
        ..Opened::default()
    })
}

/// CIFAR-10 at 32 pixels from any form [`load`] reads, checked to be CIFAR-10.
///
/// # Errors
/// As [`load`], and [`DatasetError::NotCifar10`] when the classes are others.
pub fn load_cifar10(
    path: &Path,
    split: Split,
    cache: Option<&Path>,
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    let options = LoadOptions {
        size: CIFAR_SIZE,
        cache: cache.map(Path::to_owned),
    };
    let set = load(path, split, &options, report)?;
    if set.classes != CIFAR10_CLASSES {
        return Err(DatasetError::NotCifar10 {
            path: path.to_owned(),
            classes: set.classes.join(", "),
        });
    }
    Ok(set)
}

/// Tiny ImageNet (Le and Yang 2015), all of its two hundred classes or those in `only`, by WordNet
/// id or name. The held-out part is `val`. [`TINY_IMAGENET_EXTRAS`] are left out unless they are
/// asked for, so that a copy which holds them gives the published set.
///
/// # Errors
/// As [`load_classes`].
pub fn load_tiny_imagenet(
    path: &Path,
    split: Split,
    options: &LoadOptions,
    only: &[String],
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    let wanted = Classes {
        only: only.to_vec(),
        without: TINY_IMAGENET_EXTRAS.map(str::to_owned).to_vec(),
    };
    load_classes(path, split, options, &wanted, report)
}

/// A set, and what of it could not be used.
#[derive(Debug, Default)]
pub struct Opened {
    pub set: LabelledSet,
    /// Which file each picture is of; empty where they have no files of their own.
    pub names: Vec<String>,
    /// Files that cannot be read or are no pictures whatever their names say, and why.
    pub skipped: Vec<(String, DatasetError)>,
}

/// What is wanted of an archive in memory.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Side of the pictures, in pixels.
    pub size: usize,
    /// How many of them at most, the classes taking turns.
    pub images: usize,
    /// Classes that are left out, by name.
    pub without: Vec<String>,
    /// Pictures in no folder are of a class called [`NO_FOLDER`], and no error.
    pub flat: bool,
    /// All pictures in the order of their names or numbers, rather than the classes taking turns.
    pub in_order: bool,
}

/// The class of pictures that lie in no folder.
pub const NO_FOLDER: &str = "(no folder)";

/// Reads the test split of a set from an archive that is in memory, as a page has it: `name` tells
/// the format. What cannot be used is listed and left out; no more is decoded than is wanted. The
/// classes are those of the whole set.
///
/// # Errors
/// As [`load`]; [`DatasetError::NoPictures`] also where no picture at all can be decoded.
pub fn open(
    bytes: &[u8],
    name: &str,
    options: &OpenOptions,
    report: Report<'_>,
) -> Result<Opened, DatasetError> {
    if !(1..=MAX_SIZE).contains(&options.size) {
        return Err(DatasetError::Size(options.size));
    }
    let (path, split) = (Path::new(name), Split::Test);
    let mut archive = in_memory(path, bytes);
    let (found, skipped) = archive.read(io::Cursor::new(bytes), report)?;
    let mut opened = match found {
        Found::Batches(set) => Opened {
            set: pick_from_set(&set, options)?,
            skipped,
            ..Opened::default()
        },
        Found::Arrays(arrays) => Opened {
            set: pick_from_arrays(&arrays, options, report)?,
            skipped,
            ..Opened::default()
        },
        Found::Pictures(pictures, notes) => {
            if pictures.is_empty() {
                return Err(no_pictures(path, split));
            }
            let flat = options.flat.then_some(NO_FOLDER);
            let labelled = layout::label(pictures, &notes, &Classes::default(), flat)?;
            let mut opened = pick_from_files(labelled, options, report)?;
            opened.skipped.splice(0..0, skipped);
            opened
        }
    };
    opened
        .skipped
        .iter_mut()
        .for_each(|(name, _)| *name = shorten(name));
    match opened.set.is_empty() {
        true => Err(no_pictures(path, split)),
        false => Ok(opened),
    }
}

/// The pictures of an archive that is in memory, encoded as they are, by name: heat maps, say, that
/// have no classes.
///
/// # Errors
/// As [`open`].
pub fn encoded(bytes: &[u8], name: &str) -> Result<Vec<(String, Vec<u8>)>, DatasetError> {
    let path = Path::new(name);
    let mut archive = in_memory(path, bytes);
    let (found, _) = archive.read(io::Cursor::new(bytes), &mut quiet)?;
    match found {
        Found::Pictures(files, _) if !files.is_empty() => {
            Ok(files.into_iter().map(|f| (f.name, f.bytes)).collect())
        }
        _ => Err(no_pictures(path, Split::Test)),
    }
}

fn in_memory<'a>(path: &'a Path, bytes: &[u8]) -> Archive<'a> {
    Archive {
        path,
        split: Split::Test,
        total: bytes.len() as u64,
        limit: MOST_IN_MEMORY,
        done: Arc::default(),
    }
}

impl OpenOptions {
    fn takes(&self, class: &str) -> bool {
        !self.without.iter().any(|name| name == class)
    }

    /// Indices of the pictures, the classes taking turns; those left out take none.
    fn order(&self, labels: &[u16], classes: &[String]) -> Vec<usize> {
        let taken: Vec<bool> = classes.iter().map(|class| self.takes(class)).collect();
        let is_taken = |index: &usize| taken.get(usize::from(labels[*index])) == Some(&true);
        let mut order = match self.in_order {
            true => (0..labels.len()).collect(),
            false => turns(labels, classes.len()),
        };
        order.retain(is_taken);
        order
    }

    fn check_room(&self, count: usize) -> Result<(), DatasetError> {
        check_room(Path::new("the set"), count, self.size, MOST_IN_MEMORY)
    }
}

fn pick_from_set(set: &LabelledSet, options: &OpenOptions) -> Result<LabelledSet, DatasetError> {
    let order = options.order(&set.labels, &set.classes);
    let kept = set.picked(order.into_iter().take(options.images));
    options.check_room(kept.len())?;
    resize_set(kept, options.size)
}

fn pick_from_arrays(
    arrays: &Arrays,
    options: &OpenOptions,
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    let mut order = options.order(&arrays.labels, &arrays.classes);
    order.truncate(options.images);
    options.check_room(order.len())?;
    from_arrays(arrays, &order, options.size, report)
}

fn pick_from_files(
    labelled: layout::Labelled,
    options: &OpenOptions,
    report: Report<'_>,
) -> Result<Opened, DatasetError> {
    let labels: Vec<u16> = labelled.files.iter().map(|(_, label)| *label).collect();
    let order = options.order(&labels, &labelled.classes);
    options.check_room(order.len().min(options.images))?;
    // By class, so that one whose pictures are bad takes its turns with the next of its own.
    // In the order of their names they wait in one queue.
    let (count, queue_of): (usize, fn(u16) -> usize) = match options.in_order {
        true => (1, |_| 0),
        false => (labelled.classes.len(), usize::from),
    };
    let mut queues = vec![std::collections::VecDeque::new(); count];
    for index in order {
        queues[queue_of(labels[index])].push_back(index);
    }
    let total = options.images.min(labels.len()) as u64;
    let mut opened = Opened {
        set: LabelledSet {
            classes: labelled.classes,
            size: options.size,
            ..LabelledSet::default()
        },
        ..Opened::default()
    };
    while queues.iter().any(|queue| !queue.is_empty()) {
        for queue in &mut queues {
            if opened.set.len() >= options.images {
                return Ok(opened);
            }
            let (stage, done) = ("decoding", opened.set.len() as u64);
            tell(report, Progress { stage, done, total })?;
            take_turn(queue, &labelled.files, &mut opened);
        }
    }
    Ok(opened)
}

/// Adds the next picture of a class that can be decoded.
fn take_turn(
    queue: &mut std::collections::VecDeque<usize>,
    files: &[(File, u16)],
    opened: &mut Opened,
) {
    while let Some(index) = queue.pop_front() {
        let (file, label) = &files[index];
        match decode_planar(&file.bytes, opened.set.size) {
            Ok(planes) => {
                opened.set.images.extend(planes);
                opened.set.labels.push(*label);
                opened.names.push(file.name.clone());
                return;
            }
            Err(cause) => opened
                .skipped
                .push((file.name.clone(), picture_error(file, cause))),
        }
    }
}

fn from_arrays(
    arrays: &Arrays,
    order: &[usize],
    size: usize,
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    let mut set = LabelledSet {
        classes: arrays.classes.clone(),
        size,
        ..LabelledSet::default()
    };
    for (done, &index) in order.iter().enumerate() {
        let (stage, done, total) = ("decoding", done as u64, order.len() as u64);
        tell(report, Progress { stage, done, total })?;
        let planes = arrays
            .planes(index, size)
            .map_err(|cause| DatasetError::Picture {
                name: format!("picture {index}"),
                cause: Arc::new(cause),
            })?;
        set.images.extend(planes);
        set.labels.push(arrays.labels[index]);
    }
    Ok(set)
}

/// Whether so many pictures fit into `limit` bytes once they are decoded.
fn check_room(path: &Path, count: usize, size: usize, limit: u64) -> Result<(), DatasetError> {
    let bytes = (count as u64).saturating_mul(3 * (size * size) as u64);
    match bytes <= limit {
        true => Ok(()),
        false => Err(DatasetError::TooMuch {
            path: path.to_owned(),
            limit,
        }),
    }
}

/// What a source holds of one split.
enum Found {
    /// Encoded pictures, and the files that say what they are of.
    Pictures(Vec<File>, Vec<File>),
    /// CIFAR's, at their own size.
    Batches(LabelledSet),
    Arrays(Box<Arrays>),
}

/// Files that cannot be used, and why.
type Faults = Vec<(String, DatasetError)>;

/// The same of pictures, by their numbers.
type BadPictures = Vec<(usize, ImageError)>;

/// The files of one split, by their roles.
#[derive(Default)]
struct Parts {
    pictures: Vec<File>,
    batches: Vec<File>,
    notes: Vec<File>,
    faults: Faults,
}

impl Parts {
    fn push(&mut self, role: Role, file: File) {
        match role {
            Role::Picture => self.pictures.push(file),
            Role::CifarBatch => self.batches.push(file),
            Role::Notes => self.notes.push(file),
            Role::Other => {}
        }
    }

    fn found(mut self) -> Result<(Found, Faults), DatasetError> {
        if self.batches.is_empty() {
            return Ok((Found::Pictures(self.pictures, self.notes), self.faults));
        }
        self.batches.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((Found::Batches(joined(&self.batches)?), self.faults))
    }
}

/// The batches of one set, in their order.
fn joined(batches: &[File]) -> Result<LabelledSet, DatasetError> {
    let mut joined: Option<(Cifar, LabelledSet)> = None;
    for File { name, bytes } in batches {
        let found = Cifar::of_batch(name, bytes.len());
        let (before, set) = joined.get_or_insert_with(|| (found, LabelledSet::cifar(found)));
        if found != *before {
            return Err(DatasetError::MixedBatches {
                name: name.clone(),
                found,
                before: *before,
            });
        }
        set.push_cifar_batch(found, name, bytes)?;
    }
    Ok(joined.map(|(_, set)| set).unwrap_or_default())
}

fn gather(path: &Path, split: Split, report: Report<'_>) -> Result<(Found, Faults), DatasetError> {
    let meta = fs::metadata(path).map_err(read_error(path))?;
    if meta.is_dir() {
        return gather_folder(path, split, report)?.found();
    }
    let mut archive = Archive {
        path,
        split,
        total: meta.len(),
        limit: MOST_UNPACKED,
        done: Arc::default(),
    };
    let file = fs::File::open(path).map_err(read_error(path))?;
    archive.read(file, report)
}

/// What a file is, told by its name.
#[derive(Clone, Copy)]
enum Packing {
    Tar,
    TarGzip,
    TarXz,
    Zip,
    Arrays,
    Batch,
}

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
    let found = found.map(|&(_, packing)| packing);
    found.ok_or_else(|| DatasetError::NotASet {
        path: path.to_owned(),
    })
}

fn read_error(path: &Path) -> impl Fn(io::Error) -> DatasetError {
    move |cause| DatasetError::Read {
        path: path.to_owned(),
        cause,
    }
}

/// A reader that counts what passes, for the progress of a packed archive.
struct Counted<R> {
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

/// A reader that ends in an error where it would go beyond a limit. A packed archive can unpack to
/// a thousand times its size, whatever its headers say.
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

/// An archive on its way through.
struct Archive<'a> {
    path: &'a Path,
    split: Split,
    total: u64,
    /// The most it may unpack to, in bytes.
    limit: u64,
    done: Arc<AtomicUsize>,
}

impl Archive<'_> {
    fn read(
        &mut self,
        source: impl Read + Seek,
        report: Report<'_>,
    ) -> Result<(Found, Faults), DatasetError> {
        let packing = packing(self.path)?;
        let counter = Counted {
            inner: source,
            done: Arc::clone(&self.done),
        };
        let mut file = BufReader::with_capacity(1 << 16, counter);
        let parts = match packing {
            Packing::Tar => self.gather_tar(file, report)?,
            Packing::TarGzip => {
                self.gather_tar(flate2::bufread::MultiGzDecoder::new(file), report)?
            }
            Packing::TarXz => self.gather_tar(lzma_rust2::XzReader::new(file, true), report)?,
            Packing::Zip => self.gather_zip(&mut file, report)?,
            Packing::Arrays => {
                let arrays = Arrays::read(file, self.split, self.limit);
                let arrays = arrays.map_err(|problem| self.array_error(problem))?;
                return Ok((Found::Arrays(Box::new(arrays)), Vec::new()));
            }
            Packing::Batch => self.gather_batch(file)?,
        };
        parts.found()
    }

    fn array_error(&self, problem: arrays::Problem) -> DatasetError {
        match problem {
            arrays::Problem::Archive(cause) => self.archive_error(cause),
            arrays::Problem::Content(problem) => DatasetError::Arrays {
                path: self.path.to_owned(),
                problem,
            },
        }
    }

    fn archive_error(&self, cause: ArchiveError) -> DatasetError {
        DatasetError::Archive {
            path: self.path.to_owned(),
            cause,
        }
    }

    fn too_much(&self) -> DatasetError {
        DatasetError::TooMuch {
            path: self.path.to_owned(),
            limit: self.limit,
        }
    }

    /// A file that is a batch by itself, whatever it is called.
    fn gather_batch(&self, file: impl Read) -> Result<Parts, DatasetError> {
        let name = self.path.to_string_lossy().into_owned();
        check_length(&name, self.total, MAX_BATCH)?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_BATCH).read_to_end(&mut bytes);
        read.map_err(read_error(self.path))?;
        let mut parts = Parts::default();
        parts.push(Role::CifarBatch, File { name, bytes });
        Ok(parts)
    }

    fn gather_tar(
        &mut self,
        unpacked: impl Read,
        report: Report<'_>,
    ) -> Result<Parts, DatasetError> {
        let mut parts = Parts::default();
        let mut archive = tar::Archive::new(Limited {
            inner: unpacked,
            left: self.limit,
        });
        let fail = |cause: io::Error| match cause.kind() {
            io::ErrorKind::FileTooLarge => self.too_much(),
            _ => read_error(self.path)(cause),
        };
        for entry in archive.entries().map_err(fail)? {
            let mut entry = entry.map_err(fail)?;
            tell(report, self.progress())?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry.path().map_err(fail)?;
            let name = name.to_string_lossy().replace('\\', "/");
            let role = layout::role(&name, self.split);
            if role == Role::Other {
                continue;
            }
            if let Err(fault) = check_entry(&name, entry.size(), most(role)) {
                parts.faults.push((name, fault));
                continue;
            }
            // The size is only the header's word: what is there is read, up to the limit.
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(fail)?;
            parts.push(role, File { name, bytes });
        }
        Ok(parts)
    }

    fn gather_zip(
        &mut self,
        source: &mut (impl Read + Seek),
        report: Report<'_>,
    ) -> Result<Parts, DatasetError> {
        let size = source
            .seek(SeekFrom::End(0))
            .map_err(read_error(self.path))?;
        let directory = Directory::read(source, size, MAX_DIRECTORY);
        let directory = directory.map_err(|cause| self.archive_error(cause))?;
        let mut parts = Parts::default();
        let mut left = self.limit;
        for (listed, entry) in &directory.entries {
            tell(report, self.progress())?;
            let name = listed.replace('\\', "/");
            let role = layout::role(&name, self.split);
            if role == Role::Other || name.ends_with('/') {
                continue;
            }
            if let Err(fault) = check_entry(&name, entry.length, most(role)) {
                parts.faults.push((name, fault));
                continue;
            }
            // Entries may lie over each other: each counts for what it unpacks to.
            left = left
                .checked_sub(entry.length)
                .ok_or_else(|| self.too_much())?;
            let bytes = directory
                .locate(source, size, listed)
                .and_then(|backing| match backing {
                    Some(backing) => read_checked(source, listed, &backing, most(role)),
                    // Every name comes from the directory itself.
                    None => Ok(Vec::new()),
                });
            match bytes {
                Ok(bytes) => parts.push(role, File { name, bytes }),
                Err(cause) => parts.faults.push((name, self.archive_error(cause))),
            }
        }
        Ok(parts)
    }

    fn progress(&self) -> Progress {
        Progress {
            stage: "reading",
            done: self.done.load(Ordering::Relaxed) as u64,
            total: self.total,
        }
    }
}

fn tell(report: Report<'_>, progress: Progress) -> Result<(), DatasetError> {
    match report(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DatasetError::Cancelled),
    }
}

/// The most bytes a file may have.
fn most(role: Role) -> u64 {
    match role {
        Role::CifarBatch => MAX_BATCH,
        _ => MAX_FILE,
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
    let (pictures, others): (Vec<_>, Vec<_>) =
        files.partition(|(name, _)| layout::is_picture(name));
    Ok(PicturesBelow {
        pictures,
        others: others.len(),
    })
}

/// The names of the pictures in a folder or in an archive (`.zip`, `.tar`, `.tar.gz`, `.tar.xz`)
/// of any split, in alphabetical order. Nothing is decoded.
///
/// # Errors
/// [`DatasetError::NotASet`] for what keeps no pictures under names; as [`load`] otherwise.
pub fn picture_names(path: &Path) -> Result<Vec<String>, DatasetError> {
    if path.is_dir() {
        let found = pictures_below(path)?.pictures;
        return Ok(found.into_iter().map(|(name, _)| name).collect());
    }
    let packing = packing(path)?;
    let file = fs::File::open(path).map_err(read_error(path))?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut names = match packing {
        Packing::Tar => names_in_tar(path, file)?,
        Packing::TarGzip => names_in_tar(path, flate2::bufread::MultiGzDecoder::new(file))?,
        Packing::TarXz => names_in_tar(path, lzma_rust2::XzReader::new(file, true))?,
        Packing::Zip => {
            let size = file.seek(SeekFrom::End(0)).map_err(read_error(path))?;
            let directory = Directory::read(&mut file, size, MAX_DIRECTORY);
            let damaged = |cause| DatasetError::Archive {
                path: path.to_owned(),
                cause,
            };
            directory.map_err(damaged)?.entries.into_keys().collect()
        }
        Packing::Arrays | Packing::Batch => {
            return Err(DatasetError::NotASet {
                path: path.to_owned(),
            });
        }
    };
    names.retain(|name| {
        let file = name.rsplit('/').next().unwrap_or(name);
        !file.starts_with('.') && layout::is_picture(file)
    });
    names.sort();
    Ok(names)
}

fn names_in_tar(path: &Path, unpacked: impl Read) -> Result<Vec<String>, DatasetError> {
    let mut archive = tar::Archive::new(Limited {
        inner: unpacked,
        left: MOST_UNPACKED,
    });
    let fail = read_error(path);
    let mut names = Vec::new();
    for entry in archive.entries().map_err(&fail)? {
        let entry = entry.map_err(&fail)?;
        if entry.header().entry_type().is_file() {
            let name = entry.path().map_err(&fail)?;
            names.push(name.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(names)
}

fn gather_folder(root: &Path, split: Split, report: Report<'_>) -> Result<Parts, DatasetError> {
    let mut parts = Parts::default();
    let files = files_below(root)?;
    let total = files.len() as u64;
    for (done, (name, path)) in (0..).zip(files) {
        let stage = "reading";
        tell(report, Progress { stage, done, total })?;
        let role = layout::role(&name, split);
        if role == Role::Other {
            continue;
        }
        match read_file(&name, &path, most(role)) {
            Ok(bytes) => parts.push(role, File { name, bytes }),
            Err(fault) => parts.faults.push((name, fault)),
        }
    }
    Ok(parts)
}

fn read_file(name: &str, path: &Path, limit: u64) -> Result<Vec<u8>, DatasetError> {
    let len = fs::metadata(path).map_err(read_error(path))?.len();
    check_length(name, len, limit)?;
    fs::read(path).map_err(read_error(path))
}

fn assemble(
    found: Found,
    path: &Path,
    (split, size, wanted): (Split, usize, &Classes),
    report: Report<'_>,
) -> Result<(LabelledSet, Faults), DatasetError> {
    let room = |count| check_room(path, count, size, MOST_UNPACKED);
    let (pictures, notes) = match found {
        Found::Batches(set) => {
            room(set.len())?;
            return Ok((chosen(resize_set(set, size)?, wanted)?, Vec::new()));
        }
        Found::Arrays(arrays) => {
            room(arrays.labels.len())?;
            let order: Vec<usize> = (0..arrays.labels.len()).collect();
            let set = from_arrays(&arrays, &order, size, report)?;
            return Ok((chosen(set, wanted)?, Vec::new()));
        }
        Found::Pictures(pictures, notes) => (pictures, notes),
    };
    if pictures.is_empty() {
        return Err(no_pictures(path, split));
    }
    let labelled = layout::label(pictures, &notes, wanted, None)?;
    room(labelled.files.len())?;
    let labels: Vec<u16> = labelled.files.iter().map(|(_, label)| *label).collect();
    let files: Vec<File> = labelled.files.into_iter().map(|(file, _)| file).collect();
    let (images, faults) = decode_all(&files, size, report)?;
    let whole = LabelledSet {
        classes: labelled.classes,
        images,
        labels,
        size,
    };
    if faults.is_empty() {
        return Ok((whole, Vec::new()));
    }
    let bad: std::collections::BTreeSet<usize> = faults.iter().map(|(index, _)| *index).collect();
    let sound = whole.picked((0..files.len()).filter(|index| !bad.contains(index)));
    let named = |(index, cause): (usize, ImageError)| {
        let file = &files[index];
        (file.name.clone(), picture_error(file, cause))
    };
    Ok((sound, faults.into_iter().map(named).collect()))
}

fn chosen(set: LabelledSet, wanted: &Classes) -> Result<LabelledSet, DatasetError> {
    match wanted.is_all() {
        true => Ok(set),
        false => set.only(wanted),
    }
}

/// A set of another size: planes of one channel, resized by the same arithmetic as pictures.
fn resize_set(set: LabelledSet, size: usize) -> Result<LabelledSet, DatasetError> {
    if set.size == size {
        return Ok(set);
    }
    let from = (set.size, set.size);
    let filter = crate::image::Filter::Bilinear;
    let mut images = Vec::with_capacity(set.len().saturating_mul(3 * size * size));
    for plane in set.images.chunks_exact(set.size * set.size) {
        let plane = crate::image::resample(plane, 1, from, (size, size), filter);
        images.extend(plane.map_err(|cause| DatasetError::Picture {
            name: "a record".to_owned(),
            cause: Arc::new(cause),
        })?);
    }
    Ok(LabelledSet {
        images,
        size,
        ..set
    })
}

/// Decodes on all cores into `[N, 3, size, size]`, and says which pictures cannot be decoded; their
/// places stay black.
fn decode_all(
    files: &[File],
    size: usize,
    report: Report<'_>,
) -> Result<(Vec<u8>, BadPictures), DatasetError> {
    let stride = 3 * size * size;
    let mut images = vec![0; files.len() * stride];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = files.len().div_ceil(threads).max(1);
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let parts = files.chunks(share).zip(images.chunks_mut(share * stride));
    let mut faults = Vec::new();
    std::thread::scope(|scope| {
        let (done, stop) = (&done, &stop);
        let workers: Vec<_> = parts
            .enumerate()
            .map(|(part, (files, images))| {
                let first = part * share;
                scope.spawn(move || decode_part(first, files, images, size, done, stop))
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            let progress = Progress {
                stage: "decoding",
                done: done.load(Ordering::Relaxed) as u64,
                total: files.len() as u64,
            };
            if report(progress).is_break() {
                stop.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(TICK);
        }
        for worker in workers {
            // A panic in a decoder is a bug; it goes on where it can be seen.
            let found = worker.join();
            faults.extend(found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(())
    })?;
    Ok((images, faults))
}

fn decode_part(
    first: usize,
    files: &[File],
    images: &mut [u8],
    size: usize,
    done: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<BadPictures, DatasetError> {
    let mut faults = Vec::new();
    let places = files.iter().zip(images.chunks_mut(3 * size * size));
    for (index, (file, image)) in (first..).zip(places) {
        if stop.load(Ordering::Relaxed) {
            return Err(DatasetError::Cancelled);
        }
        match decode_planar(&file.bytes, size) {
            Ok(planar) => image.copy_from_slice(&planar),
            Err(cause) => faults.push((index, cause)),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(faults)
}

fn picture_error(file: &File, cause: ImageError) -> DatasetError {
    DatasetError::Picture {
        name: shorten(&file.name),
        cause: Arc::new(cause),
    }
}
