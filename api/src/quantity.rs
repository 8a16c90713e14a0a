//! `resource.Quantity`: amounts such as `250m`, `1Gi` and `2e3`, parsed, compared and written in canonical form.
//!
//! Never knows which resource an amount belongs to.

use std::cmp::Ordering;

const NANOS: i128 = 1_000_000_000;
const MILLI_NANOS: i128 = 1_000_000;
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// How an amount was written, and so how it is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    BinarySi,
    DecimalSi,
    DecimalExponent,
}

/// An amount, exact to a billionth and capped at 2^63 - 1 as in Kubernetes.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Number,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// Parses an amount as clients write it.
    ///
    /// # Errors
    /// In the words of Kubernetes' own parser.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(number_end);
        if number.is_empty() || !is_suffix_shaped(suffix) {
            return Err(Error::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(Error::Number);
        }
        let (format, scale) = scale(suffix).ok_or(Error::Suffix)?;
        let nanos = scale.apply(whole, fraction);
        let nanos = nanos.min(i128::from(i64::MAX) * NANOS);
        let nanos = if negative { -nanos } else { nanos };
        Ok(Quantity { nanos, format })
    }

    /// Rounds up to thousandths, as every amount in a resource list is.
    pub fn round_up_to_milli(self) -> Self {
        Quantity {
            nanos: divide_up(self.nanos, MILLI_NANOS) * MILLI_NANOS,
            ..self
        }
    }

    /// Whole units, rounded up.
    pub fn value(self) -> i64 {
        narrow(divide_up(self.nanos, NANOS))
    }

    /// Thousandths, rounded up.
    pub fn milli_value(self) -> i64 {
        narrow(divide_up(self.nanos, MILLI_NANOS))
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount has no fraction when counted in whole units.
    pub fn is_whole(self) -> bool {
        self.milli_value() % 1000 == 0
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Quantity {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = self.nanos % NANOS == 0;
        let small = self.nanos.abs() < 1024 * NANOS;
        match self.format {
            Format::BinarySi if whole && !small => write_binary(f, self.nanos / NANOS),
            Format::BinarySi | Format::DecimalSi => {
                let (mantissa, exponent) = reduce(self.nanos);
                let suffix = DECIMAL
                    .iter()
                    .find(|(_, e)| *e == exponent)
                    .map_or("", |(s, _)| s);
                write!(f, "{mantissa}{suffix}")
            }
            Format::DecimalExponent => {
                let (mantissa, exponent) = reduce(self.nanos);
                if exponent == 0 {
                    write!(f, "{mantissa}")
                } else {
                    write!(f, "{mantissa}e{exponent}")
                }
            }
        }
    }
}

/// Canonical text of an amount in a resource list: `1000m` is `1`, `0.5` is `500m`. `None` if it is no amount.
pub fn canonical(text: &str) -> Option<String> {
    let quantity = Quantity::parse(text.trim()).ok()?;
    Some(quantity.round_up_to_milli().to_string())
}

enum Scale {
    Binary(u32),
    Decimal(i32),
}

impl Scale {
    fn apply(&self, whole: &str, fraction: &str) -> i128 {
        let digits = Digits::new(whole, fraction);
        match *self {
            Scale::Binary(bits) => digits.times(1 << bits, 0),
            Scale::Decimal(exponent) => digits.times(1, exponent),
        }
    }
}

/// Larger whole numbers count as this one, which is beyond what any suffix can bring back.
const WHOLE_MAX: i128 = 10i128.pow(36);

/// A decimal number as an integer and the count of its fractional digits.
struct Digits {
    mantissa: i128,
    fraction_len: i32,
    /// Digits that did not fit were dropped from the fraction, so the value must be rounded up.
    inexact: bool,
}

impl Digits {
    fn new(whole: &str, fraction: &str) -> Self {
        let mut digits = Digits {
            mantissa: 0,
            fraction_len: 0,
            inexact: false,
        };
        for byte in whole.bytes() {
            digits.mantissa = (digits.mantissa * 10 + i128::from(byte - b'0')).min(WHOLE_MAX);
        }
        for byte in fraction.bytes() {
            if digits.fraction_len >= 18 || digits.mantissa > WHOLE_MAX {
                digits.inexact |= byte != b'0';
            } else {
                digits.mantissa = digits.mantissa * 10 + i128::from(byte - b'0');
                digits.fraction_len += 1;
            }
        }
        digits
    }

    /// `self * factor * 10^exponent`, in nanos, rounded up.
    fn times(&self, factor: i128, exponent: i32) -> i128 {
        let shift = exponent.saturating_add(9).saturating_sub(self.fraction_len);
        let Some(product) = self.mantissa.checked_mul(factor) else {
            return i128::MAX;
        };
        if shift >= 0 {
            let power = 10i128.checked_pow(shift.unsigned_abs());
            return power
                .and_then(|p| product.checked_mul(p))
                .unwrap_or(if product == 0 { 0 } else { i128::MAX });
        }
        let Some(power) = 10i128.checked_pow(shift.unsigned_abs()) else {
            return i128::from(product != 0);
        };
        divide_up(product, power)
            + i128::from(self.inexact && product % power == 0 && shift > -i32::MAX)
    }
}

fn scale(suffix: &str) -> Option<(Format, Scale)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((Format::DecimalSi, Scale::Decimal(*exponent)));
    }
    if let Some(power) = BINARY.iter().position(|s| *s == suffix) {
        let bits = 10 * (u32::try_from(power).unwrap_or_default() + 1);
        return Some((Format::BinarySi, Scale::Binary(bits)));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    Some((Format::DecimalExponent, Scale::Decimal(exponent)))
}

/// `[eEinumkKMGTP]*[-+]?[0-9]*`.
fn is_suffix_shaped(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    rest.bytes().all(|b| b.is_ascii_digit())
}

/// Mantissa and the largest exponent divisible by three that keeps it whole.
fn reduce(nanos: i128) -> (i128, i32) {
    if nanos == 0 {
        return (0, 0);
    }
    let (mut mantissa, mut exponent) = (nanos, -9);
    while mantissa % 1000 == 0 && exponent < 18 {
        mantissa /= 1000;
        exponent += 3;
    }
    (mantissa, exponent)
}

fn write_binary(f: &mut std::fmt::Formatter<'_>, value: i128) -> std::fmt::Result {
    let (mut mantissa, mut suffix) = (value, "");
    for larger in BINARY {
        if mantissa % 1024 != 0 {
            break;
        }
        mantissa /= 1024;
        suffix = larger;
    }
    write!(f, "{mantissa}{suffix}")
}

fn divide_up(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    if value % divisor > 0 {
        quotient + 1
    } else if value % divisor < 0 {
        quotient - 1
    } else {
        quotient
    }
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_canonical_form() {
        for (given, expected) in [
            ("0", "0"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            (".25", "250m"),
            ("1.", "1"),
            ("100000", "100k"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("512Ki", "512Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("12e6", "12e6"),
            ("1200e3", "1200e3"),
            ("1E", "1E"),
            ("1n", "1m"),
            ("1.2345", "1235m"),
            ("-1Mi", "-1Mi"),
            ("+5", "5"),
            ("33720368547758071.5", "33720368547758071500m"),
            ("33720368547758071500m", "33720368547758071500m"),
            ("9000000000000000000000000000n", "9E"),
            ("9223372036854775808", "9223372036854775807"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn malformed_amounts_are_told_apart_as_kubernetes_does() {
        for (given, expected) in [
            ("", Error::Format),
            ("abc", Error::Format),
            ("1 Gi", Error::Format),
            ("1Zi", Error::Format),
            ("1ki", Error::Suffix),
            ("1MM", Error::Suffix),
            ("1.2.3", Error::Number),
            (".", Error::Number),
        ] {
            assert_eq!(Quantity::parse(given), Err(expected), "{given:?}");
        }
    }

    #[test]
    fn amounts_compare_by_value_whatever_their_form() {
        let parse = |text| Quantity::parse(text).expect("an amount");
        assert_eq!(parse("1Gi"), parse("1024Mi"));
        assert!(parse("1G") < parse("1Gi"));
        assert!(parse("999m") < parse("1"));
        assert!(parse("-1") < Quantity::ZERO);
        assert_eq!(parse("1500m").value(), 2);
        assert_eq!(parse("1500m").milli_value(), 1500);
        assert_eq!((parse("500m") + parse("1")).to_string(), "1500m");
    }

    #[test]
    fn huge_and_hostile_amounts_are_capped_and_do_not_panic() {
        for text in [
            "99999999999999999999999999999999999999999E",
            "1e2147483647",
            "1e-2147483648",
            "0.000000000000000000000000000000000001",
            "340282366920938463463374607431768211455Ei",
        ] {
            let _ = Quantity::parse(text).map(|q| q.to_string());
        }
    }
}
