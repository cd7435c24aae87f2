//! The functions of wasi:keyvalue 0.2.0-draft2.

use std::sync::Arc;

use wasmtime::component::{Linker, Resource};

use self::bindings::wasi::keyvalue::{atomics, batch, store};
use self::store::Error;
use super::{Bucket, Failure, Store};
use crate::guest::ComponentState;
use crate::interfaces::{HasView, View, view};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue",
        world: "wasi:keyvalue/imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
    });
}

/// What a key had when a guest looked at it.
pub struct Cas {
    store: Arc<Store>,
    key: String,
    there: Option<Vec<u8>>,
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

impl View<'_> {
    async fn look(&mut self, store: Arc<Store>, key: String) -> Answer<Resource<Cas>> {
        match store.get(&key).await {
            Ok(there) => Ok(Ok(self.table.push(Cas { store, key, there })?)),
            Err(failure) => told(Err(failure)),
        }
    }
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        match self.interfaces.shared()?.buckets.open(&identifier) {
            Some(store) => Ok(Ok(self.table.push(Bucket { store, positions: Default::default() })?)),
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

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Answer<store::KeyResponse> {
        let page = self.store(&bucket)?.keys(cursor).await;
        told(page.map(|(keys, cursor)| store::KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Answer<i64> {
        told(self.store(&bucket)?.increment(&key, delta).await)
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let Cas { store, key, there } = self.table.delete(cas)?;
        let error = match store.swap(&key, there, value).await {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => match self.look(store, key).await? {
                Ok(newer) => atomics::CasError::CasFailed(newer),
                Err(error) => atomics::CasError::StoreError(error),
            },
            Err(failure) => atomics::CasError::StoreError(failure.into()),
        };
        Ok(Err(error))
    }
}

impl atomics::HostCas for View<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let store = self.store(&bucket)?;
        self.look(store, key).await
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.there.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for View<'_> {
    async fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<Vec<(String, Option<Vec<u8>>)>> {
        told(self.store(&bucket)?.get_many(keys).await)
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
