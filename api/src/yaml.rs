//! YAML as Kubernetes reads it: YAML 1.1 scalars, bounded aliases. Knows nothing of kinds.

use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Options};

/// Why a text is not YAML, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Error {
    pub line: u64,
    pub column: u64,
    pub message: String,
}

/// Reads every document of a stream; empty documents are left out.
///
/// # Errors
/// The first syntax error or duplicate key, or an alias or nesting bomb.
pub fn documents(text: &[u8]) -> Result<Vec<Value>, Error> {
    let values = read(text, DuplicateKeyPolicy::Error)?;
    Ok(values.into_iter().filter(|v| !v.is_null()).collect())
}

/// Reads the first document, `null` if there is none; of duplicate keys the last one counts and each is a problem.
///
/// # Errors
/// The first syntax error, or an alias or nesting bomb.
pub fn lenient_document(text: &[u8]) -> Result<(Value, Vec<String>), Error> {
    let first = |values: Vec<Value>| values.into_iter().next().unwrap_or_default();
    match read(text, DuplicateKeyPolicy::Error) {
        Ok(values) => Ok((first(values), Vec::new())),
        Err(strict) => {
            let values = read(text, DuplicateKeyPolicy::LastWins)?;
            let problem = format!(
                "yaml: unmarshal errors:\n  line {}: {}",
                strict.line, strict.message
            );
            Ok((first(values), vec![problem]))
        }
    }
}

fn read(text: &[u8], duplicate_keys: DuplicateKeyPolicy) -> Result<Vec<Value>, Error> {
    let text = std::str::from_utf8(text).map_err(|e| not_utf8(text, e))?;
    let options: Options = serde_saphyr::options! {
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
