//! Header blocks: one zlib stream for all of a connection (Draft 3, 2.6.10), so each must be inflated, also that of a
//! stream that is refused.

use zlib_rs::{Inflate, InflateError, InflateFlush, Status};

use super::dictionary::dictionary;

/// Bytes of one inflated block. Real ones have a hundred; a bomb stops here.
const LONGEST: usize = 16 * 1024;
/// Headers of one block. Real ones have three.
const MOST: usize = 64;

/// What is wrong with a block.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// The zlib stream is broken, so nothing that follows can be read: the session ends.
    #[error("a header block that is no part of the connection's zlib stream")]
    Broken,
    /// Likewise: what follows is lost.
    #[error("a header block of more than 16 KiB")]
    TooLong,
    /// What was inflated are no headers, which concerns this stream alone.
    #[error("a header block whose contents are no headers")]
    Malformed,
}

/// The headers of one stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a header, whose name is in lower case; the first one where there are several, which SPDY parts with
    /// zero bytes.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(other, _)| other == name)?;
        value.split('\0').next()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// The client's zlib stream.
#[derive(Default)]
pub(crate) struct HeaderReader {
    /// 40 KB, made for the first block.
    inflate: Option<Inflate>,
}

impl HeaderReader {
    /// Inflates and reads the next block.
    pub(crate) fn read(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        let inflate = self.inflate.get_or_insert_with(|| Inflate::new(true, 15));
        let mut text = vec![0; LONGEST];
        let (from_in, from_out) = (inflate.total_in(), inflate.total_out());
        loop {
            let read = (inflate.total_in() - from_in) as usize;
            let written = (inflate.total_out() - from_out) as usize;
            let (Some(input), Some(output)) = (block.get(read..), text.get_mut(written..)) else {
                return Err(HeaderError::Broken);
            };
            if output.is_empty() {
                return Err(HeaderError::TooLong);
            }
            if input.is_empty() {
                text.truncate(written);
                return parse(&text).ok_or(HeaderError::Malformed);
            }
            match inflate.decompress(input, output, InflateFlush::SyncFlush) {
                // No progress although there is input and room.
                Ok(Status::BufError) if (inflate.total_in() - from_in) as usize == read && !output.is_empty() => {
                    return Err(HeaderError::Broken);
                }
                Ok(Status::Ok | Status::BufError) => (),
                Err(InflateError::NeedDict { .. }) => {
                    inflate.set_dictionary(&dictionary()).map_err(|_| HeaderError::Broken)?;
                }
                Ok(Status::StreamEnd) | Err(_) => return Err(HeaderError::Broken),
            }
        }
    }
}

fn parse(mut text: &[u8]) -> Option<Headers> {
    let count = number(&mut text)?;
    if count > MOST {
        return None;
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, value) = (string(&mut text)?, string(&mut text)?);
        // Draft 3, 2.6.10: names are in lower case, not empty, and each comes once.
        if name.is_empty()
            || name.bytes().any(|byte| byte.is_ascii_uppercase())
            || headers.iter().any(|(other, _)| *other == name)
        {
            return None;
        }
        headers.push((name, value));
    }
    text.is_empty().then_some(Headers(headers))
}

fn number(text: &mut &[u8]) -> Option<usize> {
    let (number, rest) = text.split_first_chunk()?;
    *text = rest;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

fn string(text: &mut &[u8]) -> Option<String> {
    let length = number(text)?;
    let (string, rest) = text.split_at_checked(length)?;
    *text = rest;
    String::from_utf8(string.to_vec()).ok()
}
