//! How long each part of the work took last time on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::progress::seconds;
use crate::shell::Shell;

/// From this on it is worth saying beforehand.
const LONG: Duration = Duration::from_secs(20);

/// Durations by the names of the parts, in whole seconds.
#[derive(Default)]
pub struct Times(BTreeMap<String, u64>);

impl Times {
    /// Those of earlier runs; none where there was none.
    pub fn read(shell: &Shell) -> Self {
        let text = fs::read_to_string(file(shell)).unwrap_or_default();
        let line = |line: &str| {
            let (seconds, name) = line.split_once(' ')?;
            Some((name.to_owned(), seconds.parse().ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Keeps them for the next run.
    ///
    /// # Errors
    /// Where the target folder cannot be written.
    pub fn write(&self, shell: &Shell) -> Result<()> {
        let file = file(shell);
        let lines = self.0.iter().map(|(name, time)| format!("{time} {name}\n"));
        fs::create_dir_all(shell.state())?;
        fs::write(&file, lines.collect::<String>()).with_context(|| file.display().to_string())
    }

    /// Keeps the time of one part.
    pub fn keep(&mut self, name: &str, took: Duration) {
        self.0.insert(name.to_owned(), took.as_secs());
    }

    /// A part's name, and how long it took last time where that was long.
    pub fn beside(&self, name: &str) -> String {
        match self.of(name) {
            Some(last) if last >= LONG => format!("{name} ({} last time)", seconds(last)),
            _ => name.to_owned(),
        }
    }

    /// Prints how long all parts took last time.
    pub fn announce<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) {
        let known: Vec<Duration> = names.clone().filter_map(|name| self.of(name)).collect();
        let (all, total) = (names.count(), seconds(known.iter().sum()));
        match known.len() {
            0 => eprintln!("xtask: {all} parts, none of which has run here before"),
            count if count == all => eprintln!("xtask: {all} parts, {total} last time"),
            count => eprintln!("xtask: {all} parts; {count} of them took {total} last time"),
        }
    }

    fn of(&self, name: &str) -> Option<Duration> {
        self.0.get(name).copied().map(Duration::from_secs)
    }
}

fn file(shell: &Shell) -> PathBuf {
    shell.state().join("times.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_and_only_long_ones_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Shell::new().unwrap();
        shell.target = folder.path().to_owned();
        let mut times = Times::read(&shell);
        assert_eq!(times.beside("native tests"), "native tests");
        times.keep("native tests", Duration::from_secs(200));
        times.keep("format", Duration::from_secs(2));
        times.write(&shell).unwrap();
        let times = Times::read(&shell);
        assert_eq!(times.beside("format"), "format");
        let said = times.beside("native tests");
        assert!(
            said.starts_with("native tests (") && said.ends_with(" last time)"),
            "{said}"
        );
    }
}
