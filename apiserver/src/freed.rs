//! Adds up what large work has freed, and has it given back to the system a moment later. Without such work it has no timer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, task::spawn_blocking, time::sleep};

/// So much is worth walking the heap for.
const WORTH_BYTES: usize = 16 << 20;
/// Within which most of a burst is over.
const PAUSE: Duration = Duration::from_secs(1);

/// What was freed since memory was last given back.
pub(crate) struct Freed {
    bytes: AtomicUsize,
    give_back: fn(),
}

impl Freed {
    pub(crate) fn new(give_back: fn()) -> Arc<Self> {
        Arc::new(Freed {
            bytes: AtomicUsize::new(0),
            give_back,
        })
    }

    /// Notes that so much is free; whoever makes it worth the while sees to the rest.
    pub(crate) fn note(self: &Arc<Self>, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_worth_it = before < WORTH_BYTES && before + bytes >= WORTH_BYTES;
        // Without a runtime the process is about to end.
        let Some(runtime) = Handle::try_current().ok().filter(|_| is_worth_it) else {
            return;
        };
        let freed = self.clone();
        runtime.spawn(async move {
            sleep(PAUSE).await;
            freed.bytes.store(0, Ordering::Relaxed);
            // The heap is locked meanwhile, part by part.
            let _ = spawn_blocking(freed.give_back).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);

    #[tokio::test]
    async fn memory_is_given_back_once_for_each_burst_and_never_without_one() {
        let freed = Freed::new(|| {
            GIVEN_BACK.fetch_add(1, Ordering::SeqCst);
        });
        let count = || GIVEN_BACK.load(Ordering::SeqCst);
        let wait_for = async |wanted: usize| {
            let reached = async {
                while count() < wanted {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            assert!(timeout(PAUSE * 60, reached).await.is_ok(), "{wanted}");
        };
        freed.note(WORTH_BYTES - 1);
        let began = Instant::now();
        for _ in 0..100 {
            freed.note(WORTH_BYTES);
        }
        wait_for(1).await;
        assert!(began.elapsed() >= PAUSE, "it did not wait");
        freed.note(WORTH_BYTES);
        wait_for(2).await;
        assert_eq!(freed.bytes.load(Ordering::SeqCst), 0);
        freed.note(WORTH_BYTES - 1);
        assert_eq!(count(), 2);
    }
}
