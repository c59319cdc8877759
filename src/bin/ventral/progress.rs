//! Progress bars.

use indicatif::{ProgressBar, ProgressStyle};
use ventral::align::shards::Crew;
use ventral::experiment::engine::{
    Experiment, Place, Progress, Stopped, Unit, Watch, drive_on_threads,
};
use ventral::experiment::journal::{Journal, JournalStore};

use crate::{Failure, interrupt};

/// The least time between two states of a unit that are kept, seconds: the weights of a large model
/// take a while to write.
const KEEP_EVERY: f32 = 30.0;

/// A bar of `length` in a template of `indicatif`'s; hidden where there is no terminal.
pub fn bar(template: &str, length: u64) -> ProgressBar {
    // The templates are constants of ours; a fault in one shows on the first run.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Shows how far a run is.
struct Bar(ProgressBar);

impl<R> Watch<R> for Bar {
    fn progress(&self, progress: &Progress) {
        // Costs may be small numbers or large ones; a bar counts in whole ones.
        let share = progress.done / progress.total.max(f64::MIN_POSITIVE);
        self.0
            .set_position((share * self.0.length().unwrap_or(0) as f64) as u64);
        self.0.set_message(progress.label.clone());
    }
}

/// Runs those of `units` that are not done, `jobs` at a time, with a bar and until Ctrl-C.
pub fn on_threads<E, S>(
    experiment: &E,
    units: &[Unit],
    journal: Journal<'_, E::Row, S>,
    jobs: usize,
) -> Result<Vec<E::Row>, Failure>
where
    E: Experiment<Row: Send, Error: Send + 'static> + Sync,
    S: JournalStore + Sync,
{
    let bar = bar("{wide_bar} {percent} % {eta} {msg}", 10_000);
    let place = Place {
        cancel: &interrupt::on_ctrl_c(),
        keep_every: KEEP_EVERY,
    };
    let watch = Bar(bar.clone());
    let rows = drive_on_threads(experiment, units, journal, place, &Crew::new(jobs), &watch);
    bar.finish_and_clear();
    match rows {
        Err(Stopped::Cancelled) => {
            Err("stopped; what is finished is kept, and the same command goes on".into())
        }
        rows => rows.map_err(|stopped| stopped.to_string().into()),
    }
}
