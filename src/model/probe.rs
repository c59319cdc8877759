//! Taps: how the activations inside a network are read, by name.
//!
//! A forward pass announces every area (and every time step of a recurrent one) to a [`Probe`].
//! The probe keeps those that were asked for and is the one place where a long pass can be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Tensor;

/// The pass was cancelled by its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// A flag, cheap to read, that says whether the user has cancelled. Long work holds a clone of it.
#[derive(Clone, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    /// A flag that another thread can raise while this one computes (shared memory in the
    /// browser).
    outside: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl CancelToken {
    /// A token that also calls `outside`, at every area of every pass.
    pub fn watching(outside: Arc<dyn Fn() -> bool + Send + Sync>) -> Self {
        Self {
            flag: Arc::default(),
            outside: Some(outside),
        }
    }

    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
            || self.outside.as_ref().is_some_and(|is_raised| is_raised())
    }

    /// `Err(Cancelled)` once the user has cancelled.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            return Err(Cancelled);
        }
        Ok(())
    }
}

/// Which taps a pass keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Taps {
    #[default]
    None,
    All,
    /// By name; the name of a recurrent area alone (`V4`) is its last time step.
    Named(Vec<String>),
}

impl Taps {
    fn wants(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(names) => names.iter().any(|n| n == name),
        }
    }
}

/// Takes the activations of a forward pass. The default keeps nothing and cannot be cancelled.
#[derive(Default)]
pub struct Probe {
    taps: Taps,
    cancel: CancelToken,
    kept: Vec<(String, Tensor<4>)>,
}

impl Probe {
    pub fn new(taps: Taps, cancel: CancelToken) -> Self {
        Self {
            taps,
            cancel,
            kept: Vec::new(),
        }
    }

    /// Announces the output of an area, `[batch, channels, height, width]`.
    pub fn record(&mut self, name: &str, x: &Tensor<4>) -> Result<(), Cancelled> {
        self.cancel.check()?;
        if self.taps.wants(name) {
            self.kept.push((name.to_owned(), x.clone()));
        }
        Ok(())
    }

    /// Announces a layer between areas, kept only when it is asked for by name.
    pub fn record_detail(&mut self, name: &str, x: &Tensor<4>) -> Result<(), Cancelled> {
        match &self.taps {
            Taps::Named(_) => self.record(name, x),
            _ => self.cancel.check(),
        }
    }

    /// Announces time step `t` of `times` of a recurrent area as `AREA.t0`, …; the last one
    /// also under the area's own name when that is asked for.
    pub fn record_step(
        &mut self,
        area: &str,
        t: usize,
        times: usize,
        x: &Tensor<4>,
    ) -> Result<(), Cancelled> {
        self.record(&format!("{area}.t{t}"), x)?;
        let named = matches!(&self.taps, Taps::Named(_));
        if named && t + 1 == times {
            self.record(area, x)?;
        }
        Ok(())
    }

    /// By tap name, in the order of the signal.
    pub fn into_activations(self) -> Vec<(String, Tensor<4>)> {
        self.kept
    }
}
