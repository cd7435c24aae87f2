//! Digests: the names of everything in the store.
//!
//! Only sha256 is accepted. Other algorithms are allowed by the OCI specification, but no registry that we know
//! serves manifests under them, and a second algorithm would give one content two names in the store.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(String);

const PREFIX: &str = "sha256:";

impl Digest {
    /// Reads `sha256:<hex>`; the error is a clause that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Digest, String> {
        let Some(hex) = text.strip_prefix(PREFIX) else {
            return Err(format!("digest {text:?} is not a sha256 digest"));
        };
        if !is_hex(hex) || hex.len() != 64 {
            return Err(format!("digest {text:?} must be sha256: and 64 lower-case hexadecimal digits"));
        }
        Ok(Digest(text.to_owned()))
    }

    pub(crate) fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(bytes);
        Digest::finish(hasher)
    }

    pub(crate) fn finish(hasher: Sha256) -> Digest {
        let mut text = String::with_capacity(PREFIX.len() + 64);
        text.push_str(PREFIX);
        for byte in hasher.finalize() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Digest(text)
    }

    /// The digits alone, as they name files.
    pub(crate) fn hex(&self) -> &str {
        self.0.strip_prefix(PREFIX).unwrap_or(&self.0)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` has only digits of lower-case hexadecimal.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        Digest::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let digest = Digest::of(b"");
        assert_eq!(digest.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Digest::parse(digest.as_str()), Ok(digest));
    }

    #[test]
    fn other_algorithms_capitals_and_short_digests_are_refused() {
        for text in ["sha512:00", "sha256:00", "e3b0", &format!("sha256:{}", "A".repeat(64)), ""] {
            assert!(Digest::parse(text).is_err(), "{text}");
        }
    }
}
