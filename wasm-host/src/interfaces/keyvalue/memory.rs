//! A bucket in the memory of the guest's process: all instances of a service share it, and it ends with the container.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Failure, PAGE, Page, incremented};

/// Bytes of keys and values, with what keeping each of them costs. They count in the container's memory as well.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// What the map needs for an entry besides its bytes, about.
const ENTRY_BYTES: usize = 96;

#[derive(Default)]
pub(super) struct Memory(Mutex<Values>);

#[derive(Default)]
struct Values {
    map: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Values {
    fn set(&mut self, key: &str, value: Vec<u8>) -> Result<(), Failure> {
        let before = self.map.get(key).map_or(0, |value| cost(key, value));
        let bytes = self.bytes - before + cost(key, &value);
        if bytes > MOST_BYTES {
            return Err(Failure::Full(self.bytes));
        }
        self.bytes = bytes;
        match self.map.get_mut(key) {
            Some(there) => *there = value,
            None => drop(self.map.insert(key.to_owned(), value)),
        }
        Ok(())
    }
}

fn cost(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

impl Memory {
    fn values(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.values().map.get(key).cloned()
    }

    pub(super) fn set(&self, key: &str, value: Vec<u8>) -> Result<(), Failure> {
        self.values().set(key, value)
    }

    pub(super) fn delete(&self, key: &str) {
        let mut values = self.values();
        if let Some(value) = values.map.remove(key) {
            values.bytes -= cost(key, &value);
        }
    }

    pub(super) fn exists(&self, key: &str) -> bool {
        self.values().map.contains_key(key)
    }

    /// In their order; the cursor is the last key of the page.
    pub(super) fn keys(&self, cursor: Option<String>) -> Page {
        let values = self.values();
        let after = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = values.map.range((after, Bound::Unbounded)).map(|(key, _)| key);
        let keys: Vec<String> = rest.by_ref().take(PAGE).cloned().collect();
        let cursor = rest.next().and_then(|_| keys.last().cloned());
        (keys, cursor)
    }

    pub(super) fn increment(&self, key: &str, delta: i64) -> Result<i64, Failure> {
        let mut values = self.values();
        let number = incremented(values.map.get(key).map(Vec::as_slice), delta)?;
        values.set(key, number.to_string().into_bytes())?;
        Ok(number)
    }

    pub(super) fn swap(&self, key: &str, expected: Option<&[u8]>, value: Vec<u8>) -> Result<bool, Failure> {
        let mut values = self.values();
        if values.map.get(key).map(Vec::as_slice) != expected {
            return Ok(false);
        }
        values.set(key, value)?;
        Ok(true)
    }
}
