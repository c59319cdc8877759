//! A device that stops computing.

use burn::tensor::ExecutionError;

/// The device failed while it computed; nothing is wrong with what was asked. The only error on
/// which work goes on with the CPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device failed while it computed: {cause}")]
pub struct DeviceLost {
    /// As the backend reports it.
    pub cause: String,
}

impl From<ExecutionError> for DeviceLost {
    fn from(error: ExecutionError) -> Self {
        Self {
            cause: format!("{error:?}"),
        }
    }
}
