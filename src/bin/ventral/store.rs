//! Where `ventral evaluate` keeps its rows.
//!
//! While a shard runs, every finished unit is a line of a journal, `shard-1-of-4.jsonl`; a line
//! that was cut off by a crash is dropped and its unit run again. A finished shard is one Parquet
//! file, `shard-1-of-4.parquet`, written beside its place and moved there.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};
use ventral::measure::robustness::Row;
use ventral::measure::robustness::journal::{self, Done};
use ventral::measure::robustness::plan::Plan;

use crate::Failure;
use crate::output::write_file;

/// The columns, in the order of [`Row`].
const SCHEMA: &str = "message rows {
    required binary model (UTF8);
    required int64 seed (INTEGER(64,false));
    required binary condition (UTF8);
    required int32 image;
    required int32 label;
    required int32 prediction;
    required float right;
    required int32 passes;
    required float l1;
    required float l2;
    required float linf;
    required binary areas (UTF8);
}";

/// Under which name a Parquet file holds its [`Head`].
const HEAD: &str = "ventral";

/// What was run. Shards with different heads are of different runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub plan: Plan,
    /// Images of the set that the plan uses.
    pub images: usize,
    /// First 16 hexadecimal digits of the SHA-256 of the pixels and labels, for each side a model
    /// of the plan takes.
    pub data: Vec<String>,
    /// The same of the models' files, in the plan's order.
    pub weights: Vec<String>,
    pub program: String,
    /// What the models' classes are called, where they share them: for people, not to tell runs
    /// apart.
    #[serde(default)]
    pub classes: Vec<String>,
    /// `CPU`, `GPU` or `GPU, weights in f16`.
    pub backend: String,
}

/// A part of a run: `index` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    pub count: usize,
}

impl Shard {
    /// Whether a unit is one of its own. Neighbours go to different shards, so that these are
    /// equally long.
    pub fn takes(self, unit: usize) -> bool {
        unit % self.count == self.index - 1
    }

    fn file(self, folder: &Path, ending: &str) -> PathBuf {
        let Self { index, count } = self;
        folder.join(format!("shard-{index}-of-{count}.{ending}"))
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self { index, count }),
            _ => Err(format!(
                "`{text}` is no shard; write 2/4 for the second of four"
            )),
        }
    }
}

/// The journal of a shard.
pub struct Journal {
    head: Head,
    folder: PathBuf,
    shard: Shard,
    file: File,
    pub rows: Vec<Row>,
    done: BTreeSet<usize>,
}

impl Journal {
    /// Opens the journal in `folder`, with what an earlier start has finished. `None` where the
    /// shard is finished already.
    pub fn open(folder: &Path, shard: Shard, head: Head) -> Result<Option<Self>, Failure> {
        let said = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        fs::create_dir_all(folder).map_err(|e| said(folder, &e))?;
        let finished = shard.file(folder, "parquet");
        if finished.exists() {
            let (old, _) = read_parquet(&finished)?;
            refuse_other(&finished, &old, &head)?;
            return Ok(None);
        }
        let path = shard.file(folder, "jsonl");
        let old = match path.exists() {
            true => read_journal(&path)?,
            false => None,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| said(&path, &e))?;
        let mut journal_rows = Vec::new();
        let mut done = BTreeSet::new();
        match old {
            Some(old) => {
                refuse_other(&path, &old.head, &head)?;
                // What a crash left of a line is written over.
                file.set_len(old.sound as u64)
                    .map_err(|e| said(&path, &e))?;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?;
                for unit in old.units {
                    done.insert(unit.unit);
                    journal_rows.extend(unit.rows);
                }
            }
            None => {
                file.set_len(0)?;
                write_line(&mut file, &head).map_err(|e| said(&path, &e))?;
            }
        }
        Ok(Some(Self {
            head,
            folder: folder.to_owned(),
            shard,
            file,
            rows: journal_rows,
            done,
        }))
    }

    pub fn has(&self, unit: usize) -> bool {
        self.done.contains(&unit)
    }

    /// Keeps a unit's rows; once this returns they survive a crash of the program.
    pub fn push(&mut self, unit: usize, rows: Vec<Row>) -> Result<(), Failure> {
        let line = Done { unit, rows };
        let written = write_line(&mut self.file, &line);
        written.map_err(|e| format!("cannot write to {}: {e}", self.folder.display()))?;
        self.done.insert(unit);
        self.rows.extend(line.rows);
        Ok(())
    }

    /// Turns the journal into a Parquet file and returns its path.
    pub fn finish(mut self) -> Result<PathBuf, Failure> {
        let path = self.shard.file(&self.folder, "parquet");
        sort(&mut self.rows);
        write_parquet(&path, &self.head, &self.rows)?;
        fs::remove_file(self.shard.file(&self.folder, "jsonl"))?;
        Ok(path)
    }
}

/// One line, in one call: a line is whole or is the last.
fn write_line(file: &mut File, line: &impl Serialize) -> std::io::Result<()> {
    file.write_all(&journal::line(line)?)?;
    file.flush()
}

fn refuse_other(path: &Path, old: &Head, new: &Head) -> Result<(), Failure> {
    let named_alike = Head {
        classes: old.classes.clone(),
        ..new.clone()
    };
    if *old == named_alike {
        return Ok(());
    }
    let what = [
        ("plan", old.plan != new.plan),
        ("images", old.images != new.images || old.data != new.data),
        ("weights", old.weights != new.weights),
        ("version of the program", old.program != new.program),
        ("backend", old.backend != new.backend),
    ];
    let what: Vec<&str> = what.iter().filter(|(_, d)| *d).map(|(w, _)| *w).collect();
    Err(format!(
        "{} is of another run (it differs in its {}); choose another --output folder{}",
        path.display(),
        what.join(", "),
        match old.backend == new.backend {
            true => String::new(),
            false => format!(", or --backend as it was begun: {}", old.backend),
        }
    )
    .into())
}

/// Rows in an order that depends on nothing but themselves.
pub fn sort(rows: &mut [Row]) {
    rows.sort_by(|a, b| {
        let key = |r: &Row| (r.seed, r.image);
        (&a.model, &a.condition, key(a)).cmp(&(&b.model, &b.condition, key(b)))
    });
}

/// `None` for a journal that was cut off in its first line.
fn read_journal(path: &Path) -> Result<Option<journal::Journal<Head>>, Failure> {
    let said = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = fs::read(path).map_err(|e| said(&e))?;
    let read = journal::Journal::read(&bytes);
    Ok(read.map_err(|e| said(&format!("this is no journal of a run: {e}")))?)
}

/// Adds another run's models to a head: the same plan on the same images can be run model by model,
/// and compared.
fn join(path: &Path, head: &mut Head, own: &Head) -> Result<(), Failure> {
    let mut alike = own.clone();
    alike.plan.models.clone_from(&head.plan.models);
    alike.plan.reference.clone_from(&head.plan.reference);
    alike.weights.clone_from(&head.weights);
    refuse_other(path, head, &alike)?;
    for (model, weights) in own.plan.models.iter().zip(&own.weights) {
        let known = head.plan.models.iter().position(|name| name == model);
        match known.map(|place| &head.weights[place] == weights) {
            Some(true) => {}
            Some(false) => {
                let problem = format!("{}: its model {model} has other weights", path.display());
                return Err(problem.into());
            }
            None => {
                head.plan.models.push(model.clone());
                head.weights.push(weights.clone());
            }
        }
    }
    if head.classes != own.classes {
        head.classes.clear();
    }
    Ok(())
}

/// All rows in the folders, of finished shards and of those that still run.
pub fn read_all(folders: &[PathBuf]) -> Result<(Head, Vec<Row>), Failure> {
    let mut head: Option<Head> = None;
    let mut rows = Vec::new();
    for folder in folders {
        let listed = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let ending = path
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or_default();
            let (own, found) = match ending {
                "parquet" => read_parquet(&path)?,
                "jsonl" => match read_journal(&path)? {
                    Some(old) => {
                        let rows = old.units.into_iter().flat_map(|u| u.rows);
                        (old.head, rows.collect())
                    }
                    None => continue,
                },
                _ => continue,
            };
            match &mut head {
                None => head = Some(own),
                Some(head) => join(&path, head, &own)?,
            }
            rows.extend(found);
        }
    }
    sort(&mut rows);
    rows.dedup();
    match head {
        Some(head) => Ok((head, rows)),
        None => {
            Err("there is no shard-… file in these folders; run `ventral evaluate` first".into())
        }
    }
}

fn write_parquet(path: &Path, head: &Head, rows: &[Row]) -> Result<(), Failure> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let head = KeyValue::new(HEAD.to_owned(), serde_json::to_string(head)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_key_value_metadata(Some(vec![head]))
        .build();
    write_file(path, |out| {
        let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        let mut group = writer.next_row_group()?;
        let text = |of: fn(&Row) -> &str| move |row: &Row| ByteArray::from(of(row));
        column::<ByteArrayType, _>(&mut group, rows, text(|r| &r.model))?;
        column::<Int64Type, _>(&mut group, rows, |r| r.seed as i64)?;
        column::<ByteArrayType, _>(&mut group, rows, text(|r| &r.condition))?;
        column::<Int32Type, _>(&mut group, rows, |r| r.image as i32)?;
        column::<Int32Type, _>(&mut group, rows, |r| i32::from(r.label))?;
        column::<Int32Type, _>(&mut group, rows, |r| i32::from(r.prediction))?;
        column::<FloatType, _>(&mut group, rows, |r| r.right)?;
        column::<Int32Type, _>(&mut group, rows, |r| i32::from(r.passes))?;
        column::<FloatType, _>(&mut group, rows, |r| r.l1)?;
        column::<FloatType, _>(&mut group, rows, |r| r.l2)?;
        column::<FloatType, _>(&mut group, rows, |r| r.linf)?;
        column::<ByteArrayType, _>(&mut group, rows, areas_text)?;
        group.close()?;
        writer.close()?;
        Ok(())
    })
}

/// A row's areas as JSON, which has no way to fail.
fn areas_text(row: &Row) -> ByteArray {
    let text = serde_json::to_string(&row.areas).unwrap_or_default();
    ByteArray::from(text.as_str())
}

fn column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[Row],
    of: impl Fn(&Row) -> T::T,
) -> Result<(), Failure> {
    let values: Vec<T::T> = rows.iter().map(of).collect();
    // The schema has as many columns as are written, in this order.
    let Some(mut writer) = group.next_column()? else {
        return Err("the schema has fewer columns than a row".into());
    };
    writer.typed::<T>().write_batch(&values, None, None)?;
    Ok(writer.close()?)
}

fn read_parquet(path: &Path) -> Result<(Head, Vec<Row>), Failure> {
    let said = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(|e| said(&e))?;
    let reader = SerializedFileReader::new(file).map_err(|e| said(&e))?;
    let metadata = reader.metadata().file_metadata().key_value_metadata();
    let head = metadata.into_iter().flatten().find(|pair| pair.key == HEAD);
    let head = head.and_then(|pair| pair.value.as_deref());
    let head = head.ok_or_else(|| said(&"this is no file of `ventral evaluate`"))?;
    let head = serde_json::from_str(head).map_err(|e| said(&e))?;
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None).map_err(|e| said(&e))? {
        let row = row.map_err(|e| said(&e))?;
        rows.push(parse_row(&row).map_err(|e| said(&e))?);
    }
    Ok((head, rows))
}

fn parse_row(row: &parquet::record::Row) -> Result<Row, parquet::errors::ParquetError> {
    Ok(Row {
        model: row.get_string(0)?.clone(),
        seed: row.get_ulong(1)?,
        condition: row.get_string(2)?.clone(),
        image: row.get_int(3)? as u32,
        label: row.get_int(4)? as u16,
        prediction: row.get_int(5)? as u16,
        right: row.get_float(6)?,
        passes: row.get_int(7)? as u16,
        l1: row.get_float(8)?,
        l2: row.get_float(9)?,
        linf: row.get_float(10)?,
        // Files of before this column have none.
        areas: match row.len() > 11 {
            true => serde_json::from_str(row.get_string(11)?).unwrap_or_default(),
            false => Vec::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use ventral::measure::robustness::presets;

    use super::*;

    fn head() -> Head {
        let preset = presets::find("quick").expect("it is there");
        Head {
            plan: preset.plan(vec!["a".into()]),
            images: 3,
            data: vec!["d".into()],
            weights: vec!["w".into()],
            program: "ventral 0".into(),
            classes: Vec::new(),
            backend: "CPU".into(),
        }
    }

    fn rows(unit: usize) -> Vec<Row> {
        let row = |image: u32| Row {
            model: "a".into(),
            seed: u64::MAX,
            condition: format!("fog {unit}"),
            image,
            label: 65_535,
            prediction: 7,
            right: 0.3,
            passes: 10,
            l1: 1.5,
            l2: 0.1,
            linf: f32::MIN_POSITIVE,
            areas: vec![("V1".into(), 0.25), ("V2".into(), 1.0e-7)],
        };
        (0..3).map(row).collect()
    }

    const WHOLE: Shard = Shard { index: 1, count: 1 };

    #[test]
    fn a_journal_goes_on_where_it_was_cut_off() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || Journal::open(folder.path(), WHOLE, head()).expect("it opens");
        let mut journal = open().expect("nothing is finished");
        journal.push(0, rows(0)).expect("it is written");
        journal.push(1, rows(1)).expect("it is written");
        drop(journal);
        let path = folder.path().join("shard-1-of-1.jsonl");
        let whole = fs::read(&path).expect("it is there");
        for cut in [1, 10, 200] {
            fs::write(&path, &whole[..whole.len() - cut]).expect("it is written");
            let mut journal = open().expect("nothing is finished");
            assert!(journal.has(0) && !journal.has(1), "{cut}");
            assert_eq!(journal.rows, rows(0));
            journal.push(1, rows(1)).expect("it is written");
            assert_eq!(fs::read(&path).expect("it is there"), whole);
        }
        let file = open().expect("nothing is finished").finish();
        assert!(file.expect("it is written").exists() && !path.exists());
        assert!(open().is_none());
        let (read, found) = read_all(&[folder.path().to_owned()]).expect("it is sound");
        assert_eq!((read, found), (head(), [rows(0), rows(1)].concat()));
    }

    #[test]
    fn another_run_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::open(folder.path(), WHOLE, head()).expect("it opens");
        let other = Head {
            weights: vec!["v".into()],
            ..head()
        };
        let refused = |head| Journal::open(folder.path(), WHOLE, head).err();
        let said = refused(other.clone()).expect("other weights").to_string();
        assert!(said.contains("differs in its weights"), "{said}");
        journal
            .expect("nothing is finished")
            .finish()
            .expect("it is written");
        assert!(refused(other).is_some());
        assert!(read_all(&[PathBuf::from("no such folder")]).is_err());
    }

    #[test]
    fn runs_of_other_models_are_joined_where_all_else_is_alike() {
        let other = |change: &dyn Fn(&mut Head)| {
            let mut own = head();
            own.plan.models = vec!["b".into()];
            own.weights = vec!["v".into()];
            change(&mut own);
            own
        };
        let joined = |own: Head| {
            let mut all = head();
            join(Path::new("p"), &mut all, &own).map(|()| (all.plan.models, all.weights))
        };
        let both = (vec!["a".into(), "b".into()], vec!["w".into(), "v".into()]);
        assert_eq!(joined(other(&|_| {})).expect("they fit"), both);
        assert_eq!(joined(head()).expect("the same").0, ["a"]);
        let refused = |change: &dyn Fn(&mut Head), said: &str| {
            let error = joined(other(change)).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        };
        refused(&|own| own.plan.models = vec!["a".into()], "other weights");
        refused(&|own| own.plan.seeds = vec![7], "differs in its plan");
        refused(&|own| own.data = vec!["e".into()], "differs in its images");
    }

    #[test]
    fn shards_share_units_out() {
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].map(|s| s.parse().expect(s)).to_vec();
        for unit in 0..10 {
            assert_eq!(shards.iter().filter(|s| s.takes(unit)).count(), 1);
        }
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
