//! YAML as Kubernetes reads it: YAML 1.1 scalars, bounded aliases. Knows nothing of kinds.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_saphyr::{Budget, DuplicateKeyPolicy, Options};

/// Why a text is not YAML, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Error {
    pub line: u64,
    pub column: u64,
    pub message: String,
}

/// Reads every document of a stream, however many; empty documents are left out.
///
/// # Errors
/// The first syntax error or duplicate key, or an alias or nesting bomb.
pub fn documents(text: &[u8]) -> Result<Vec<Value>, Error> {
    // No text holds more than that; what aliases and nesting make of it is bounded apart.
    let most = text.len() + 16;
    let budget = serde_saphyr::budget! {
        max_documents: most,
        max_nodes: most.saturating_mul(2),
        max_events: most.saturating_mul(4),
    };
    let values = read(text, DuplicateKeyPolicy::Error, budget)?;
    Ok(values.into_iter().filter(|v| !v.is_null()).collect())
}

/// Reads the first document as a value of its own type; nothing but comments is an empty mapping.
///
/// # Errors
/// As [`documents`], or what the type refuses.
pub fn typed<T: DeserializeOwned>(text: &str) -> Result<T, TypedError> {
    let first = documents(text.as_bytes())?.into_iter().next();
    Ok(serde_json::from_value(first.unwrap_or_else(|| json!({})))?)
}

/// Why a text is not the YAML of a type.
#[derive(Debug, thiserror::Error)]
pub enum TypedError {
    #[error(transparent)]
    Syntax(#[from] Error),
    #[error(transparent)]
    Content(#[from] serde_json::Error),
}

/// Reads the first document, `null` if there is none; of duplicate keys the last one counts and each is a problem.
///
/// # Errors
/// The first syntax error, or an alias or nesting bomb.
pub fn lenient_document(text: &[u8]) -> Result<(Value, Vec<String>), Error> {
    let first = |values: Vec<Value>| values.into_iter().next().unwrap_or_default();
    match read(text, DuplicateKeyPolicy::Error, Some(Budget::default())) {
        Ok(values) => Ok((first(values), Vec::new())),
        Err(strict) => {
            let values = read(text, DuplicateKeyPolicy::LastWins, Some(Budget::default()))?;
            let problem = format!(
                "yaml: unmarshal errors:\n  line {}: {}",
                strict.line, strict.message
            );
            Ok((first(values), vec![problem]))
        }
    }
}

fn read(
    text: &[u8],
    duplicate_keys: DuplicateKeyPolicy,
    budget: Option<Budget>,
) -> Result<Vec<Value>, Error> {
    let text = std::str::from_utf8(text).map_err(|e| not_utf8(text, e))?;
    let options: Options = serde_saphyr::options! {
        budget: budget,
        legacy_octal_numbers: true,
        duplicate_keys: duplicate_keys,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|e| place(&e))
}

fn not_utf8(text: &[u8], error: std::str::Utf8Error) -> Error {
    let before = text.get(..error.valid_up_to()).unwrap_or_default();
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    Error {
        line: line as u64,
        column: column as u64,
        message: "invalid UTF-8".to_owned(),
    }
}

fn place(error: &serde_saphyr::Error) -> Error {
    let (line, column) = error.location().map_or((1, 1), |l| (l.line(), l.column()));
    let message = match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("key {} already set in map", crate::field::quote(key))
        }
        other => other.without_snippet().to_string(),
    };
    Error {
        line,
        column,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_read_as_yaml_1_1() {
        let text =
            b"mode: 0644\nyes: on\nno: \"no\"\nport: 80\nratio: 0.5\nempty:\nlist: [~, 1e3]\n";
        assert_eq!(
            documents(text).unwrap(),
            [
                json!({"mode": 420, "yes": true, "no": "no", "port": 80, "ratio": 0.5, "empty": null, "list": [null, 1000.0]})
            ]
        );
    }

    #[test]
    fn streams_hold_many_documents_and_empty_ones_are_left_out() {
        let text = b"---\na: 1\n---\n# nothing\n---\nb: 2\n...\n";
        assert_eq!(documents(text).unwrap(), [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(documents(b"").unwrap(), [Value::Null; 0]);
        let many = b"---\na: [1, {b: }]\n".repeat(20_000);
        assert_eq!(documents(&many).unwrap().len(), 20_000);
    }

    #[test]
    fn merge_keys_and_anchors_are_resolved() {
        let text = b"base: &b {x: 1, y: 2}\nnew: {<<: *b, y: 3}\n";
        assert_eq!(documents(text).unwrap()[0]["new"], json!({"x": 1, "y": 3}));
    }

    #[test]
    fn errors_say_where() {
        let check = |text: &[u8], line: u64| {
            let error = documents(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
        };
        check(b"a: 1\nb: [1\nc: 2\n", 3);
        check(b"a: 1\na: 2\n", 2);
        check(b"ok: 1\nbad: \xff\n", 2);
    }

    #[test]
    fn the_last_of_duplicate_keys_counts_where_readers_are_lenient() {
        let (value, problems) = lenient_document(b"a: 1\na: 2\n").unwrap();
        assert_eq!(value, json!({"a": 2}));
        assert_eq!(
            problems,
            ["yaml: unmarshal errors:\n  line 2: key \"a\" already set in map"]
        );
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = level - 1;
            let aliases = vec![format!("*a{below}"); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(documents(text.as_bytes()).is_err());
        let deep = "[".repeat(100_000);
        assert!(documents(deep.as_bytes()).is_err());
    }
}
