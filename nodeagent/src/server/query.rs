//! Decodes the query of a request. Hostile text yields odd values, never a panic.

/// The decoded pairs of a query.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Self {
        let pairs = text
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        let split = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        };
        Self {
            pairs: pairs.map(split).collect(),
        }
    }

    pub(super) fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key)?.parse().ok()
    }

    /// `1` and `true` are how clients say yes.
    pub(super) fn says(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true"))
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digits = ahead.next().zip(ahead.next());
                let digit = |byte: u8| char::from(byte).to_digit(16);
                match digits.and_then(|(high, low)| Some(digit(high)? * 16 + digit(low)?)) {
                    Some(value) => {
                        bytes.push(value as u8);
                        rest = ahead;
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_decode() {
        let query = Query::parse(Some(
            "command=sh&command=-c&command=a%20b%2Bc+d&tty=1&x=%zz%4",
        ));
        assert_eq!(
            query.all("command").collect::<Vec<_>>(),
            ["sh", "-c", "a b+c d"]
        );
        assert!(query.says("tty") && !query.says("stdin"));
        assert_eq!(query.get("x"), Some("%zz%4"));
        assert_eq!(Query::parse(None).get("x"), None);
    }
}
