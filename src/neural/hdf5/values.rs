//! Values of HDF5's types from their bytes: those that the library gives no name, and the fields of
//! compound types.

use hdf5_pure::{Datatype, DatatypeByteOrder};

/// A value of one element.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Text(String),
}

/// Whether elements of a type are numbers, text, or nothing that is read.
pub(super) fn is_number(datatype: &Datatype) -> bool {
    match datatype {
        Datatype::FixedPoint { size, layout, .. } => {
            layout.bit_offset == 0 && u32::from(layout.bit_precision) == 8 * size && *size <= 8
        }
        Datatype::FloatingPoint { size, layout, .. } => {
            let known = [(2, 10), (4, 23), (8, 52)];
            known.contains(&(*size, layout.mantissa_size))
        }
        Datatype::Enumeration { base_type, .. } => is_number(base_type),
        _ => false,
    }
}

/// An element's value; `None` for types that are not read.
pub(super) fn value(datatype: &Datatype, bytes: &[u8]) -> Option<Value> {
    match datatype {
        Datatype::String { .. } => {
            let end = bytes.iter().position(|byte| *byte == 0);
            let text = std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]).ok()?;
            Some(Value::Text(text.trim_end().to_owned()))
        }
        _ => number(datatype, bytes).map(Value::Number),
    }
}

fn number(datatype: &Datatype, bytes: &[u8]) -> Option<f64> {
    if !is_number(datatype) {
        return None;
    }
    match datatype {
        Datatype::FixedPoint {
            byte_order, layout, ..
        } => {
            let bits = little_endian(*byte_order, bytes)?;
            let unused = 64 - 8 * bytes.len() as u32;
            // The sign's bit moves to the front and is spread on the way back.
            let signed = || ((bits << unused) as i64 >> unused) as f64;
            Some(if layout.signed { signed() } else { bits as f64 })
        }
        Datatype::FloatingPoint { byte_order, .. } => {
            let bits = little_endian(*byte_order, bytes)?;
            match bytes.len() {
                2 => Some(half::f16::from_bits(bits as u16).to_f64()),
                4 => Some(f32::from_bits(bits as u32).into()),
                8 => Some(f64::from_bits(bits)),
                _ => None,
            }
        }
        Datatype::Enumeration { base_type, .. } => number(base_type, bytes),
        _ => None,
    }
}

/// Up to eight bytes as a number without sign.
fn little_endian(order: DatatypeByteOrder, bytes: &[u8]) -> Option<u64> {
    let mut all = [0; 8];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    match order {
        DatatypeByteOrder::LittleEndian => {}
        DatatypeByteOrder::BigEndian => all[..bytes.len()].reverse(),
        DatatypeByteOrder::Vax => return None,
    }
    Some(u64::from_le_bytes(all))
}

/// Elements that follow each other; `None` where one is not read.
pub(super) fn numbers(datatype: &Datatype, bytes: &[u8]) -> Option<Vec<f32>> {
    let size = datatype.type_size() as usize;
    let each = bytes.chunks_exact(size.max(1));
    each.map(|element| number(datatype, element).map(|n| n as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use hdf5_pure::{FixedPointLayout, FloatingPointLayout};

    use super::*;

    fn whole(size: u32, byte_order: DatatypeByteOrder, signed: bool) -> Datatype {
        Datatype::FixedPoint {
            size,
            byte_order,
            layout: FixedPointLayout {
                signed,
                bit_offset: 0,
                bit_precision: 8 * size as u16,
            },
        }
    }

    #[test]
    fn whole_numbers_keep_order_and_sign() {
        use DatatypeByteOrder::{BigEndian, LittleEndian};
        let table = [
            (whole(2, LittleEndian, true), vec![0xfe, 0xff], -2.0),
            (whole(2, BigEndian, true), vec![0xff, 0xfe], -2.0),
            (whole(2, BigEndian, false), vec![0xff, 0xfe], 65534.0),
            (whole(1, LittleEndian, true), vec![0x80], -128.0),
            (whole(8, LittleEndian, true), vec![0xff; 8], -1.0),
        ];
        for (datatype, bytes, expected) in table {
            assert_eq!(value(&datatype, &bytes), Some(Value::Number(expected)));
        }
    }

    #[test]
    fn halves_are_numbers_and_other_sixteen_bits_are_not() {
        let half = |mantissa_size| Datatype::FloatingPoint {
            size: 2,
            byte_order: DatatypeByteOrder::LittleEndian,
            layout: FloatingPointLayout {
                bit_precision: 16,
                mantissa_size,
                ..FloatingPointLayout::IEEE754_BINARY32
            },
        };
        let bytes = half::f16::from_f32(-1.5).to_le_bytes();
        assert_eq!(numbers(&half(10), &bytes), Some(vec![-1.5]));
        assert_eq!(numbers(&half(7), &bytes), None);
    }
}
