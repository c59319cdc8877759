//! Sets in NumPy's `.npz` archives: an array of pictures, one of labels, perhaps one of names.

use std::io::{Read, Seek};

use crate::archive::npy::{Array, Data, Npz};
use crate::archive::{ArchiveError, Limits};
use crate::image::{ImageError, Picture, byte};

use super::{Split, fit_planar};

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

/// Why an archive gives no set: itself, or what is in it.
pub(super) enum Problem {
    Archive(ArchiveError),
    /// A clause about the archive: "holds …".
    Content(String),
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl Arrays {
    /// Reads the pictures and labels of a split; of the whole where there are no splits. `limit`
    /// is the most bytes an array may take.
    pub fn read(source: impl Read + Seek, split: Split, limit: u64) -> Result<Self, Problem> {
        let limits = Limits {
            max_elements_per_tensor: limit,
            max_total_bytes: limit,
            ..Limits::default()
        };
        let mut archive = Npz::open(source, &limits)?;
        let all: Vec<String> = archive.names().map(str::to_owned).collect();
        let find = |wanted: &str| all.iter().find(|name| name.eq_ignore_ascii_case(wanted));
        let fits = |of: Option<Split>| of.is_none_or(|of| of == split);
        let pair = PAIRS
            .iter()
            .filter(|(of, ..)| fits(*of))
            .find_map(|(_, x, y)| find(x).zip(find(y)));
        let Some((images, labels)) = pair else {
            let listed: Vec<&str> = all.iter().take(8).map(String::as_str).collect();
            return Err(Problem::Content(format!(
                "holds no arrays `images` and `labels` (nor `x` and `y`, `{split}_images` and \
                 `{split}_labels`, …) but {}",
                listed.join(", "),
                split = split.name(),
            )));
        };
        let names = match NAMES.iter().find_map(|name| find(name)) {
            Some(name) => Some(archive.read_strings(name)?),
            None => None,
        };
        let labels = read_labels(&archive.read(labels)?)?;
        let Array { shape, data } = archive.read(images)?;
        let (count, shape) = Shape::of(&shape).ok_or_else(|| {
            Problem::Content(format!(
                "has pictures of shape {shape:?}; [N, height, width, channels], [N, channels, \
                 height, width] and [N, height, width] are read, with 1 or 3 channels"
            ))
        })?;
        if labels.len() != count {
            return Err(Problem::Content(format!(
                "has {count} pictures and {} labels",
                labels.len()
            )));
        }
        check_values(&data)?;
        Ok(Self {
            classes: class_names(names, &labels)?,
            labels,
            pixels: data,
            shape,
        })
    }

    /// Picture `index` as planes `[3, size, size]`, brought to 8 bits a channel.
    pub fn planes(&self, index: usize, size: usize) -> Result<Vec<u8>, ImageError> {
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
fn check_values(data: &Data) -> Result<(), Problem> {
    let wrong = match data {
        Data::U8(_) | Data::Bool(_) => None,
        Data::F32(v) => outside(v.iter().map(|x| f64::from(*x)), 1.0),
        Data::F64(v) => outside(v.iter().copied(), 1.0),
        Data::I64(v) => outside(v.iter().map(|x| *x as f64), 255.0),
    };
    match wrong {
        None => Ok(()),
        Some(value) => Err(Problem::Content(format!(
            "has the pixel value {value}; bytes and numbers from 0 to 1 are read, before any \
             normalisation"
        ))),
    }
}

fn outside(mut values: impl Iterator<Item = f64>, most: f64) -> Option<f64> {
    values.find(|x| !(0.0..=most).contains(x))
}

fn read_labels(array: &Array) -> Result<Vec<u16>, Problem> {
    let flat = matches!(array.shape[..], [_] | [_, 1]);
    let numbers = array.data.to_i64().filter(|_| flat).ok_or_else(|| {
        Problem::Content(format!(
            "has labels of shape {:?} that are not one whole number a picture",
            array.shape
        ))
    })?;
    let label = |n: &i64| {
        let fits = u16::try_from(*n).ok().filter(|n| *n < u16::MAX);
        fits.ok_or_else(|| Problem::Content(format!("has the label {n}; 0 to 65,534 are read")))
    };
    numbers.iter().map(label).collect()
}

fn class_names(names: Option<Vec<String>>, labels: &[u16]) -> Result<Vec<String>, Problem> {
    let highest = labels.iter().copied().max().map_or(0, usize::from);
    let names = names.unwrap_or_else(|| (0..=highest).map(|n| n.to_string()).collect());
    match names.len() > highest && names.len() <= usize::from(u16::MAX) {
        true => Ok(names),
        false => Err(Problem::Content(format!(
            "names {} classes and has the label {highest}",
            names.len()
        ))),
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
