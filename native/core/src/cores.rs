//! Work on all cores, also in a process that was forked from one that had done so.
//!
//! rayon's own pool would wait there for threads that a fork does not take along.

use std::process;
use std::sync::Mutex;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The pool, and the process whose threads it has.
static POOL: Mutex<Option<(u32, &'static ThreadPool)>> = Mutex::new(None);

/// Do `work`, within which rayon's iterators use all cores.
///
/// Where no threads can be had it is done on the calling one.
pub fn on_all_cores<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match pool() {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

fn pool() -> Option<&'static ThreadPool> {
    let build = || {
        ThreadPoolBuilder::new()
            .build()
            .ok()
            .map(|pool| &*Box::leak(Box::new(pool)))
    };
    // a fork may have come while another thread held the lock: then nobody gives it back
    let Ok(mut held) = POOL.try_lock() else {
        return build();
    };
    let here = process::id();
    if let Some((process, pool)) = *held
        && process == here
    {
        return Some(pool);
    }
    let pool = build()?;
    *held = Some((here, pool));
    Some(pool)
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::on_all_cores;

    #[test]
    fn work_is_done_and_nests() {
        let sum = on_all_cores(|| {
            (0..100u32)
                .into_par_iter()
                .map(|n| on_all_cores(|| n * 2))
                .sum::<u32>()
        });

        assert_eq!(sum, 9900);
    }
}
