//! How far a run is, and how long the rest will take.

use std::collections::BTreeSet;

use crate::clock::Clock;

/// The smallest part of a run that is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Its number among all units of the plan.
    pub number: usize,
    /// For people: what is being computed.
    pub label: String,
    /// What it takes, in any measure that all units of the experiment share.
    pub cost: f64,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Of the unit under way.
    pub label: String,
    /// Cost of what is done, and of the whole run.
    pub done: f64,
    pub total: f64,
    /// `None` before anything was finished.
    pub seconds_left: Option<f32>,
}

/// Measures progress by the cost of units: their number would run ahead of the time they take.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Cost of the units that are done.
    done: f64,
    total: f64,
    /// Cost of what was done since the start of the clock.
    here: f64,
    clock: Clock,
}

impl Meter {
    /// Of `units`, of which those in `done` were finished by earlier starts.
    pub fn new(units: &[Unit], done: &BTreeSet<usize>) -> Self {
        let finished = units.iter().filter(|unit| done.contains(&unit.number));
        Self {
            done: finished.map(|unit| unit.cost).sum(),
            total: units.iter().map(|unit| unit.cost).sum(),
            here: 0.0,
            clock: Clock::start(),
        }
    }

    /// A unit ended, of which `before`, 0 to 1, was done by an earlier start.
    pub fn finished(&mut self, unit: &Unit, before: f64) {
        self.done += unit.cost;
        self.here += unit.cost * (1.0 - before);
    }

    /// With a `share` of a unit done, 0 to 1; `before` of it by an earlier start.
    pub fn progress(&self, unit: &Unit, share: f64, before: f64) -> Progress {
        let done = self.done + unit.cost * share;
        let here = self.here + unit.cost * (share - before).max(0.0);
        let seconds = f64::from(self.clock.seconds()) * (self.total - done) / here;
        Progress {
            label: unit.label.clone(),
            done,
            total: self.total,
            seconds_left: (here > 0.0).then_some(seconds as f32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_earlier_starts_count_as_done_and_not_as_speed() {
        let unit = |number, cost| Unit {
            number,
            label: format!("unit {number}"),
            cost,
        };
        let units = [unit(0, 1.0), unit(1, 3.0), unit(2, 4.0)];
        let mut meter = Meter::new(&units, &[0].into());
        let begun = meter.progress(&units[1], 0.0, 0.0);
        assert_eq!(
            (begun.done, begun.total, begun.seconds_left),
            (1.0, 8.0, None)
        );
        let half = meter.progress(&units[1], 0.5, 0.0);
        assert!(half.done == 2.5 && half.seconds_left.is_some());
        // What an earlier start did of a unit says nothing of the speed.
        assert_eq!(meter.progress(&units[1], 0.5, 0.5).seconds_left, None);
        meter.finished(&units[1], 0.0);
        assert_eq!(meter.progress(&units[2], 0.0, 0.0).done, 4.0);
    }
}
