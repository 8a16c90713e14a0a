//! YAML as Kubernetes reads it: YAML 1.1 scalars, bounded aliases, no duplicate keys. Knows nothing of kinds.

use serde_json::Value;

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
/// The first syntax error, or an alias or nesting bomb.
pub fn documents(text: &[u8]) -> Result<Vec<Value>, Error> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let text = std::str::from_utf8(text).map_err(|e| Error {
        line: 1,
        column: 1,
        message: e.to_string(),
    })?;
    let values: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(place)?;
    Ok(values.into_iter().filter(|v| !v.is_null()).collect())
}

/// Reads the first document; an empty text is `null`.
///
/// # Errors
/// As [`documents`].
pub fn document(text: &[u8]) -> Result<Value, Error> {
    Ok(documents(text)?.into_iter().next().unwrap_or_default())
}

fn place(error: serde_saphyr::Error) -> Error {
    let (line, column) = error.location().map_or((1, 1), |l| (l.line(), l.column()));
    Error {
        line: line as u64,
        column: column as u64,
        message: error.to_string(),
    }
}
