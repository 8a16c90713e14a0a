//! Image names as `distribution/reference` reads them, as far as defaults need. Pulls nothing.

/// Our own name for a process of the host's file system, the same as no image at all.
pub const HOST: &str = "host";
pub const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

/// `Always` for images whose tag is or would be `latest`, else `IfNotPresent`.
pub fn pull_policy(image: &str) -> &'static str {
    if image != HOST && tag(image) == Some("latest") {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// The tag of a well-formed name, `latest` where it has neither tag nor digest.
fn tag(image: &str) -> Option<&str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let path_start = name.rfind('/').map_or(0, |slash| slash + 1);
    let (repository, tag) = match name[path_start..].find(':') {
        Some(colon) => {
            let colon = path_start + colon;
            (&name[..colon], Some(&name[colon + 1..]))
        }
        None => (name, None),
    };
    if !is_repository(repository) || !tag.is_none_or(is_tag) {
        return None;
    }
    match (tag, digest) {
        (Some(tag), _) => Some(tag),
        (None, Some(_)) => None,
        (None, None) => Some("latest"),
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_repository(name: &str) -> bool {
    let mut parts = name.split('/').peekable();
    let is_identifier =
        name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_identifier {
        return false;
    }
    if name.contains('/')
        && parts.peek().is_some_and(|first| {
            first.contains(['.', ':'])
                || *first == "localhost"
                || first.chars().any(char::is_uppercase)
        })
    {
        parts.next();
    }
    parts.all(is_component)
}

/// Lower-case words joined by `.`, `_`, `__` or any run of `-`.
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(word)
        && part.ends_with(word)
        && part
            .split(word)
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_latest_is_always_pulled() {
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("registry.example:5000/nginx", "Always"),
            ("registry.example:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("nginx:latest@sha256:0123", "Always"),
            ("Not A Name", "IfNotPresent"),
            ("Upper/case", "Always"),
            ("library/Upper", "IfNotPresent"),
            ("", "IfNotPresent"),
            (HOST, "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image:?}");
        }
    }
}
