//! Reading a set from an archive or a folder, decoding on all cores, with a cache.

use std::fs;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::cache;
use super::layout::{self, Classes, File, Role};
use super::{
    CIFAR_SIZE, CIFAR10_CLASSES, DatasetError, LabelledSet, MAX_SIZE, Split, TINY_IMAGENET_EXTRAS,
    decode_planar,
};
use crate::image::ImageError;

/// The largest single file that is taken from a set, in bytes.
const MAX_FILE: u64 = 64_000_000;

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
/// `path` is a `.tar`, `.tar.gz` or `.tar.xz` archive or a folder. Inside lie `train/CLASS/…` and
/// `test/CLASS/…` (or `val`), as in Tiny ImageNet with its annotation file too; or class folders
/// alone, which are then both splits; or the binary batches of CIFAR-10 as published. Classes are in
/// the order of their sorted folder names, pictures in the order of their paths.
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
        return Ok(set);
    }
    let parts = gather(path, split, report)?;
    let set = assemble(parts, path, (split, options.size, wanted), report)?;
    if let Some(place) = place {
        place.write(&set)?;
    }
    Ok(set)
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

/// A set read picture by picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    pub set: LabelledSet,
    /// Files that are no pictures whatever their names say, and why.
    pub skipped: Vec<(String, String)>,
}

/// Reads the test split of a set from an archive that is in memory, as a page has it: `name` tells
/// the packing, or a CIFAR-10 binary batch. What cannot be decoded is listed and left out.
///
/// # Errors
/// As [`load`]; [`DatasetError::NoPictures`] also where no picture at all can be decoded.
pub fn open(
    bytes: &[u8],
    name: &str,
    size: usize,
    report: Report<'_>,
) -> Result<Opened, DatasetError> {
    if !(1..=MAX_SIZE).contains(&size) {
        return Err(DatasetError::Size(size));
    }
    let (path, split) = (Path::new(name), Split::Test);
    let mut archive = Archive {
        path,
        split,
        total: bytes.len() as u64,
        done: Arc::default(),
    };
    let lower = name.to_ascii_lowercase();
    let counter = Counted {
        inner: bytes,
        done: Arc::clone(&archive.done),
    };
    let file = BufReader::with_capacity(1 << 16, counter);
    let mut parts = match ending(&lower) {
        Some(Packing::Xz) => archive.gather(lzma_rust2::XzReader::new(file, true), report)?,
        Some(Packing::Gzip) => {
            archive.gather(flate2::bufread::MultiGzDecoder::new(file), report)?
        }
        Some(Packing::Plain) => archive.gather(file, report)?,
        None if lower.ends_with(".bin") => {
            let mut set = LabelledSet::cifar10();
            set.push_cifar10_batch(name, bytes)?;
            return Ok(Opened {
                set: resize_set(set, size)?,
                skipped: Vec::new(),
            });
        }
        None => {
            return Err(DatasetError::NotASet {
                path: path.to_owned(),
            });
        }
    };
    if !parts.batches.is_empty() {
        parts.batches.sort_by(|a, b| a.name.cmp(&b.name));
        return Ok(Opened {
            set: from_batches(&parts.batches, size)?,
            skipped: Vec::new(),
        });
    }
    let nothing = || DatasetError::NoPictures {
        path: path.to_owned(),
        split,
    };
    if parts.pictures.is_empty() {
        return Err(nothing());
    }
    let labelled = layout::label(parts.pictures, &parts.notes, &Classes::default())?;
    let mut opened = Opened {
        set: LabelledSet {
            classes: labelled.classes,
            size,
            ..LabelledSet::default()
        },
        skipped: Vec::new(),
    };
    let total = labelled.files.len() as u64;
    for (done, (file, label)) in (0..).zip(labelled.files) {
        let stage = "decoding";
        tell(report, Progress { stage, done, total })?;
        match decode_planar(&file.bytes, size) {
            Ok(planes) => {
                opened.set.images.extend(planes);
                opened.set.labels.push(label);
            }
            Err(cause) => opened.skipped.push((file.name, cause.to_string())),
        }
    }
    match opened.set.is_empty() {
        true => Err(nothing()),
        false => Ok(opened),
    }
}

/// The files of one split, by their roles.
#[derive(Default)]
struct Parts {
    pictures: Vec<File>,
    batches: Vec<File>,
    notes: Vec<File>,
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
}

fn gather(path: &Path, split: Split, report: Report<'_>) -> Result<Parts, DatasetError> {
    let meta = fs::metadata(path).map_err(read_error(path))?;
    if meta.is_dir() {
        return gather_folder(path, split, report);
    }
    let name = path.to_string_lossy().to_ascii_lowercase();
    let file = fs::File::open(path).map_err(read_error(path))?;
    let counter = Counted {
        inner: file,
        done: Arc::default(),
    };
    let mut archive = Archive {
        path,
        split,
        total: meta.len(),
        done: Arc::clone(&counter.done),
    };
    let file = BufReader::with_capacity(1 << 16, counter);
    match ending(&name) {
        Some(Packing::Xz) => archive.gather(lzma_rust2::XzReader::new(file, true), report),
        Some(Packing::Gzip) => archive.gather(flate2::bufread::MultiGzDecoder::new(file), report),
        Some(Packing::Plain) => archive.gather(file, report),
        None => Err(DatasetError::NotASet {
            path: path.to_owned(),
        }),
    }
}

#[derive(Clone, Copy)]
enum Packing {
    Plain,
    Gzip,
    Xz,
}

const ENDINGS: [(&str, Packing); 5] = [
    (".tar", Packing::Plain),
    (".tar.gz", Packing::Gzip),
    (".tgz", Packing::Gzip),
    (".tar.xz", Packing::Xz),
    (".txz", Packing::Xz),
];

fn ending(name: &str) -> Option<Packing> {
    let found = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
    found.map(|&(_, packing)| packing)
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

/// An archive on its way through.
struct Archive<'a> {
    path: &'a Path,
    split: Split,
    total: u64,
    done: Arc<AtomicUsize>,
}

impl Archive<'_> {
    fn gather(&mut self, unpacked: impl Read, report: Report<'_>) -> Result<Parts, DatasetError> {
        let mut parts = Parts::default();
        let mut archive = tar::Archive::new(unpacked);
        let fail = read_error(self.path);
        for entry in archive.entries().map_err(&fail)? {
            let mut entry = entry.map_err(&fail)?;
            tell(report, self.progress())?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry.path().map_err(&fail)?;
            let name = name.to_string_lossy().replace('\\', "/");
            let role = layout::role(&name, self.split);
            if role == Role::Other {
                continue;
            }
            check_length(&name, entry.size())?;
            // The size is only the header's word: what is there is read, up to the limit.
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(&fail)?;
            parts.push(role, File { name, bytes });
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

fn check_length(name: &str, len: u64) -> Result<(), DatasetError> {
    // Binary batches and word lists are large, but not that large.
    if len <= MAX_FILE {
        return Ok(());
    }
    Err(DatasetError::TooLarge {
        name: name.to_owned(),
        limit: MAX_FILE,
    })
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
        check_length(&name, fs::metadata(&path).map_err(read_error(&path))?.len())?;
        let bytes = fs::read(&path).map_err(read_error(&path))?;
        parts.push(role, File { name, bytes });
    }
    Ok(parts)
}

fn assemble(
    mut parts: Parts,
    path: &Path,
    (split, size, wanted): (Split, usize, &Classes),
    report: Report<'_>,
) -> Result<LabelledSet, DatasetError> {
    if !parts.batches.is_empty() {
        parts.batches.sort_by(|a, b| a.name.cmp(&b.name));
        let set = from_batches(&parts.batches, size)?;
        return if wanted.is_all() {
            Ok(set)
        } else {
            set.only(wanted)
        };
    }
    if parts.pictures.is_empty() {
        return Err(DatasetError::NoPictures {
            path: path.to_owned(),
            split,
        });
    }
    let labelled = layout::label(parts.pictures, &parts.notes, wanted)?;
    let labels = labelled.files.iter().map(|(_, label)| *label).collect();
    let files: Vec<File> = labelled.files.into_iter().map(|(file, _)| file).collect();
    Ok(LabelledSet {
        classes: labelled.classes,
        images: decode_all(&files, size, report)?,
        labels,
        size,
    })
}

fn from_batches(batches: &[File], size: usize) -> Result<LabelledSet, DatasetError> {
    let mut set = LabelledSet::cifar10();
    for batch in batches {
        set.push_cifar10_batch(&batch.name, &batch.bytes)?;
    }
    resize_set(set, size)
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

/// Decodes on all cores into `[N, 3, size, size]`.
fn decode_all(files: &[File], size: usize, report: Report<'_>) -> Result<Vec<u8>, DatasetError> {
    let stride = 3 * size * size;
    let mut images = vec![0; files.len() * stride];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = files.len().div_ceil(threads).max(1);
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let parts = files.chunks(share).zip(images.chunks_mut(share * stride));
    std::thread::scope(|scope| {
        let (done, stop) = (&done, &stop);
        let workers: Vec<_> = parts
            .map(|(files, images)| {
                scope.spawn(move || decode_part(files, images, size, done, stop))
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
        workers.into_iter().try_for_each(|worker| {
            // A panic in a decoder is a bug; it goes on where it can be seen.
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(images)
}

fn decode_part(
    files: &[File],
    images: &mut [u8],
    size: usize,
    done: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<(), DatasetError> {
    for (file, image) in files.iter().zip(images.chunks_mut(3 * size * size)) {
        if stop.load(Ordering::Relaxed) {
            return Err(DatasetError::Cancelled);
        }
        let planar =
            decode_planar(&file.bytes, size).map_err(|cause| picture_error(file, cause))?;
        image.copy_from_slice(&planar);
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn picture_error(file: &File, cause: ImageError) -> DatasetError {
    DatasetError::Picture {
        name: file.name.clone(),
        cause: Arc::new(cause),
    }
}
