//! wasi:keyvalue: buckets in the memory of the guest's process, in a directory of its container, or in a Redis server.
//!
//! `default` (which `""` is another name of) is always there, in memory unless the environment says otherwise; any other bucket
//! is there if the environment names it: `CRI_WASM_KEYVALUE_NAME=memory: | dir:/path | redis://[user:password@]host[:port][/db]`. As
//! variables have names of capital letters by custom, a bucket's name and a variable's are compared as if they were written so.
//!
//! Numbers are decimal text in every kind of bucket, as in Redis, so that `get` and `increment` of one key agree.

mod directory;
mod draft;
mod draft2;
mod memory;
mod redis;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use rustix::io::Errno;
use wasmtime::component::{Linker, Resource};

use self::directory::Directory;
use self::memory::Memory;
use self::redis::Redis;
use super::tls::Trust;
use super::{SettingError, View};
use crate::egress::Allowed;
use crate::guest::ComponentState;

/// Variables that say where a bucket is.
const VARIABLES: &str = "CRI_WASM_KEYVALUE_";

/// The bucket that is always there, as variables have it.
const DEFAULT: &str = "DEFAULT";

/// Longest key, in bytes.
const KEY_BYTES: usize = 1024;

/// Largest value, in bytes.
const VALUE_BYTES: usize = 8 << 20;

/// Bytes of values that one call is answered with.
const MANY_BYTES: usize = 64 << 20;

/// Operations of one call that are on their way to a server at once.
const AT_ONCE: usize = 64;

/// Keys of a page.
const PAGE: usize = 1000;

/// Where a bucket's data is.
enum Store {
    Memory(Memory),
    Directory(Directory),
    Redis(Box<Redis>),
}

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The process, or the user of the server, may not.
    #[error("access denied")]
    Denied,
    #[error("the key has {bytes} bytes, and the most is {most}")]
    KeyTooLong { bytes: usize, most: usize },
    #[error("a value of more than {VALUE_BYTES} bytes")]
    ValueTooLarge,
    #[error("values of more than {MANY_BYTES} bytes in one call")]
    TooMuch,
    #[error("the bucket is full: it has {0} bytes, and the most is {most}", most = memory::MOST_BYTES)]
    Full(usize),
    #[error("the value is no whole number of 64 bits")]
    NoNumber,
    #[error("the number would be too large")]
    Overflow,
    #[error("the cursor is none of this bucket's")]
    NoCursor,
    #[error("{0}: somebody else holds the lock of the bucket")]
    Locked(String),
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("redis: {0}")]
    Redis(String),
}

impl Failure {
    fn io(path: &Path) -> impl Fn(io::Error) -> Failure {
        move |error| match Errno::from_io_error(&error) {
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Failure::Denied,
            _ if error.kind() == io::ErrorKind::FileTooLarge => Failure::ValueTooLarge,
            _ => Failure::Io { path: path.display().to_string(), error },
        }
    }
}

/// Keys, and where the next ones begin, if there are more.
type Page = (Vec<String>, Option<String>);

impl Store {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        check_key(key)?;
        match self {
            Store::Memory(memory) => Ok(memory.get(key)),
            Store::Directory(directory) => directory.get(key).await,
            Store::Redis(redis) => redis.get(key).await,
        }
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), Failure> {
        check(key, &value)?;
        match self {
            Store::Memory(memory) => memory.set(key, value),
            Store::Directory(directory) => directory.set(key, value).await,
            Store::Redis(redis) => redis.set(key, value).await,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        check_key(key)?;
        match self {
            Store::Memory(memory) => memory.delete(key),
            Store::Directory(directory) => return directory.delete(key).await,
            Store::Redis(redis) => return redis.delete(key).await,
        }
        Ok(())
    }

    async fn exists(&self, key: &str) -> Result<bool, Failure> {
        check_key(key)?;
        match self {
            Store::Memory(memory) => Ok(memory.exists(key)),
            Store::Directory(directory) => directory.exists(key).await,
            Store::Redis(redis) => redis.exists(key).await,
        }
    }

    async fn keys(&self, cursor: Option<String>) -> Result<Page, Failure> {
        match self {
            Store::Memory(memory) => Ok(memory.keys(cursor)),
            Store::Directory(directory) => directory.keys(cursor).await,
            Store::Redis(redis) => redis.keys(cursor).await,
        }
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64, Failure> {
        check_key(key)?;
        match self {
            Store::Memory(memory) => memory.increment(key, delta),
            Store::Directory(directory) => directory.increment(key, delta).await,
            Store::Redis(redis) => redis.increment(key, delta).await,
        }
    }

    /// Sets a value where `expected` is there. `false`: something else is.
    async fn swap(&self, key: &str, expected: Option<Vec<u8>>, value: Vec<u8>) -> Result<bool, Failure> {
        check(key, &value)?;
        match self {
            Store::Memory(memory) => memory.swap(key, expected.as_deref(), value),
            Store::Directory(directory) => directory.swap(key, expected, value).await,
            Store::Redis(redis) => redis.swap(key, expected, value).await,
        }
    }

    async fn get_many(&self, keys: Vec<String>) -> Result<Vec<(String, Option<Vec<u8>>)>, Failure> {
        let gets = keys.into_iter().map(|key| async move {
            let value = self.get(&key).await?;
            Ok::<_, Failure>((key, value))
        });
        let mut gets = stream::iter(gets).buffered(self.at_once());
        let (mut all, mut bytes) = (Vec::new(), 0_usize);
        while let Some((key, value)) = gets.try_next().await? {
            bytes = bytes.saturating_add(key.len()).saturating_add(value.as_ref().map_or(0, Vec::len));
            if bytes > MANY_BYTES {
                return Err(Failure::TooMuch);
            }
            all.push((key, value));
        }
        Ok(all)
    }

    async fn set_many(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
        // None is set where one of them could not be.
        values.iter().try_for_each(|(key, value)| check(key, value))?;
        // In their order, as the last of two of one key is to stay.
        for (key, value) in values {
            self.set(&key, value).await?;
        }
        Ok(())
    }

    async fn delete_many(&self, keys: Vec<String>) -> Result<(), Failure> {
        let deletes = keys.into_iter().map(|key| async move { self.delete(&key).await });
        stream::iter(deletes).buffered(self.at_once()).try_collect().await
    }

    /// A server is asked for several values at once; files are read one after the other.
    fn at_once(&self) -> usize {
        if matches!(self, Store::Redis(_)) { AT_ONCE } else { 1 }
    }
}

fn check_key(key: &str) -> Result<(), Failure> {
    if key.len() > KEY_BYTES { Err(Failure::KeyTooLong { bytes: key.len(), most: KEY_BYTES }) } else { Ok(()) }
}

fn check(key: &str, value: &[u8]) -> Result<(), Failure> {
    check_key(key)?;
    if value.len() > VALUE_BYTES { Err(Failure::ValueTooLarge) } else { Ok(()) }
}

/// The number that a value is, and what it becomes.
fn incremented(value: Option<&[u8]>, delta: i64) -> Result<i64, Failure> {
    let Some(value) = value else { return Ok(delta) };
    let number: i64 = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Failure::NoNumber)?;
    number.checked_add(delta).ok_or(Failure::Overflow)
}

/// The buckets of a guest's process, by name as variables have it.
pub(super) struct Buckets(BTreeMap<String, Arc<Store>>);

impl Buckets {
    pub(super) fn of(env: &[String], trust: &Arc<Trust>, allowed: &Allowed) -> Result<Self, SettingError> {
        let mut buckets = BTreeMap::new();
        for (name, value) in env.iter().filter_map(|entry| entry.strip_prefix(VARIABLES)?.split_once('=')) {
            let refused =
                |reason: String| SettingError { variable: format!("{VARIABLES}{name}"), value: without_password(value), reason };
            let store = place(value, trust, allowed).map_err(refused)?;
            if buckets.insert(normal(name), Arc::new(store)).is_some() {
                return Err(refused("another variable says where the same bucket is".to_owned()));
            }
        }
        buckets.entry(DEFAULT.to_owned()).or_insert_with(|| Arc::new(Store::Memory(Memory::default())));
        Ok(Buckets(buckets))
    }

    fn open(&self, identifier: &str) -> Option<Arc<Store>> {
        let name = if identifier.is_empty() { DEFAULT.to_owned() } else { normal(identifier) };
        self.0.get(&name).cloned()
    }
}

fn normal(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' }).collect()
}

fn place(value: &str, trust: &Arc<Trust>, allowed: &Allowed) -> Result<Store, String> {
    match value.split_once(':') {
        Some(("memory", "")) => Ok(Store::Memory(Memory::default())),
        Some(("dir", path)) if path.starts_with('/') => Ok(Store::Directory(Directory::at(path))),
        Some(("redis" | "rediss", _)) => Redis::at(value, trust, allowed).map(Box::new).map(Store::Redis),
        _ => Err("it is none of memory:, dir:/PATH and redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]".to_owned()),
    }
}

/// For messages.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

/// A bucket that a guest has opened.
pub struct Bucket {
    store: Arc<Store>,
    /// Cursors of the first draft, which are numbers.
    positions: draft::Positions,
}

impl View<'_> {
    fn store(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Arc<Store>> {
        Ok(Arc::clone(&self.table.get(bucket)?.store))
    }
}

pub(super) fn link(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    draft2::link(linker)?;
    draft::link(linker)
}

#[cfg(test)]
mod tests;
