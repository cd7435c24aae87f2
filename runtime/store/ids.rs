//! Ids of pods and containers: 64 hexadecimal digits, as people and tools of this field expect them.
//!
//! Every RPC takes a unique beginning of an id as well, because `crictl` hands on what its user typed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use rand::Rng;
use serde::{Deserialize, Serialize};

/// Why an id names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The request carried no id.
    #[error("the id is empty")]
    Empty,
    /// Nothing has this id.
    #[error("not found")]
    Missing,
    /// More than one object's id begins so.
    #[error("more than one id begins with it")]
    Ambiguous,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new random id of 256 bits.
            pub fn generate() -> Self {
                Self(random_hex())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Id of a pod sandbox.
    SandboxId
);
id!(
    /// Id of a container; also the name of its guest at the supervisor.
    ContainerId
);

/// Finds the one entry whose key is `id` or, if no key is, begins with it.
pub fn find<K, V>(map: &BTreeMap<K, V>, id: &str) -> Result<V, IdError>
where
    K: Ord + AsRef<str> + std::borrow::Borrow<str>,
    V: Clone,
{
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    let mut candidates =
        map.range::<str, _>((Bound::Included(id), Bound::Unbounded)).take_while(|(key, _)| key.as_ref().starts_with(id));
    let Some((key, value)) = candidates.next() else { return Err(IdError::Missing) };
    // A whole id sorts before everything that it begins, so it is met first.
    if key.as_ref() != id && candidates.next().is_some() {
        return Err(IdError::Ambiguous);
    }
    Ok(value.clone())
}

fn random_hex() -> String {
    let mut bytes = [0u8; 32];
    rand::rng().fill(&mut bytes);
    let mut text = String::with_capacity(64);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<ContainerId, String> {
        keys.iter().map(|key| (ContainerId::from((*key).to_owned()), (*key).to_owned())).collect()
    }

    #[test]
    fn an_id_is_64_hexadecimal_digits_and_never_the_same_twice() {
        let id = SandboxId::generate();
        assert_eq!(id.as_str().len(), 64);
        assert!(id.as_str().chars().all(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_uppercase()));
        assert_ne!(id, SandboxId::generate());
    }

    #[test]
    fn a_unique_beginning_finds_the_object() {
        let map = map(&["abc1", "abd2", "b"]);
        assert_eq!(find(&map, "abc").unwrap(), "abc1");
        assert_eq!(find(&map, "b").unwrap(), "b");
        assert_eq!(find(&map, "ab"), Err(IdError::Ambiguous));
        assert_eq!(find(&map, "c"), Err(IdError::Missing));
        assert_eq!(find(&map, ""), Err(IdError::Empty));
    }

    #[test]
    fn a_whole_id_is_found_though_another_begins_with_it() {
        assert_eq!(find(&map(&["ab", "abc"]), "ab").unwrap(), "ab");
    }
}
