//! A batch in parts, one thread each.
//!
//! Burn's CPU backend shares one operation among threads, and a compact network's operations are
//! too short for that to pay. A batch cut in parts keeps every core busy from end to end.

use rayon::{ThreadPool, ThreadPoolBuilder};

/// One pool of threads a part, so that the parts never wait for each other's.
pub struct Crew {
    pools: Vec<ThreadPool>,
}

impl Crew {
    /// A crew for `parts` parts at a time, which share the machine's cores evenly.
    pub fn new(parts: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = || {
            ThreadPoolBuilder::new()
                .num_threads((cores / parts.max(1)).max(1))
                .build()
        };
        // Where no thread can be started there is no pool, and the caller does the work.
        let pools = (0..parts).map_while(|_| pool().ok()).collect();
        Self { pools }
    }

    /// `work` on every part; the results in the order of the parts.
    pub fn each<P: Send, T: Send>(&self, parts: Vec<P>, work: impl Fn(P) -> T + Sync) -> Vec<T> {
        let work = &work;
        let mut results: Vec<Option<T>> = parts.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            for (i, (part, result)) in parts.into_iter().zip(&mut results).enumerate() {
                match self.pools.get(i) {
                    Some(pool) => drop(scope.spawn(move || {
                        *result = Some(pool.install(|| work(part)));
                    })),
                    None => *result = Some(work(part)),
                }
            }
        });
        // A panic in a part has passed through the scope by now: every result is there.
        results.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Crew;

    #[test]
    fn every_part_is_worked_on_once_and_in_order() {
        let squares: Vec<usize> = (0..5).map(|i| i * i).collect();
        assert_eq!(
            Crew::new(2).each((0..5).collect(), |i: usize| i * i),
            squares
        );
    }
}
