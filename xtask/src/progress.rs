//! Progress lines with times.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing had to be done; the text says what was found.
    Ready(String),
    /// It was done now; the text gives the result.
    Done(String),
    /// It is missing and the work continues without it; the text says with what consequence.
    Without(String),
}

/// Numbered steps under one heading, with their times.
pub struct Progress {
    heading: &'static str,
    total: usize,
    at: usize,
    begun: Instant,
}

impl Progress {
    /// Begins `total` steps under `heading`.
    pub fn new(heading: &'static str, total: usize) -> Self {
        Self {
            heading,
            total,
            at: 0,
            begun: Instant::now(),
        }
    }

    /// Runs one step and prints a line with its result and time.
    ///
    /// # Errors
    /// Those of the step, after a line that says that it failed.
    pub fn step(&mut self, name: &str, run: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
        self.at += 1;
        let begun = Instant::now();
        let outcome = run();
        let text = match &outcome {
            Ok(Outcome::Ready(text)) => format!("ready: {text}"),
            Ok(Outcome::Done(text)) => format!("done: {text}"),
            Ok(Outcome::Without(text)) => format!("WITHOUT: {text}"),
            Err(_) => "FAILED".into(),
        };
        self.say(name, &text, begun.elapsed());
        outcome
    }

    /// Announces a step that takes a while.
    pub fn announce(name: impl Display, what: impl Display) {
        eprintln!("xtask: {name}: {what} …");
    }

    fn say(&self, name: &str, text: &str, took: Duration) {
        let place = format!("{} {}/{}", self.heading, self.at, self.total);
        let (took, since) = (seconds(took), seconds(self.begun.elapsed()));
        eprintln!("xtask: [{place}] {name}: {text} ({took}; {since} in all)");
    }
}

/// A duration for people: `0.02 s`, `41 s`, `12 min 05 s`.
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.2} s", time.as_secs_f64()),
        whole @ 10..=119 => format!("{whole} s"),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// A size for people, in units of 1000.
pub fn bytes(size: u64) -> String {
    match size {
        0..=9_999 => format!("{size} B"),
        10_000..=999_999 => format!("{:.1} KB", size as f64 / 1e3),
        _ => format!("{:.2} MB", size as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(seconds(Duration::from_millis(20)), "0.02 s");
        assert_eq!(seconds(Duration::from_secs(41)), "41 s");
        assert_eq!(seconds(Duration::from_secs(725)), "12 min 05 s");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(399_500), "399.5 KB");
        assert_eq!(bytes(4_700_000), "4.70 MB");
    }
}
