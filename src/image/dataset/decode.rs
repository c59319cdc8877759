//! Decoding the pictures of a set, one or all of them on all cores.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::archive::shorten;
use crate::image::decode::decode;
use crate::image::error::ImageError;
use crate::image::picture::Picture;
use crate::image::resize::{Preprocessing, resize_and_crop};

use super::error::DatasetError;
use super::layout::File;
use super::progress::{Progress, Report};

/// How often progress is reported, and cancelling noticed, while pictures are decoded.
const TICK: Duration = Duration::from_millis(50);

/// Pictures that cannot be decoded, by their index, and why.
type Undecodable = Vec<(usize, ImageError)>;

/// An encoded picture as planes `[3, size, size]`: as it is where it has that size, otherwise its
/// short side resized (bilinear, as PIL does) and its centre cut out.
///
/// # Errors
/// As [`decode`].
pub fn decode_planar(bytes: &[u8], size: usize) -> Result<Vec<u8>, ImageError> {
    fit_planar(&decode(bytes)?.picture, size)
}

/// [`decode_planar`] of a decoded picture.
pub(super) fn fit_planar(picture: &Picture, size: usize) -> Result<Vec<u8>, ImageError> {
    let how = Preprocessing {
        resize: size,
        crop: size,
    };
    Ok(resize_and_crop(picture, how)?.planar())
}

/// Whether `count` decoded pictures of `size` pixels a side fit into `limit` bytes.
pub(super) fn check_room(
    path: &Path,
    count: usize,
    size: usize,
    limit: u64,
) -> Result<(), DatasetError> {
    let bytes = (count as u64).saturating_mul(3 * (size * size) as u64);
    match bytes <= limit {
        true => Ok(()),
        false => Err(DatasetError::TooMuch {
            path: path.to_owned(),
            limit,
        }),
    }
}

/// Decodes on all cores into `[N, 3, size, size]`. A picture that cannot be decoded is listed and
/// left black.
pub(super) fn decode_all(
    files: &[File],
    size: usize,
    report: Report<'_>,
) -> Result<(Vec<u8>, Undecodable), DatasetError> {
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
            // A panic in a decoder is a bug: it is passed on.
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
) -> Result<Undecodable, DatasetError> {
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

pub(super) fn picture_error(file: &File, cause: ImageError) -> DatasetError {
    DatasetError::Picture {
        name: shorten(&file.name),
        cause: Arc::new(cause),
    }
}
