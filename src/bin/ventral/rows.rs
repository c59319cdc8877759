//! Where `ventral evaluate` keeps its rows.
//!
//! While a shard runs, every finished unit is a line of a journal, `shard-1-of-4.jsonl`; a line
//! that was cut off by a crash is dropped and its unit run again. A finished shard is one Parquet
//! file, `shard-1-of-4.parquet`, written beside its place and moved there.

use std::fs::{self, File};
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
use ventral::experiment::files::FileStore;
use ventral::experiment::journal::{self, Journal, Kept, Otherwise, refuse};
use ventral::experiment::robustness::Row;
use ventral::experiment::robustness::plan::Plan;
use ventral::experiment::shard::Shard;
use ventral::perturb::attack::autoattack::Part;

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
    required binary part (UTF8);
}";

/// Under which name a Parquet file holds its [`Head`].
const HEAD: &str = "ventral";

/// What an evaluation ran.
pub type Head = journal::Head<Plan>;

/// The file of a shard in a folder.
fn file(folder: &Path, shard: Shard, ending: &str) -> PathBuf {
    folder.join(format!("shard-{shard}.{ending}"))
}

/// Runs what is left of a shard by `run`, which is given its journal, and turns the journal into a
/// Parquet file. Nothing is done where the shard is finished already.
pub fn finish_shard<'s>(
    (folder, store): (&Path, &'s FileStore),
    shard: Shard,
    head: &Head,
    run: impl FnOnce(Journal<'s, Row, FileStore>) -> Result<Vec<Row>, Failure>,
) -> Result<(), Failure> {
    let finished = file(folder, shard, "parquet");
    if finished.exists() {
        let (old, _) = read_parquet(&finished)?;
        return Ok(refuse(&finished.display().to_string(), &old, head)?);
    }
    let name = format!("shard-{shard}.jsonl");
    let journal = Journal::open(store, &name, head, Otherwise::Refuse);
    let mut rows = run(pollster::block_on(journal)?)?;
    sort(&mut rows);
    write_parquet(&finished, head, &rows)?;
    Ok(fs::remove_file(store.path(&name))?)
}

/// Rows in an order that depends on nothing but themselves.
pub fn sort(rows: &mut [Row]) {
    rows.sort_by(|a, b| {
        let key = |r: &Row| (r.seed, r.image);
        (&a.model, &a.condition, key(a)).cmp(&(&b.model, &b.condition, key(b)))
    });
}

/// Adds another run's models to a head: the same plan on the same images can be run model by model,
/// and compared.
fn join(path: &Path, head: &mut Head, own: &Head) -> Result<(), Failure> {
    let mut alike = own.clone();
    alike.plan.models.clone_from(&head.plan.models);
    alike.plan.reference.clone_from(&head.plan.reference);
    alike.weights.clone_from(&head.weights);
    refuse(&path.display().to_string(), head, &alike)?;
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

/// `None` for a journal that was cut off in its first line.
fn read_journal(path: &Path) -> Result<Option<Kept<Head, Row>>, Failure> {
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Kept::read(&path.display().to_string(), &bytes)?)
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
        column::<ByteArrayType, _>(&mut group, rows, text(|r| r.part.map_or("", Part::word)))?;
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
        // Files of before this column and the next have none.
        areas: match row.len() > 11 {
            true => serde_json::from_str(row.get_string(11)?).unwrap_or_default(),
            false => Vec::new(),
        },
        part: match row.len() > 12 {
            true => Part::from_word(row.get_string(12)?),
            false => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use ventral::experiment::robustness::presets;

    use super::*;

    fn head() -> Head {
        let preset = presets::find("quick").expect("it is there");
        Head {
            kind: "robustness".into(),
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
            part: [None, Some(Part::ApgdCe), Some(Part::Square)][image as usize],
        };
        (0..3).map(row).collect()
    }

    /// Runs what `run` does of the whole, in `folder`.
    fn finish<'s>(
        folder: &Path,
        store: &'s FileStore,
        head: &Head,
        run: impl FnOnce(Journal<'s, Row, FileStore>) -> Result<Vec<Row>, Failure>,
    ) -> Result<(), Failure> {
        finish_shard((folder, store), Shard::WHOLE, head, run)
    }

    #[test]
    fn a_journal_goes_on_where_it_was_cut_off() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path();
        let store = FileStore::new(folder).expect("it is there");
        let stopped = finish(folder, &store, &head(), |mut journal| {
            journal.push(0, rows(0)).expect("it is written");
            journal.push(1, rows(1)).expect("it is written");
            Err("stopped".into())
        });
        assert!(stopped.is_err());
        let path = folder.join("shard-1-of-1.jsonl");
        let whole = fs::read(&path).expect("it is there");
        for cut in [1, 10, 200] {
            fs::write(&path, &whole[..whole.len() - cut]).expect("it is written");
            let stopped = finish(folder, &store, &head(), |mut journal| {
                assert!(journal.done().contains(&0) && !journal.done().contains(&1));
                assert_eq!(journal.rows(), rows(0));
                journal.push(1, rows(1)).expect("it is written");
                Err("stopped".into())
            });
            assert!(stopped.is_err(), "{cut}");
            assert_eq!(fs::read(&path).expect("it is there"), whole);
        }
        finish(folder, &store, &head(), |journal| Ok(journal.close())).expect("it is written");
        assert!(folder.join("shard-1-of-1.parquet").exists() && !path.exists());
        let again = finish(folder, &store, &head(), |_| panic!("it is finished"));
        again.expect("nothing is left to do");
        let (read, found) = read_all(&[folder.to_owned()]).expect("it is sound");
        assert_eq!((read, found), (head(), [rows(0), rows(1)].concat()));
    }

    /// As the version before the experiments' own engine wrote it.
    #[test]
    fn a_journal_of_the_version_before_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut old = serde_json::to_value(head()).expect("plain data");
        old.as_object_mut().expect("an object").remove("classes");
        let done = serde_json::json!({ "unit": 0, "rows": rows(0) });
        let path = folder.path().join("shard-1-of-1.jsonl");
        fs::write(&path, format!("{old}\n{done}\n")).expect("it is written");
        let store = FileStore::new(folder.path()).expect("it is there");
        let read = finish(
            folder.path(),
            &store,
            &head(),
            |journal| Ok(journal.close()),
        );
        read.expect("it is of this run");
        let (_, found) = read_all(&[folder.path().to_owned()]).expect("it is sound");
        assert_eq!(found, rows(0));
    }

    #[test]
    fn another_run_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path();
        let store = FileStore::new(folder).expect("it is there");
        let stopped = finish(folder, &store, &head(), |_| Err("stopped".into()));
        assert!(stopped.is_err());
        let other = Head {
            weights: vec!["v".into()],
            ..head()
        };
        let refused = |head: &Head| finish(folder, &store, head, |_| panic!("another")).err();
        let said = refused(&other).expect("other weights").to_string();
        assert!(said.contains("differs in its weights"), "{said}");
        finish(folder, &store, &head(), |journal| Ok(journal.close())).expect("it is written");
        assert!(refused(&other).is_some());
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
}
