//! What names, keys and small texts may look like, with Kubernetes' words for what is wrong with them.
//!
//! Each check takes a text and returns every complaint about it; an empty list means it is fine.

pub mod address;

use crate::field::{Error, Path};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

pub const LABEL_LENGTH_MAX: usize = 63;
pub const SUBDOMAIN_LENGTH_MAX: usize = 253;

/// Names of most kinds: `example.com`.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    subdomain(text, "characters")
}

/// Names that end up as one DNS label: `my-name`.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut problems = too_long(text, LABEL_LENGTH_MAX, "characters");
    if is_dns1123_label(text) {
        return problems;
    }
    if is_dns1123_subdomain(text) {
        problems.push("must not contain dots".into());
    } else {
        problems.push(pattern(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            LABEL,
            &["my-name", "123-abc"],
        ));
    }
    problems
}

/// As [`dns1123_label`], but not starting with a digit.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut problems = too_long(text, LABEL_LENGTH_MAX, "characters");
    let starts_with_letter = text.starts_with(|c: char| c.is_ascii_lowercase());
    if !(starts_with_letter && is_dns1123_label(text)) {
        problems.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    problems
}

/// A subdomain whose labels may hold and start with underscores, as host names of search paths do.
pub fn dns1123_subdomain_with_underscore(text: &str) -> Vec<String> {
    let mut problems = too_long(text, SUBDOMAIN_LENGTH_MAX, "characters");
    let is_label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        is_bounded(rest, is_lower_alphanumeric, |c| {
            c == b'-' || c == b'_' || is_lower_alphanumeric(c)
        })
    };
    if !text.split('.').all(is_label) {
        let label = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        problems.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            &format!(r"{label}(\.{label})*"),
            &["example.com"],
        ));
    }
    problems
}

/// Names that only have to be one segment of a URL path, as those of roles.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|part| text.contains(**part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// Keys of labels and annotations, names of finalizers: `example.com/MyName`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                let prefix_problems = subdomain(prefix, "bytes");
                problems.extend(prefix_problems.iter().map(|p| format!("prefix part {p}")));
            }
            name
        }
        _ => {
            let rule = pattern(KEY_RULE, KEY, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    }
    let length = too_long(name, LABEL_LENGTH_MAX, "bytes");
    problems.extend(length.iter().map(|p| format!("name part {p}")));
    if !is_key(name) {
        let rule = pattern(KEY_RULE, KEY, &["MyName", "my.name", "123-abc"]);
        problems.push(format!("name part {rule}"));
    }
    problems
}

/// Values of labels.
pub fn label_value(text: &str) -> Vec<String> {
    let mut problems = too_long(text, LABEL_LENGTH_MAX, "bytes");
    if !(text.is_empty() || is_key(text)) {
        problems.push(pattern(
            &format!(
                "a valid label must be an empty string or {}",
                &KEY_RULE[5..]
            ),
            &format!("({KEY})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    problems
}

/// Names of ports that other objects refer to: IANA service names.
pub fn port_name(text: &str) -> Vec<String> {
    let mut problems = too_long(text, 15, "characters");
    let charset = |c: u8| c == b'-' || is_lower_alphanumeric(c);
    if text.is_empty() || !text.bytes().all(charset) {
        problems
            .push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

/// TCP, UDP and SCTP port numbers.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// Numbers between two bounds, both included.
pub fn in_range(number: i64, lowest: i64, highest: i64) -> Vec<String> {
    if (lowest..=highest).contains(&number) {
        return Vec::new();
    }
    vec![format!("must be between {lowest} and {highest}, inclusive")]
}

/// Keys of ConfigMaps and Secrets, which become file names.
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut problems = too_long(text, SUBDOMAIN_LENGTH_MAX, "characters");
    let charset = |c: u8| matches!(c, b'-' | b'.' | b'_') || c.is_ascii_alphanumeric();
    if text.is_empty() || !text.bytes().all(charset) {
        problems.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    problems.extend(climbing(text));
    problems
}

/// Names of environment variables: any printable ASCII but `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.is_empty() {
        problems.push("environment variable name must be non-empty".into());
    }
    if !text
        .bytes()
        .all(|c| (b' '..=b'~').contains(&c) && c != b'=')
    {
        problems.push("a valid environment variable name must consist only of printable ASCII characters other than '='".into());
    }
    problems
}

/// Identifiers of the C language.
pub fn c_identifier(text: &str) -> Vec<String> {
    let starts = text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    if starts && text.bytes().all(|c| c == b'_' || c.is_ascii_alphanumeric()) {
        return Vec::new();
    }
    vec![pattern(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// Names of HTTP headers.
pub fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|c| c == b'-' || c.is_ascii_alphanumeric()) {
        return Vec::new();
    }
    vec![pattern(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// Shares of a whole: `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        return Vec::new();
    }
    vec![pattern(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// Checks a fully qualified domain name: at least two labels, with or without the final dot.
pub fn validate_domain(path: &Path, text: &str) -> Vec<Error> {
    if text.is_empty() {
        return vec![Error::required(path, "")];
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let problems = dns1123_subdomain(name);
    if !problems.is_empty() {
        return vec![Error::invalid(path, name, &problems.join(","))];
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return vec![Error::invalid(path, name, detail)];
    }
    let bad_label = name
        .split('.')
        .find(|label| !dns1123_label(label).is_empty());
    bad_label
        .map(|label| Error::invalid(path, label, &dns1123_label(label).join(",")))
        .into_iter()
        .collect()
}

fn subdomain(text: &str, unit: &str) -> Vec<String> {
    let mut problems = too_long(text, SUBDOMAIN_LENGTH_MAX, unit);
    if !is_dns1123_subdomain(text) {
        problems.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    problems
}

fn is_dns1123_label(text: &str) -> bool {
    is_bounded(text, is_lower_alphanumeric, |c| {
        c == b'-' || is_lower_alphanumeric(c)
    })
}

fn is_dns1123_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns1123_label)
}

fn is_key(text: &str) -> bool {
    is_bounded(
        text,
        |c| c.is_ascii_alphanumeric(),
        |c| matches!(c, b'-' | b'_' | b'.') || c.is_ascii_alphanumeric(),
    )
}

fn is_lower_alphanumeric(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_bounded(text: &str, edge: fn(u8) -> bool, inside: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    edge(*first) && edge(*last) && bytes.iter().all(|c| inside(*c))
}

/// Names of files must not lead out of their folder.
fn climbing(text: &str) -> Option<String> {
    match text {
        "." | ".." => Some(format!("must not be '{text}'")),
        _ if text.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

fn too_long(text: &str, length_max: usize, unit: &str) -> Vec<String> {
    if text.len() <= length_max {
        return Vec::new();
    }
    vec![format!("must be no more than {length_max} {unit}")]
}

fn pattern(rule: &str, expression: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{rule} (e.g. {}regex used for validation is '{expression}')",
        examples.join(" or ")
    )
}

#[cfg(test)]
mod tests;
