//! A pool of threads for the parts of a batch, or for jobs.
//!
//! Burn's CPU backend shares one operation among threads, and a compact network's operations are
//! too short for that to pay. A batch split into parts keeps every core busy throughout.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// One rayon pool per part, so that no part waits for another's threads.
pub struct WorkerPool {
    pools: Vec<ThreadPool>,
}

impl WorkerPool {
    /// A pool for `parts` parts at a time, which share the machine's cores evenly.
    pub fn new(parts: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = || {
            ThreadPoolBuilder::new()
                .num_threads((cores / parts.max(1)).max(1))
                .build()
        };
        // Where no thread can be started there is no pool, and the caller runs the part.
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

    /// `work` on every job, as many at a time as the pool has parts; the results in the order of
    /// the jobs. After a failure no other job is begun.
    ///
    /// # Errors
    /// The first failure of the first part that had one.
    pub fn queue<J: Sync, T: Send, E: Send>(
        &self,
        jobs: &[J],
        work: impl Fn(&J) -> Result<T, E> + Sync,
    ) -> Result<Vec<T>, E> {
        let next = AtomicUsize::new(0);
        let parts = self.each((0..self.pools.len().max(1)).collect(), |_: usize| {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(number) else {
                    return Ok(done);
                };
                match work(job) {
                    Ok(result) => done.push((number, result)),
                    Err(error) => {
                        next.store(jobs.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        });
        let mut done = Vec::with_capacity(jobs.len());
        for part in parts {
            done.extend(part?);
        }
        done.sort_unstable_by_key(|(number, _)| *number);
        Ok(done.into_iter().map(|(_, result)| result).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicUsize, Ordering, WorkerPool};

    #[test]
    fn every_part_is_worked_on_once_and_in_order() {
        let squares: Vec<usize> = (0..5).map(|i| i * i).collect();
        assert_eq!(
            WorkerPool::new(2).each((0..5).collect(), |i: usize| i * i),
            squares
        );
    }

    #[test]
    fn a_queue_keeps_its_order_and_begins_nothing_after_a_failure() {
        let jobs: Vec<usize> = (0..50).collect();
        let doubled = WorkerPool::new(3).queue(&jobs, |job| Ok::<_, ()>(2 * job));
        assert_eq!(doubled, Ok(jobs.iter().map(|job| 2 * job).collect()));
        let begun = AtomicUsize::new(0);
        let failed = WorkerPool::new(1).queue(&jobs, |job| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *job == 7 { Err("seven") } else { Ok(()) }
        });
        assert_eq!(failed, Err("seven"));
        assert_eq!(begun.into_inner(), 8);
    }
}
