//! The `timeout` parameter, a Go duration. Only judged: the server's own limits are shorter than a client's patience.

use knarr_api::{field::quote, status::Status};

use super::Query;

const UNITS: &[&str] = &["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"];

/// # Errors
/// 400 for a timeout that is no duration.
pub(crate) fn check_timeout(query: &Query) -> Result<(), Status> {
    let Some(text) = query.text("timeout") else {
        return Ok(());
    };
    check_duration(text).map_err(|why| {
        let text = "invalid timeout specified in the request URL";
        Status::bad_request(format!("{text} - {why}"))
    })
}

/// What Go says of a text that is no duration.
fn check_duration(text: &str) -> Result<(), String> {
    let whole = quote(text);
    let invalid = || Err(format!("time: invalid duration {whole}"));
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return invalid();
    }
    while !rest.is_empty() {
        let (before, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        let is_number = !(before.is_empty() && fraction.is_empty());
        let is_large = !before.is_empty() && before.parse::<u64>().map_or(true, |n| n > 1 << 63);
        if !is_number || is_large {
            return invalid();
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {whole}"));
        }
        if !UNITS.contains(&unit) {
            let unit = quote(unit);
            return Err(format!("time: unknown unit {unit} in duration {whole}"));
        }
        rest = after;
    }
    Ok(())
}

fn digits(text: &str) -> usize {
    let end = text.find(|c: char| !c.is_ascii_digit());
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_go_duration() {
        let check = |text: &str, expected: &str| {
            let said = check_duration(text).err().unwrap_or_default();
            assert_eq!(said, expected);
        };
        for text in ["0", "32s", "1h2m3.5s", "-1s", "+.5ms", "0s", "1\u{b5}s"] {
            check(text, "");
        }
        check("abc", "time: invalid duration \"abc\"");
        check("-", "time: invalid duration \"-\"");
        check(".s", "time: invalid duration \".s\"");
        check("10", "time: missing unit in duration \"10\"");
        check("10x", "time: unknown unit \"x\" in duration \"10x\"");
        check(
            "99999999999999999999s",
            "time: invalid duration \"99999999999999999999s\"",
        );
    }
}
