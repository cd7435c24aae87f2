//! The functions of wasi:keyvalue 0.2.0-draft: those of draft2 with other numbers, and without compare and swap.

use std::collections::VecDeque;

use wasmtime::component::{Linker, Resource};

use self::bindings::wasi::keyvalue::{atomics, batch, store};
use self::store::Error;
use super::{Bucket, Failure};
use crate::guest::ComponentState;
use crate::interfaces::{HasView, View, view};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-draft",
        world: "wasi:keyvalue/imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::super::Bucket },
    });
}

/// Listings that a bucket may have begun and not ended. The oldest is forgotten for one more.
const LISTINGS: usize = 64;

/// The cursors of this draft are numbers, those of buckets are text.
#[derive(Default)]
pub(super) struct Positions {
    known: VecDeque<(u64, String)>,
    given: u64,
}

impl Positions {
    fn give(&mut self, position: String) -> u64 {
        self.given += 1;
        self.known.push_back((self.given, position));
        drop(self.known.drain(..self.known.len().saturating_sub(LISTINGS)));
        self.given
    }

    fn find(&self, cursor: u64) -> Result<String, Failure> {
        let found = self.known.iter().find(|(given, _)| *given == cursor);
        found.map(|(_, position)| position.clone()).ok_or(Failure::NoCursor)
    }
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Denied => Error::AccessDenied,
            other => Error::Other(other.to_string()),
        }
    }
}

fn told<T>(result: Result<T, Failure>) -> Answer<T> {
    Ok(result.map_err(Error::from))
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        match self.interfaces.shared()?.buckets.open(&identifier) {
            Some(store) => Ok(Ok(self.table.push(Bucket { store, positions: Positions::default() })?)),
            None => Ok(Err(Error::NoSuchStore)),
        }
    }
}

impl store::HostBucket for View<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        told(self.store(&bucket)?.get(&key).await)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        told(self.store(&bucket)?.set(&key, value).await)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        told(self.store(&bucket)?.delete(&key).await)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        told(self.store(&bucket)?.exists(&key).await)
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<store::KeyResponse> {
        let position =
            match cursor.map(|cursor| self.table.get(&bucket).map(|bucket| bucket.positions.find(cursor))).transpose()? {
                Some(Err(failure)) => return told(Err(failure)),
                Some(Ok(position)) => Some(position),
                None => None,
            };
        match self.store(&bucket)?.keys(position).await {
            Ok((keys, next)) => {
                let positions = &mut self.table.get_mut(&bucket)?.positions;
                Ok(Ok(store::KeyResponse { keys, cursor: next.map(|next| positions.give(next)) }))
            }
            Err(failure) => told(Err(failure)),
        }
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let Ok(delta) = i64::try_from(delta) else { return told(Err(Failure::Overflow)) };
        let number = self.store(&bucket)?.increment(&key, delta).await;
        told(number.and_then(|number| u64::try_from(number).map_err(|_| Failure::NoNumber)))
    }
}

impl batch::Host for View<'_> {
    async fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let values = self.store(&bucket)?.get_many(keys).await;
        told(values.map(|values| values.into_iter().map(|(key, value)| Some((key, value?))).collect()))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, values: Vec<(String, Vec<u8>)>) -> Answer<()> {
        told(self.store(&bucket)?.set_many(values).await)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        told(self.store(&bucket)?.delete_many(keys).await)
    }
}

pub(super) fn link(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, HasView>(linker, view)?;
    atomics::add_to_linker::<_, HasView>(linker, view)?;
    batch::add_to_linker::<_, HasView>(linker, view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cursors_are_known() {
        let mut positions = Positions::default();
        let given: Vec<u64> = (0..=LISTINGS).map(|number| positions.give(number.to_string())).collect();
        assert!(positions.find(given[0]).is_err());
        assert_eq!(positions.find(given[1]).unwrap(), "1");
        assert_eq!(positions.find(given[LISTINGS]).unwrap(), LISTINGS.to_string());
    }
}
