//! Responses in NumPy's `.npy` arrays and `.npz` archives.

use std::io::Cursor;

use crate::archive::npy::{Array, Npz, read_npy};

use super::axes::Role;
use super::error::NeuralError;
use super::format::{Format, ReadOptions, limits};
use super::layout::unnamed;
use super::names::{Column, listed};
use super::recording::Recording;

/// Names of responses in archives, the most usual first.
#[rustfmt::skip]
pub(super) const RESPONSES: [&str; 14] = [
    "responses", "response", "neural", "neural_data", "activity", "rates", "firing_rates", "spikes",
    "betas", "data", "assembly", "__xarray_dataarray_variable__", "x", "arr_0",
];

pub(super) fn npy(bytes: &[u8], options: &ReadOptions) -> Result<Recording, NeuralError> {
    let array = read_npy(Cursor::new(bytes), &limits())?;
    found(Format::Npy, &array, options)
}

pub(super) fn npz(bytes: &[u8], options: &ReadOptions) -> Result<Recording, NeuralError> {
    let mut archive = Npz::open(Cursor::new(bytes), &limits())?;
    let all: Vec<String> = archive.names().map(str::to_owned).collect();
    let name = pick(&mut archive, &all, options)?;
    let array = archive.read(&name)?;
    let mut found = found(Format::Npz, &array, options)?;
    found.notes.push(format!("the array `{name}` was taken"));
    let others: Vec<&String> = all.iter().filter(|other| **other != name).collect();
    let mut labels = |role: Role| -> Result<Option<Column>, NeuralError> {
        let known = role.names().iter().find_map(|known| {
            let is_it = |other: &&&String| other.eq_ignore_ascii_case(known);
            others.iter().find(is_it)
        });
        match known {
            None => Ok(None),
            Some(name) => Ok(Some(Column {
                name: name.to_string(),
                values: strings(&mut archive, name)?,
            })),
        }
    };
    found.names = labels(Role::Name)?.into_iter().collect();
    found.presentations = labels(Role::Repetition)?.is_some();
    found.neuroids = labels(Role::Neuroid)?.map(|column| column.values);
    found.regions = labels(Role::Region)?.map(|column| column.values);
    found.objects = labels(Role::Object)?.map(|column| column.values);
    Ok(found)
}

/// The array of responses: the one that was named, the one of a usual name, the only one of at
/// least two axes.
fn pick(
    archive: &mut Npz<Cursor<&[u8]>>,
    all: &[String],
    options: &ReadOptions,
) -> Result<String, NeuralError> {
    if let Some(wanted) = &options.array {
        let found = all.iter().find(|name| *name == wanted);
        return found.cloned().ok_or_else(|| NeuralError::NoSuchArray {
            name: wanted.clone(),
            found: listed(all),
        });
    }
    let usual = RESPONSES
        .iter()
        .find_map(|known| all.iter().find(|name| name.eq_ignore_ascii_case(known)));
    if let Some(name) = usual {
        return Ok(name.clone());
    }
    let mut wide = Vec::new();
    for name in all {
        let array = archive.read(name);
        if array.is_ok_and(|array| array.shape.len() >= 2) {
            wide.push(name.clone());
        }
    }
    match wide.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(NeuralError::NoArray { found: listed(all) }),
        several => Err(NeuralError::ManyArrays {
            found: listed(several),
        }),
    }
}

/// An array of strings, or of whole numbers as their digits.
fn strings(archive: &mut Npz<Cursor<&[u8]>>, name: &str) -> Result<Vec<String>, NeuralError> {
    let as_strings = archive.read_strings(name);
    if as_strings.is_ok() {
        return Ok(as_strings?);
    }
    let numbers = archive.read(name).ok().and_then(|a| a.data.to_i64());
    match numbers {
        Some(numbers) => Ok(numbers.iter().map(i64::to_string).collect()),
        None => Ok(as_strings?),
    }
}

fn found(format: Format, array: &Array, options: &ReadOptions) -> Result<Recording, NeuralError> {
    let axes = unnamed(&array.shape, options.axes.as_deref())?;
    Ok(Recording {
        time_bin: options.time_bin,
        ..Recording::new(format, array.data.to_f32(), axes)
    })
}
