//! Responses in Parquet: a column a neuroid, or one column of lists.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::error::NeuralError;
use super::format::{Format, MOST_VALUES, ReadOptions};
use super::names::listed;
use super::recording::Recording;
use super::table::{self, Cells, TableColumn};

impl From<ParquetError> for NeuralError {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(crate::archive::shorten(&error.to_string()))
    }
}

/// The library panics on damaged pages. That is caught here, which a program that aborts on panic
/// cannot do, so this format is for the command line only.
pub(super) fn responses(bytes: Vec<u8>, options: &ReadOptions) -> Result<Recording, NeuralError> {
    let reading = AssertUnwindSafe(|| read(bytes, options));
    let damaged = |_| Err(NeuralError::Parquet("it is damaged".to_owned()));
    catch_unwind(reading).unwrap_or_else(damaged)
}

fn read(bytes: Vec<u8>, options: &ReadOptions) -> Result<Recording, NeuralError> {
    let size = bytes.len() as u64;
    let file = SerializedFileReader::new(Bytes::from(bytes))?;
    let meta = file.metadata();
    let rows = u64::try_from(meta.file_metadata().num_rows()).unwrap_or(0);
    let schema = meta.file_metadata().schema_descr_ptr();
    check_size(rows, schema.num_columns() as u64, size)?;
    let mut left_out = Vec::new();
    let mut columns = Vec::new();
    for (place, described) in schema.columns().iter().enumerate() {
        match column(&file, place, described, rows as usize)? {
            Some(found) => columns.extend(found),
            None => left_out.push(described.path().string()),
        }
    }
    let mut found = table::responses(Format::Parquet, columns, options)?;
    if !left_out.is_empty() {
        let names = listed(&left_out);
        found.notes.push(format!(
            "columns left out, for they are neither numbers nor text: {names}"
        ));
    }
    Ok(found)
}

/// Checks the number of values against the file's size: even repeated values take some bytes.
fn check_size(rows: u64, columns: u64, size: u64) -> Result<(), NeuralError> {
    let values = rows.saturating_mul(columns);
    const MOST_ROWS_A_BYTE: u64 = 4096;
    match values <= MOST_VALUES as u64 && rows <= size.saturating_mul(MOST_ROWS_A_BYTE) {
        true => Ok(()),
        false => Err(NeuralError::TooMany { values }),
    }
}

/// A column of numbers or text; the entries of a column of lists as columns of their own; `None`
/// for what is neither.
fn column(
    file: &SerializedFileReader<Bytes>,
    place: usize,
    described: &ColumnDescriptor,
    rows: usize,
) -> Result<Option<Vec<TableColumn>>, NeuralError> {
    let mut whole = Part::default();
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group)?;
        if !whole.read(group.as_ref(), place, described, rows)? {
            return Ok(None);
        }
    }
    let name = described
        .path()
        .parts()
        .first()
        .cloned()
        .unwrap_or_default();
    let (numbers, text) = (whole.numbers.len(), whole.text.len());
    if described.max_rep_level() == 0 {
        let cells = match (numbers == rows, text == rows) {
            (true, _) => Cells::Numbers(whole.numbers),
            (_, true) => Cells::Text(whole.text),
            _ => return Err(cut_off(&name)),
        };
        let name = Some(name);
        return Ok(Some(vec![TableColumn { name, cells }]));
    }
    if rows == 0 || text > 0 || !whole.even(rows) {
        return Err(NeuralError::Parquet(format!(
            "the lists in `{name}` differ in length"
        )));
    }
    let width = numbers / rows;
    let entry = |i: usize| {
        let values = whole.numbers.iter().skip(i).step_by(width);
        TableColumn {
            name: Some(format!("{name}[{i}]")),
            cells: Cells::Numbers(values.copied().collect()),
        }
    };
    Ok(Some((0..width).map(entry).collect()))
}

fn cut_off(name: &str) -> NeuralError {
    NeuralError::Parquet(format!("the column `{name}` is cut off"))
}

/// A column as far as it is read.
#[derive(Default)]
struct Part {
    numbers: Vec<f32>,
    text: Vec<String>,
    /// How many entries the list of each row has.
    lengths: Vec<usize>,
}

impl Part {
    /// Reads a group of rows; `false` for a column of another type.
    fn read(
        &mut self,
        group: &dyn RowGroupReader,
        place: usize,
        described: &ColumnDescriptor,
        rows: usize,
    ) -> Result<bool, NeuralError> {
        match group.get_column_reader(place)? {
            ColumnReader::BoolColumnReader(r) => {
                self.take(r, described, rows, |v| f32::from(u8::from(*v)))?;
            }
            ColumnReader::Int32ColumnReader(r) => self.take(r, described, rows, |v| *v as f32)?,
            ColumnReader::Int64ColumnReader(r) => self.take(r, described, rows, |v| *v as f32)?,
            ColumnReader::FloatColumnReader(r) => self.take(r, described, rows, |v| *v)?,
            ColumnReader::DoubleColumnReader(r) => self.take(r, described, rows, |v| *v as f32)?,
            ColumnReader::ByteArrayColumnReader(r) if described.max_rep_level() == 0 => {
                self.take_text(r, described, rows)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take<T: DataType>(
        &mut self,
        reader: ColumnReaderImpl<T>,
        described: &ColumnDescriptor,
        rows: usize,
        f: impl Fn(&T::T) -> f32,
    ) -> Result<(), NeuralError> {
        let records = records(reader, described, rows)?;
        for level in &records.repetitions {
            match (level, self.lengths.last_mut()) {
                (0, _) | (_, None) => self.lengths.push(1),
                (_, Some(last)) => *last += 1,
            }
        }
        let numbers = records.spread(described, &f, || f32::NAN);
        self.numbers.extend(numbers);
        Ok(())
    }

    fn take_text(
        &mut self,
        reader: ColumnReaderImpl<parquet::data_type::ByteArrayType>,
        described: &ColumnDescriptor,
        rows: usize,
    ) -> Result<(), NeuralError> {
        let text = |v: &ByteArray| String::from_utf8_lossy(v.data()).into_owned();
        let records = records(reader, described, rows)?;
        self.text
            .extend(records.spread(described, text, String::new));
        Ok(())
    }

    fn even(&self, rows: usize) -> bool {
        let first = self.lengths.first();
        self.lengths.len() == rows && self.lengths.iter().all(|n| Some(n) == first)
    }
}

/// The values of a column in a group of rows with their levels (Dremel, Melnik et al. 2010).
struct Records<T> {
    values: Vec<T>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl<T> Records<T> {
    /// One entry a definition level: the next value where it is defined.
    fn spread<U>(
        &self,
        described: &ColumnDescriptor,
        f: impl Fn(&T) -> U,
        missing: impl Fn() -> U,
    ) -> Vec<U> {
        let mut values = self.values.iter();
        if described.max_def_level() == 0 {
            return values.map(f).collect();
        }
        let is_there = |level: &i16| *level == described.max_def_level();
        let levels = self.definitions.iter();
        levels
            .map(|level| match is_there(level) {
                true => values.next().map_or_else(&missing, &f),
                false => missing(),
            })
            .collect()
    }
}

fn records<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    described: &ColumnDescriptor,
    rows: usize,
) -> Result<Records<T::T>, NeuralError> {
    let mut all = Records {
        values: Vec::new(),
        definitions: Vec::new(),
        repetitions: Vec::new(),
    };
    let mut left = rows;
    while left > 0 {
        const BATCH: usize = 1 << 14;
        let definitions = (described.max_def_level() > 0).then_some(&mut all.definitions);
        let repetitions = (described.max_rep_level() > 0).then_some(&mut all.repetitions);
        let most = left.min(BATCH);
        let (read, _, _) = reader.read_records(most, definitions, repetitions, &mut all.values)?;
        if read == 0 {
            break;
        }
        if all.values.len() > MOST_VALUES || all.definitions.len() > MOST_VALUES {
            return Err(NeuralError::TooMany {
                values: all.values.len() as u64,
            });
        }
        left -= read.min(left);
    }
    Ok(all)
}
