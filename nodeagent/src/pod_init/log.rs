//! Writes a container's output in the CRI log format, and rotates by size. Reads no log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Longer lines are cut into partial ones.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Which output a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

impl Output {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts one output into log lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Takes bytes and appends what became whole lines to `out`.
    pub(super) fn push(
        &mut self,
        output: Output,
        bytes: &[u8],
        timestamp: &str,
        out: &mut Vec<u8>,
    ) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.extend(output, line, timestamp, out);
            write_line(output, "F", &self.pending, timestamp, out);
            self.pending.clear();
            rest = after.get(1..).unwrap_or_default();
        }
        self.extend(output, rest, timestamp, out);
    }

    /// Writes what came without a final newline.
    pub(super) fn finish(&mut self, output: Output, timestamp: &str, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            write_line(output, "P", &self.pending, timestamp, out);
            self.pending = Vec::new();
        }
    }

    fn extend(&mut self, output: Output, bytes: &[u8], timestamp: &str, out: &mut Vec<u8>) {
        self.pending.extend_from_slice(bytes);
        while self.pending.len() > LINE_BYTES_MAX {
            let rest = self.pending.split_off(LINE_BYTES_MAX);
            write_line(output, "P", &self.pending, timestamp, out);
            self.pending = rest;
        }
    }
}

fn write_line(output: Output, tag: &str, line: &[u8], timestamp: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{timestamp} {} {tag} ", output.name()).as_bytes());
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// A container's log file, rotated when it grows beyond its size.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
}

impl LogFile {
    /// Opens the log for appending.
    pub(super) fn open(path: &Path, bytes_max: u64, files_max: u32) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            bytes_max,
            files_max,
        })
    }

    /// Appends whole lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| self.path.with_added_extension(number.to_string());
        for number in (1..self.files_max.saturating_sub(1)).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        if self.files_max > 1 {
            fs::rename(&self.path, numbered(1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        self.file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], expected: &str) {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(Output::Stdout, chunk.as_bytes(), "T", &mut out);
        }
        lines.finish(Output::Stdout, "T", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn output_becomes_one_entry_a_line() {
        check(&["a\nb\n"], "T stdout F a\nT stdout F b\n");
        check(&["a", "b\n\n"], "T stdout F ab\nT stdout F \n");
    }

    #[test]
    fn a_line_without_an_end_is_partial() {
        check(&["a\nb"], "T stdout F a\nT stdout P b\n");
        let long = "x".repeat(LINE_BYTES_MAX);
        check(
            &[&long, "y\n"],
            &format!("T stdout P {long}\nT stdout F y\n"),
        );
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let directory = std::env::temp_dir().join(format!("knarr-log-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("0.log");
        let mut log = LogFile::open(&path, 8, 3).unwrap();
        for line in ["one 678\n", "two 678\n", "three 8\n", "four 78\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
        assert_eq!(read("0.log").as_deref(), Some("four 78\n"));
        assert_eq!(read("0.log.1").as_deref(), Some("three 8\n"));
        assert_eq!(read("0.log.2").as_deref(), Some("two 678\n"));
        assert_eq!(read("0.log.3"), None);
        fs::remove_dir_all(directory).unwrap();
    }
}
