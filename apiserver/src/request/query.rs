//! Query parameters, read with the leniency of Kubernetes' conversion. Unknown parameters are no error.

use knarr_api::status::Status;

/// The decoded parameters of a request, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
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
        value.parse().map(Some).map_err(|_| {
            let quoted = knarr_api::field::quote(value);
            Status::bad_request(format!(
                "strconv.ParseInt: parsing {quoted}: invalid syntax"
            ))
        })
    }
}

fn form_decode(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
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

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_plus_signs_are_resolved() {
        let query = Query::parse("labelSelector=a%3Db,c+in+(d)&empty=&bare&x=%zz%4");
        assert_eq!(query.text("labelSelector"), Some("a=b,c in (d)"));
        assert_eq!(query.text("empty"), None);
        assert_eq!(query.text("x"), Some("%zz%4"));
        assert_eq!(query.flag("bare"), Some(true));
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
        assert_eq!(Query::parse("limit=5").integer("limit").unwrap(), Some(5));
        assert_eq!(Query::parse("").integer("limit").unwrap(), None);
    }
}
