//! A labelled set in memory.

use std::ops::Range;
use std::sync::Arc;

use crate::image::picture::unit;
use crate::image::resize::{Filter, resample};

use super::cifar::{CIFAR_SIZE, Cifar};
use super::error::DatasetError;
use super::layout::Classes;

/// Pictures of one size with a class each, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelledSet {
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// `[N, 3, size, size]`, RGB planes, 8 bits.
    pub images: Vec<u8>,
    /// `[N]`, each below `classes.len()`.
    pub labels: Vec<u16>,
    /// Side in pixels.
    pub size: usize,
}

impl LabelledSet {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// No pictures.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one picture, `3 · size²`.
    pub fn stride(&self) -> usize {
        3 * self.size * self.size
    }

    /// The pictures' bytes, then the labels' (little-endian): what a hash of the set is of.
    pub fn content(&self) -> Vec<u8> {
        let labels = self.labels.iter().flat_map(|label| label.to_le_bytes());
        self.images.iter().copied().chain(labels).collect()
    }

    /// Picture `index` as planes `[3, size, size]`; `None` beyond the end.
    pub fn image(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_mul(self.stride())?;
        self.images.get(start..start + self.stride())
    }

    /// Picture `index` as f32 `[3, size, size]` in [0, 1] appended to `batch`, and its label.
    /// `None`, with `batch` untouched, beyond the end.
    pub fn push_input(&self, index: usize, batch: &mut Vec<f32>) -> Option<u16> {
        let label = *self.labels.get(index)?;
        batch.extend(self.image(index)?.iter().map(|&byte| unit(byte)));
        Some(label)
    }

    /// These pictures as f32 `[n, 3, size, size]` in [0, 1], and their labels `[n]`; numbers beyond
    /// the end are left out.
    pub fn inputs(&self, indices: &[usize]) -> (Vec<f32>, Vec<u16>) {
        let mut pixels = Vec::with_capacity(indices.len() * self.stride());
        let labels = indices
            .iter()
            .filter_map(|index| self.push_input(*index, &mut pixels))
            .collect();
        (pixels, labels)
    }

    /// How many pictures each class has, in class order.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }

    /// The pictures `range` as a set, for a hold-out; the range is cut to the length of the set.
    pub fn slice(&self, range: Range<usize>) -> Self {
        self.picked(range.start..range.end.min(self.len()))
    }

    /// At most `count` pictures, evenly spaced over the set: pictures lie in the order of their
    /// classes, and every class is represented.
    pub fn thinned(&self, count: usize) -> Self {
        let count = count.min(self.len());
        self.picked((0..count).map(|i| i * self.len() / count))
    }

    /// At most `count` pictures, the classes taking turns: the first of each, then the second of
    /// each. The numbers of pictures of two classes differ by one at most.
    pub fn in_turns(&self, count: usize) -> Self {
        let mut order = turns(&self.labels, self.classes.len());
        order.truncate(count);
        self.picked(order)
    }

    /// Indices of all pictures, the classes taking turns.
    pub fn turns(&self) -> Vec<usize> {
        turns(&self.labels, self.classes.len())
    }

    /// The pictures of the classes for which `keeps` is true, by index. The list of classes and the
    /// labels stay the same.
    pub fn keeping(&self, keeps: impl Fn(usize) -> bool) -> Self {
        let kept = (0..self.len()).filter(|i| keeps(usize::from(self.labels[*i])));
        self.picked(kept)
    }

    /// The pictures at `indices`, in that order; those beyond the set are left out.
    pub fn picked(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self {
            classes: self.classes.clone(),
            size: self.size,
            ..Self::default()
        };
        for index in indices {
            set.labels.extend(self.labels.get(index));
            set.images
                .extend_from_slice(self.image(index).unwrap_or_default());
        }
        set
    }

    /// The pictures of the `wanted` classes, chosen by name; labels index these alone.
    ///
    /// # Errors
    /// [`DatasetError::NoClass`], [`DatasetError::ManyClasses`].
    pub fn only(&self, wanted: &Classes) -> Result<Self, DatasetError> {
        let named = self.classes.iter().map(|name| ("", name.as_str()));
        let taken = wanted.choose(named)?;
        let mut set = self.keeping(|class| taken.get(class) == Some(&true));
        let before = |label: u16| taken[..usize::from(label)].iter().filter(|t| **t).count();
        for label in &mut set.labels {
            // At most as many as there were labels.
            *label = before(*label) as u16;
        }
        let mut taken = taken.into_iter();
        set.classes.retain(|_| taken.next() == Some(true));
        Ok(set)
    }

    /// An empty set with the classes and the size of CIFAR-10 or CIFAR-100.
    pub fn cifar(which: Cifar) -> Self {
        let classes = which.classes().iter().map(|name| (*name).to_owned());
        Self {
            classes: classes.collect(),
            size: CIFAR_SIZE,
            ..Self::default()
        }
    }

    /// Adds the records of one binary batch. `name` is for the messages.
    ///
    /// # Errors
    /// [`DatasetError::CutBatch`], [`DatasetError::Label`]; the set is then unchanged.
    pub fn push_cifar_batch(
        &mut self,
        which: Cifar,
        name: &str,
        batch: &[u8],
    ) -> Result<(), DatasetError> {
        let records = batch.chunks_exact(which.record());
        if !records.remainder().is_empty() || batch.is_empty() {
            return Err(DatasetError::CutBatch {
                name: name.to_owned(),
                len: batch.len(),
                set: which,
            });
        }
        let parts = records.map(|record| record.split_at(which.labels()));
        let labels = parts.clone().map(|(labels, _)| labels[labels.len() - 1]);
        let known = which.classes().len();
        if let Some(label) = labels.clone().find(|label| usize::from(*label) >= known) {
            return Err(DatasetError::Label {
                name: name.to_owned(),
                label,
                set: which,
            });
        }
        self.labels.extend(labels.map(u16::from));
        self.images.extend(parts.flat_map(|(_, pixels)| pixels));
        Ok(())
    }

    /// The same pictures at another size, resized (bilinear) by the arithmetic of [`resample`].
    ///
    /// # Errors
    /// [`DatasetError::Picture`] where a plane cannot be resized.
    pub(super) fn resized(self, size: usize) -> Result<Self, DatasetError> {
        if self.size == size {
            return Ok(self);
        }
        let from = (self.size, self.size);
        let mut images = Vec::with_capacity(self.len().saturating_mul(3 * size * size));
        for plane in self.images.chunks_exact(self.size * self.size) {
            let plane = resample(plane, 1, from, (size, size), Filter::Bilinear);
            images.extend(plane.map_err(|cause| DatasetError::Picture {
                name: "a record".to_owned(),
                cause: Arc::new(cause),
            })?);
        }
        Ok(Self {
            images,
            size,
            ..self
        })
    }
}

/// A set, and the files that could not be used.
#[derive(Debug, Default)]
pub struct Opened {
    pub set: LabelledSet,
    /// The file of each picture; empty where several pictures share a file.
    pub names: Vec<String>,
    /// Files that cannot be read or decoded, and why.
    pub skipped: Vec<(String, DatasetError)>,
    /// The folder that the pictures of this part lie below, where the set has parts: `Test`.
    pub part: Option<String>,
}

/// The order in which classes take turns: the first picture of each, then the second of each.
pub(super) fn turns(labels: &[u16], classes: usize) -> Vec<usize> {
    let mut seen = vec![0_usize; classes];
    let mut order: Vec<(usize, u16, usize)> = Vec::with_capacity(labels.len());
    for (index, &label) in labels.iter().enumerate() {
        if let Some(turn) = seen.get_mut(usize::from(label)) {
            order.push((*turn, label, index));
            *turn += 1;
        }
    }
    order.sort_unstable();
    order.into_iter().map(|(.., index)| index).collect()
}
