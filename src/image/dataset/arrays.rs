//! Sets in NumPy's `.npz` archives: an array of pictures, one of labels, perhaps one of names.

use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use crate::archive::Limits;
use crate::archive::npy::{Array, Data, Npz};
use crate::image::error::ImageError;
use crate::image::picture::{Picture, byte};

use super::decode::fit_planar;
use super::error::{ArraysError, DatasetError, archive_error};
use super::progress::{Progress, Report, tell};
use super::set::LabelledSet;
use super::split::Split;

/// Under which names pictures and labels are looked for, whatever their case, the usual ones
/// first: those of a split, as Keras and MedMNIST have them, then those of a set without splits.
const PAIRS: [(Option<Split>, &str, &str); 14] = [
    (Some(Split::Train), "train_images", "train_labels"),
    (Some(Split::Train), "x_train", "y_train"),
    (Some(Split::Test), "test_images", "test_labels"),
    (Some(Split::Test), "x_test", "y_test"),
    (Some(Split::Test), "val_images", "val_labels"),
    (None, "images", "labels"),
    (None, "images", "targets"),
    (None, "imgs", "labels"),
    (None, "x", "y"),
    (None, "x", "labels"),
    (None, "data", "labels"),
    (None, "data", "targets"),
    (None, "data", "y"),
    (None, "arr_0", "arr_1"),
];

const NAMES: [&str; 5] = [
    "classes",
    "class_names",
    "label_names",
    "names",
    "categories",
];

/// Pictures as an archive has them.
pub(super) struct Arrays {
    /// Names, or numbers where it has none.
    pub classes: Vec<String>,
    /// One a picture, each below `classes.len()`.
    pub labels: Vec<u16>,
    pixels: Data,
    shape: Shape,
}

/// How the pixels lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    height: usize,
    width: usize,
    channels: usize,
    /// Channels before rows.
    planar: bool,
}

impl Arrays {
    /// Reads the pictures and labels of a split, or of the whole archive where it has no splits.
    /// `path` is for the errors, `limit` the most bytes of one array.
    pub fn read(
        source: impl Read + Seek,
        path: &Path,
        split: Split,
        limit: u64,
    ) -> Result<Self, DatasetError> {
        let limits = Limits {
            max_elements_per_tensor: limit,
            max_total_bytes: limit,
            ..Limits::default()
        };
        let damaged = archive_error(path);
        let refused = |problem| DatasetError::Arrays {
            path: path.to_owned(),
            problem,
        };
        let mut archive = Npz::open(source, &limits).map_err(&damaged)?;
        let all: Vec<String> = archive.names().map(str::to_owned).collect();
        let find = |wanted: &str| all.iter().find(|name| name.eq_ignore_ascii_case(wanted));
        let (images, labels) = PAIRS
            .iter()
            .filter(|(of, ..)| of.is_none_or(|of| of == split))
            .find_map(|(_, x, y)| find(x).zip(find(y)))
            .ok_or_else(|| {
                let listed: Vec<&str> = all.iter().take(8).map(String::as_str).collect();
                let names = listed.join(", ");
                refused(ArraysError::NoPair { split, names })
            })?;
        let names = NAMES.iter().find_map(|name| find(name));
        let names = names.map(|name| archive.read_strings(name)).transpose();
        let names = names.map_err(&damaged)?;
        let labels = archive.read(labels).map_err(&damaged)?;
        let labels = read_labels(&labels).map_err(refused)?;
        let images = archive.read(images).map_err(&damaged)?;
        Self::checked(images, labels, names).map_err(refused)
    }

    fn checked(
        Array { shape, data }: Array,
        labels: Vec<u16>,
        names: Option<Vec<String>>,
    ) -> Result<Self, ArraysError> {
        let (pictures, shape) = Shape::of(&shape).ok_or(ArraysError::Shape(shape))?;
        if labels.len() != pictures {
            return Err(ArraysError::Count {
                pictures,
                labels: labels.len(),
            });
        }
        check_values(&data)?;
        Ok(Self {
            classes: class_names(names, &labels)?,
            labels,
            pixels: data,
            shape,
        })
    }

    /// The pictures at `indices`, `size` pixels a side.
    pub fn to_set(
        &self,
        indices: &[usize],
        size: usize,
        report: Report<'_>,
    ) -> Result<LabelledSet, DatasetError> {
        let mut set = LabelledSet {
            classes: self.classes.clone(),
            size,
            ..LabelledSet::default()
        };
        for (done, &index) in indices.iter().enumerate() {
            let (stage, done, total) = ("decoding", done as u64, indices.len() as u64);
            tell(report, Progress { stage, done, total })?;
            let planes = self.planes(index, size);
            set.images
                .extend(planes.map_err(|cause| DatasetError::Picture {
                    name: format!("picture {index}"),
                    cause: Arc::new(cause),
                })?);
            set.labels.push(self.labels[index]);
        }
        Ok(set)
    }

    /// Picture `index` as planes `[3, size, size]`, converted to 8 bits a channel.
    fn planes(&self, index: usize, size: usize) -> Result<Vec<u8>, ImageError> {
        let Shape {
            height,
            width,
            channels,
            planar,
        } = self.shape;
        let area = height * width;
        let first = index * area * channels;
        let at = |pixel: usize, channel: usize| {
            // A grey picture's one channel is all three.
            let channel = channel.min(channels - 1);
            match planar {
                true => first + channel * area + pixel,
                false => first + pixel * channels + channel,
            }
        };
        let places = (0..area).flat_map(|pixel| (0..3).map(move |channel| (pixel, channel)));
        let rgb = places.map(|(pixel, channel)| self.byte(at(pixel, channel)));
        fit_planar(&Picture::from_rgb(width, height, rgb.collect())?, size)
    }

    fn byte(&self, at: usize) -> u8 {
        // Every value was checked to be one of these.
        match &self.pixels {
            Data::U8(v) => v[at],
            Data::F32(v) => byte(v[at]),
            Data::F64(v) => byte(v[at] as f32),
            Data::I64(v) => v[at] as u8,
            Data::Bool(v) => u8::from(v[at]) * 255,
        }
    }
}

impl Shape {
    /// The number of pictures, and how each lies.
    fn of(shape: &[usize]) -> Option<(usize, Self)> {
        let is_colour = |n: usize| n == 1 || n == 3;
        let (count, height, width, channels, planar) = match *shape {
            [n, h, w] => (n, h, w, 1, true),
            [n, h, w, c] if is_colour(c) => (n, h, w, c, false),
            [n, c, h, w] if is_colour(c) => (n, h, w, c, true),
            _ => return None,
        };
        let shape = Self {
            height,
            width,
            channels,
            planar,
        };
        (count > 0 && height > 0 && width > 0).then_some((count, shape))
    }
}

/// Bytes, integers from 0 to 255, or fractions from 0 to 1.
fn check_values(data: &Data) -> Result<(), ArraysError> {
    let wrong = match data {
        Data::U8(_) | Data::Bool(_) => None,
        Data::F32(v) => outside(v.iter().map(|x| f64::from(*x)), 1.0),
        Data::F64(v) => outside(v.iter().copied(), 1.0),
        Data::I64(v) => outside(v.iter().map(|x| *x as f64), 255.0),
    };
    wrong.map_or(Ok(()), |value| Err(ArraysError::Pixel(value)))
}

fn outside(mut values: impl Iterator<Item = f64>, most: f64) -> Option<f64> {
    values.find(|x| !(0.0..=most).contains(x))
}

fn read_labels(array: &Array) -> Result<Vec<u16>, ArraysError> {
    let flat = matches!(array.shape[..], [_] | [_, 1]);
    let numbers = array.data.to_i64().filter(|_| flat);
    let numbers = numbers.ok_or_else(|| ArraysError::LabelShape(array.shape.clone()))?;
    let label = |n: &i64| {
        let fits = u16::try_from(*n).ok().filter(|n| *n < u16::MAX);
        fits.ok_or(ArraysError::Label(*n))
    };
    numbers.iter().map(label).collect()
}

fn class_names(names: Option<Vec<String>>, labels: &[u16]) -> Result<Vec<String>, ArraysError> {
    let label = labels.iter().copied().max().map_or(0, usize::from);
    let names = names.unwrap_or_else(|| (0..=label).map(|n| n.to_string()).collect());
    let classes = names.len();
    match classes > label && classes <= usize::from(u16::MAX) {
        true => Ok(names),
        false => Err(ArraysError::Classes { classes, label }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_tell_rows_from_channels() {
        let told = |shape: &[usize]| {
            Shape::of(shape).map(|(n, s)| (n, s.height, s.width, s.channels, s.planar))
        };
        assert_eq!(told(&[5, 8, 9, 3]), Some((5, 8, 9, 3, false)));
        assert_eq!(told(&[5, 3, 8, 9]), Some((5, 8, 9, 3, true)));
        assert_eq!(told(&[5, 1, 8, 9]), Some((5, 8, 9, 1, true)));
        assert_eq!(told(&[5, 8, 9]), Some((5, 8, 9, 1, true)));
        for wrong in [&[5, 8][..], &[5, 4, 8, 9], &[0, 8, 9, 3], &[5, 0, 9, 3]] {
            assert_eq!(told(wrong), None, "{wrong:?}");
        }
    }
}
