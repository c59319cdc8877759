//! Responses in Parquet: a column a neuroid, or one column of lists.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::error::NeuralError;
use super::format::{Format, MOST_VALUES, ReadOptions};
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
    let mut columns = Vec::new();
    for (place, described) in schema.columns().iter().enumerate() {
        let name = match described.max_rep_level() {
            0 => described.path().parts().join("."),
            // A column of lists, without the names of the format's own levels.
            _ => described
                .path()
                .parts()
                .first()
                .cloned()
                .unwrap_or_default(),
        };
        let reading = Reading {
            described,
            rows: rows as usize,
            is_label: table::is_label(&name, options),
            meaning: Meaning::of(described),
        };
        columns.extend(column(&file, place, name, &reading)?);
    }
    table::responses(Format::Parquet, columns, options)
}

/// What a column's values stand for, beside their physical type.
#[derive(Clone, Copy, Debug)]
enum Meaning {
    Plain,
    /// Integers without a sign, in the bits of ones with it.
    Unsigned,
    /// Whole numbers of units of 10 to the power of minus this.
    Decimal(i32),
    /// Two bytes of a number of half precision.
    Half,
    /// A clause on why it is no number and no text.
    Neither(&'static str),
}

impl Meaning {
    fn of(described: &ColumnDescriptor) -> Self {
        use ConvertedType as Converted;
        const TIMES: Meaning = Meaning::Neither("dates or times");
        match described.logical_type_ref() {
            Some(LogicalType::Decimal(_)) => return Self::Decimal(described.type_scale()),
            Some(LogicalType::Float16) => return Self::Half,
            Some(LogicalType::Date | LogicalType::Time(_) | LogicalType::Timestamp(_)) => {
                return TIMES;
            }
            Some(LogicalType::Integer(int)) if !int.is_signed => return Self::Unsigned,
            _ => {}
        }
        match described.converted_type() {
            Converted::DECIMAL => Self::Decimal(described.type_scale()),
            Converted::UINT_8 | Converted::UINT_16 | Converted::UINT_32 | Converted::UINT_64 => {
                Self::Unsigned
            }
            Converted::DATE
            | Converted::TIME_MILLIS
            | Converted::TIME_MICROS
            | Converted::TIMESTAMP_MILLIS
            | Converted::TIMESTAMP_MICROS
            | Converted::INTERVAL => TIMES,
            _ => Self::Plain,
        }
    }

    /// A whole number as this means it.
    fn whole(self, value: i64, unsigned: u64) -> Value {
        match self {
            Self::Unsigned => Value::Whole(unsigned.into()),
            Self::Decimal(scale) => Value::Number(i128::from(value) as f64 / 10f64.powi(scale)),
            _ => Value::Whole(value.into()),
        }
    }

    /// Bytes as this means them.
    fn bytes(self, bytes: &[u8]) -> Option<Value> {
        match (self, bytes) {
            (Self::Half, [low, high]) => {
                let half = half::f16::from_le_bytes([*low, *high]);
                Some(Value::Number(half.to_f64()))
            }
            (Self::Decimal(scale), _) => {
                // The highest byte first, in two's complement.
                let first = bytes.first().map_or(0.0, |byte| f64::from(*byte as i8));
                let all = bytes.iter().skip(1);
                let units = all.fold(first, |sum, byte| sum * 256.0 + f64::from(*byte));
                Some(Value::Number(units / 10f64.powi(scale)))
            }
            _ => std::str::from_utf8(bytes)
                .ok()
                .map(|text| Value::Text(text.to_owned())),
        }
    }
}

/// A value of a column.
enum Value {
    Whole(i128),
    Number(f64),
    Text(String),
}

impl Value {
    fn to_text(&self) -> String {
        match self {
            Self::Whole(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
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

/// How a column is read.
struct Reading<'a> {
    described: &'a ColumnDescriptor,
    rows: usize,
    /// Its values are labels: whole numbers keep their digits.
    is_label: bool,
    meaning: Meaning,
}

/// A column of numbers or text; the entries of a column of lists as columns of their own.
fn column(
    file: &SerializedFileReader<Bytes>,
    place: usize,
    name: String,
    reading: &Reading,
) -> Result<Vec<TableColumn>, NeuralError> {
    let Reading { rows, .. } = *reading;
    let mut whole = Part::default();
    let mut unread = None;
    if let Meaning::Neither(why) = reading.meaning {
        unread = Some(why);
    }
    for group in 0..file.num_row_groups() {
        if unread.is_none() {
            let group = file.get_row_group(group)?;
            unread = whole.read(group.as_ref(), place, reading)?;
        }
    }
    if let Some(why) = unread {
        let cells = Cells::Unread(why.to_owned());
        let name = Some(name);
        return Ok(vec![TableColumn { name, cells }]);
    }
    let (numbers, text) = (whole.numbers.len(), whole.text.len());
    if reading.described.max_rep_level() == 0 {
        let cells = match (numbers == rows, text == rows) {
            (true, _) => Cells::Numbers(whole.numbers),
            (_, true) => Cells::Text(whole.text),
            _ => return Err(cut_off(&name)),
        };
        let name = Some(name);
        return Ok(vec![TableColumn { name, cells }]);
    }
    if text > 0 {
        let cells = Cells::Unread("lists of text".to_owned());
        let name = Some(name);
        return Ok(vec![TableColumn { name, cells }]);
    }
    if rows == 0 || !whole.even(rows) {
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
    Ok((0..width).map(entry).collect())
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

/// Why a column is not read.
type Unread = Option<&'static str>;

impl Part {
    /// Reads a group of rows.
    fn read(
        &mut self,
        group: &dyn RowGroupReader,
        place: usize,
        reading: &Reading,
    ) -> Result<Unread, NeuralError> {
        use ColumnReader as R;
        let meaning = reading.meaning;
        match group.get_column_reader(place)? {
            R::BoolColumnReader(r) => self.take(r, reading, |v| Some(Value::Whole(i128::from(*v)))),
            R::Int32ColumnReader(r) => self.take(r, reading, |v| {
                Some(meaning.whole((*v).into(), u64::from(*v as u32)))
            }),
            R::Int64ColumnReader(r) => {
                self.take(r, reading, |v| Some(meaning.whole(*v, *v as u64)))
            }
            R::FloatColumnReader(r) => self.take(r, reading, |v| Some(Value::Number((*v).into()))),
            R::DoubleColumnReader(r) => self.take(r, reading, |v| Some(Value::Number(*v))),
            R::ByteArrayColumnReader(r) => self.take(r, reading, |v| meaning.bytes(v.data())),
            R::FixedLenByteArrayColumnReader(r) => {
                self.take(r, reading, |v| meaning.bytes(v.as_bytes()))
            }
            R::Int96ColumnReader(_) => Ok(Some("dates or times")),
        }
    }

    fn take<T: DataType>(
        &mut self,
        reader: ColumnReaderImpl<T>,
        reading: &Reading,
        value: impl Fn(&T::T) -> Option<Value>,
    ) -> Result<Unread, NeuralError> {
        let records = records(reader, reading.described, reading.rows)?;
        for level in &records.repetitions {
            match (level, self.lengths.last_mut()) {
                (0, _) | (_, None) => self.lengths.push(1),
                (_, Some(last)) => *last += 1,
            }
        }
        let described = reading.described;
        if records.values.iter().any(|v| value(v).is_none()) {
            return Ok(Some("bytes that are no text"));
        }
        let bytes = matches!(
            described.physical_type(),
            PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY
        );
        let of_text = bytes && !matches!(reading.meaning, Meaning::Half | Meaning::Decimal(_));
        if of_text || reading.is_label {
            let text = |v: &T::T| value(v).map_or_else(String::new, |v| v.to_text());
            self.text
                .extend(records.spread(described, text, String::new));
            return Ok(None);
        }
        let number = |v: &T::T| match value(v) {
            Some(Value::Whole(value)) => value as f32,
            Some(Value::Number(value)) => value as f32,
            Some(Value::Text(_)) | None => f32::NAN,
        };
        let numbers = records.spread(described, number, || f32::NAN);
        self.numbers.extend(numbers);
        Ok(None)
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
