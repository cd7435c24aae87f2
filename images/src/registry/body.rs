//! A body under way, which ends at its cap.

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use super::endpoint::Strikes;
use super::{RegistryError, chain};

/// A body under way.
pub(crate) struct Body {
    response: Response,
    what: String,
    start: u64,
    left: u64,
    limit: u64,
    /// Where a body that breaks off is counted against its host.
    strikes: Strikes,
}

impl Body {
    /// `limit` counts from byte 0 of the whole; `from` is where the request asked to begin.
    pub(super) fn new(response: Response, what: String, limit: u64, from: u64, strikes: Strikes) -> Result<Body, RegistryError> {
        let start = match (response.status(), from) {
            (StatusCode::PARTIAL_CONTENT, 0) => {
                return Err(RegistryError::Unavailable(format!("{what}: it sent a part, and was asked for the whole")));
            }
            (StatusCode::PARTIAL_CONTENT, from) => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                match range.and_then(first_byte) {
                    Some(first) if first == from => from,
                    _ => return Err(RegistryError::Range(format!("{what}: it sent another part than from byte {from} on"))),
                }
            }
            _ => 0,
        };
        let left = limit.saturating_sub(start);
        match response.content_length() {
            Some(length) if length > left => Err(RegistryError::TooLarge { what: format!("{what} of {length} bytes"), limit }),
            _ => Ok(Body { response, what, start, left, limit, strikes }),
        }
    }

    /// The place of the first byte in the whole: where the request asked to begin, or 0.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The next piece; nothing at the end. More than the limit is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let chunk = match self.response.chunk().await {
            Ok(chunk) => chunk,
            Err(error) => {
                self.strikes.add();
                return Err(RegistryError::Cut(format!("{}: {}", self.what, chain(&error.without_url()))));
            }
        };
        if let Some(chunk) = &chunk {
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            self.left = self
                .left
                .checked_sub(length)
                .ok_or_else(|| RegistryError::TooLarge { what: self.what.clone(), limit: self.limit })?;
        }
        Ok(chunk)
    }

    pub(super) async fn all(mut self) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The first number of `bytes 5-9/10`.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes")?.trim_start().split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::first_byte;

    #[test]
    fn the_first_byte_of_a_range_is_read() {
        assert_eq!(first_byte("bytes 5-9/10"), Some(5));
        for wrong in ["", "bytes", "bytes */10", "items 5-9/10", "bytes -9/10", "5-9"] {
            assert_eq!(first_byte(wrong), None, "{wrong}");
        }
    }
}
