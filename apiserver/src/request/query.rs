//! Query parameters, read with the leniency of Kubernetes' conversion. Unknown parameters are no error.

use std::num::{IntErrorKind, ParseIntError};

use knarr_api::status::Status;

/// The decoded parameters of a request, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Leaves out what Go's URL parser leaves out: pairs with a broken escape or a semicolon.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| {
            let is_readable = !pair.contains(';') && has_whole_escapes(pair);
            !pair.is_empty() && is_readable
        });
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (form_decode(name), form_decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter; an empty value counts as absent, as in Kubernetes.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Anything but `false` and `0` is true, even nothing.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let value = self.all(name).next()?;
        Some(!value.eq_ignore_ascii_case("false") && value != "0")
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|error: ParseIntError| {
            let quoted = knarr_api::field::quote(value);
            let problem = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing {quoted}: {problem}"))
        })
    }
}

fn form_decode(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

/// Whether each `%` begins an escape.
pub(crate) fn has_whole_escapes(text: &str) -> bool {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let mut after = text.split('%').skip(1).map(str::as_bytes);
    after.all(|rest| is_hex(rest.first()) && is_hex(rest.get(1)))
}

/// Resolves `%XX`; what is no valid escape or no UTF-8 stays readable instead of failing.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => hex(*high)
                .zip(hex(*low))
                .map(|(high, low)| (high * 16 + low, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Escapes what Go escapes in the path of a URL.
pub(crate) fn path_encode(text: &str) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_plus_signs_are_resolved() {
        let query = Query::parse("labelSelector=a%3Db,c+in+(d)&empty=&bare");
        assert_eq!(query.text("labelSelector"), Some("a=b,c in (d)"));
        assert_eq!(query.text("empty"), None);
        assert_eq!(query.flag("bare"), Some(true));
    }

    #[test]
    fn parameters_that_go_cannot_read_are_left_out() {
        let query = Query::parse("x=%zz&y=%4&z=%&a;b=c&%3=d&limit=1");
        assert_eq!(query, Query::parse("limit=1"));
    }

    #[test]
    fn a_percent_sign_begins_an_escape() {
        for (text, is_whole) in [
            ("/a", true),
            ("/a%20b%2Fc", true),
            ("/%", false),
            ("/%4", false),
            ("/%zz", false),
            ("/%41%4", false),
        ] {
            assert_eq!(has_whole_escapes(text), is_whole, "{text}");
        }
    }

    #[test]
    fn flags_are_true_unless_false_or_zero() {
        let check = |text: &str, expected: Option<bool>| {
            assert_eq!(Query::parse(text).flag("watch"), expected, "{text}");
        };
        check("watch=true", Some(true));
        check("watch=1", Some(true));
        check("watch=False", Some(false));
        check("watch=0", Some(false));
        check("other=1", None);
    }

    #[test]
    fn a_number_that_is_none_is_refused() {
        let status = Query::parse("limit=minus").integer("limit").unwrap_err();
        assert_eq!(status.code, 400);
        let status = Query::parse("limit=99999999999999999999")
            .integer("limit")
            .unwrap_err();
        assert!(status.message.ends_with(": value out of range"));
        assert_eq!(Query::parse("limit=5").integer("limit").unwrap(), Some(5));
        assert_eq!(Query::parse("").integer("limit").unwrap(), None);
    }
}
