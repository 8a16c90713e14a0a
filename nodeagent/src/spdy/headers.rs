//! SPDY/3.1 header blocks: pairs under one zlib stream for each direction, which begins with a dictionary of the protocol.

use std::sync::LazyLock;

use bytes::{Buf, BufMut, Bytes};
use flate2::{
    Compress, CompressError, Compression, Decompress, DecompressError, FlushCompress,
    FlushDecompress, Status,
};

/// Names in lower case, with their values.
pub(crate) type Headers = Vec<(String, String)>;

/// A block that grows beyond this is refused.
const BLOCK_BYTES_MAX: usize = 64 << 10;
const CHUNK_BYTES: usize = 4 << 10;

/// A header block that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("inflating")]
    Inflate(#[from] DecompressError),
    #[error("deflating")]
    Deflate(#[from] CompressError),
    #[error("the compressed stream ended")]
    Ended,
    #[error("more than {BLOCK_BYTES_MAX} bytes of headers")]
    TooLong,
    #[error("a length points beyond the block")]
    TooShort,
}

/// The reading end of one direction.
pub(crate) struct Decoder {
    zlib: Decompress,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
        }
    }

    /// Reads the next block.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let text = self.inflate(block)?;
        pairs(&mut text.as_slice())
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        loop {
            if text.len() > BLOCK_BYTES_MAX {
                return Err(Error::TooLong);
            }
            text.reserve(CHUNK_BYTES);
            let (read, written) = (self.zlib.total_in(), self.zlib.total_out());
            let outcome = self
                .zlib
                .decompress_vec(block, &mut text, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - read).unwrap_or(usize::MAX);
            block = block.get(taken..).unwrap_or_default();
            match outcome {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(&DICTIONARY)?;
                }
                Err(error) => return Err(error.into()),
                Ok(Status::StreamEnd) => return Err(Error::Ended),
                Ok(_) if taken == 0 && self.zlib.total_out() == written => return Ok(text),
                Ok(_) => {}
            }
        }
    }
}

/// The writing end of one direction.
pub(crate) struct Encoder {
    zlib: Compress,
}

impl Encoder {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.set_dictionary(&DICTIONARY)?;
        Ok(Self { zlib })
    }

    /// Writes the next block.
    pub(crate) fn encode(&mut self, headers: &[(&str, &str)]) -> Result<Bytes, Error> {
        let length = |text: &[u8]| u32::try_from(text.len()).map_err(|_| Error::TooLong);
        let mut text = Vec::new();
        text.put_u32(u32::try_from(headers.len()).map_err(|_| Error::TooLong)?);
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.put_u32(length(part.as_bytes())?);
            text.put_slice(part.as_bytes());
        }
        let (mut rest, mut block) = (text.as_slice(), Vec::new());
        loop {
            block.reserve(CHUNK_BYTES);
            let read = self.zlib.total_in();
            self.zlib
                .compress_vec(rest, &mut block, FlushCompress::Sync)?;
            let taken = usize::try_from(self.zlib.total_in() - read).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() && block.len() < block.capacity() {
                return Ok(block.into());
            }
        }
    }
}

fn pairs(text: &mut &[u8]) -> Result<Headers, Error> {
    let count = text.try_get_u32().map_err(|_| Error::TooShort)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        headers.push((string(text)?.to_ascii_lowercase(), string(text)?));
    }
    Ok(headers)
}

fn string(text: &mut &[u8]) -> Result<String, Error> {
    let length = text.try_get_u32().map_err(|_| Error::TooShort)?;
    let length = usize::try_from(length).map_err(|_| Error::TooShort)?;
    let (string, rest) = text.split_at_checked(length).ok_or(Error::TooShort)?;
    *text = rest;
    Ok(String::from_utf8_lossy(string).into_owned())
}

/// What both ends know before the first header: section 2.6.10.1 of the protocol.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::new();
    for word in DICTIONARY_WORDS.split_ascii_whitespace() {
        let word = word.replace('_', " ");
        dictionary.put_u32(word.len() as u32);
        dictionary.put_slice(word.as_bytes());
    }
    dictionary.put_slice(DICTIONARY_TEXT.as_bytes());
    dictionary
});

/// Words that stand in the dictionary with their lengths; `_` is a space.
const DICTIONARY_WORDS: &str = "options head post put delete trace accept accept-charset \
    accept-encoding accept-language accept-ranges age allow authorization cache-control \
    connection content-base content-encoding content-language content-length content-location \
    content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location \
    max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server \
    te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get \
    status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin";

const DICTIONARY_TEXT: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045\
    05203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept \
    Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
    charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum of the dictionary that every SPDY/3 stream names in its first bytes.
    const DICTIONARY_ADLER32: u32 = 0xe3c6_a7c2;

    #[test]
    fn the_dictionary_is_the_protocols() {
        let mut zlib = Compress::new(Compression::default(), true);
        assert_eq!(DICTIONARY.len(), 1423);
        assert_eq!(
            zlib.set_dictionary(&DICTIONARY).unwrap(),
            DICTIONARY_ADLER32
        );
    }

    #[test]
    fn blocks_come_out_as_they_went_in() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new());
        let long = "x".repeat(20_000);
        let blocks: [&[(&str, &str)]; 4] = [
            &[("streamtype", "error"), ("port", "80"), ("requestid", "0")],
            &[],
            &[("streamtype", "data"), ("port", "80"), ("requestid", "0")],
            &[("long", &long)],
        ];
        for block in blocks {
            let encoded = encoder.encode(block).unwrap();
            let expected: Headers = block
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(decoder.decode(&encoded).unwrap(), expected);
        }
    }

    #[test]
    fn a_block_that_grows_without_bounds_is_refused() {
        let mut encoder = Encoder::new().unwrap();
        let long = "x".repeat(BLOCK_BYTES_MAX * 2);
        let bomb = encoder.encode(&[("a", &long)]).unwrap();
        assert!(bomb.len() < 4096);
        assert!(matches!(Decoder::new().decode(&bomb), Err(Error::TooLong)));
    }
}
