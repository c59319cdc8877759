//! Human heat maps, such as ClickMe's: where people look for what they see (Linsley et al. 2019).

use std::io::Cursor;

use crate::archive::npy::{Array, Npz, read_npy};

use super::axes::Axis;
use super::error::NeuralError;
use super::format::limits;
use super::names::{Column, Listed, Matched, Rule, listed, pairs, picked, report};

/// Heat maps of pictures, f32 row-major `[maps, height, width]`, the higher the more a place
/// matters.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMaps {
    pub shape: [usize; 3],
    pub values: Vec<f32>,
    /// Which picture each is of.
    pub names: Option<Vec<String>>,
}

/// Names of heat maps in archives, the most usual first.
#[rustfmt::skip]
const MAPS: [&str; 8] = [
    "heatmaps", "heatmap", "maps", "saliency", "clickme", "importance", "data", "arr_0",
];

/// Names of the arrays that name their pictures.
#[rustfmt::skip]
const NAMES: [&str; 6] = [
    "names", "image_names", "filenames", "image_ids", "stimuli", "files",
];

/// Reads heat maps from `.npy` or `.npz`: `[n, h, w]`, with or without one channel before or
/// behind the rows.
///
/// # Errors
/// Another format, another shape, values that are no numbers.
pub fn read_maps(bytes: &[u8]) -> Result<HeatMaps, NeuralError> {
    if bytes.is_empty() {
        return Err(NeuralError::Empty);
    }
    if bytes.starts_with(b"\x93NUMPY") {
        return from_array(&read_npy(Cursor::new(bytes), &limits())?, None);
    }
    let mut archive = Npz::open(Cursor::new(bytes), &limits())?;
    let all: Vec<String> = archive.names().map(str::to_owned).collect();
    let find = |known: &&str| all.iter().find(|name| name.eq_ignore_ascii_case(known));
    let only = || all.first().filter(|_| all.len() == 1);
    let Some(maps) = MAPS.iter().find_map(find).or_else(only) else {
        return Err(NeuralError::NoArray {
            found: listed(&all),
        });
    };
    let array = archive.read(maps)?;
    let names = match NAMES.iter().find_map(find) {
        Some(name) => Some(archive.read_strings(name)?),
        None => None,
    };
    from_array(&array, names)
}

fn from_array(array: &Array, names: Option<Vec<String>>) -> Result<HeatMaps, NeuralError> {
    let shape = match *array.shape.as_slice() {
        [n, h, w] | [n, h, w, 1] | [n, 1, h, w] => [n, h, w],
        _ => return Err(NeuralError::MapShape(array.shape.clone())),
    };
    HeatMaps::new(shape, array.data.to_f32(), names)
}

/// Makes heat maps of grey pictures of one size, by name and bytes: 8 or 16 bits become 0 to 1.
///
/// # Errors
/// A coloured picture, pictures of several sizes, one that cannot be decoded.
#[cfg(feature = "picture")]
pub fn maps_from_pictures<'a>(
    pictures: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<HeatMaps, NeuralError> {
    let (mut names, mut values, mut size) = (Vec::new(), Vec::new(), None);
    for (name, bytes) in pictures {
        let short = || crate::archive::shorten(name);
        let decoded = crate::image::decode_grey(bytes);
        let decoded = decoded.map_err(|cause| NeuralError::Picture {
            name: short(),
            cause,
        })?;
        let map = decoded.ok_or_else(|| NeuralError::MapColour(short()))?;
        let first = *size.get_or_insert((map.width, map.height));
        if first != (map.width, map.height) {
            return Err(NeuralError::MapSize {
                name: short(),
                width: map.width,
                height: map.height,
                first,
            });
        }
        values.extend(map.values);
        names.push(name.to_owned());
        if values.len() > super::format::MOST_VALUES {
            return Err(NeuralError::TooMany {
                values: values.len() as u64,
            });
        }
    }
    let (width, height) = size.ok_or(NeuralError::NoMaps)?;
    HeatMaps::new([names.len(), height, width], values, Some(names))
}

impl HeatMaps {
    /// # Errors
    /// A shape that does not fit the values or has no entry, values that are no numbers, another
    /// number of names than of maps.
    pub fn new(
        shape: [usize; 3],
        values: Vec<f32>,
        names: Option<Vec<String>>,
    ) -> Result<Self, NeuralError> {
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count != Some(values.len()) || values.is_empty() {
            return Err(NeuralError::MapShape(shape.to_vec()));
        }
        let found = names.as_ref().map_or(shape[0], Vec::len);
        if found != shape[0] {
            return Err(NeuralError::Labels {
                what: "names".to_owned(),
                found,
                expected: shape[0],
                axis: Axis::Stimulus,
            });
        }
        let area = shape[1] * shape[2];
        let mut maps = values.chunks_exact(area);
        if let Some(bad) = maps.position(|map| map.iter().any(|v| !v.is_finite())) {
            let name = names.as_ref().and_then(|names| names.get(bad)).cloned();
            let name = name.unwrap_or_else(|| format!("number {bad}"));
            return Err(NeuralError::MapNan(crate::archive::shorten(&name)));
        }
        Ok(Self {
            shape,
            values,
            names,
        })
    }

    /// The maps of these pictures in their order, the picture of each, and how names were matched;
    /// by order where the maps have no names.
    ///
    /// # Errors
    /// No name that matches; without names, another number of maps than of pictures.
    pub fn for_images(
        &self,
        images: &[String],
    ) -> Result<(Self, Vec<usize>, Matched), NeuralError> {
        let column = self.names.clone().map(|values| Column {
            name: "names".to_owned(),
            values,
        });
        let pairs = match &column {
            Some(column) => pairs(&column.values, images),
            None if self.shape[0] == images.len() => {
                let all = 0..images.len();
                all.map(|i| (i, i, Rule::Order)).collect()
            }
            None => {
                return Err(NeuralError::MapCount {
                    maps: self.shape[0],
                    images: images.len(),
                });
            }
        };
        if pairs.is_empty() {
            return Err(NeuralError::NoMatch {
                stimuli: Listed::of(self.names.iter().flatten()).to_string(),
                images: listed(images),
            });
        }
        let area = self.shape[1] * self.shape[2];
        let values = pairs
            .iter()
            .flat_map(|(_, map, _)| &self.values[map * area..(map + 1) * area]);
        let names = self.names.as_ref().map(|names| {
            let places: Vec<usize> = pairs.iter().map(|p| p.1).collect();
            picked(names, &places)
        });
        let maps = Self {
            shape: [pairs.len(), self.shape[1], self.shape[2]],
            values: values.copied().collect(),
            names,
        };
        let places = pairs.iter().map(|p| p.0).collect();
        Ok((maps, places, report(column.as_ref(), &pairs, images)))
    }

    /// The maps of these pictures as a model sees them (see [`Self::fitted`]), `[images, side, side]`,
    /// 0 throughout where a picture has none, and which have one.
    ///
    /// # Errors
    /// As [`Self::for_images`].
    pub fn of_images(
        &self,
        images: &[String],
        side: usize,
    ) -> Result<(Vec<f32>, Vec<bool>), NeuralError> {
        let (found, of, _) = self.for_images(images)?;
        let plane = side * side;
        let (mut values, mut has) = (vec![0.0; images.len() * plane], vec![false; images.len()]);
        for (map, place) in found.fitted(side).chunks_exact(plane).zip(of) {
            values[place * plane..(place + 1) * plane].copy_from_slice(map);
            has[place] = true;
        }
        Ok((values, has))
    }

    /// The maps as a model's input is sized: the short side resized to `side` and the centre square
    /// kept, `[maps, side, side]`. The filter is the triangle that pictures are resized with.
    pub fn fitted(&self, side: usize) -> Vec<f32> {
        let [_, height, width] = self.shape;
        let square = height.min(width);
        let (top, left) = ((height - square) / 2, (width - square) / 2);
        let taps = triangle(square, side);
        let map = |map: &[f32]| -> Vec<f32> {
            let rows = map.chunks_exact(width).skip(top).take(square);
            let narrow: Vec<f32> = rows
                .flat_map(|row| taps.iter().map(|t| sum(t, |i| row[left + i])))
                .collect();
            let down = |t: &Taps, x: usize| sum(t, |i| narrow[i * side + x]);
            let all = taps.iter().flat_map(|t| (0..side).map(move |x| down(t, x)));
            all.collect()
        };
        let maps = self.values.chunks_exact(height * width);
        maps.flat_map(map).collect()
    }
}

/// Source positions of an output sample and their weights.
type Taps = Vec<(usize, f32)>;

fn sum(taps: &Taps, value: impl Fn(usize) -> f32) -> f32 {
    taps.iter().map(|(i, weight)| weight * value(*i)).sum()
}

/// The taps of `to` samples of `from`; each one's weights sum to 1.
fn triangle(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f32 / to.max(1) as f32;
    let reach = scale.max(1.0);
    let of = |i: usize| {
        let middle = (i as f32 + 0.5) * scale;
        let weight = |j: usize| (1.0 - ((j as f32 + 0.5 - middle) / reach).abs()).max(0.0);
        let taps: Taps = (0..from)
            .map(|j| (j, weight(j)))
            .filter(|t| t.1 > 0.0)
            .collect();
        let whole: f32 = taps.iter().map(|t| t.1).sum();
        taps.into_iter().map(|(j, w)| (j, w / whole)).collect()
    };
    (0..to).map(of).collect()
}
