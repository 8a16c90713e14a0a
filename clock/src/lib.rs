//! The machine's two clocks: the calendar's, which anybody may set, and one that only grows. Says when the calendar's was
//! set; what follows from that is its users' to decide.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::LazyLock,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};

/// A moment on both clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the Unix epoch, as far as the machine knows: what users are shown, and what times in objects mean.
    pub wall_ns: i128,
    /// Since this process first asked: what pauses and deadlines of ours are measured with.
    pub steady_ns: i128,
}

impl Now {
    pub fn read() -> Now {
        Now {
            wall_ns: jiff::Timestamp::now().as_nanosecond(),
            steady_ns: steady_ns(),
        }
    }
}

/// Grows while the machine is awake, whatever is done to its clock.
pub fn steady_ns() -> i128 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    i128::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(i128::MAX)
}

/// How often the clock was set; who waits for a time of day looks again whenever this changes.
pub type Settings = watch::Receiver<u64>;

/// Counts the settings of the clock from here on, in a task that lives as long as anybody follows them.
///
/// Waking from sleep counts too: the steady clock stood still meanwhile, and so did every timer.
pub fn follow() -> Settings {
    let (sender, settings) = watch::channel(0);
    tokio::spawn(async move {
        tokio::select! {
            Err(error) = count(&sender) => {
                tracing::warn!(%error, "nothing tells when the clock is set: what waits for a time of day may be late");
                sender.closed().await;
            }
            () = sender.closed() => {}
        }
    });
    settings
}

async fn count(sender: &watch::Sender<u64>) -> io::Result<Infallible> {
    let alarm = Alarm::new()?.watched()?;
    loop {
        let mut ready = alarm.readable().await?;
        ready.get_inner().arm()?;
        ready.clear_ready();
        sender.send_modify(|count| *count += 1);
    }
}

/// A timer that is far away, and that the kernel cancels whenever the clock is set.
struct Alarm {
    timer: TimerFd,
    number: RawFd,
}

impl Alarm {
    fn new() -> io::Result<Alarm> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        let number = timer.as_fd().as_raw_fd();
        let alarm = Alarm { timer, number };
        alarm.arm()?;
        Ok(alarm)
    }

    fn watched(self) -> io::Result<AsyncFd<Alarm>> {
        // SAFETY: the number is that of the timer beside it, which is closed after the registration has ended.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }.map_err(Into::into)
    }

    fn arm(&self) -> io::Result<()> {
        /// The kernel's clock ends before the year 2262.
        const FAR: Duration = Duration::from_secs(9_000_000_000);
        let at = Expiration::OneShot(TimeSpec::from_duration(FAR));
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        match self.timer.set(at, flags) {
            // The kernel says so once for each time the clock was set, and arms the timer all the same.
            Ok(()) | Err(Errno::ECANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_goes_on_from_its_beginning() {
        let (one, other) = (Now::read(), Now::read());
        assert!(0 <= one.steady_ns && one.steady_ns <= other.steady_ns);
        assert!(other.steady_ns < Duration::from_secs(3600).as_nanos() as i128);
    }

    #[tokio::test]
    async fn an_alarm_that_nobody_cancelled_is_silent() {
        let alarm = Alarm::new().unwrap().watched().unwrap();
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, alarm.readable()).await.is_err());
    }

    #[tokio::test]
    async fn nobody_is_told_of_a_clock_that_was_not_set() {
        let mut settings = follow();
        let soon = Duration::from_millis(50);
        assert!(
            tokio::time::timeout(soon, settings.changed())
                .await
                .is_err()
        );
        assert_eq!(*settings.borrow(), 0);
    }
}
