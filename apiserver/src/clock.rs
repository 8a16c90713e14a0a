//! The time as objects carry it.

use jiff::Timestamp;

/// The current time as Kubernetes writes it: `2026-01-02T03:04:05Z`.
pub(crate) fn now() -> String {
    timestamp(Timestamp::now())
}

/// A time to the second.
pub(crate) fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
