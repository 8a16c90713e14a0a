//! Waiting is always for a condition, with a deadline.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// Asks again and again until the answer is `Ok`; panics with the last `Err` after the deadline.
pub(crate) fn until<T, E: Debug>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if Instant::now() >= deadline => {
                panic!("{what}: not within {limit:?}: {why:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Asks until it holds; says whether it did within the limit.
pub(crate) fn poll(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
