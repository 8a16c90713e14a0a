//! Reads logs in the CRI format: which lines, and how a client wants to see them. Writes nothing.

mod reader;

use jiff::Timestamp;

pub(crate) use reader::Reader;

/// Which lines a client wants, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<u64>,
    /// Only `stdout` or only `stderr`.
    pub(crate) stream: Option<String>,
}

/// Turns a log file's bytes into what a client reads.
#[derive(Debug)]
pub(crate) struct Filter {
    wish: Wish,
    pending: Vec<u8>,
    bytes_left: Option<u64>,
    /// The line before was cut, so the next one continues it.
    continues: bool,
}

impl Filter {
    pub(crate) fn new(wish: Wish) -> Self {
        Self {
            bytes_left: wish.limit_bytes,
            wish,
            pending: Vec::new(),
            continues: false,
        }
    }

    /// Takes bytes of the file and returns what the client gets.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        let mut out = Vec::new();
        let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') else {
            return out;
        };
        let rest = self.pending.split_off(end + 1);
        let lines = std::mem::replace(&mut self.pending, rest);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.push_line(line, &mut out);
        }
        if let Some(left) = &mut self.bytes_left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        out
    }

    /// Whether the client has got all it asked for.
    pub(crate) fn is_done(&self) -> bool {
        self.bytes_left == Some(0)
    }

    fn push_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(entry) = Entry::parse(line) else {
            return;
        };
        let wanted = self
            .wish
            .stream
            .as_deref()
            .is_none_or(|stream| stream.as_bytes() == entry.stream);
        let recent = self.wish.since.is_none_or(|since| {
            entry
                .time
                .parse::<Timestamp>()
                .is_ok_and(|time| time >= since)
        });
        if !wanted || !recent {
            return;
        }
        if self.wish.timestamps && !self.continues {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.text);
        self.continues = entry.is_partial;
        if !entry.is_partial {
            out.push(b'\n');
        }
    }
}

/// One line of a log file.
struct Entry<'a> {
    time: &'a str,
    stream: &'a [u8],
    is_partial: bool,
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = parts.next()?;
        let tag = parts.next()?;
        let text = parts.next()?;
        Some(Self {
            time,
            stream,
            is_partial: tag == b"P",
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00.1Z stdout F one\n\
                       2026-01-01T00:00:01.2Z stderr P tw\n\
                       2026-01-01T00:00:01.3Z stderr F o\n\
                       garbage\n\
                       2026-01-01T00:00:02.4Z stdout F three\n";

    fn check(wish: Wish, expected: &str) {
        let mut filter = Filter::new(wish);
        let (first, second) = LOG.split_at(50);
        let mut out = filter.push(first.as_bytes());
        out.extend(filter.push(second.as_bytes()));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn wishes_are_met() {
        check(Wish::default(), "one\ntwo\nthree\n");
        check(
            Wish {
                stream: Some("stderr".into()),
                ..Wish::default()
            },
            "two\n",
        );
        check(
            Wish {
                limit_bytes: Some(6),
                ..Wish::default()
            },
            "one\ntw",
        );
        check(
            Wish {
                since: Some("2026-01-01T00:00:02Z".parse().unwrap()),
                ..Wish::default()
            },
            "three\n",
        );
        check(
            Wish {
                timestamps: true,
                ..Wish::default()
            },
            "2026-01-01T00:00:00.1Z one\n2026-01-01T00:00:01.2Z two\n2026-01-01T00:00:02.4Z three\n",
        );
    }
}
