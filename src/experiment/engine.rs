//! Runs the units of an experiment: one at a time where a single thread must wait for a device, or
//! several at a time on threads.

use std::future::ready;
#[cfg(feature = "cli")]
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::journal::{Journal, JournalError, JournalStore, Later, StateKeeper};
pub use super::meter::{Meter, Progress, Unit};
use crate::clock::Clock;
use crate::model::probe::{CancelToken, Cancelled};
#[cfg(feature = "cli")]
use crate::train::worker_pool::WorkerPool;

/// Work that comes apart into units, each of which gives rows.
#[allow(
    async_fn_in_trait,
    reason = "a unit stays on the thread it was begun on"
)]
pub trait Experiment {
    /// The document that the units come from.
    type Plan: Clone + PartialEq + Serialize + DeserializeOwned;
    /// What a unit finds.
    type Row: Clone + Serialize + DeserializeOwned;
    /// What the rows come to.
    type Report;
    type Error: std::error::Error;
    /// Stands in the head of journals.
    const KIND: &'static str;

    /// All units, in the order that shows most soonest.
    fn units(&self) -> Vec<Unit>;

    /// Runs a unit. The same unit gives the same rows wherever and whenever it is run on one
    /// backend.
    ///
    /// # Errors
    /// The run was cancelled, the device was lost, or the plan does not fit the data.
    async fn run(
        &self,
        unit: &Unit,
        context: &mut Context<'_, Self::Row>,
    ) -> Result<Vec<Self::Row>, Self::Error>;

    /// Of the rows of all units, or of those that are done.
    ///
    /// # Errors
    /// A plan that makes no sense.
    fn report(&self, rows: &[Self::Row]) -> Result<Self::Report, Self::Error>;
}

/// Why a run ended before its last unit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Stopped<E> {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Unit(E),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Sees a run from outside.
pub trait Watch<R> {
    /// Lets other work of the thread run, a message that cancels for example.
    fn pause(&self) -> Later<'_, ()> {
        Box::pin(ready(()))
    }

    /// How far the run is: told when a unit begins, and within long ones.
    fn progress(&self, _progress: &Progress) {}

    /// All rows so far, after a unit has ended, or with the row of the unit under way as it is.
    fn rows(&self, _rows: &[R], _under_way: Option<&R>) {}

    /// The journal cannot be written.
    ///
    /// # Errors
    /// Ends the run; without an error it goes on, and begins anew after a crash.
    fn not_kept(&self, error: JournalError) -> Result<(), JournalError> {
        Err(error)
    }
}

/// How the units of a run end early, and how often they are kept.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Ends the run within 200 ms.
    pub cancel: &'a CancelToken,
    /// The least time between two states of a unit that are kept, seconds.
    pub keep_every: f32,
}

/// How a unit tells of itself: how much of it is done, how much of that by an earlier start, and its
/// row so far.
type Told<'a, R> = &'a dyn Fn(f64, f64, Option<&R>);

/// What a unit needs of the run it is part of.
pub struct Context<'a, R> {
    pub place: Place<'a>,
    pub watch: &'a dyn Watch<R>,
    keeper: StateKeeper<'a, dyn JournalStore + 'a>,
    kept: Clock,
    told: Told<'a, R>,
    before: f64,
}

impl<'a, R> Context<'a, R> {
    /// At the beginning of a unit of the run whose journal is called `journal`.
    fn new(
        place: Place<'a>,
        watch: &'a dyn Watch<R>,
        (store, journal): (&'a (dyn JournalStore + 'a), &str),
        unit: &Unit,
        told: Told<'a, R>,
    ) -> Self {
        Self {
            place,
            watch,
            keeper: StateKeeper::new(store, journal, unit.number),
            kept: Clock::start(),
            told,
            before: 0.0,
        }
    }

    /// Lets other work run.
    ///
    /// # Errors
    /// The run was cancelled.
    pub async fn pause(&self) -> Result<(), Cancelled> {
        self.watch.pause().await;
        self.place.cancel.check()
    }

    /// What an earlier start has kept of this unit.
    pub async fn state(&mut self) -> Option<Vec<u8>> {
        self.keeper.read().await
    }

    /// How much of the unit an earlier start has done, 0 to 1.
    pub fn resumed(&mut self, share: f64) {
        self.before = share;
    }

    /// Whether the last state is old enough for another to be kept.
    pub fn is_keep_due(&self) -> bool {
        self.kept.seconds() >= self.place.keep_every
    }

    /// Keeps a state to go on from, in the place of the last one.
    ///
    /// # Errors
    /// A store that fails, where that ends the run; the last state is still there.
    pub async fn keep(&mut self, state: &[u8]) -> Result<(), JournalError> {
        let written = self.keeper.write(state).await;
        self.kept = Clock::start();
        written.or_else(|error| self.watch.not_kept(error))
    }

    /// Saves a file of the unit's that outlives the run; [`Journal::file`] reads it.
    ///
    /// # Errors
    /// A store that fails, where that ends the run.
    pub async fn save(&self, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let written = self.keeper.save(name, bytes).await;
        written.or_else(|error| self.watch.not_kept(error))
    }

    /// Tells how much of the unit is done, 0 to 1.
    pub fn progress(&self, share: f64) {
        (self.told)(share, self.before, None);
    }

    /// Shows the unit's row as it is.
    pub fn show(&self, share: f64, row: &R) {
        (self.told)(share, self.before, Some(row));
    }
}

/// Runs those of `units` that are not done, one after the other.
///
/// # Errors
/// [`Stopped`]: what was finished before is in the journal.
pub async fn drive<E: Experiment>(
    experiment: &E,
    units: &[Unit],
    journal: &mut Journal<'_, E::Row>,
    place: Place<'_>,
    watch: &dyn Watch<E::Row>,
) -> Result<(), Stopped<E::Error>> {
    let mut meter = Meter::new(units, journal.done());
    let mut is_kept = true;
    for unit in units {
        if journal.done().contains(&unit.number) {
            continue;
        }
        watch.progress(&meter.progress(unit, 0.0, 0.0));
        let told = |share: f64, before: f64, row: Option<&E::Row>| {
            watch.progress(&meter.progress(unit, share, before));
            if row.is_some() {
                watch.rows(journal.rows(), row);
            }
        };
        let kept_in = (journal.store(), journal.name());
        let mut context = Context::new(place, watch, kept_in, unit, &told);
        let rows = experiment.run(unit, &mut context).await;
        let before = context.before;
        let pushed = journal.push(unit.number, rows.map_err(Stopped::Unit)?);
        // The context, which sees the rows, has ended here with its own.
        let keeper = StateKeeper::new(journal.store(), journal.name(), unit.number);
        match pushed {
            // Said once: the journal does not come back.
            Err(error) if is_kept => {
                watch.not_kept(error)?;
                is_kept = false;
            }
            _ => keeper.clear().await,
        }
        meter.finished(unit, before);
        watch.rows(journal.rows(), None);
        watch.pause().await;
        place.cancel.check().map_err(|_| Stopped::Cancelled)?;
    }
    Ok(())
}

/// Runs those of `units` that are not done, as many at a time as there are workers, a thread each.
///
/// # Errors
/// [`Stopped`], by the first unit that failed: what was finished before is in the journal.
#[cfg(feature = "cli")]
pub fn drive_on_threads<E, S>(
    experiment: &E,
    units: &[Unit],
    journal: Journal<'_, E::Row, S>,
    place: Place<'_>,
    workers: &WorkerPool,
    watch: &(dyn Watch<E::Row> + Sync),
) -> Result<Vec<E::Row>, Stopped<E::Error>>
where
    E: Experiment<Row: Send, Error: Send> + Sync,
    S: JournalStore + Sync,
{
    let meter = Mutex::new(Meter::new(units, journal.done()));
    let done = journal.done().clone();
    let open: Vec<&Unit> = units
        .iter()
        .filter(|unit| !done.contains(&unit.number))
        .collect();
    let (store, name) = (journal.store(), journal.name().to_owned());
    let journal = Mutex::new(journal);
    let outcome = workers.queue(&open, |unit| {
        // Another thread that panicked has left these as they were.
        let meter = || meter.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |share: f64, before: f64, row: Option<&E::Row>| {
            watch.progress(&meter().progress(unit, share, before));
            if row.is_some() {
                watch.rows(&[], row);
            }
        };
        told(0.0, 0.0, None);
        place.cancel.check().map_err(|_| Stopped::Cancelled)?;
        let mut context = Context::new(place, watch, (store, &name), unit, &told);
        let rows = pollster::block_on(experiment.run(unit, &mut context));
        let Context { keeper, before, .. } = context;
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        let pushed = journal.push(unit.number, rows.map_err(Stopped::Unit)?);
        pushed.or_else(|error| watch.not_kept(error))?;
        pollster::block_on(keeper.clear());
        meter().finished(unit, before);
        watch.rows(journal.rows(), None);
        Ok(())
    });
    let cancelled = place.cancel.is_cancelled();
    let rows = journal.into_inner().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        _ if cancelled => Err(Stopped::Cancelled),
        Err(stopped) => Err(stopped),
        Ok(_) => Ok(rows.close()),
    }
}
