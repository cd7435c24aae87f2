//! Versions of the CNI specification.
//!
//! The number decides what a network can be asked for: `CHECK` and the cached
//! result on `DEL` came with 0.4.0, `STATUS` and `GC` with 1.1.0.

use std::fmt;
use std::str::FromStr;

/// A version of the CNI specification, compared number by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpecVersion {
    major: u16,
    minor: u16,
    patch: u16,
}

impl SpecVersion {
    /// The oldest one supported. Results before it have another shape (`ip4`
    /// and `ip6`), and no plugin that is still maintained speaks only those.
    /// 0.3.1 differs from it by a corrected text alone.
    pub const OLDEST: SpecVersion = SpecVersion::new(0, 3, 0);
    /// `CHECK`, and `prevResult` on `DEL`.
    pub const WITH_CHECK: SpecVersion = SpecVersion::new(0, 4, 0);
    /// `STATUS` and `GC`.
    pub const WITH_STATUS: SpecVersion = SpecVersion::new(1, 1, 0);
    /// The newest one supported.
    pub const NEWEST: SpecVersion = SpecVersion::new(1, 1, 0);

    const fn new(major: u16, minor: u16, patch: u16) -> SpecVersion {
        SpecVersion { major, minor, patch }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is not one to three numbers with dots between them.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no CNI version")]
pub struct NotAVersion(String);

impl FromStr for SpecVersion {
    type Err = NotAVersion;

    /// Missing numbers are 0, as libcni reads them: `1.1` is `1.1.0`.
    fn from_str(text: &str) -> Result<SpecVersion, NotAVersion> {
        let refuse = || NotAVersion(text.to_owned());
        let mut numbers = [0_u16; 3];
        let mut places = numbers.iter_mut();
        for part in text.split('.') {
            let place = places.next().ok_or_else(refuse)?;
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(refuse());
            }
            *place = part.parse().map_err(|_| refuse())?;
        }
        let [major, minor, patch] = numbers;
        Ok(SpecVersion::new(major, minor, patch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number_and_not_by_text() {
        let version = |text: &str| text.parse::<SpecVersion>().unwrap();
        assert!(version("0.10.0") > version("0.4.0"));
        assert!(version("1.1") == version("1.1.0"));
        assert_eq!(version("1.1").to_string(), "1.1.0");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "1.", "v1.0.0", "1.0.0.0", "1.-1.0", "99999.0.0", "1. 0.0"] {
            assert!(text.parse::<SpecVersion>().is_err(), "{text}");
        }
    }
}
