//! A run as it goes: a line for its head, then one for every finished unit.
//!
//! Lines are JSON. A line that was cut off, by a crash or a full disk, is the last one that counts
//! for nothing: its unit is run again, so that nothing is counted twice or lost.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Row;

/// A finished unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Its number in the plan.
    pub unit: usize,
    pub rows: Vec<Row>,
}

/// What a journal holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal<H> {
    pub head: H,
    /// Each unit once, in the order they were finished.
    pub units: Vec<Done>,
    /// Bytes up to the end of the last sound line: what is behind it is to be written over.
    pub sound: usize,
}

/// A line, with its end.
///
/// # Errors
/// A value without a JSON form.
pub fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

impl<H: DeserializeOwned> Journal<H> {
    /// Reads a journal; `None` for one that was cut off in its first line.
    ///
    /// # Errors
    /// A whole first line that is no head.
    pub fn read(bytes: &[u8]) -> serde_json::Result<Option<Self>> {
        let mut lines = bytes
            .split_inclusive(|b| *b == b'\n')
            .filter(|line| line.ends_with(b"\n"));
        let Some(first) = lines.next() else {
            return Ok(None);
        };
        let mut journal = Self {
            head: serde_json::from_slice(first)?,
            units: Vec::new(),
            sound: first.len(),
        };
        let mut seen = std::collections::BTreeSet::new();
        // A damaged line makes all that is behind it doubtful.
        for line in lines {
            let Ok(done) = serde_json::from_slice::<Done>(line) else {
                break;
            };
            journal.sound += line.len();
            if seen.insert(done.unit) {
                journal.units.push(done);
            }
        }
        Ok(Some(journal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_or_damaged_does_not_count() {
        let done = |unit| Done {
            unit,
            rows: Vec::new(),
        };
        let lines: Vec<Vec<u8>> = [0, 1, 1, 2]
            .map(|u| line(&done(u)).expect("plain data"))
            .into();
        let head = line(&"head").expect("plain data");
        let whole = [head.clone(), lines.concat()].concat();
        let read = |bytes: &[u8]| Journal::<String>::read(bytes).expect("a head");
        let journal = read(&whole).expect("it is whole");
        assert_eq!(
            (journal.head.as_str(), journal.sound),
            ("head", whole.len())
        );
        assert_eq!(journal.units, [done(0), done(1), done(2)]);
        for cut in 1..lines[3].len() {
            let journal = read(&whole[..whole.len() - cut]).expect("the head is whole");
            assert_eq!(journal.units, [done(0), done(1)]);
            assert_eq!(journal.sound, whole.len() - lines[3].len());
        }
        assert_eq!(read(&head[..head.len() - 1]), None);
        assert_eq!(read(b""), None);
        let mut damaged = whole.clone();
        damaged[head.len() + 2] = b'!';
        assert_eq!(read(&damaged).expect("the head is whole").units, []);
        assert!(Journal::<String>::read(b"no JSON\n").is_err());
    }
}
