//! Responses in HDF5: NetCDF-4 assemblies as Brain-Score keeps them, and plain arrays.
//!
//! An assembly is an xarray `DataArray` whose multi-index coordinates were flattened to variables
//! of one axis (`image_id`, `repetition`, `neuroid_id`, `region`, `time_bin_start`, …). NetCDF-4
//! numbers its dimensions: a variable lists those of its axes in `_Netcdf4Coordinates`, and a
//! dimension has its own in `_Netcdf4Dimid`.

use std::collections::HashMap;

use hdf5_pure::{AttrValue, DType, Dataset, Error, File, Group, VlenStringReadOptions};

use super::axes::{Axis, AxisTaken, Role};
use super::error::NeuralError;
use super::format::{Format, MOST_VALUES, ReadOptions};
use super::layout::{as_given, unnamed};
use super::names::{Column, listed};
use super::numpy::RESPONSES;
use super::recording::Recording;
use crate::archive::{DEFLATE_RATIO, shorten};

const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1A\n";

/// The most objects and levels of groups that are looked at.
const MOST_OBJECTS: usize = 4096;
const MOST_DEPTH: usize = 4;

/// Text of coordinates, in bytes.
const MOST_TEXT: usize = 256 << 20;

/// Whether these bytes are HDF5, perhaps behind a user block as MATLAB writes it.
pub(super) fn is_it(bytes: &[u8]) -> bool {
    let starts = [0, 512, 1024, 2048];
    let at = |start: usize| bytes.get(start..).is_some_and(|b| b.starts_with(SIGNATURE));
    starts.into_iter().any(at)
}

impl From<Error> for NeuralError {
    fn from(error: Error) -> Self {
        Self::Hdf5(shorten(&error.to_string()))
    }
}

pub(super) fn responses(bytes: Vec<u8>, options: &ReadOptions) -> Result<Recording, NeuralError> {
    let size = bytes.len() as u64;
    let file = File::from_bytes(bytes)?;
    let variables = Variables::list(&file.root(), size)?;
    let chosen = variables.choose(options)?;
    let axes = variables.axes(chosen, options)?;
    let values = chosen.numbers(size)?;
    let mut found = Recording::new(Format::Hdf5, values, axes);
    found.time_bin = options.time_bin;
    found.notes.push(format!(
        "the variable `{}` was taken",
        shorten(&chosen.path)
    ));
    drop_fill(&mut found.values, chosen);
    drop_single(&mut found);
    variables.label(&mut found, chosen, size);
    Ok(found)
}

/// A dataset of the file.
struct Variable {
    /// `group/name`.
    path: String,
    dataset: Dataset,
    attributes: HashMap<String, AttrValue>,
    shape: Vec<usize>,
    dtype: DType,
}

impl Variable {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn group(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(group, _)| group)
    }

    fn text(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).and_then(AttrValue::as_str)
    }

    fn is_scale(&self) -> bool {
        self.text("CLASS") == Some("DIMENSION_SCALE")
    }

    /// A dimension of which the file has only the length.
    fn is_bare(&self) -> bool {
        let name = self.text("NAME").unwrap_or_default();
        name.starts_with("This is a netCDF dimension but not a netCDF variable")
    }

    fn is_numeric(&self) -> bool {
        use DType::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        matches!(
            self.dtype,
            F32 | F64 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64
        )
    }

    fn is_text(&self) -> bool {
        matches!(self.dtype, DType::String | DType::VariableLengthString)
    }

    fn count(&self) -> u64 {
        let sizes = self.shape.iter();
        sizes.fold(1, |n, d| n.saturating_mul(*d as u64))
    }

    /// Whether a file of `size` bytes can hold it: DEFLATE has a largest ratio.
    fn check(&self, size: u64) -> Result<(), NeuralError> {
        let values = self.count();
        let each = self.dataset.element_size()?.max(1);
        let needed = values.saturating_mul(each);
        if values > MOST_VALUES as u64 {
            return Err(NeuralError::TooMany { values });
        }
        match needed <= size.saturating_mul(DEFLATE_RATIO) {
            true => Ok(()),
            false => Err(NeuralError::Hdf5(format!(
                "`{}` claims {needed} bytes, which the file cannot hold",
                shorten(&self.path)
            ))),
        }
    }

    fn numbers(&self, size: u64) -> Result<Vec<f32>, NeuralError> {
        self.check(size)?;
        Ok(self.dataset.read_f32()?)
    }

    /// As text, whole numbers too.
    fn strings(&self, size: u64) -> Result<Vec<String>, NeuralError> {
        self.check(size)?;
        if !self.is_text() {
            let numbers = self.dataset.read_f64()?;
            return Ok(numbers.iter().map(f64::to_string).collect());
        }
        let text = match self.dtype {
            DType::VariableLengthString => {
                let options = VlenStringReadOptions::new()
                    .with_max_elements(MOST_VALUES)
                    .with_max_payload_bytes(MOST_TEXT);
                self.dataset.read_vlen_strings(options)?
            }
            _ => self.dataset.read_string()?,
        };
        let trimmed = text.iter().map(|t| t.trim_end_matches('\0').trim_end());
        Ok(trimmed.map(str::to_owned).collect())
    }
}

struct Variables(Vec<Variable>);

impl Variables {
    /// All datasets whose shape and type can be read, in the order of their groups.
    fn list(root: &Group, size: u64) -> Result<Self, NeuralError> {
        let mut found = Vec::new();
        let mut groups = vec![(String::new(), root.clone(), 0)];
        while let Some((prefix, group, depth)) = groups.pop() {
            let mut names = group.datasets()?;
            names.sort();
            for name in names {
                let dataset = group.dataset(&name)?;
                found.extend(variable(format!("{prefix}{name}"), dataset));
                if found.len() > MOST_OBJECTS || found.len() as u64 > size {
                    return Err(NeuralError::Hdf5("it lists too many datasets".to_owned()));
                }
            }
            if depth < MOST_DEPTH {
                for name in group.groups()? {
                    // MATLAB keeps the parts of its cells here.
                    if name != "#refs#" && groups.len() < MOST_OBJECTS {
                        let below = group.group(&name)?;
                        groups.push((format!("{prefix}{name}/"), below, depth + 1));
                    }
                }
            }
        }
        Ok(Self(found))
    }

    /// The variable of responses: the one that was named, the only one of numbers with two axes or
    /// more, the one of a usual name.
    fn choose(&self, options: &ReadOptions) -> Result<&Variable, NeuralError> {
        let paths = |variables: &[&Variable]| {
            let all: Vec<String> = variables.iter().map(|v| v.path.clone()).collect();
            listed(&all)
        };
        let all: Vec<&Variable> = self.0.iter().filter(|v| !v.is_bare()).collect();
        if let Some(wanted) = &options.array {
            let found = all
                .iter()
                .find(|v| v.path == *wanted)
                .or_else(|| all.iter().find(|v| v.name() == wanted));
            return found.copied().ok_or_else(|| NeuralError::NoSuchArray {
                name: wanted.clone(),
                found: paths(&all),
            });
        }
        let wide: Vec<&Variable> = all
            .iter()
            .copied()
            .filter(|v| v.is_numeric() && v.shape.len() >= 2)
            .collect();
        let usual = || {
            let named = |known: &&str| {
                wide.iter()
                    .find(|v| v.name().eq_ignore_ascii_case(known))
                    .copied()
            };
            RESPONSES.iter().find_map(named)
        };
        match (wide.as_slice(), usual()) {
            ([one], _) => Ok(one),
            (_, Some(found)) => Ok(found),
            ([], None) => Err(NeuralError::NoArray { found: paths(&all) }),
            (several, None) => Err(NeuralError::ManyArrays {
                found: paths(several),
            }),
        }
    }

    fn axes(
        &self,
        variable: &Variable,
        options: &ReadOptions,
    ) -> Result<Vec<AxisTaken>, NeuralError> {
        if let Some(given) = options.axes.as_deref() {
            return as_given(&variable.shape, given);
        }
        let names = self.dimensions(variable);
        if names.iter().all(Option::is_none) {
            return self.axes_without_names(variable);
        }
        let mut axes = Vec::new();
        for (i, (name, size)) in names.into_iter().zip(&variable.shape).enumerate() {
            let name = name.unwrap_or_else(|| format!("axis {i}"));
            let axis = match (Axis::named(&name), *size) {
                (Some(axis), _) => axis,
                // An axis of one entry is none; the time bin's is dropped too.
                (None, 1) => Axis::TimeBin,
                (None, size) => {
                    let name = shorten(&name);
                    return Err(NeuralError::UnknownAxis { name, size });
                }
            };
            axes.push(AxisTaken {
                why: format!("its dimension is called `{}`", shorten(&name)),
                name: shorten(&name),
                size: *size,
                axis,
            });
        }
        Ok(axes)
    }

    /// MATLAB writes the last axis first.
    fn axes_without_names(&self, variable: &Variable) -> Result<Vec<AxisTaken>, NeuralError> {
        if variable.text("MATLAB_class").is_none() {
            return unnamed(&variable.shape, None);
        }
        let turned: Vec<usize> = variable.shape.iter().rev().copied().collect();
        let mut axes = unnamed(&turned, None)?;
        axes.reverse();
        for axis in &mut axes {
            axis.why = format!("{}, and MATLAB writes the last axis first", axis.why);
        }
        Ok(axes)
    }

    /// The name of each axis' dimension.
    fn dimensions(&self, variable: &Variable) -> Vec<Option<String>> {
        let rank = variable.shape.len();
        let labels = ["DIMENSION_LABELS", "_ARRAY_DIMENSIONS"];
        let labels = labels
            .iter()
            .find_map(|name| variable.attributes.get(*name)?.as_strings());
        if let Some(labels) = labels.filter(|labels| labels.len() == rank) {
            let given = |label: &String| (!label.is_empty()).then(|| label.clone());
            return labels.iter().map(given).collect();
        }
        let by_number = variable
            .attributes
            .get("_Netcdf4Coordinates")
            .and_then(AttrValue::to_i64s)
            .filter(|numbers| numbers.len() == rank);
        if let Some(numbers) = by_number {
            return numbers.iter().map(|n| self.scale_numbered(*n)).collect();
        }
        if rank == 1 && variable.is_scale() {
            return vec![Some(variable.name().to_owned())];
        }
        self.dimensions_by_size(variable)
    }

    fn scale_numbered(&self, number: i64) -> Option<String> {
        let is_it = |v: &&Variable| {
            let id = v
                .attributes
                .get("_Netcdf4Dimid")
                .and_then(AttrValue::as_i64);
            v.is_scale() && id == Some(number)
        };
        self.0.iter().find(is_it).map(|v| v.name().to_owned())
    }

    /// The first dimension of an axis' size that no axis before has taken.
    fn dimensions_by_size(&self, variable: &Variable) -> Vec<Option<String>> {
        let mut scales: Vec<&Variable> = self
            .0
            .iter()
            .filter(|v| v.is_scale() && v.group() == variable.group())
            .collect();
        let number = |v: &&Variable| {
            let id = v
                .attributes
                .get("_Netcdf4Dimid")
                .and_then(AttrValue::as_i64);
            id.unwrap_or(i64::MAX)
        };
        scales.sort_by_key(number);
        let mut dimension = |size: &usize| {
            let place = scales.iter().position(|v| v.shape == [*size])?;
            Some(scales.remove(place).name().to_owned())
        };
        variable.shape.iter().map(&mut dimension).collect()
    }

    /// Names, regions and bins from the variables of one axis beside the responses. Those that
    /// cannot be read are noted, for the responses themselves can.
    fn label(&self, found: &mut Recording, chosen: &Variable, size: u64) {
        let length = |axis: Axis| found.axes.iter().find(|a| a.axis == axis).map(|a| a.size);
        let lengths = [Axis::Stimulus, Axis::Neuroid, Axis::TimeBin].map(length);
        let mut begins = None;
        let mut ends = None;
        let beside = self.0.iter().filter(|v| {
            v.group() == chosen.group()
                && v.shape.len() == 1
                && !v.is_bare()
                && v.path != chosen.path
        });
        for variable in beside {
            let Some(role) = Role::named(variable.name()) else {
                continue;
            };
            let [stimuli, neuroids, bins] = lengths;
            let fits = match role {
                Role::Name | Role::Object | Role::Repetition => stimuli,
                Role::Neuroid | Role::Region => neuroids,
                Role::BinStart | Role::BinEnd => bins,
                Role::Other => None,
            };
            if fits != variable.shape.first().copied() {
                continue;
            }
            let values = match variable.strings(size) {
                Ok(values) => values,
                Err(error) => {
                    let name = shorten(variable.name());
                    found
                        .notes
                        .push(format!("`{name}` could not be read: {error}"));
                    continue;
                }
            };
            match role {
                Role::Name => found.names.push(Column {
                    name: variable.name().to_owned(),
                    values,
                }),
                Role::Object => found.objects = Some(values),
                Role::Repetition => found.presentations = true,
                Role::Neuroid => found.neuroids = Some(values),
                Role::Region => found.regions = Some(values),
                Role::BinStart => begins = Some(values),
                Role::BinEnd => ends = Some(values),
                Role::Other => {}
            }
        }
        found.sort_names();
        found.presentations |= found
            .axes
            .iter()
            .any(|a| a.name.starts_with("presentation"));
        found.bins = bins(begins, ends);
    }
}

fn variable(path: String, dataset: Dataset) -> Option<Variable> {
    let shape = dataset.shape().ok()?;
    let shape: Option<Vec<usize>> = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    Some(Variable {
        shape: shape?,
        dtype: dataset.dtype().ok()?,
        attributes: dataset.attrs().unwrap_or_default(),
        path,
        dataset,
    })
}

/// `70 to 170`, or only where a bin begins.
fn bins(begins: Option<Vec<String>>, ends: Option<Vec<String>>) -> Vec<String> {
    let begins = begins.unwrap_or_default();
    let Some(ends) = ends.filter(|ends| ends.len() == begins.len()) else {
        return begins;
    };
    let both = begins.iter().zip(&ends);
    both.map(|(begin, end)| format!("{begin} to {end}"))
        .collect()
}

/// Replaces the file's fill value by NaN.
fn drop_fill(values: &mut [f32], variable: &Variable) {
    let fill = ["_FillValue", "missing_value"]
        .iter()
        .find_map(|name| first_number(variable.attributes.get(*name)?));
    let Some(fill) = fill.filter(|fill| fill.is_finite()) else {
        return;
    };
    for value in values.iter_mut().filter(|v| **v == fill as f32) {
        *value = f32::NAN;
    }
}

fn first_number(attribute: &AttrValue) -> Option<f64> {
    let whole = || attribute.to_i64s()?.first().map(|n| *n as f64);
    let fraction = attribute.to_f64s().and_then(|all| all.first().copied());
    fraction.or_else(whole)
}

/// Drops axes of one entry whose names have no meaning here.
fn drop_single(found: &mut Recording) {
    let is_none = |a: &AxisTaken| a.size == 1 && Axis::named(&a.name).is_none();
    let told = |a: &AxisTaken| a.why.starts_with("you") || a.name.starts_with("axis ");
    let dropped: Vec<String> = found
        .axes
        .iter()
        .filter(|a| is_none(a) && !told(a))
        .map(|a| a.name.clone())
        .collect();
    found.axes.retain(|a| !is_none(a) || told(a));
    for name in dropped {
        found
            .notes
            .push(format!("the axis `{name}` of one entry was dropped"));
    }
}
