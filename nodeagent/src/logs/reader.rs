//! Reads a log and those that rotation made of it, oldest first, while the newest grows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Entry;

/// More rotated files than a log ever has.
const ROTATED_FILES_MAX: u32 = 9;
const CHUNK_BYTES: u64 = 64 * 1024;

/// A place in a log.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    file: File,
}

impl Reader {
    /// Opens a log at its beginning, or where its last `tail_lines` lines begin.
    pub(crate) fn open(path: &Path, tail_lines: Option<u64>) -> io::Result<Self> {
        let mut files = open_all(path)?;
        let mut first = 0;
        if let Some(lines) = tail_lines {
            let (mut missing, mut start) = (lines, 0);
            for (index, file) in files.iter_mut().enumerate().rev() {
                match tail(file, missing)? {
                    Tail::StartsAt(at) => {
                        (first, start) = (index, at);
                        break;
                    }
                    Tail::Short(found) => missing = missing.saturating_sub(found),
                }
            }
            if let Some(file) = files.get_mut(first) {
                file.seek(SeekFrom::Start(start))?;
            }
        }
        let path = path.to_owned();
        match files.into_iter().nth(first) {
            Some(file) => Ok(Self { path, file }),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Reads what there is; nothing means the end for now.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let bytes = self.read_file()?;
            if !bytes.is_empty() || !self.was_rotated()? {
                return Ok(bytes);
            }
            // Something may have been written between the last look and the rotation.
            let bytes = self.read_file()?;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
            match self.successor()? {
                Some(file) => self.file = file,
                None => return Ok(Vec::new()),
            }
        }
    }

    fn read_file(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.file).take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn was_rotated(&self) -> io::Result<bool> {
        match std::fs::metadata(&self.path) {
            Ok(named) => Ok(named.ino() != self.file.metadata()?.ino()),
            // Between two steps of a rotation, or gone for good.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The file after this one; the oldest, if this one was removed meanwhile.
    fn successor(&self) -> io::Result<Option<File>> {
        let own = self.file.metadata()?.ino();
        let mut after_own = Vec::new();
        for file in open_all(&self.path)? {
            if file.metadata()?.ino() == own {
                after_own.clear();
            } else {
                after_own.push(file);
            }
        }
        Ok(after_own.into_iter().next())
    }
}

/// All files of a log, oldest first.
fn open_all(path: &Path) -> io::Result<Vec<File>> {
    let rotated =
        (1..=ROTATED_FILES_MAX).map(|number| path.with_added_extension(number.to_string()));
    let mut files: Vec<(u64, File)> = Vec::new();
    // Newest first: a rotation meanwhile shows a file twice instead of hiding one.
    for path in std::iter::once(path.to_owned()).chain(rotated) {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        if files.iter().all(|(known, _)| *known != inode) {
            files.push((inode, file));
        }
    }
    Ok(files.into_iter().rev().map(|(_, file)| file).collect())
}

/// Where the last lines of a file begin.
#[derive(Debug, PartialEq, Eq)]
enum Tail {
    StartsAt(u64),
    /// The file has only so many.
    Short(u64),
}

/// Looks from the end in blocks that double, so that a long tail costs no more than reading it twice.
fn tail(file: &mut File, lines: u64) -> io::Result<Tail> {
    const FIRST_BLOCK_BYTES: u64 = 32 * 1024;
    let end = file.metadata()?.len();
    let mut length = FIRST_BLOCK_BYTES.min(end);
    loop {
        let start = end - length;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&mut *file).take(length).read_to_end(&mut bytes)?;
        let starts = line_starts(&bytes);
        let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
        let nth = starts.len().checked_sub(wanted);
        match nth {
            _ if lines == 0 => return Ok(Tail::StartsAt(end)),
            // The first line of a block may begin before it.
            Some(nth) if nth > 0 || start == 0 => {
                let at = starts.get(nth).copied().unwrap_or_default();
                return Ok(Tail::StartsAt(start + at as u64));
            }
            _ if start == 0 => return Ok(Tail::Short(starts.len() as u64)),
            _ => length = (length * 2).min(end),
        }
    }
}

/// Where whole lines begin; partial entries belong to the line they end in.
fn line_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut at, mut continues) = (0, false);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !continues {
            starts.push(at);
        }
        continues = Entry::parse(line).is_some_and(|entry| entry.is_partial);
        at += line.len();
    }
    starts
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Filter, Wish};
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("knarr-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn log(&self) -> PathBuf {
            self.0.join("0.log")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn line(text: &str) -> String {
        format!("2026-01-01T00:00:00Z stdout F {text}\n")
    }

    fn read_on(reader: &mut Reader) -> String {
        let mut filter = Filter::new(Wish::default());
        let mut out = Vec::new();
        loop {
            let bytes = reader.read().unwrap();
            if bytes.is_empty() {
                return String::from_utf8(out).unwrap();
            }
            out.extend(filter.push(&bytes));
        }
    }

    #[test]
    fn the_tail_counts_whole_lines_over_all_files() {
        let directory = Directory::new("tail");
        let partial = "2026-01-01T00:00:00Z stdout P th\n".to_owned();
        fs::write(
            directory.log().with_added_extension("1"),
            line("one") + &line("two"),
        )
        .unwrap();
        fs::write(directory.log(), partial + &line("ree") + &line("four")).unwrap();
        let check = |lines, expected| {
            let mut reader = Reader::open(&directory.log(), lines).unwrap();
            assert_eq!(read_on(&mut reader), expected, "{lines:?}");
        };
        check(Some(0), "");
        check(Some(1), "four\n");
        check(Some(2), "three\nfour\n");
        check(Some(3), "two\nthree\nfour\n");
        check(Some(9), "one\ntwo\nthree\nfour\n");
        check(None, "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn a_long_tail_is_found_across_blocks() {
        let directory = Directory::new("long-tail");
        let text: String = (0..5000)
            .map(|number| line(&format!("{number:0>20}")))
            .collect();
        fs::write(directory.log(), text).unwrap();
        for count in [1, 600, 4999, 5000, 6000] {
            let mut reader = Reader::open(&directory.log(), Some(count)).unwrap();
            let lines = read_on(&mut reader).lines().count();
            assert_eq!(lines as u64, count.min(5000));
        }
    }

    #[test]
    fn a_reader_follows_through_several_rotations() {
        let directory = Directory::new("rotate");
        let numbered = |number: u32| directory.log().with_added_extension(number.to_string());
        fs::write(directory.log(), line("one")).unwrap();
        let mut reader = Reader::open(&directory.log(), None).unwrap();
        assert_eq!(read_on(&mut reader), "one\n");
        assert_eq!(read_on(&mut reader), "");
        fs::write(directory.log(), line("one") + &line("two")).unwrap();
        for text in ["three", "four"] {
            let _ = fs::rename(numbered(1), numbered(2));
            fs::rename(directory.log(), numbered(1)).unwrap();
            fs::write(directory.log(), line(text)).unwrap();
        }
        assert_eq!(read_on(&mut reader), "two\nthree\nfour\n");
    }
}
