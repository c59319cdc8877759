//! The types of numbers weights come in.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::archive::{Endian, append};

/// The type of a tensor's values in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// One row a type: bytes, and how PyTorch and safetensors spell it.
struct Row {
    dtype: DType,
    size: usize,
    torch_storage: &'static str,
    torch_dtype: &'static str,
    safetensors: &'static str,
}

const fn row(
    dtype: DType,
    size: usize,
    torch_storage: &'static str,
    torch_dtype: &'static str,
    safetensors: &'static str,
) -> Row {
    Row {
        dtype,
        size,
        torch_storage,
        torch_dtype,
        safetensors,
    }
}

const ROWS: [Row; 10] = [
    row(DType::F64, 8, "DoubleStorage", "float64", "F64"),
    row(DType::F32, 4, "FloatStorage", "float32", "F32"),
    row(DType::F16, 2, "HalfStorage", "float16", "F16"),
    row(DType::Bf16, 2, "BFloat16Storage", "bfloat16", "BF16"),
    row(DType::I64, 8, "LongStorage", "int64", "I64"),
    row(DType::I32, 4, "IntStorage", "int32", "I32"),
    row(DType::I16, 2, "ShortStorage", "int16", "I16"),
    row(DType::I8, 1, "CharStorage", "int8", "I8"),
    row(DType::U8, 1, "ByteStorage", "uint8", "U8"),
    row(DType::Bool, 1, "BoolStorage", "bool", "BOOL"),
];

impl DType {
    fn row(self) -> &'static Row {
        // The rows stand in the order of the variants; `rows_are_in_order` checks it.
        &ROWS[self as usize]
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        self.row().size
    }

    /// As Python and its users write it: `float32`.
    pub fn name(self) -> &'static str {
        self.row().torch_dtype
    }

    fn find(is_it: impl Fn(&Row) -> bool) -> Option<Self> {
        ROWS.iter().find(|row| is_it(row)).map(|row| row.dtype)
    }

    pub(super) fn of_torch_storage(class: &str) -> Option<Self> {
        Self::find(|row| row.torch_storage == class)
    }

    pub(super) fn of_torch_dtype(name: &str) -> Option<Self> {
        Self::find(|row| row.torch_dtype == name)
    }

    pub(super) fn of_safetensors(name: &str) -> Option<Self> {
        Self::find(|row| row.safetensors == name)
    }

    /// Appends the values in `bytes`, whose length is a multiple of [`DType::size`], as f32.
    ///
    /// 64-bit values are rounded to the nearest f32.
    pub(super) fn append_f32(self, bytes: &[u8], endian: Endian, out: &mut Vec<f32>) {
        match self {
            Self::F64 => append(bytes, endian, out, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => append(bytes, endian, out, f32::from_le_bytes),
            Self::F16 => append(bytes, endian, out, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => append(bytes, endian, out, |b| bf16::from_le_bytes(b).to_f32()),
            Self::I64 => append(bytes, endian, out, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => append(bytes, endian, out, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => append(bytes, endian, out, |b| i16::from_le_bytes(b).into()),
            Self::I8 => append(bytes, endian, out, |b| i8::from_le_bytes(b).into()),
            Self::U8 => append(bytes, endian, out, |[b]| b.into()),
            Self::Bool => append(bytes, endian, out, |[b]| f32::from(u8::from(b != 0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order() {
        for (i, row) in ROWS.iter().enumerate() {
            assert_eq!(row.dtype as usize, i);
        }
    }

    #[test]
    fn values_of_every_type_become_f32() {
        let cases: [(DType, Vec<u8>, f32); 10] = [
            (DType::F64, (-1.5f64).to_le_bytes().to_vec(), -1.5),
            (DType::F32, 0.1f32.to_le_bytes().to_vec(), 0.1),
            (DType::F16, f16::from_f32(0.5).to_le_bytes().to_vec(), 0.5),
            (
                DType::Bf16,
                bf16::from_f32(-2.0).to_le_bytes().to_vec(),
                -2.0,
            ),
            (DType::I64, (-7i64).to_le_bytes().to_vec(), -7.0),
            (DType::I32, 70_000i32.to_le_bytes().to_vec(), 70_000.0),
            (DType::I16, (-300i16).to_le_bytes().to_vec(), -300.0),
            (DType::I8, vec![0xff], -1.0),
            (DType::U8, vec![0xff], 255.0),
            (DType::Bool, vec![2], 1.0),
        ];
        for (dtype, mut bytes, expected) in cases {
            let mut out = Vec::new();
            dtype.append_f32(&bytes, Endian::Little, &mut out);
            bytes.reverse();
            dtype.append_f32(&bytes, Endian::Big, &mut out);
            assert_eq!(out, [expected, expected], "{dtype:?}");
        }
    }
}
