//! Elapsed time, natively and in the browser.

/// Counts from its start.
#[derive(Clone, Copy, Debug)]
pub struct Clock(web_time::Instant);

impl Clock {
    pub fn start() -> Self {
        Self(web_time::Instant::now())
    }

    pub fn seconds(self) -> f32 {
        self.0.elapsed().as_secs_f32()
    }

    pub fn milliseconds(self) -> f32 {
        1000.0 * self.seconds()
    }
}
