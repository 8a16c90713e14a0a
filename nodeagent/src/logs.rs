//! Reads logs in the CRI format: which lines, and how a client wants to see them. Writes nothing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Which lines a client wants, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) tail_lines: Option<u64>,
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

/// A log file that is read while it grows and is rotated.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    file: File,
}

impl Reader {
    /// Opens a log where its last `tail_lines` lines begin.
    pub(crate) fn open(path: &Path, tail_lines: Option<u64>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if let Some(lines) = tail_lines {
            let start = tail_start(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Reads what there is; nothing means the end for now.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        const CHUNK_BYTES: u64 = 64 * 1024;
        let mut bytes = Vec::new();
        (&mut self.file).take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        if bytes.is_empty() && self.was_rotated() {
            self.file = File::open(&self.path)?;
            (&mut self.file).take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    fn was_rotated(&self) -> bool {
        let inode =
            |metadata: io::Result<std::fs::Metadata>| metadata.ok().map(|found| found.ino());
        let named = inode(std::fs::metadata(&self.path));
        named.is_some() && named != inode(self.file.metadata())
    }
}

/// Where the last `lines` whole lines begin; partial entries belong to the line they end in.
fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    const BLOCK_BYTES: u64 = 32 * 1024;
    let end = file.metadata()?.len();
    let (mut start, mut tail) = (end, Vec::new());
    loop {
        if let Some(at) = nth_line_from_end(&tail, lines, start == 0) {
            return Ok(start + at as u64);
        }
        if start == 0 {
            return Ok(0);
        }
        let length = start.min(BLOCK_BYTES);
        start -= length;
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        (&mut *file).take(length).read_to_end(&mut block)?;
        block.extend_from_slice(&tail);
        tail = block;
    }
}

/// Where the n-th full line from the end begins in `bytes`, if that is sure.
fn nth_line_from_end(bytes: &[u8], lines: u64, is_whole_file: bool) -> Option<usize> {
    if lines == 0 {
        return Some(bytes.len());
    }
    let mut starts = Vec::new();
    let (mut at, mut open) = (0, false);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !open {
            starts.push(at);
        }
        open = Entry::parse(line).is_some_and(|entry| entry.is_partial);
        at += line.len();
    }
    let wanted = usize::try_from(lines).ok()?;
    // The first line of a block may begin before it.
    let sure = if is_whole_file { 0 } else { 1 };
    if starts.len() >= wanted + sure {
        return starts.get(starts.len() - wanted).copied();
    }
    is_whole_file.then_some(0)
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

    #[test]
    fn the_tail_counts_whole_lines() {
        let path = std::env::temp_dir().join(format!("knarr-tail-{}", std::process::id()));
        std::fs::write(&path, LOG.replace("garbage\n", "")).unwrap();
        let tail = |lines| {
            let bytes = Reader::open(&path, Some(lines)).unwrap().read().unwrap();
            String::from_utf8(Filter::new(Wish::default()).push(&bytes)).unwrap()
        };
        assert_eq!(tail(0), "");
        assert_eq!(tail(1), "three\n");
        assert_eq!(tail(2), "two\nthree\n");
        assert_eq!(tail(9), "one\ntwo\nthree\n");
        std::fs::remove_file(path).unwrap();
    }
}
