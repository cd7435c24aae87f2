//! Attaching a sandbox to the network, detaching and checking it.

use std::path::Path;
use std::sync::Arc;

use super::cache::Record;
use super::chain::Chain;
use super::error::{NetworkError, full_text};
use super::list::{NetworkList, parse};
use super::pod::{INTERFACE, PodNetwork};
use super::result::{Attachment, attachment};
use super::spec_version::SpecVersion;
use super::{Network, netns};

impl Network {
    /// Attaches a sandbox. Dropped in the middle, the running plugin is killed,
    /// and what was added goes with [`Network::remove`].
    ///
    /// # Errors
    /// There is no network, the sandbox has one, a plugin failed or gave nothing
    /// to use. In the last two cases everything is taken back; what cannot be
    /// taken back keeps its record, for a later `remove` or `collect`.
    pub async fn add(&self, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        pod.validate()?;
        let _turn = self.inner.turns.sandbox(&pod.sandbox_id).await;
        let Some(list) = self.current().await? else {
            return Err(NetworkError::NotConfigured(self.status().message));
        };
        let mut record = Record::new(pod.sandbox_id.clone(), INTERFACE.to_owned(), list.name.clone(), list.config.clone());
        record.netns = pod.netns.to_string_lossy().into_owned();
        record.cni_args = pod.cni_args();
        record.capability_args = pod.capability_args();

        let (name, id) = (list.name.clone(), pod.sandbox_id.clone());
        if self.on_disk(move |inner| inner.cache.get(&name, &id, INTERFACE)).await??.is_some() {
            let record = self.inner.cache.path(&list.name, &pod.sandbox_id, INTERFACE);
            return Err(NetworkError::AlreadyAttached { sandbox: pod.sandbox_id.clone(), record });
        }
        self.write(record.clone()).await?;
        self.attached(|attached| attached.insert(pod.sandbox_id.clone(), list.name.clone()));

        let chain = Chain { launcher: &self.inner.launcher, list: &list, record: &record, netns: &record.netns };
        let failed = match chain.add().await {
            Ok(result) => match attachment(&list.name, INTERFACE, result.clone()) {
                Ok(attachment) => match self.write(record.clone().with_result(Some(result.clone()))).await {
                    Ok(()) => return Ok(Attachment { maps_ports: list.maps_ports(), ..attachment }),
                    Err(error) => (error, list.plugins.len(), Some(result)),
                },
                Err(source) => {
                    let (sandbox, network) = (pod.sandbox_id.clone(), list.name.clone());
                    (NetworkError::UnusableResult { sandbox, network, source }, list.plugins.len(), Some(result))
                }
            },
            Err(half) => {
                let (sandbox, network) = (pod.sandbox_id.clone(), list.name.clone());
                (NetworkError::Add { sandbox, network, source: Box::new(half.error) }, half.called, half.result)
            }
        };
        let (error, called, result) = failed;
        let undone = chain.undo(called, result.as_ref()).await;
        self.attached(|attached| attached.remove(&pod.sandbox_id));
        match undone {
            Ok(()) => {
                if let Err(error) = self.forget(&record).await {
                    tracing::warn!(sandbox = pod.sandbox_id, error = full_text(&error), "a record of nothing stays");
                }
            }
            Err(undo) => {
                let undo = full_text(&undo);
                tracing::warn!(sandbox = pod.sandbox_id, undo, "a failed attachment is not wholly taken back");
                // So that a later DEL has as much to go by as this one.
                if let Err(error) = self.write(record.with_result(result)).await {
                    tracing::warn!(sandbox = pod.sandbox_id, error = full_text(&error), "and its record is old");
                }
            }
        }
        Err(error)
    }

    /// Detaches a sandbox, by the configuration it was attached with. What is
    /// detached already, or never was attached, is detached.
    ///
    /// # Errors
    /// A plugin failed. Nothing is forgotten: call it again.
    pub async fn remove(&self, pod: &PodNetwork) -> Result<(), NetworkError> {
        pod.validate()?;
        let _turn = self.inner.turns.sandbox(&pod.sandbox_id).await;
        // From now on it may be collected, if what follows fails.
        let known = self.attached(|attached| attached.remove(&pod.sandbox_id));
        let current = self.current().await?;
        let guess = known.or_else(|| current.as_ref().map(|list| list.name.clone()));
        let id = pod.sandbox_id.clone();
        let found = self.on_disk(move |inner| inner.cache.find(guess.as_deref(), &id, INTERFACE)).await??;
        let (list, record) = match (found, current) {
            (Some(record), current) => (self.list_of(&record, current)?, record),
            (None, Some(list)) => {
                // Perhaps somebody has cleared the cache: the plugins may still
                // hold an address.
                let mut record = Record::new(pod.sandbox_id.clone(), INTERFACE.to_owned(), list.name.clone(), Vec::new());
                record.netns = pod.netns.to_string_lossy().into_owned();
                record.cni_args = pod.cni_args();
                record.capability_args = pod.capability_args();
                (list, record)
            }
            (None, None) => return Ok(()),
        };
        self.delete(&list, &record).await
    }

    /// Whether anything is on record for a sandbox, so that there is something to detach.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn is_on_record(&self, sandbox_id: &str) -> Result<bool, NetworkError> {
        let id = sandbox_id.to_owned();
        Ok(self.on_disk(move |inner| inner.cache.find(None, &id, INTERFACE)).await??.is_some())
    }

    /// Asks the plugins whether a sandbox is attached as it should be. Networks
    /// that cannot be asked, or do not want to be, are fine.
    ///
    /// # Errors
    /// It is not, or nothing is known of it.
    pub async fn check(&self, pod: &PodNetwork) -> Result<(), NetworkError> {
        pod.validate()?;
        let _turn = self.inner.turns.sandbox(&pod.sandbox_id).await;
        let guess = self.attached(|attached| attached.get(&pod.sandbox_id).cloned());
        let guess = guess.or_else(|| self.state(|state| state.network()).map(|list| list.name.clone()));
        let id = pod.sandbox_id.clone();
        let found = self.on_disk(move |inner| inner.cache.find(guess.as_deref(), &id, INTERFACE)).await??;
        let Some(record) = found.filter(|record| record.result.is_some()) else {
            return Err(NetworkError::NotAttached(pod.sandbox_id.clone()));
        };
        let list = self.list_of(&record, self.state(|state| state.network()))?;
        if list.disable_check || list.version < SpecVersion::WITH_CHECK {
            return Ok(());
        }
        let chain = Chain { launcher: &self.inner.launcher, list: &list, record: &record, netns: &record.netns };
        chain.check().await.map_err(|source| NetworkError::Check {
            sandbox: record.container_id.clone(),
            network: record.network_name.clone(),
            source: Box::new(source),
        })
    }

    /// `DEL` and, if it succeeds, the end of the record. The caller has the turn.
    pub(super) async fn delete(&self, list: &NetworkList, record: &Record) -> Result<(), NetworkError> {
        // A namespace that is gone is told as such, so that plugins do not try
        // to enter it (specification, section 2, DEL).
        let netns = if netns::is_pinned(Path::new(&record.netns)) { record.netns.as_str() } else { "" };
        let chain = Chain { launcher: &self.inner.launcher, list, record, netns };
        chain.delete().await.map_err(|source| NetworkError::Remove {
            sandbox: record.container_id.clone(),
            network: record.network_name.clone(),
            source: Box::new(source),
        })?;
        self.forget(record).await
    }

    /// The network as it was at `ADD`. If that cannot be read, today's of the
    /// same name is the best there is.
    pub(super) fn list_of(&self, record: &Record, current: Option<Arc<NetworkList>>) -> Result<Arc<NetworkList>, NetworkError> {
        match parse(&record.config, None) {
            Ok(list) => Ok(Arc::new(list)),
            Err(error) => current.filter(|list| list.name == record.network_name).ok_or_else(|| {
                NetworkError::NotConfigured(format!(
                    "the record of sandbox {} has no usable configuration of network {}: {}",
                    record.container_id,
                    record.network_name,
                    full_text(&error)
                ))
            }),
        }
    }

    async fn write(&self, record: Record) -> Result<(), NetworkError> {
        self.on_disk(move |inner| inner.cache.write(&record)).await??;
        Ok(())
    }

    async fn forget(&self, record: &Record) -> Result<(), NetworkError> {
        let (network, id, interface) = (record.network_name.clone(), record.container_id.clone(), record.if_name.clone());
        Ok(self.on_disk(move |inner| inner.cache.remove(&network, &id, &interface)).await??)
    }
}
