//! Field paths and the errors found at them, in the words of Kubernetes' `util/validation/field`.

use std::fmt;

use serde_json::Value;

/// A place in an object, printed as `spec.ports[0].name` or `metadata.labels[a.b/c]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// Starts at a top-level field.
    pub fn new(name: &str) -> Self {
        Path(name.to_owned())
    }

    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Path::new(name)
        } else {
            Path(format!("{}.{name}", self.0))
        }
    }

    pub fn index(&self, index: usize) -> Self {
        Path(format!("{}[{index}]", self.0))
    }

    pub fn key(&self, key: &str) -> Self {
        Path(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a field; its wire name is a cause's `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
    Internal,
}

impl Reason {
    /// The cause's `reason` on the wire.
    pub fn wire(self) -> &'static str {
        match self {
            Reason::Required => "FieldValueRequired",
            Reason::Invalid => "FieldValueInvalid",
            Reason::NotSupported => "FieldValueNotSupported",
            Reason::Duplicate => "FieldValueDuplicate",
            Reason::Forbidden => "FieldValueForbidden",
            Reason::TooLong => "FieldValueTooLong",
            Reason::TooMany => "FieldValueTooMany",
            Reason::NotFound => "FieldValueNotFound",
            Reason::TypeInvalid => "FieldValueTypeInvalid",
            Reason::Internal => "InternalError",
        }
    }
}

/// One validation error: `spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub reason: Reason,
    pub field: String,
    /// Everything after `field: `.
    pub message: String,
}

impl Error {
    pub fn required(path: &Path, detail: &str) -> Self {
        Self::new(
            Reason::Required,
            path,
            with_detail("Required value".into(), detail),
        )
    }

    pub fn forbidden(path: &Path, detail: &str) -> Self {
        Self::new(
            Reason::Forbidden,
            path,
            with_detail("Forbidden".into(), detail),
        )
    }

    pub fn invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(
            Reason::Invalid,
            path,
            with_detail(format!("Invalid value: {}", show(&value.into())), detail),
        )
    }

    /// As [`Error::invalid`] for a value that is shown in its own way, such as a Go struct.
    pub fn invalid_shown(path: &Path, shown: &str, detail: &str) -> Self {
        Self::new(
            Reason::Invalid,
            path,
            with_detail(format!("Invalid value: {shown}"), detail),
        )
    }

    /// As [`Error::duplicate`] for a value that is shown in its own way.
    pub fn duplicate_shown(path: &Path, shown: &str, detail: &str) -> Self {
        Self::new(
            Reason::Duplicate,
            path,
            with_detail(format!("Duplicate value: {shown}"), detail),
        )
    }

    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(
            Reason::TypeInvalid,
            path,
            with_detail(format!("Invalid value: {}", show(&value.into())), detail),
        )
    }

    /// The caller gives `supported` in the order Kubernetes prints it.
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let text = format!("Unsupported value: {}", show(&value.into()));
        let text = if quoted.is_empty() {
            text
        } else {
            format!("{text}: supported values: {}", quoted.join(", "))
        };
        Self::new(Reason::NotSupported, path, text)
    }

    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(
            Reason::Duplicate,
            path,
            format!("Duplicate value: {}", show(&value.into())),
        )
    }

    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(
            Reason::NotFound,
            path,
            format!("Not found: {}", show(&value.into())),
        )
    }

    pub fn too_long(path: &Path, bytes_max: usize) -> Self {
        Self::new(
            Reason::TooLong,
            path,
            format!("Too long: may not be more than {bytes_max} bytes"),
        )
    }

    /// As [`Error::too_long`] for fields measured in characters.
    pub fn too_long_characters(path: &Path, characters_max: usize) -> Self {
        Self::new(
            Reason::TooLong,
            path,
            format!("Too long: may not be more than {characters_max} characters"),
        )
    }

    pub fn too_many(path: &Path, count: usize, count_max: usize) -> Self {
        let items = if count_max == 1 { "item" } else { "items" };
        Self::new(
            Reason::TooMany,
            path,
            format!("Too many: {count}: must have at most {count_max} {items}"),
        )
    }

    pub fn internal(path: &Path, detail: &str) -> Self {
        Self::new(Reason::Internal, path, format!("Internal error: {detail}"))
    }

    fn new(reason: Reason, path: &Path, message: String) -> Self {
        Error {
            reason,
            field: path.to_string(),
            message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn with_detail(text: String, detail: &str) -> String {
    if detail.is_empty() {
        text
    } else {
        format!("{text}: {detail}")
    }
}

/// Strings are quoted as Go's `%q` does, everything else is JSON.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => go_json(other),
    }
}

/// JSON as Go prints it: what HTML would take for markup is escaped.
fn go_json(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// Shows an object as Go shows a struct without JSON tags; `fields` gives Go's name and ours, in Go's order.
///
/// Fields that are missing show as empty texts.
pub fn show_struct(object: &Value, fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(shown, field)| match &object[*field] {
            Value::Null => format!("\"{shown}\":\"\""),
            value => format!("\"{shown}\":{}", go_json(value)),
        })
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// Characters that only say how others are shown.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Quotes as Go's `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            c if c != ' ' && (c.is_control() || c.is_whitespace() || is_format(c)) => {
                out.push_str(&format!("\\u{:04x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_kubernetes_prints_them() {
        let port = Path::new("spec").child("ports").index(0).child("nodePort");
        let check = |error: Error, expected: &str| assert_eq!(error.to_string(), expected);
        check(
            Error::invalid(&port, 80, "out of range"),
            "spec.ports[0].nodePort: Invalid value: 80: out of range",
        );
        check(
            Error::required(&Path::new("spec"), ""),
            "spec: Required value",
        );
        check(
            Error::duplicate(&port, "a\"b"),
            r#"spec.ports[0].nodePort: Duplicate value: "a\"b""#,
        );
        check(
            Error::duplicate(&port, "a\u{200b}\u{a0} é\u{85}"),
            r#"spec.ports[0].nodePort: Duplicate value: "a\u200b\u00a0 é\u0085""#,
        );
        check(
            Error::not_supported(&Path::new("spec").child("type"), "X", &["A", "B"]),
            r#"spec.type: Unsupported value: "X": supported values: "A", "B""#,
        );
        check(
            Error::invalid(&port, serde_json::json!(["<a>", "b&c"]), ""),
            r#"spec.ports[0].nodePort: Invalid value: ["\u003ca\u003e","b\u0026c"]"#,
        );
        check(
            Error::forbidden(&Path::new("metadata").child("labels").key("a/b"), "no"),
            "metadata.labels[a/b]: Forbidden: no",
        );
    }
}
