//! Plans are read before anything runs.

use super::engine::Host;
use super::error::SessionError;
use super::protocol::{Event, PlanKind};
use crate::{align, experiment};

/// Checks a plan and reports its models.
///
/// # Errors
/// What is wrong with it.
pub fn read(kind: PlanKind, text: &str, host: &dyn Host) -> Result<(), SessionError> {
    let models = match kind {
        PlanKind::Test => experiment::robustness::plan::Plan::parse(text)?.models,
        PlanKind::Align => align::plan::Plan::parse(text)?.models(),
    };
    host.tell(Event::Plan { models });
    Ok(())
}
