//! A walk over a WebP's chunks: does each lie inside the file?
//!
//! The decoder under [`super::decode`] makes room for a metadata chunk by the length the chunk
//! claims, up to 4 GB, before it checks that those bytes exist. Source of the layout: RFC
//! 9649, section 2.

/// The result of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    Whole,
    /// The file is shorter than its header says.
    CutOff,
    /// A chunk reaches beyond the file it is in.
    BadChunk,
}

/// `RIFF`, a length, `WEBP`.
const HEADER: usize = 12;

/// A chunk's name and length.
const CHUNK_HEADER: usize = 8;

/// Follows the chunks of `bytes`, which begin like a WebP.
pub(super) fn walk(bytes: &[u8]) -> Walk {
    // The length counts from behind itself.
    let Some(end) = length(bytes, 4).and_then(|length| length.checked_add(8)) else {
        return Walk::CutOff;
    };
    if end > bytes.len() {
        return Walk::CutOff;
    }
    let mut at = HEADER;
    while at + CHUNK_HEADER <= bytes.len() {
        let Some(size) = length(bytes, at + 4) else {
            return Walk::BadChunk;
        };
        // Chunks of odd length are followed by a byte that is not counted, and may be missing at
        // the end.
        match (at + CHUNK_HEADER).checked_add(size) {
            Some(next) if next <= bytes.len() => at = next + size % 2,
            _ => return Walk::BadChunk,
        }
    }
    Walk::Whole
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*four)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(chunks: &[(&[u8; 4], u32, usize)]) -> Vec<u8> {
        let mut body = b"WEBP".to_vec();
        for (name, claimed, there) in chunks {
            body.extend(*name);
            body.extend(claimed.to_le_bytes());
            body.extend(vec![7; *there]);
        }
        let mut file = b"RIFF".to_vec();
        file.extend((body.len() as u32).to_le_bytes());
        file.extend(body);
        file
    }

    #[test]
    fn chunks_must_lie_inside() {
        type Chunks<'a> = &'a [(&'a [u8; 4], u32, usize)];
        let table: [(Chunks, Walk); 5] = [
            (&[(b"VP8L", 4, 4)], Walk::Whole),
            (&[(b"VP8L", 3, 4), (b"EXIF", 2, 2)], Walk::Whole),
            (&[(b"VP8L", 3, 3)], Walk::Whole),
            (&[(b"VP8L", 4, 4), (b"EXIF", 3, 2)], Walk::BadChunk),
            (&[(b"EXIF", u32::MAX, 2)], Walk::BadChunk),
        ];
        for (chunks, wanted) in table {
            assert_eq!(walk(&file(chunks)), wanted, "{chunks:?}");
        }
    }

    #[test]
    fn a_short_file_is_cut_off() {
        let whole = file(&[(b"VP8L", 4, 4)]);
        for cut in 0..whole.len() {
            assert_eq!(walk(&whole[..cut]), Walk::CutOff, "{cut} bytes");
        }
    }
}
