//! Pages behind the proxy: links to their own root are moved below it. Keeps every other byte, in pieces of any size.

/// The attributes of each element that hold one link.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "formaction", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is text, whatever it looks like.
const RAW_TEXT: [&str; 4] = ["script", "style", "textarea", "title"];
/// A tag that grows beyond this is none.
const TAG_BYTES_MAX: usize = 64 << 10;

/// Rewrites one page.
pub(crate) struct Rewriter {
    prefix: String,
    /// What may be the beginning of a tag.
    held: Vec<u8>,
    /// The element whose content is text, while its end has not come.
    raw_text: Option<&'static str>,
}

impl Rewriter {
    /// Moves links below `prefix`, which ends without a slash.
    pub(crate) fn new(prefix: impl Into<String>) -> Self {
        Rewriter {
            prefix: prefix.into(),
            held: Vec::new(),
            raw_text: None,
        }
    }

    /// The next piece of the page, as far as it is certain.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(held.len());
        let mut rest = held.as_slice();
        loop {
            if let Some(open) = self.raw_text {
                let (text, end) = rest.split_at(end_of_text(rest, open));
                out.extend_from_slice(text);
                rest = end;
                if rest.len() < open.len() + 2 {
                    self.held = rest.to_vec();
                    return out;
                }
                self.raw_text = None;
            }
            let Some(start) = rest.iter().position(|byte| *byte == b'<') else {
                out.extend_from_slice(rest);
                return out;
            };
            let (text, tag) = rest.split_at(start);
            out.extend_from_slice(text);
            rest = tag;
            match end_of_tag(tag) {
                Some(length) => {
                    let (tag, after) = rest.split_at(length);
                    self.tag(tag, &mut out);
                    rest = after;
                }
                None if tag.len() > TAG_BYTES_MAX => {
                    out.extend_from_slice(tag);
                    return out;
                }
                None => {
                    self.held = tag.to_vec();
                    return out;
                }
            }
        }
    }

    /// What is left at the end of the page.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let name = name_of(tag);
        self.raw_text = RAW_TEXT.into_iter().find(|raw| *raw == name);
        match LINKS.iter().find(|(element, _)| *element == name) {
            Some((_, attributes)) => self.links(tag, attributes, out),
            None => out.extend_from_slice(tag),
        }
    }

    /// Copies a tag with its links moved.
    fn links(&self, tag: &[u8], attributes: &[&str], out: &mut Vec<u8>) {
        let mut copied = 0;
        for (name, value) in attributes_of(tag) {
            let is_link = attributes
                .iter()
                .any(|link| link.as_bytes().eq_ignore_ascii_case(name));
            let Some(link) = tag.get(value.clone()).filter(|_| is_link) else {
                continue;
            };
            let Ok(link) = std::str::from_utf8(link) else {
                continue;
            };
            if let Some(moved) = moved(link, &self.prefix) {
                out.extend_from_slice(tag.get(copied..value.start).unwrap_or_default());
                out.extend_from_slice(moved.as_bytes());
                copied = value.end;
            }
        }
        out.extend_from_slice(tag.get(copied..).unwrap_or_default());
    }
}

/// A link from the root, moved below `prefix`; `None` for links that stay as they are.
pub(crate) fn moved(link: &str, prefix: &str) -> Option<String> {
    let trimmed = link.trim_start();
    let is_from_root = trimmed.starts_with('/') && !trimmed.starts_with("//");
    (is_from_root && !trimmed.starts_with(prefix)).then(|| format!("{prefix}{trimmed}"))
}

/// Where `</open` begins, or may begin with what has not come yet.
fn end_of_text(bytes: &[u8], open: &str) -> usize {
    let is_end = |at: &usize| {
        let found = bytes.get(*at..).unwrap_or_default();
        let wanted = [b"</", open.as_bytes()].concat();
        let length = found.len().min(wanted.len());
        let pair = found.get(..length).zip(wanted.get(..length));
        pair.is_some_and(|(found, wanted)| found.eq_ignore_ascii_case(wanted))
    };
    (0..bytes.len()).find(is_end).unwrap_or(bytes.len())
}

/// The length of the tag or comment that `bytes` begin with, if it is all there.
fn end_of_tag(bytes: &[u8]) -> Option<usize> {
    const COMMENT: &[u8] = b"<!--";
    if bytes.starts_with(COMMENT) {
        let mut ends = bytes.get(COMMENT.len()..)?.windows(3);
        return ends
            .position(|end| end == b"-->")
            .map(|at| COMMENT.len() + at + 3);
    }
    if COMMENT.starts_with(bytes) {
        return None;
    }
    let is_tag = bytes.get(1)?.is_ascii_alphabetic() || b"/!?".contains(bytes.get(1)?);
    if !is_tag {
        return Some(1);
    }
    let mut quote = None;
    let mut before = b' ';
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, *byte) {
            (None, b'>') => return Some(at + 1),
            // A quote only begins a value; elsewhere it is a character like any other.
            (None, b'"' | b'\'') if before == b'=' => quote = Some(*byte),
            (Some(open), close) if open == close => quote = None,
            (_, _) => {}
        }
        if !byte.is_ascii_whitespace() {
            before = *byte;
        }
    }
    None
}

/// The element a tag opens, or closes with a `/` before it.
fn name_of(tag: &[u8]) -> String {
    let name = tag.iter().skip(1);
    let name = name.take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'/');
    let name: String = name
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect();
    // The slash of `<br/>` is none of the name's.
    match name.strip_suffix('/') {
        Some(open) if !open.is_empty() => open.to_owned(),
        _ => name,
    }
}

/// Names of a tag's attributes and where their values are.
fn attributes_of(tag: &[u8]) -> Vec<(&[u8], std::ops::Range<usize>)> {
    let mut found = Vec::new();
    let is_space = |at: usize| tag.get(at).is_some_and(u8::is_ascii_whitespace);
    let skip = |mut at: usize, holds: &dyn Fn(u8) -> bool| {
        while tag.get(at).is_some_and(|byte| holds(*byte)) {
            at += 1;
        }
        at
    };
    let space = |byte: u8| byte.is_ascii_whitespace() || byte == b'/';
    let in_name = |byte: u8| !space(byte) && byte != b'=' && byte != b'>';
    let mut at = skip(1, &in_name);
    while at < tag.len() {
        let start = skip(at, &space);
        let end = skip(start, &in_name);
        let equals = skip(end, &|byte| byte.is_ascii_whitespace());
        if tag.get(equals) != Some(&b'=') {
            at = if end > start { end } else { end + 1 };
            continue;
        }
        let mut value = equals + 1;
        while is_space(value) {
            value += 1;
        }
        let range = match tag.get(value) {
            Some(quote @ (b'"' | b'\'')) => {
                let close = skip(value + 1, &|byte| byte != *quote);
                value + 1..close
            }
            _ => value..skip(value, &|byte| !byte.is_ascii_whitespace() && byte != b'>'),
        };
        at = range.end + 1;
        found.push((tag.get(start..end).unwrap_or_default(), range));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/api/v1/namespaces/shop/pods/web/proxy";

    fn check(page: &str, expected: &str) {
        let expected = expected.replace('@', PREFIX);
        for piece in [1, 7, page.len().max(1)] {
            let mut rewriter = Rewriter::new(PREFIX);
            let mut out = Vec::new();
            for piece in page.as_bytes().chunks(piece) {
                out.extend(rewriter.feed(piece));
            }
            out.extend(rewriter.finish());
            assert_eq!(
                String::from_utf8_lossy(&out),
                expected,
                "in pieces of {piece}"
            );
        }
    }

    #[test]
    fn links_from_the_root_are_moved() {
        check(r#"<a href="/x?y#z">x</a>"#, r#"<a href="@/x?y#z">x</a>"#);
        check(
            "<IMG SRC='/a.png' alt='/b'>",
            "<IMG SRC='@/a.png' alt='/b'>",
        );
        check("<link rel=x href=/s.css>", "<link rel=x href=@/s.css>");
        check(
            "<script async src = \"/s.js\"></script>",
            "<script async src = \"@/s.js\"></script>",
        );
        check(
            "<form action='/'><br/><input src='/i'/>",
            "<form action='@/'><br/><input src='@/i'/>",
        );
    }

    #[test]
    fn everything_else_stays() {
        for page in [
            r#"<a href="x">"#,
            r#"<a href="//other/x">"#,
            r#"<a href="https://other/x">"#,
            r#"<a href="/api/v1/namespaces/shop/pods/web/proxy/x">"#,
            r#"<p title="/x">"#,
            r#"<!-- <a href="/x"> -->"#,
            r#"<script>if (a<b) { s = '<a href="/x">' } </scr <a href="/x"></SCRIPT>"#,
            "1 < 2, 3 > 2 <a",
            "<a href",
            "<a \"=/x href>",
            "",
        ] {
            check(page, page);
        }
    }

    #[test]
    fn quotes_hide_the_ends_of_tags() {
        check(
            r#"<a title="a>b" href="/x">"#,
            r#"<a title="a>b" href="@/x">"#,
        );
    }
}
