//! Schedules of CronJobs: five fields, descriptors such as `@daily` and intervals such as `@every 90m`.
//!
//! Knows no clock and no time zone database; a time brings its zone with it.

use jiff::{SignedDuration, Span, Zoned, civil};

/// When something is to happen again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    Every(SignedDuration),
}

/// The values each field of a schedule allows, one bit a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: Days,
    months: u64,
}

/// Days of the month and of the week; a day has to meet both only where one of them is left open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Days {
    of_month: u64,
    of_week: u64,
    either_is_open: bool,
}

/// What is wrong with a schedule, in the words of the parser that Kubernetes uses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// A schedule that finds nothing in so many years never will.
const YEARS_MAX: i16 = 5;

/// Lowest and highest value of a field and the names of its values.
struct Bounds {
    lowest: u64,
    highest: u64,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds::plain(0, 59);
const HOURS: Bounds = Bounds::plain(0, 23);
const DAYS_OF_MONTH: Bounds = Bounds::plain(1, 31);
const MONTHS: Bounds = Bounds {
    lowest: 1,
    highest: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const DAYS_OF_WEEK: Bounds = Bounds {
    lowest: 0,
    highest: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Bounds {
    const fn plain(lowest: u64, highest: u64) -> Self {
        Bounds {
            lowest,
            highest,
            names: &[],
        }
    }
}

impl Schedule {
    /// Parses a schedule; a leading `TZ=…` is skipped, since the caller brings the zone.
    ///
    /// # Errors
    /// In the words of Kubernetes' parser.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error("empty spec string".into()));
        }
        let mut text = text;
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            let Some((_, rest)) = text.split_once(' ') else {
                return Err(Error("no schedule after the time zone".into()));
            };
            text = rest.trim();
        }
        match text.strip_prefix('@') {
            Some(_) => descriptor(text),
            None => fields(text).map(Schedule::Fields),
        }
    }

    /// The first time after `after` that the schedule names, `None` if there is none within five years.
    pub fn next(&self, after: &Zoned) -> Option<Zoned> {
        match self {
            Schedule::Fields(fields) => fields.next(after),
            Schedule::Every(interval) => {
                let time = after.checked_add(*interval).ok()?;
                time.with().subsec_nanosecond(0).build().ok()
            }
        }
    }
}

impl Fields {
    fn next(&self, after: &Zoned) -> Option<Zoned> {
        let zone = after.time_zone();
        let start = after.datetime();
        let mut date = start.date();
        let first = civil::Time::constant(start.hour(), start.minute(), 0, 0);
        let mut from = Some(first);
        while date.year() - start.year() <= YEARS_MAX {
            if self.names_day(date) {
                for time in self.times(from) {
                    let candidate = date.to_datetime(time).to_zoned(zone.clone()).ok()?;
                    // A time that the clocks skip or repeat is moved by the zone; it counts only where it lies ahead.
                    if &candidate > after && candidate.time() == time {
                        return Some(candidate);
                    }
                }
            }
            date = date.checked_add(Span::new().days(1)).ok()?;
            from = None;
        }
        None
    }

    fn names_day(&self, date: civil::Date) -> bool {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let of_month = has(self.days.of_month, date.day());
        let of_week = has(self.days.of_week, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month())
            && if self.days.either_is_open {
                of_month && of_week
            } else {
                of_month || of_week
            }
    }

    /// Times of a day, in order, not before `from`.
    fn times(&self, from: Option<civil::Time>) -> impl Iterator<Item = civil::Time> {
        let from = from.unwrap_or(civil::Time::midnight());
        let bits = |bits: u64, count: i8| (0..count).filter(move |value| bits >> value & 1 == 1);
        let minutes = self.minutes;
        bits(self.hours, 24)
            .flat_map(move |hour| {
                bits(minutes, 60).map(move |minute| civil::Time::constant(hour, minute, 0, 0))
            })
            .filter(move |time| *time >= from)
    }
}

fn fields(text: &str) -> Result<Fields, Error> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, of_month, months, of_week] = parts[..] else {
        let shown = parts.join(" ");
        let count = parts.len();
        return Err(Error(format!(
            "expected exactly 5 fields, found {count}: [{shown}]"
        )));
    };
    let (minutes, _) = field(minutes, &MINUTES)?;
    let (hours, _) = field(hours, &HOURS)?;
    let (of_month, month_is_open) = field(of_month, &DAYS_OF_MONTH)?;
    let (months, _) = field(months, &MONTHS)?;
    let (of_week, week_is_open) = field(of_week, &DAYS_OF_WEEK)?;
    Ok(Fields {
        minutes,
        hours,
        days: Days {
            of_month,
            of_week,
            either_is_open: month_is_open || week_is_open,
        },
        months,
    })
}

/// The bits of a list of ranges, and whether one of them leaves the field open.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), Error> {
    let (mut bits, mut is_open) = (0, false);
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (more, open) = self::range(range, bounds)?;
        bits |= more;
        is_open |= open;
    }
    Ok((bits, is_open))
}

/// `5`, `1-5`, `*/15`, `2-10/4`.
fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), Error> {
    let steps: Vec<&str> = text.split('/').collect();
    let limits: Vec<&str> = steps[0].split('-').collect();
    let star = limits[0] == "*" || limits[0] == "?";
    let (start, mut end) = match limits[..] {
        _ if star => (bounds.lowest, bounds.highest),
        [only] => {
            let only = value(only, bounds)?;
            (only, only)
        }
        [from, to] => (value(from, bounds)?, value(to, bounds)?),
        _ => return Err(Error(format!("too many hyphens: {text}"))),
    };
    let step = match steps[..] {
        [_] => 1,
        [_, step] => {
            if limits.len() == 1 {
                end = bounds.highest;
            }
            number(step)?
        }
        _ => return Err(Error(format!("too many slashes: {text}"))),
    };
    let (lowest, highest) = (bounds.lowest, bounds.highest);
    if start < lowest {
        return Err(Error(format!(
            "beginning of range ({start}) below minimum ({lowest}): {text}"
        )));
    }
    if end > highest {
        return Err(Error(format!(
            "end of range ({end}) above maximum ({highest}): {text}"
        )));
    }
    if start > end {
        return Err(Error(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        )));
    }
    if step == 0 {
        return Err(Error(format!(
            "step of range should be a positive number: {text}"
        )));
    }
    let bits = (start..=end)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .fold(0, |bits, value| bits | 1 << value);
    Ok((bits, star && step == 1))
}

fn value(text: &str, bounds: &Bounds) -> Result<u64, Error> {
    let name = text.to_lowercase();
    match bounds.names.iter().position(|known| *known == name) {
        Some(position) => Ok(bounds.lowest + position as u64),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, Error> {
    let number: i64 = text.parse().map_err(|_| {
        let quoted = crate::field::quote(text);
        Error(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax"
        ))
    })?;
    u64::try_from(number)
        .map_err(|_| Error(format!("negative number ({number}) not allowed: {text}")))
}

fn descriptor(text: &str) -> Result<Schedule, Error> {
    let expanded = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            return match text.strip_prefix("@every ") {
                Some(interval) => every(interval).map(Schedule::Every),
                None => Err(Error(format!("unrecognized descriptor: {text}"))),
            };
        }
    };
    fields(expanded).map(Schedule::Fields)
}

/// A Go duration of at least a second, in whole seconds: `1h30m`.
fn every(text: &str) -> Result<SignedDuration, Error> {
    let wrong = |problem: &str| {
        let quoted = crate::field::quote(text);
        Error(format!(
            "failed to parse duration @every {text}: time: {problem} duration {quoted}"
        ))
    };
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| wrong("missing unit in"))?;
        let count: f64 = rest[..digits].parse().map_err(|_| wrong("invalid"))?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (unit, after) = rest.split_at(unit_end);
        seconds += count
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong("unknown unit in")),
            };
        rest = after;
    }
    if text.is_empty() {
        return Err(wrong("invalid"));
    }
    let seconds = SignedDuration::try_from_secs_f64(seconds.max(1.0).floor());
    seconds.map_err(|_| wrong("invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let after: jiff::Timestamp = after.parse().expect("a time");
        schedule
            .next(&after.to_zoned(jiff::tz::TimeZone::UTC))
            .map_or("never".into(), |time| time.timestamp().to_string())
    }

    #[test]
    fn the_next_time_lies_ahead_and_fits_every_field() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-03-04T05:06:07Z", "2026-03-04T05:07:00Z"),
            (
                "*/15 * * * *",
                "2026-03-04T05:45:00Z",
                "2026-03-04T06:00:00Z",
            ),
            ("30 2 * * *", "2026-03-04T02:30:00Z", "2026-03-05T02:30:00Z"),
            ("0 0 29 2 *", "2026-03-04T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 2 *", "2026-03-04T00:00:00Z", "never"),
            (
                "0 12 * * mon-fri",
                "2026-03-06T12:00:00Z",
                "2026-03-09T12:00:00Z",
            ),
            (
                "0 0 13 * fri",
                "2026-03-01T00:00:00Z",
                "2026-03-06T00:00:00Z",
            ),
            (
                "5/20 1 1 jan ?",
                "2026-01-01T01:05:00Z",
                "2026-01-01T01:25:00Z",
            ),
            ("@yearly", "2026-03-04T05:06:07Z", "2027-01-01T00:00:00Z"),
            ("@hourly", "2026-03-04T05:06:07Z", "2026-03-04T06:00:00Z"),
            (
                "@every 90m",
                "2026-03-04T05:06:07.5Z",
                "2026-03-04T06:36:07Z",
            ),
        ] {
            assert_eq!(next(schedule, after), expected, "{schedule}");
        }
    }

    #[test]
    fn malformed_schedules_say_what_is_wrong() {
        for (schedule, expected) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-2 * * * *",
                "beginning of range (5) beyond end of range (2): 5-2",
            ),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            let error = Schedule::parse(schedule).expect_err("malformed");
            assert_eq!(error.to_string(), expected);
        }
    }
}
