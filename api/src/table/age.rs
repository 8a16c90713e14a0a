//! Durations as people read them: `5m30s`, `3h`, `2d4h`.

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The time since an RFC 3339 timestamp, `<unknown>` when there is none.
pub fn since(timestamp: &str, now_seconds: i64) -> String {
    match seconds_of(timestamp) {
        Some(then) => duration(now_seconds - then),
        None => "<unknown>".into(),
    }
}

/// Unix seconds of an RFC 3339 timestamp.
pub fn seconds_of(timestamp: &str) -> Option<i64> {
    let parsed: jiff::Timestamp = timestamp.parse().ok()?;
    Some(parsed.as_second())
}

/// Two or three significant figures of a duration.
pub fn duration(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds, MINUTE, "m", 1, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds, HOUR, "h", MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds, DAY, "d", HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds, YEAR, "y", DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

fn two(seconds: i64, large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    let rest = seconds % large / small;
    if rest == 0 {
        format!("{}{large_unit}", seconds / large)
    } else {
        format!("{}{large_unit}{rest}{small_unit}", seconds / large)
    }
}
