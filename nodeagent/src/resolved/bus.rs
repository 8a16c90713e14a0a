//! As much of D-Bus as it takes to call a method of a service that runs. Starts none.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A bus that takes longer is not waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Answers to our calls are a few dozen bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const NO_AUTO_START: u8 = 2;
const FIXED_HEADER_BYTES: usize = 16;

/// What can go wrong with a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the bus at {}", .0.display())]
    Connect(PathBuf, #[source] io::Error),
    #[error("the bus refuses this user: {0}")]
    Refused(String),
    #[error("talking to the bus")]
    Talk(#[from] io::Error),
    #[error("{member}: {error}")]
    Failed { member: &'static str, error: String },
    #[error("the bus answers nonsense")]
    Nonsense,
    #[error("the bus is gone")]
    Closed,
}

/// A method call in the making.
#[derive(Debug)]
pub(super) struct Call {
    destination: &'static str,
    path: &'static str,
    interface: &'static str,
    member: &'static str,
    signature: &'static str,
    pub(super) body: Body,
}

impl Call {
    pub(super) fn new(
        destination: &'static str,
        path: &'static str,
        interface: &'static str,
        member: &'static str,
        signature: &'static str,
    ) -> Self {
        let body = Body::default();
        Self {
            destination,
            path,
            interface,
            member,
            signature,
            body,
        }
    }

    fn message(&self, serial: u32) -> Vec<u8> {
        let Self {
            destination,
            path,
            interface,
            member,
            signature,
            body,
        } = self;
        let mut message = Body(vec![b'l', METHOD_CALL, NO_AUTO_START, 1]);
        message.number(u32::try_from(body.0.len()).unwrap_or(u32::MAX));
        message.number(serial);
        let fields = [
            (1, 'o', path),
            (2, 's', interface),
            (3, 's', member),
            (6, 's', destination),
            (8, 'g', signature),
        ];
        let fields = fields.into_iter().filter(|(.., value)| !value.is_empty());
        let fields: Vec<(u8, char, &&str)> = fields.collect();
        message.structs(&fields, |header, (field, kind, value)| {
            header.0.push(*field);
            header.signature(kind.encode_utf8(&mut [0; 4]));
            match kind {
                'g' => header.signature(value),
                _ => header.text(value),
            }
        });
        message.align(8);
        message.0.extend(&body.0);
        message.0
    }
}

/// Values, each aligned as D-Bus wants it.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn integer(&mut self, number: i32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn truth(&mut self) {
        self.number(1);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array of structs; its length does not count what aligns the first.
    pub(super) fn structs<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(0);
        let length_at = self.0.len() - 4;
        self.align(8);
        let start = self.0.len();
        for item in items {
            self.align(8);
            write(self, item);
        }
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// A connection that the bus has let in.
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
}

impl Connection {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let stream =
            UnixStream::connect(path).map_err(|error| Error::Connect(path.to_owned(), error))?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
        let mut connection = Self { stream, serial: 0 };
        connection.authenticate()?;
        let bus = "org.freedesktop.DBus";
        connection.call(&Call::new(bus, "/org/freedesktop/DBus", bus, "Hello", ""))?;
        Ok(connection)
    }

    /// The kernel tells the bus who we are; the name we give is our user's number, in hexadecimal digits of its digits.
    fn authenticate(&mut self) -> Result<(), Error> {
        let user = nix::unistd::geteuid().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.stream
            .write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        if !line.starts_with(b"OK") {
            return Err(Error::Refused(
                String::from_utf8_lossy(&line).trim().to_owned(),
            ));
        }
        self.stream.write_all(b"BEGIN\r\n")?;
        Ok(())
    }

    /// Calls, and waits until the call is done.
    pub(super) fn call(&mut self, call: &Call) -> Result<(), Error> {
        self.serial += 1;
        self.stream.write_all(&call.message(self.serial))?;
        loop {
            let answer = self.read()?;
            match (answer.kind, answer.reply_to == Some(self.serial)) {
                (METHOD_RETURN, true) => return Ok(()),
                (ERROR, true) => {
                    let (member, error) = (call.member, answer.error.unwrap_or_default());
                    return Err(Error::Failed { member, error });
                }
                // A signal, such as the name that the bus has given us.
                _ => {}
            }
        }
    }

    /// Reads no further than the end of the message, so that the stream can be handed on.
    fn read(&mut self) -> Result<Message, Error> {
        let mut bytes = vec![0; FIXED_HEADER_BYTES];
        self.stream.read_exact(&mut bytes)?;
        bytes.resize(message_bytes(&bytes)?, 0);
        self.stream.read_exact(&mut bytes[FIXED_HEADER_BYTES..])?;
        let (message, _) = Message::first(&bytes)?.ok_or(Error::Nonsense)?;
        Ok(message)
    }

    /// The stream, for who waits for signals: it blocks nobody.
    pub(super) fn into_stream(self) -> Result<UnixStream, Error> {
        self.stream.set_nonblocking(true)?;
        Ok(self.stream)
    }
}

/// What matters of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    kind: u8,
    reply_to: Option<u32>,
    error: Option<String>,
    body: Vec<u8>,
}

impl Message {
    /// The first message of what was heard, and its length; nothing while it is not there in full.
    pub(super) fn first(heard: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        if heard.len() < FIXED_HEADER_BYTES {
            return Ok(None);
        }
        let length = message_bytes(heard)?;
        let Some(bytes) = heard.get(..length) else {
            return Ok(None);
        };
        let fields = word(bytes, 12).ok_or(Error::Nonsense)?;
        let fields = &bytes[FIXED_HEADER_BYTES..FIXED_HEADER_BYTES + fields];
        let body = word(bytes, 4).ok_or(Error::Nonsense)?;
        let mut message = Self {
            kind: bytes[1],
            body: bytes[length - body..].to_vec(),
            ..Self::default()
        };
        read_fields(fields, &mut message).ok_or(Error::Nonsense)?;
        Ok(Some((message, length)))
    }

    /// The body of a signal, where it is nothing but texts.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        if self.kind != SIGNAL {
            return None;
        }
        let mut texts = Vec::new();
        let mut at = 0_usize;
        while at < self.body.len() {
            let length = word(&self.body, at)?;
            let start = at.checked_add(4)?;
            let text = self.body.get(start..start.checked_add(length)?)?;
            texts.push(String::from_utf8(text.to_vec()).ok()?);
            at = (start + length + 1).next_multiple_of(4);
        }
        Some(texts)
    }
}

/// The length of a message, by its first sixteen bytes.
fn message_bytes(head: &[u8]) -> Result<usize, Error> {
    let (body, fields) = (word(head, 4), word(head, 12));
    match (head.first(), body, fields) {
        (Some(b'l'), Some(body @ ..=MESSAGE_BYTES_MAX), Some(fields @ ..=MESSAGE_BYTES_MAX)) => {
            Ok(FIXED_HEADER_BYTES + fields.next_multiple_of(8) + body)
        }
        _ => Err(Error::Nonsense),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

fn read_fields(bytes: &[u8], message: &mut Message) -> Option<()> {
    const ERROR_NAME: u8 = 4;
    const REPLY_SERIAL: u8 = 5;
    let mut at = 0_usize;
    while at < bytes.len() {
        // A field's number, and a variant: the length of its signature, which is one letter, the letter and a zero.
        let [field, 1, kind, 0] = *bytes.get(at..at.checked_add(4)?)? else {
            return None;
        };
        at += 4;
        match kind {
            b'u' => {
                if field == REPLY_SERIAL {
                    message.reply_to = u32::try_from(word(bytes, at)?).ok();
                }
                at += 4;
            }
            b's' | b'o' => {
                let length = word(bytes, at)?;
                let text = bytes.get(at + 4..(at + 4).checked_add(length)?)?;
                if field == ERROR_NAME {
                    message.error = Some(String::from_utf8_lossy(text).into_owned());
                }
                at += 4 + length + 1;
            }
            b'g' => at += usize::from(*bytes.get(at)?) + 2,
            _ => return None,
        }
        at = at.next_multiple_of(8);
    }
    Some(())
}
