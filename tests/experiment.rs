//! A third kind of experiment: what it takes to add one, and what it is then given.
#![cfg(feature = "cli")]

use std::cell::Cell;
use std::convert::Infallible;
use std::fs;

use ventral::experiment::engine::{
    Context, Experiment, Place, Progress, Stopped, Unit, Watch, drive, drive_on_threads,
};
use ventral::experiment::files::FileStore;
use ventral::experiment::journal::{Head, Journal, JournalStore, MemoryStore, Otherwise};
use ventral::experiment::shard::Shard;
use ventral::image::dataset::LabelledSet;
use ventral::model::probe::CancelToken;
use ventral::train::worker_pool::WorkerPool;

/// The mean pixel of each image of a set.
struct MeanPixel {
    set: LabelledSet,
    /// Images a unit.
    batch: usize,
}

impl Experiment for MeanPixel {
    type Plan = usize;
    /// An image and its mean.
    type Row = (usize, f32);
    type Report = f32;
    type Error = Infallible;
    const KIND: &'static str = "mean pixel";

    fn units(&self) -> Vec<Unit> {
        let firsts = (0..self.set.len()).step_by(self.batch).enumerate();
        let unit = |(number, first): (usize, usize)| Unit {
            number,
            label: format!("from image {first}"),
            cost: self.batch.min(self.set.len() - first) as f64,
        };
        firsts.map(unit).collect()
    }

    async fn run(
        &self,
        unit: &Unit,
        _: &mut Context<'_, (usize, f32)>,
    ) -> Result<Vec<(usize, f32)>, Infallible> {
        let first = unit.number * self.batch;
        let images = first..(first + self.batch).min(self.set.len());
        let mean = |image: usize| {
            let pixels = self.set.image(image).unwrap_or_default();
            let sum: f32 = pixels.iter().map(|p| f32::from(*p)).sum();
            (image, sum / pixels.len() as f32)
        };
        Ok(images.map(mean).collect())
    }

    fn report(&self, rows: &[(usize, f32)]) -> Result<f32, Infallible> {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|(image, _)| *image);
        Ok(rows.iter().map(|(_, mean)| mean).sum::<f32>() / rows.len() as f32)
    }
}

fn experiment() -> MeanPixel {
    let set = LabelledSet {
        images: (0..10 * 12_usize).map(|i| (i * i % 251) as u8).collect(),
        labels: vec![0; 10],
        classes: vec!["any".to_owned()],
        size: 2,
    };
    MeanPixel { set, batch: 3 }
}

fn head(batch: usize) -> Head<usize> {
    Head {
        kind: MeanPixel::KIND.to_owned(),
        plan: batch,
        images: 10,
        data: Vec::new(),
        weights: Vec::new(),
        program: "test".to_owned(),
        classes: Vec::new(),
        backend: "CPU".to_owned(),
    }
}

/// Counts, and raises a token after so many units.
#[derive(Default)]
struct Counting {
    stop_after: Option<usize>,
    token: CancelToken,
    units: Cell<usize>,
    last: Cell<f64>,
}

impl Watch<(usize, f32)> for Counting {
    fn progress(&self, progress: &Progress) {
        assert!(progress.done >= self.last.replace(progress.done));
        assert_eq!(progress.total, 10.0);
    }

    fn rows(&self, _: &[(usize, f32)], _: Option<&(usize, f32)>) {
        self.units.set(self.units.get() + 1);
        if self.stop_after == Some(self.units.get()) {
            self.token.cancel();
        }
    }
}

/// How a run ended, and its rows.
type Ended = (Result<(), Stopped<Infallible>>, Vec<(usize, f32)>);

/// Runs `units` one after the other, from what `store` holds.
fn run(store: &MemoryStore, units: &[Unit], watch: &Counting) -> Ended {
    let (store, head) = (store as &dyn JournalStore, head(3));
    let opened = Journal::open(store, "means", &head, Otherwise::Refuse);
    let mut journal = pollster::block_on(opened).expect("memory keeps");
    let place = Place {
        cancel: &watch.token,
        keep_every: 0.0,
    };
    let ended = pollster::block_on(drive(&experiment(), units, &mut journal, place, watch));
    (ended, journal.close())
}

#[test]
fn a_run_that_was_interrupted_goes_on_and_ends_the_same() {
    let units = experiment().units();
    let (ended, whole) = run(&MemoryStore::default(), &units, &Counting::default());
    assert_eq!((ended, whole.len()), (Ok(()), 10));

    let store = MemoryStore::default();
    let stopping = Counting {
        stop_after: Some(2),
        ..Counting::default()
    };
    let (ended, rows) = run(&store, &units, &stopping);
    assert_eq!((ended, rows.len()), (Err(Stopped::Cancelled), 6));
    // The last line is torn, as a crash leaves it: its unit is run again.
    let torn = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 4);
    store
        .files
        .borrow_mut()
        .entry("means".to_owned())
        .and_modify(torn);
    let counting = Counting::default();
    let (ended, rows) = run(&store, &units, &counting);
    assert_eq!((ended, counting.units.get()), (Ok(()), 3));
    assert_eq!(rows, whole);
    assert_eq!(experiment().report(&rows), experiment().report(&whole));
}

#[test]
fn a_journal_of_another_run_is_refused_by_name() {
    let store = MemoryStore::default();
    let (ended, _) = run(&store, &experiment().units(), &Counting::default());
    assert_eq!(ended, Ok(()));
    let open = |otherwise| {
        let (store, head) = (&store as &dyn JournalStore, head(4));
        let opened = Journal::<(usize, f32)>::open(store, "means", &head, otherwise);
        pollster::block_on(opened).map(|journal| journal.rows().len())
    };
    let refused = open(Otherwise::Refuse)
        .expect_err("another plan")
        .to_string();
    assert!(
        refused.contains("means is of another run (it differs in its plan)"),
        "{refused}"
    );
    assert_eq!(open(Otherwise::Replace), Ok(0));
    // What is no journal at all, or one of another version.
    store
        .files
        .borrow_mut()
        .insert("means".to_owned(), b"{\"old\": 1}\n".to_vec());
    let refused = open(Otherwise::Refuse).expect_err("no journal").to_string();
    assert!(refused.contains("this is no journal of a run"), "{refused}");
}

/// Sees nothing.
struct Blind;

impl Watch<(usize, f32)> for Blind {}

#[test]
fn shards_on_threads_and_on_disk_merge_to_the_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = FileStore::new(folder.path()).expect("it is there");
    let workers = WorkerPool::new(2);
    let part = |shard: Shard| {
        let mut units = experiment().units();
        units.retain(|unit| shard.takes(unit.number));
        let name = format!("shard-{shard}.jsonl");
        let head = head(3);
        let journal = Journal::open(&store, &name, &head, Otherwise::Refuse);
        let journal = pollster::block_on(journal).expect("it is new");
        let place = Place {
            cancel: &CancelToken::default(),
            keep_every: 0.0,
        };
        let rows = drive_on_threads(&experiment(), &units, journal, place, &workers, &Blind);
        let mut rows = rows.expect("nothing fails");
        rows.sort_by_key(|(image, _)| *image);
        rows
    };
    let whole = part(Shard::WHOLE);
    let halves: Vec<Shard> = ["1/2", "2/2"].map(|s| s.parse().expect(s)).into();
    let mut merged: Vec<_> = halves.iter().flat_map(|shard| part(*shard)).collect();
    merged.sort_by_key(|(image, _)| *image);
    assert_eq!(merged, whole);
    assert_eq!(whole.len(), 10);
    // A shard that is finished in its journal is not run again.
    assert_eq!(part(halves[0]).len(), 6);
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 3);
}
