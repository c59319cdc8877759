//! A walk over a JPEG's markers: is the file complete, and its number of scans reasonable?
//!
//! The decoder under [`super::decode`] accepts a file that stops early and paints the missing
//! part grey; a model would then get half a picture without a warning. Source of the layout:
//! ITU-T T.81, annex B.

/// The result of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// From start to end-of-image.
    Whole,
    /// The file stops before its end-of-image marker.
    CutOff,
    /// More scans than any camera or program writes: each costs a pass over the whole picture.
    TooManyScans,
}

/// Progressive encoders write about ten scans; the limit leaves room and still bounds the time.
const MAX_SCANS: usize = 100;

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// Follows the segments of `bytes` up to the end-of-image marker.
pub(super) fn walk(bytes: &[u8]) -> Walk {
    let mut at = 0;
    let mut scans = 0;
    while let Some((marker, after)) = next_marker(bytes, at) {
        match marker {
            END_OF_IMAGE => return Walk::Whole,
            START_OF_SCAN => scans += 1,
            _ => {}
        }
        if scans > MAX_SCANS {
            return Walk::TooManyScans;
        }
        at = if stands_alone(marker) {
            after
        } else {
            after + segment_length(bytes, after)
        };
    }
    Walk::CutOff
}

/// The next marker at or behind `from` and the position after it. Entropy-coded data is skipped
/// on the way: a 0xFF there is followed by 0, and fill bytes are 0xFF themselves.
fn next_marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xFF)? + 1;
        match *bytes.get(at)? {
            0x00 => at += 1,
            0xFF => {}
            marker => return Some((marker, at + 1)),
        }
    }
}

/// Markers without a segment behind them: TEM, RST0 to RST7, SOI, EOI.
fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xD0..=0xD9)
}

/// The length of a segment as its first two bytes give it; at least those two.
fn segment_length(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])).max(2),
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: [u8; 2] = [0xFF, 0xD8];
    const SCAN: [u8; 7] = [0xFF, START_OF_SCAN, 0, 2, 0x12, 0xFF, 0x00];
    const END: [u8; 2] = [0xFF, END_OF_IMAGE];

    #[test]
    fn whole_and_cut() {
        let whole = [&START[..], &SCAN, &END].concat();
        assert_eq!(walk(&whole), Walk::Whole);
        for cut in 0..whole.len() {
            assert_eq!(walk(&whole[..cut]), Walk::CutOff, "{cut} bytes");
        }
    }

    #[test]
    fn an_end_marker_inside_a_segment_does_not_count() {
        // A thumbnail in an APP1 segment has an end-of-image marker too.
        let app1 = [0xFF, 0xE1, 0, 6, 0xFF, END_OF_IMAGE, 0, 0];
        let cut = [&START[..], &app1, &SCAN].concat();
        assert_eq!(walk(&cut), Walk::CutOff);
        assert_eq!(walk(&[&cut[..], &END].concat()), Walk::Whole);
    }

    #[test]
    fn scans_are_counted() {
        let many = [&START[..], &SCAN.repeat(MAX_SCANS + 1), &END].concat();
        assert_eq!(walk(&many), Walk::TooManyScans);
        let some = [&START[..], &SCAN.repeat(MAX_SCANS), &END].concat();
        assert_eq!(walk(&some), Walk::Whole);
    }
}
