//! A container's open stdin: what is sent to it waits here until the container takes it. Never blocks.

use std::os::fd::OwnedFd;

use nix::unistd::write;

/// The writing end of a stdin, or of none.
#[derive(Debug, Default)]
pub(super) struct Feed {
    file: Option<OwnedFd>,
    unwritten: Vec<u8>,
    is_ending: bool,
}

impl Feed {
    /// Takes the end of a pipe or a terminal that does not block.
    pub(super) fn new(file: OwnedFd) -> Self {
        Self {
            file: Some(file),
            ..Self::default()
        }
    }

    /// Queues bytes; those for a stdin that is closed are lost, as in any pipe.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.file.is_some() && !self.is_ending {
            self.unwritten.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Closes it after the last byte.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
        self.flush();
    }

    /// Writes what the container takes.
    pub(super) fn flush(&mut self) {
        while let (Some(file), false) = (&self.file, self.unwritten.is_empty()) {
            match write(file, &self.unwritten) {
                Ok(length) => drop(self.unwritten.drain(..length)),
                Err(nix::Error::EAGAIN) => return,
                Err(nix::Error::EINTR) => {}
                Err(_) => {
                    self.unwritten.clear();
                    self.is_ending = true;
                }
            }
        }
        self.unwritten = Vec::new();
        if self.is_ending {
            self.file = None;
        }
    }

    /// The file to wait on, as long as something waits.
    pub(super) fn waiting(&self) -> Option<&OwnedFd> {
        self.file.as_ref().filter(|_| !self.unwritten.is_empty())
    }

    /// The file, to set a terminal's size.
    pub(super) fn file(&self) -> Option<&OwnedFd> {
        self.file.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;

    #[test]
    fn bytes_wait_for_a_slow_reader_and_the_end_waits_for_them() {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK).unwrap();
        let mut feed = Feed::new(writer);
        let sent: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        feed.push(&sent);
        feed.end();
        assert!(feed.waiting().is_some());
        feed.push(b"too late");
        let (mut reader, mut taken) = (File::from(reader), Vec::new());
        while feed.waiting().is_some() {
            let mut buffer = [0; 4096];
            let length = reader.read(&mut buffer).unwrap();
            taken.extend_from_slice(&buffer[..length]);
            feed.flush();
        }
        reader.read_to_end(&mut taken).unwrap();
        assert!(taken == sent);
        assert!(feed.file().is_none());
    }

    #[test]
    fn a_reader_that_is_gone_closes_it() {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK).unwrap();
        drop(reader);
        let mut feed = Feed::new(writer);
        feed.push(b"x");
        assert!(feed.file().is_none() && feed.waiting().is_none());
    }
}
