//! Elapsed time, natively and in the browser.

/// A clock that runs from its creation.
#[derive(Clone, Copy, Debug)]
pub struct Clock(web_time::Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(web_time::Instant::now())
    }

    /// Seconds since the start.
    pub fn seconds(self) -> f32 {
        self.0.elapsed().as_secs_f32()
    }

    /// Milliseconds since the start.
    pub fn milliseconds(self) -> f32 {
        1000.0 * self.seconds()
    }
}
