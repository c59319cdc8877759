//! Responses in NumPy's `.npy` arrays and `.npz` archives.

use std::io::Cursor;

use crate::archive::npy::{Array, Data, Npz, read_npy};
use crate::archive::shorten;

use super::axes::{Axis, AxisTaken, Role};
use super::error::NeuralError;
use super::format::{Format, ReadOptions, limits};
use super::layout::unnamed;
use super::left_out::LeftOut;
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
    let names_stimuli = |other: &String| options.names.as_ref() == Some(other);
    if let Some(wanted) = &options.names
        && !all.contains(wanted)
    {
        return Err(NeuralError::NoSuchArray {
            name: wanted.clone(),
            found: listed(&all),
        });
    }
    for other in all.iter().filter(|other| **other != name) {
        let role = match names_stimuli(other) {
            true => Some(Role::Name),
            false => Role::named(other),
        };
        let slot = match role {
            Some(Role::Name) => None,
            Some(Role::Repetition) => {
                found.presentations = true;
                continue;
            }
            Some(Role::Neuroid) => Some(&mut found.neuroids),
            Some(Role::Region) => Some(&mut found.regions),
            Some(Role::Object) => Some(&mut found.objects),
            Some(Role::BinStart | Role::BinEnd | Role::Other) | None => {
                let stimuli = length(&found.axes, Axis::Stimulus);
                let left = left_out(&mut archive, other, stimuli);
                found.left_out.push(left);
                continue;
            }
        };
        let values = strings(&mut archive, other)?;
        match slot {
            Some(slot) => *slot = slot.take().or(Some(values)),
            None => found.names.push(Column {
                name: other.clone(),
                values,
            }),
        }
    }
    found.sort_names(options);
    Ok(found)
}

fn length(axes: &[AxisTaken], axis: Axis) -> Option<usize> {
    axes.iter().find(|a| a.axis == axis).map(|a| a.size)
}

/// An array that is not used. One of text or whole numbers for each stimulus may name them, and so
/// may what cannot be read.
fn left_out(archive: &mut Npz<Cursor<&[u8]>>, name: &str, stimuli: Option<usize>) -> LeftOut {
    if let Ok(values) = archive.read_strings(name) {
        let reason = format!("{} names", values.len());
        return match Some(values.len()) == stimuli {
            true => LeftOut::text(name, reason, values),
            false => LeftOut::plain(name, reason),
        };
    }
    match archive.read(name) {
        Ok(array) => {
            let whole = array.data.to_i64().is_some() && !matches!(array.data, Data::Bool(_));
            let (kind, count) = (
                if whole { "whole numbers" } else { "numbers" },
                array.data.len(),
            );
            let reason = format!("{kind} of the shape {:?}", array.shape);
            match whole && Some(count) == stimuli {
                true => LeftOut::may_name(name, reason),
                false => LeftOut::plain(name, reason),
            }
        }
        Err(error) => LeftOut::may_name(name, shorten(&error.to_string())),
    }
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
        by_order: options.by_order,
        ..Recording::new(format, array.data.to_f32(), axes)
    })
}
