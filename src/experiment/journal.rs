//! A run as it is kept: a line for its head, then one for every finished unit.
//!
//! Lines are JSON. A line that was cut off, by a crash or a full disk, does not count: its unit is
//! run again, so that nothing is counted twice or lost. The state inside of a unit is kept in two
//! places in turn, so that one of them is whole whenever the program is ended.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, ready};
use std::pin::Pin;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What was run. Parts of a run with different heads are of different runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head<P> {
    /// Which experiment.
    #[serde(default = "robustness", skip_serializing_if = "is_robustness")]
    pub kind: String,
    pub plan: P,
    /// Images of the set that the plan uses.
    #[serde(default)]
    pub images: usize,
    /// Of each of the files or sets that went in, hexadecimal digits of a hash.
    pub data: Vec<String>,
    /// First 16 hexadecimal digits of the SHA-256 of the models' files, in the plan's order.
    pub weights: Vec<String>,
    /// The program and its version.
    pub program: String,
    /// What the models' classes are called, where they share them: for people, not to distinguish
    /// runs.
    #[serde(default)]
    pub classes: Vec<String>,
    /// What results may depend on: `CPU`, `GPU` or `GPU, weights in f16`.
    pub backend: String,
}

/// The kind of heads that do not name one: those of the first version.
fn robustness() -> String {
    "robustness".to_owned()
}

fn is_robustness(kind: &String) -> bool {
    *kind == robustness()
}

impl<P: Clone + PartialEq> Head<P> {
    /// In what another head differs, in words; nothing for the same run.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let what = [
            ("kind", self.kind != other.kind),
            ("plan", self.plan != other.plan),
            (
                "images",
                self.images != other.images || self.data != other.data,
            ),
            ("weights", self.weights != other.weights),
            ("version of the program", self.program != other.program),
            ("backend", self.backend != other.backend),
        ];
        let what = what.into_iter().filter(|(_, differs)| *differs);
        what.map(|(word, _)| word).collect()
    }
}

/// Why a run cannot be kept, or what was kept cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    #[error("{name}: {cause}")]
    Store { name: String, cause: String },
    #[error("{name}: this is no journal of a run: {cause}")]
    NoHead { name: String, cause: String },
    #[error(
        "{name} is of another run (it differs in its {}); choose another --output folder{hint}",
        what.join(", ")
    )]
    OtherRun {
        name: String,
        what: Vec<&'static str>,
        /// How to go on with it all the same, where there is a way.
        hint: String,
    },
    #[error("a result has no written form: {0}")]
    Unwritable(String),
}

impl From<serde_json::Error> for JournalError {
    fn from(error: serde_json::Error) -> Self {
        Self::Unwritable(error.to_string())
    }
}

/// Work that ends later, on this thread.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Where journals are kept: a disk, the browser's file system, memory. Once a call that writes has
/// returned, the bytes survive a crash of the program or the tab.
pub trait JournalStore {
    /// Opens a file for [`truncate`](Self::truncate) and [`append`](Self::append), and reads what is
    /// in it; it is made where there is none.
    fn open<'a>(&'a self, name: &'a str) -> Later<'a, Result<Vec<u8>, JournalError>>;
    /// Cuts an open file to this length, bytes.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    fn truncate(&self, name: &str, length: usize) -> Result<(), JournalError>;
    /// Adds to the end of an open file.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError>;
    /// Lets go of an open file.
    fn close(&self, name: &str);
    /// Deletes a file, if there is one.
    fn remove<'a>(&'a self, name: &'a str) -> Later<'a, ()>;

    /// A file's bytes; none where there is no such file.
    fn read<'a>(&'a self, name: &'a str) -> Later<'a, Result<Vec<u8>, JournalError>> {
        Box::pin(async move {
            let bytes = self.open(name).await;
            self.close(name);
            bytes
        })
    }

    /// Replaces a file.
    fn write<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> Later<'a, Result<(), JournalError>> {
        Box::pin(async move {
            self.open(name).await?;
            let written = self.truncate(name, 0);
            let written = written.and_then(|()| self.append(name, bytes));
            self.close(name);
            written
        })
    }
}

/// Keeps files as long as it lives.
#[derive(Default)]
pub struct MemoryStore {
    pub files: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl JournalStore for MemoryStore {
    fn open<'a>(&'a self, name: &'a str) -> Later<'a, Result<Vec<u8>, JournalError>> {
        let mut files = self.files.borrow_mut();
        let bytes = files.entry(name.to_owned()).or_default().clone();
        Box::pin(ready(Ok(bytes)))
    }

    fn truncate(&self, name: &str, length: usize) -> Result<(), JournalError> {
        let mut files = self.files.borrow_mut();
        files.entry(name.to_owned()).or_default().truncate(length);
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let mut files = self.files.borrow_mut();
        files.entry(name.to_owned()).or_default().extend(bytes);
        Ok(())
    }

    fn close(&self, _: &str) {}

    fn remove<'a>(&'a self, name: &'a str) -> Later<'a, ()> {
        self.files.borrow_mut().remove(name);
        Box::pin(ready(()))
    }
}

/// A finished unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done<R> {
    /// Its number in the plan.
    pub unit: usize,
    pub rows: Vec<R>,
}

/// What a journal holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<H, R> {
    pub head: H,
    /// Each unit once, in the order they were finished.
    pub units: Vec<Done<R>>,
    /// Bytes up to the end of the last whole line: what follows it is to be written over.
    pub sound: usize,
}

impl<H: DeserializeOwned, R: DeserializeOwned> Kept<H, R> {
    /// Reads a journal; `None` for one that was cut off in its first line.
    ///
    /// # Errors
    /// [`JournalError::NoHead`]: a whole first line that is no head, as journals of another version
    /// of the program may have.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Option<Self>, JournalError> {
        let mut lines = bytes
            .split_inclusive(|b| *b == b'\n')
            .filter(|line| line.ends_with(b"\n"));
        let Some(first) = lines.next() else {
            return Ok(None);
        };
        let head = serde_json::from_slice(first).map_err(|e| JournalError::NoHead {
            name: name.to_owned(),
            cause: e.to_string(),
        })?;
        let mut kept = Self {
            head,
            units: Vec::new(),
            sound: first.len(),
        };
        let mut seen = BTreeSet::new();
        // A damaged line makes everything after it doubtful.
        for line in lines {
            let Ok(done) = serde_json::from_slice::<Done<R>>(line) else {
                break;
            };
            kept.sound += line.len();
            if seen.insert(done.unit) {
                kept.units.push(done);
            }
        }
        Ok(Some(kept))
    }
}

/// What is done with a journal that cannot be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// It is refused with a sentence: someone may want it.
    Refuse,
    /// It is written over.
    Replace,
}

/// An open journal, and what its run has come to.
pub struct Journal<'s, R, S: ?Sized = dyn JournalStore> {
    store: &'s S,
    name: String,
    rows: Vec<R>,
    done: BTreeSet<usize>,
}

impl<'s, R: Serialize + DeserializeOwned, S: JournalStore + ?Sized> Journal<'s, R, S> {
    /// Opens the journal `name` of a run, with what earlier starts of the run have finished.
    ///
    /// # Errors
    /// A store that fails; with [`Otherwise::Refuse`] a journal of another run or another version.
    pub async fn open<P>(
        store: &'s S,
        name: &str,
        head: &Head<P>,
        otherwise: Otherwise,
    ) -> Result<Self, JournalError>
    where
        P: Clone + PartialEq + Serialize + DeserializeOwned,
    {
        let mut journal = Self::unkept(store, name);
        let bytes = store.open(name).await?;
        let kept = match Kept::<Head<P>, R>::read(name, &bytes) {
            Err(_) if otherwise == Otherwise::Replace => None,
            kept => kept?,
        };
        let of_another = kept.as_ref().map(|kept| refuse(name, &kept.head, head));
        match (kept, of_another) {
            (Some(kept), Some(Ok(()))) => {
                store.truncate(name, kept.sound)?;
                for unit in kept.units {
                    journal.done.insert(unit.unit);
                    journal.rows.extend(unit.rows);
                }
            }
            (_, Some(Err(error))) if otherwise == Otherwise::Refuse => return Err(error),
            _ => {
                store.truncate(name, 0)?;
                store.append(name, &line(head)?)?;
            }
        }
        Ok(journal)
    }

    /// A journal of a run that nothing is known of and that is not opened.
    pub fn unkept(store: &'s S, name: &str) -> Self {
        Self {
            store,
            name: name.to_owned(),
            rows: Vec::new(),
            done: BTreeSet::new(),
        }
    }

    /// Takes a finished unit's rows, and keeps them; where that fails they are taken all the same.
    ///
    /// # Errors
    /// A store that fails.
    pub fn push(&mut self, unit: usize, rows: Vec<R>) -> Result<(), JournalError> {
        let done = Done { unit, rows };
        let line = line(&done);
        self.done.insert(unit);
        self.rows.extend(done.rows);
        self.store.append(&self.name, &line?)
    }
}

impl<'s, R, S: JournalStore + ?Sized> Journal<'s, R, S> {
    /// Rows of all finished units, in the order they were finished.
    pub fn rows(&self) -> &[R] {
        &self.rows
    }

    /// Numbers of the finished units.
    pub fn done(&self) -> &BTreeSet<usize> {
        &self.done
    }

    pub fn store(&self) -> &'s S {
        self.store
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Deletes the states that units of these numbers have kept.
    pub async fn forget_states(&self, units: impl IntoIterator<Item = usize>) {
        for unit in units {
            StateKeeper::new(self.store, &self.name, unit).clear().await;
        }
    }

    /// A file that a unit has saved; empty where none has.
    ///
    /// # Errors
    /// A store that fails.
    pub async fn file(&self, name: &str) -> Result<Vec<u8>, JournalError> {
        let name = format!("{}-{name}", stem(&self.name));
        self.store.read(&name).await
    }

    /// Lets go of the file and hands the rows over.
    pub fn close(self) -> Vec<R> {
        self.store.close(&self.name);
        self.rows
    }
}

/// A line, with its end.
///
/// # Errors
/// A value without a JSON form.
pub fn line(value: &impl Serialize) -> Result<Vec<u8>, JournalError> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Whether what is kept under `name` is of the run of another head.
///
/// # Errors
/// [`JournalError::OtherRun`].
pub fn refuse<P: Clone + PartialEq>(
    name: &str,
    old: &Head<P>,
    new: &Head<P>,
) -> Result<(), JournalError> {
    let what = old.differences(new);
    match what.is_empty() {
        true => Ok(()),
        false => Err(JournalError::OtherRun {
            name: name.to_owned(),
            what,
            hint: match old.backend == new.backend {
                true => String::new(),
                false => format!(", or --backend as it was begun: {}", old.backend),
            },
        }),
    }
}

/// The first 64 bits of the SHA-256 of some bytes.
pub fn digest(bytes: &[u8]) -> u64 {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    // Eight of 32 bytes are always there.
    u64::from_le_bytes(*hash.first_chunk().unwrap_or(&[0; 8]))
}

/// A journal's name without its ending.
fn stem(journal: &str) -> &str {
    journal.strip_suffix(".jsonl").unwrap_or(journal)
}

/// Places that the state inside of a unit is kept in, in turn.
const PLACES: u64 = 2;

/// Keeps the state inside of a unit, and its files.
pub struct StateKeeper<'s, S: ?Sized> {
    store: &'s S,
    /// What the run's files begin with.
    run: String,
    name: String,
    /// How often it was written.
    turn: u64,
}

impl<'s, S: JournalStore + ?Sized> StateKeeper<'s, S> {
    /// Of a unit of the run whose journal is called `journal`.
    pub fn new(store: &'s S, journal: &str, unit: usize) -> Self {
        Self {
            store,
            run: stem(journal).to_owned(),
            name: format!("{}-{unit}", stem(journal)),
            turn: 0,
        }
    }

    fn place(&self, turn: u64) -> String {
        format!("{}-{}", self.name, turn % PLACES)
    }

    /// The latest state that is whole.
    pub async fn read(&mut self) -> Option<Vec<u8>> {
        let mut latest: Option<(u64, Vec<u8>)> = None;
        for turn in 0..PLACES {
            let bytes = self.store.read(&self.place(turn)).await.unwrap_or_default();
            let Some((turn, state)) = whole(&bytes) else {
                continue;
            };
            if latest.as_ref().is_none_or(|(known, _)| *known < turn) {
                latest = Some((turn, state.to_vec()));
            }
        }
        let (turn, state) = latest?;
        self.turn = turn;
        Some(state)
    }

    /// # Errors
    /// A store that fails.
    pub async fn write(&mut self, state: &[u8]) -> Result<(), JournalError> {
        self.turn += 1;
        let place = self.place(self.turn);
        let mut bytes = self.turn.to_le_bytes().to_vec();
        bytes.extend(state);
        bytes.extend(digest(&bytes).to_le_bytes());
        // What it held is older than what the other place holds.
        self.store.write(&place, &bytes).await
    }

    /// Writes a file of the run's.
    ///
    /// # Errors
    /// A store that fails.
    pub async fn save(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let name = format!("{}-{name}", self.run);
        self.store.write(&name, bytes).await
    }

    /// Deletes the state.
    pub async fn clear(&self) {
        for turn in 0..PLACES {
            self.store.remove(&self.place(turn)).await;
        }
    }
}

/// The turn and the state of what was written to its end.
fn whole(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (body, hash) = bytes.split_last_chunk::<8>()?;
    if digest(body) != u64::from_le_bytes(*hash) {
        return None;
    }
    let (turn, state) = body.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*turn), state))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Strings = Kept<String, u8>;

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
        let read = |bytes: &[u8]| Strings::read("j", bytes).expect("a head");
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
        let refused = Strings::read("j", b"no JSON\n").expect_err("no head");
        assert!(refused.to_string().contains("this is no journal of a run"));
    }

    #[test]
    fn a_state_cut_short_or_damaged_is_none() {
        let store = MemoryStore::default();
        let read = || pollster::block_on(StateKeeper::new(&store, "j", 3).read());
        assert_eq!(read(), None);
        let mut keeper = StateKeeper::new(&store, "j", 3);
        for state in [[1, 2, 3], [4, 5, 6]] {
            pollster::block_on(keeper.write(&state)).expect("memory keeps");
            assert_eq!(read(), Some(state.to_vec()));
        }
        let last = store.files.borrow()["j-3-0"].clone();
        let replace = |bytes: Vec<u8>| store.files.borrow_mut().insert("j-3-0".into(), bytes);
        for length in 0..last.len() {
            replace(last[..length].to_vec());
            assert_eq!(read(), Some(vec![1, 2, 3]), "{length}");
        }
        for place in 0..last.len() {
            let mut damaged = last.clone();
            damaged[place] ^= 1;
            replace(damaged);
            assert_eq!(read(), Some(vec![1, 2, 3]), "{place}");
        }
        pollster::block_on(keeper.clear());
        assert!(store.files.borrow().is_empty());
    }
}
