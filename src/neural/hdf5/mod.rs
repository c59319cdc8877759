//! Responses in HDF5: NetCDF-4 assemblies as Brain-Score keeps them, and plain arrays.
//!
//! An assembly is an xarray `DataArray` whose multi-index coordinates were flattened to variables
//! of one axis (`image_id`, `repetition`, `neuroid_id`, `region`, `time_bin_start`, …). NetCDF-4
//! numbers its dimensions: a variable lists those of its axes in `_Netcdf4Coordinates`, and a
//! dimension has its own in `_Netcdf4Dimid`.

mod tables;
mod values;

use std::collections::{BTreeSet, HashMap};

use hdf5_pure::{
    AttrValue, DType, Dataset, Error, File, FormatError, Group, Object, VlenStringReadOptions,
};

use self::tables::Table;
use super::axes::{Axis, AxisTaken, Role};
use super::error::NeuralError;
use super::format::{Format, MOST_VALUES, ReadOptions};
use super::layout::{as_given, unnamed};
use super::left_out::LeftOut;
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
        use FormatError as F;
        let said = shorten(&error.to_string());
        match error {
            Error::Format(
                F::UnsupportedVersion(_)
                | F::InvalidObjectHeaderVersion(_)
                | F::InvalidDataspaceVersion(_)
                | F::InvalidLayoutVersion(_)
                | F::InvalidLinkInfoVersion(_)
                | F::InvalidFilterPipelineVersion(_)
                | F::UnsupportedMessage(_)
                | F::UnsupportedFilter(_)
                | F::UnsupportedFilteredHeapObject
                | F::UnsupportedVirtualLayout
                | F::UnsupportedExternalStorage
                | F::UnsupportedSohmReference
                | F::UnsupportedZfp(_)
                | F::UnsupportedFillValueVersion(_),
            ) => Self::Hdf5Feature(said),
            _ => Self::Hdf5(said),
        }
    }
}

pub(super) fn responses(bytes: Vec<u8>, options: &ReadOptions) -> Result<Recording, NeuralError> {
    let size = bytes.len() as u64;
    let file = File::from_bytes(bytes)?;
    let variables = Variables::list(&file.root(), size)?;
    let chosen = match variables.choose(options)? {
        Chosen::Array(variable) => variable,
        Chosen::Table(table) => return tables::responses(table, &variables, options, size),
    };
    let axes = variables.axes(chosen, options)?;
    let values = chosen.numbers(size)?;
    let mut found = Recording::new(Format::Hdf5, values, axes);
    found.time_bin = options.time_bin;
    found.by_order = options.by_order;
    found.notes.push(format!(
        "the variable `{}` was taken",
        shorten(&chosen.path)
    ));
    unpack(&mut found, chosen);
    drop_single(&mut found);
    variables.label(&mut found, chosen, options, size)?;
    Ok(found)
}

/// What the responses are taken from.
enum Chosen<'a> {
    Array(&'a Variable),
    Table(Table<'a>),
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
        match &self.dtype {
            DType::Other(datatype) => values::is_number(datatype),
            // MATLAB's letters are numbers of 16 bits.
            _ => self.is_plain() && !self.is_matlab("char"),
        }
    }

    /// Numbers that the library converts itself.
    fn is_plain(&self) -> bool {
        use DType::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        matches!(
            self.dtype,
            F32 | F64 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64
        )
    }

    fn is_whole(&self) -> bool {
        self.is_plain() && !matches!(self.dtype, DType::F32 | DType::F64)
    }

    fn is_text(&self) -> bool {
        matches!(self.dtype, DType::String | DType::VariableLengthString)
    }

    fn is_matlab(&self, class: &str) -> bool {
        self.text("MATLAB_class") == Some(class)
    }

    /// The number of labels that it holds: of a list, also where MATLAB has written it as a matrix of
    /// one row, or of a matrix of letters.
    fn labels(&self) -> Option<usize> {
        if self.is_matlab("char") {
            return self.shape.last().copied();
        }
        let long = self.shape.iter().filter(|size| **size != 1).count();
        let is_list = self.shape.len() == 1 || (long <= 1 && self.text("MATLAB_class").is_some());
        is_list.then(|| self.shape.iter().product())
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
        let DType::Other(datatype) = &self.dtype else {
            return Ok(self.dataset.read_f32()?);
        };
        let found = values::numbers(datatype, &self.dataset.read_raw()?);
        found.ok_or_else(|| NeuralError::UnreadColumn {
            name: shorten(&self.path),
            why: "its values are no numbers".to_owned(),
        })
    }

    /// As text, whole numbers too.
    fn strings(&self, size: u64) -> Result<Vec<String>, NeuralError> {
        self.check(size)?;
        if self.is_matlab("char") {
            return Ok(letters(&self.dataset.read_u16()?, &self.shape));
        }
        if self.dtype == DType::ObjectReference {
            let each = self.dataset.dereference()?.into_iter();
            return each.map(|object| self.pointed_at(object, size)).collect();
        }
        if self.is_whole() {
            let numbers = self.dataset.read_i64()?;
            return Ok(numbers.iter().map(i64::to_string).collect());
        }
        if !self.is_text() {
            let numbers = self.numbers(size)?;
            return Ok(numbers.iter().map(f32::to_string).collect());
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

    /// The one text or number that a reference points at, as MATLAB keeps the entries of cells.
    fn pointed_at(&self, object: Object, size: u64) -> Result<String, NeuralError> {
        let unread = || NeuralError::UnreadColumn {
            name: shorten(&self.path),
            why: "a cell that is not one text or one number".to_owned(),
        };
        let Object::Dataset(dataset) = object else {
            return Err(unread());
        };
        let entry = variable(self.path.clone(), *dataset).map_err(|_| unread())?;
        if entry.dtype == DType::ObjectReference {
            return Err(unread());
        }
        match <[String; 1]>::try_from(entry.strings(size)?) {
            Ok([text]) => Ok(text),
            Err(_) => Err(unread()),
        }
    }
}

/// Rows of a matrix of letters, which MATLAB stores by columns: `[width, rows]`.
fn letters(codes: &[u16], shape: &[usize]) -> Vec<String> {
    let rows = shape.last().copied().unwrap_or(0);
    let row = |row: usize| {
        let codes: Vec<u16> = codes
            .iter()
            .skip(row)
            .step_by(rows.max(1))
            .copied()
            .collect();
        let text = String::from_utf16_lossy(&codes);
        text.trim_end_matches(['\0', ' ']).to_owned()
    };
    (0..rows).map(row).collect()
}

/// All datasets of a file.
struct Variables {
    all: Vec<Variable>,
    /// Groups of pandas frames in the format `fixed`.
    frames: Vec<String>,
    /// Paths of those whose shape or type is not read, and why.
    unread: Vec<(String, String)>,
}

impl Variables {
    /// In the order of their groups.
    fn list(root: &Group, size: u64) -> Result<Self, NeuralError> {
        let (mut found, mut frames, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        let mut groups = vec![(String::new(), root.clone(), 0)];
        while let Some((prefix, group, depth)) = groups.pop() {
            let mut names = group.datasets()?;
            names.sort();
            for name in names {
                let dataset = group.dataset(&name)?;
                let path = format!("{prefix}{name}");
                match variable(path.clone(), dataset) {
                    Ok(variable) => found.push(variable),
                    Err(error) => unread.push((path, error.to_string())),
                }
                if found.len() + unread.len() > MOST_OBJECTS || found.len() as u64 > size {
                    return Err(NeuralError::Hdf5("it lists too many datasets".to_owned()));
                }
            }
            if depth < MOST_DEPTH {
                for name in group.groups()? {
                    // MATLAB keeps the parts of its cells and objects in groups with a `#`, PyTables
                    // the indices of its tables in groups with `_i_`.
                    let is_own = !name.starts_with(['#']) && !name.starts_with("_i_");
                    if is_own && groups.len() < MOST_OBJECTS {
                        let below = group.group(&name)?;
                        if is_frame(&below) {
                            frames.push(format!("{prefix}{name}"));
                        }
                        groups.push((format!("{prefix}{name}/"), below, depth + 1));
                    }
                }
            }
        }
        Ok(Self {
            all: found,
            frames,
            unread,
        })
    }

    fn at(&self, path: &str) -> Option<&Variable> {
        self.all.iter().find(|variable| variable.path == path)
    }

    fn tables(&self) -> impl Iterator<Item = Table<'_>> {
        let frames = self.frames.iter().map(|group| Table::Frame(group));
        let records = self
            .all
            .iter()
            .filter(|v| matches!(v.dtype, DType::Compound(_)) && v.shape.len() == 1);
        frames.chain(records.map(Table::Records))
    }

    /// The variable of responses: the one that was named, the only one of a usual name, the only one
    /// of numbers with two axes or more, a table among them.
    fn choose(&self, options: &ReadOptions) -> Result<Chosen<'_>, NeuralError> {
        let all = || self.all.iter().filter(|v| !v.is_bare());
        if let Some(wanted) = &options.array {
            let array = all()
                .find(|v| v.path == *wanted)
                .or_else(|| all().find(|v| v.name() == wanted));
            let table = self.tables().find(|table| table.path() == wanted);
            return match (table, array) {
                (Some(table), _) => Ok(Chosen::Table(table)),
                (None, Some(array)) => Ok(Chosen::Array(array)),
                (None, None) => Err(NeuralError::NoSuchArray {
                    name: wanted.clone(),
                    found: self.paths(),
                }),
            };
        }
        let of_a_frame = |v: &&Variable| !self.frames.iter().any(|group| v.group() == group);
        let axes = |v: &Variable| v.shape.iter().filter(|size| **size != 1).count();
        let numeric = |v: &&Variable| v.is_numeric() && v.shape.len() >= 2;
        let mut wide: Vec<&Variable> = all().filter(of_a_frame).filter(numeric).collect();
        if wide.iter().any(|v| axes(v) >= 2) {
            wide.retain(|v| axes(v) >= 2);
        }
        let usual = RESPONSES.iter().find_map(|known| {
            let named = wide.iter().filter(|v| v.name().eq_ignore_ascii_case(known));
            let named: Vec<&Variable> = named.copied().collect();
            (!named.is_empty()).then_some(named)
        });
        let tables: Vec<Table> = match usual {
            Some(_) => Vec::new(),
            None => self.tables().collect(),
        };
        let arrays = usual.unwrap_or(wide);
        match (arrays.as_slice(), tables.as_slice()) {
            ([one], []) => Ok(Chosen::Array(one)),
            ([], [one]) => Ok(Chosen::Table(*one)),
            ([], []) => Err(NeuralError::NoArray {
                found: self.paths(),
            }),
            (arrays, tables) => {
                let arrays = arrays.iter().map(|v| v.path.clone());
                let tables = tables.iter().map(|table| table.path().to_owned());
                Err(NeuralError::ManyArrays {
                    found: listed(&arrays.chain(tables).collect::<Vec<_>>()),
                })
            }
        }
    }

    /// What the file holds, for a message.
    fn paths(&self) -> String {
        let read = self.all.iter().filter(|v| !v.is_bare());
        let read = read.map(|v| v.path.clone());
        let unread = self.unread.iter();
        let unread = unread.map(|(path, why)| format!("{path} (not read: {why})"));
        listed(&read.chain(unread).collect::<Vec<_>>())
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
                usual: false,
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
        self.all.iter().find(is_it).map(|v| v.name().to_owned())
    }

    /// The first dimension of an axis' size that no axis before has taken.
    fn dimensions_by_size(&self, variable: &Variable) -> Vec<Option<String>> {
        let mut scales: Vec<&Variable> = self
            .all
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

    /// Names, regions and bins from the variables of one axis beside the responses. All else is left
    /// out with its reason.
    ///
    /// # Errors
    /// [`NeuralError::NoSuchArray`] where the variable of names that the user named is none.
    fn label(
        &self,
        found: &mut Recording,
        chosen: &Variable,
        options: &ReadOptions,
        size: u64,
    ) -> Result<(), NeuralError> {
        let lengths = Lengths::of(&found.axes);
        let (mut begins, mut ends) = (None, None);
        let wanted = |v: &Variable| {
            let is_it = |name: &String| *name == v.path || name == v.name();
            options.names.as_ref().is_some_and(is_it)
        };
        if let Some(name) = options
            .names
            .clone()
            .filter(|_| !self.all.iter().any(wanted))
        {
            let found = self.paths();
            return Err(NeuralError::NoSuchArray { name, found });
        }
        let others = self
            .all
            .iter()
            .filter(|v| !v.is_bare() && v.path != chosen.path);
        for variable in others {
            let is_beside = variable.group() == chosen.group();
            let role = match wanted(variable) {
                true => Some(Role::Name),
                false => Role::named(variable.name()).filter(|_| is_beside),
            };
            let fits = role.is_some_and(|role| lengths.fit(role, variable.labels()));
            let read = match fits {
                true => variable.strings(size),
                false => {
                    found
                        .left_out
                        .push(variable.left_out(lengths.stimuli, size));
                    continue;
                }
            };
            let values = match read {
                Ok(values) => values,
                Err(error) => {
                    let name = shorten(&variable.path);
                    found
                        .left_out
                        .push(LeftOut::may_name(&name, error.to_string()));
                    continue;
                }
            };
            match role {
                Some(Role::Name) => found.names.push(Column {
                    name: variable.name().to_owned(),
                    values,
                }),
                Some(Role::Object) => found.objects = Some(values),
                Some(Role::Repetition) => found.presentations = true,
                Some(Role::Neuroid) => found.neuroids = Some(values),
                Some(Role::Region) => found.regions = Some(values),
                Some(Role::BinStart) => begins = Some(values),
                Some(Role::BinEnd) => ends = Some(values),
                Some(Role::Other) | None => {}
            }
        }
        let unread = self.unread.iter();
        let unread = unread.map(|(path, why)| LeftOut::may_name(path, why.clone()));
        found.left_out.extend(unread);
        found.sort_names(options);
        found.presentations |= found
            .axes
            .iter()
            .any(|a| a.name.starts_with("presentation"));
        found.bins = bins(begins, ends);
        Ok(())
    }
}

/// Entries of the axes.
struct Lengths {
    stimuli: Option<usize>,
    neuroids: Option<usize>,
    bins: Option<usize>,
}

impl Lengths {
    fn of(axes: &[AxisTaken]) -> Self {
        let length = |axis: Axis| axes.iter().find(|a| a.axis == axis).map(|a| a.size);
        Self {
            stimuli: length(Axis::Stimulus),
            neuroids: length(Axis::Neuroid),
            bins: length(Axis::TimeBin),
        }
    }

    /// Whether so many labels of this role are one for each entry of its axis.
    fn fit(&self, role: Role, labels: Option<usize>) -> bool {
        let length = match role {
            Role::Name | Role::Object | Role::Repetition => self.stimuli,
            Role::Neuroid | Role::Region => self.neuroids,
            Role::BinStart | Role::BinEnd => self.bins,
            Role::Other => None,
        };
        length.is_some() && length == labels
    }
}

impl Variable {
    /// Why it is not used. Text and whole numbers, one for each stimulus, may name them, and so may
    /// what cannot be read.
    fn left_out(&self, stimuli: Option<usize>, size: u64) -> LeftOut {
        let name = shorten(&self.path);
        let reason = format!("{} of the shape {:?}", self.kind(), self.shape);
        if self.labels() != stimuli || Role::named(self.name()) == Some(Role::Other) {
            return LeftOut::plain(&name, reason);
        }
        match self.strings(size) {
            Err(error) => LeftOut::may_name(&name, error.to_string()),
            Ok(values) if !self.is_numeric() => LeftOut::text(&name, reason, values),
            Ok(values) => {
                let is_whole = values.iter().all(|value| value.parse::<i64>().is_ok());
                let different = values.iter().collect::<BTreeSet<_>>().len();
                match is_whole && different > 1 {
                    true => LeftOut::may_name(&name, format!("whole {reason}")),
                    false => LeftOut::plain(&name, reason),
                }
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self.is_numeric() {
            true => "numbers",
            false if self.is_text() || self.is_matlab("char") => "text",
            false => "values",
        }
    }
}

/// Whether pandas keeps a frame in this group, in the format `fixed`.
fn is_frame(group: &Group) -> bool {
    let attributes = group.attrs().unwrap_or_default();
    let kind = attributes.get("pandas_type").and_then(AttrValue::as_str);
    kind == Some("frame")
}

fn variable(path: String, dataset: Dataset) -> Result<Variable, NeuralError> {
    let shape = dataset.shape()?;
    let shape: Option<Vec<usize>> = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    Ok(Variable {
        shape: shape.ok_or(NeuralError::TooMany { values: u64::MAX })?,
        dtype: dataset.dtype()?,
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

/// Replaces what stands for no value by NaN, and unpacks numbers, as the CF conventions say
/// (section 8.1): fill values and ranges are those of the packed numbers.
fn unpack(found: &mut Recording, variable: &Variable) {
    let number = |name: &str| first_number(variable.attributes.get(name)?);
    if variable.text("_Unsigned") == Some("true") {
        let bits = 8 * variable.dataset.element_size().unwrap_or(0) as i32;
        let negative = found.values.iter_mut().filter(|value| **value < 0.0);
        negative.for_each(|value| *value += 2f32.powi(bits));
    }
    for fill in ["_FillValue", "missing_value"]
        .into_iter()
        .filter_map(number)
    {
        let filled = found
            .values
            .iter_mut()
            .filter(|value| **value == fill as f32);
        filled.for_each(|value| *value = f32::NAN);
    }
    for (name, is_beyond) in [
        (
            "valid_min",
            (|value, end| value < end) as fn(f32, f32) -> bool,
        ),
        ("valid_max", |value, end| value > end),
    ] {
        let Some(end) = number(name) else { continue };
        let beyond = found
            .values
            .iter_mut()
            .filter(|v| is_beyond(**v, end as f32));
        beyond.for_each(|value| *value = f32::NAN);
    }
    let (scale, offset) = (number("scale_factor"), number("add_offset"));
    if scale.is_none() && offset.is_none() {
        return;
    }
    let (scale, offset) = (scale.unwrap_or(1.0), offset.unwrap_or(0.0));
    for value in &mut found.values {
        *value = (f64::from(*value) * scale + offset) as f32;
    }
    found.notes.push(format!(
        "the numbers were unpacked: each times {scale}, plus {offset}"
    ));
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
