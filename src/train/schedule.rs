//! The learning rate over a run, of training and alignment.

use serde::{Deserialize, Serialize};

use super::demand::Demand;

/// The learning rate over a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    #[serde(default)]
    pub kind: ScheduleKind,
    /// The highest rate, above 0.
    pub peak: f64,
    /// Fraction of the run spent warming up, at least 0 and below 1.
    #[serde(default)]
    pub warm_up: f64,
    /// Step only: fractions of the run, ascending, at each of which the rate drops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<f64>,
    /// Step only: instead of milestones, a drop every so many epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<usize>,
    /// Step only: what a drop multiplies the rate by, above 0 and below 1; 0.1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// One cycle (Smith and Topin 2018): linear warm-up to the peak, linear descent to zero.
    #[default]
    OneCycle,
    /// The peak, less by a factor at every milestone.
    Step,
}

impl ScheduleConfig {
    /// The learning rate at `progress` in [0, 1] of a run of `epochs`.
    pub fn rate(&self, progress: f64, epochs: usize) -> f64 {
        let rising = progress / self.warm_up.max(f64::EPSILON);
        match self.kind {
            ScheduleKind::OneCycle => {
                let falling = (1.0 - progress) / (1.0 - self.warm_up).max(f64::EPSILON);
                self.peak * rising.min(falling).clamp(0.0, 1.0)
            }
            ScheduleKind::Step => {
                let warm = if self.warm_up > 0.0 {
                    rising.min(1.0)
                } else {
                    1.0
                };
                let drops = self.drops(progress, epochs);
                self.peak * warm * self.factor.unwrap_or(0.1).powi(drops as i32)
            }
        }
    }

    fn drops(&self, progress: f64, epochs: usize) -> usize {
        // The progress at an epoch's first step is a quotient, perhaps rounded down.
        let reached = progress + 1e-9;
        match self.every {
            Some(every) => (reached * epochs as f64) as usize / every.max(1),
            None => self.milestones.iter().filter(|m| **m <= reached).count(),
        }
    }
}

impl ScheduleConfig {
    pub(super) fn demands(&self) -> Vec<Demand> {
        let is_step = self.kind == ScheduleKind::Step;
        let has_steps = !self.milestones.is_empty() || self.every.is_some();
        vec![
            (
                (0.0..1.0).contains(&self.warm_up),
                "schedule.warm_up must be at least 0 and below 1",
            ),
            (
                self.peak.is_finite() && self.peak > 0.0,
                "schedule.peak must be above 0",
            ),
            (
                is_step || !(has_steps || self.factor.is_some()),
                "schedule.milestones, every and factor belong to kind = \"step\"",
            ),
            (
                !is_step || self.milestones.is_empty() == self.every.is_some(),
                "a step schedule has either milestones or every",
            ),
            (
                self.milestones.iter().all(|m| (0.0..=1.0).contains(m)),
                "schedule.milestones are fractions of the run, from 0 to 1",
            ),
            (
                self.milestones.is_sorted(),
                "schedule.milestones must ascend",
            ),
            (self.every != Some(0), "schedule.every must be at least 1"),
            (
                self.factor.is_none_or(|f| f > 0.0 && f < 1.0),
                "schedule.factor must be above 0 and below 1",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> ScheduleConfig {
        ScheduleConfig {
            kind,
            peak: 0.4,
            warm_up: 0.0,
            milestones: Vec::new(),
            every: None,
            factor: None,
        }
    }

    fn assert_rates(schedule: &ScheduleConfig, epochs: usize, table: &[(f64, f64)]) {
        for (progress, rate) in table {
            let ours = schedule.rate(*progress, epochs);
            assert!((ours - rate).abs() < 1e-12, "{progress}: {ours}");
        }
    }

    #[test]
    fn one_cycle_rises_and_falls() {
        let schedule = ScheduleConfig {
            warm_up: 0.25,
            ..schedule(ScheduleKind::OneCycle)
        };
        let table = [
            (0.0, 0.0),
            (0.125, 0.2),
            (0.25, 0.4),
            (0.625, 0.2),
            (1.0, 0.0),
        ];
        assert_rates(&schedule, 20, &table);
    }

    #[test]
    fn steps_drop_at_milestones_or_every_so_many_epochs() {
        let milestones = ScheduleConfig {
            warm_up: 0.1,
            milestones: vec![0.5, 0.75],
            factor: Some(0.5),
            ..schedule(ScheduleKind::Step)
        };
        let table = [
            (0.0, 0.0),
            (0.05, 0.2),
            (0.1, 0.4),
            (0.4999, 0.4),
            (0.5, 0.2),
            (0.75, 0.1),
            (1.0, 0.1),
        ];
        assert_rates(&milestones, 20, &table);
        let every = ScheduleConfig {
            every: Some(20),
            ..schedule(ScheduleKind::Step)
        };
        // 70 epochs of 3 steps: the rate of a VOneNet's run.
        for epoch in 0..70 {
            let progress = f64::from(3 * epoch) / 210.0;
            let wanted = 0.4 * 0.1_f64.powi(epoch / 20);
            let ours = every.rate(progress, 70);
            assert!((ours - wanted).abs() < 1e-12, "epoch {epoch}: {ours}");
        }
    }
}
