//! Freeing what no pod uses any more.
//!
//! After a crash or a power cut plugins may hold addresses, rules and devices of
//! pods that are gone. Two things are done about it: attachments that we have
//! records of are detached one by one; then plugins that can (1.1.0) are told
//! which attachments there are, and free all others.
//!
//! The second is dangerous where another runtime attaches pods to the same
//! network: what it does not find in the list is gone for it. So everybody
//! else's records in the shared cache count as valid.

use std::collections::BTreeSet;
use std::path::Path;

use super::cache::Record;
use super::error::{NetworkError, full_text};
use super::list::NetworkList;
use super::pod::INTERFACE;
use super::spec_version::SpecVersion;
use super::{Network, chain, netns};

type Valid = BTreeSet<(String, String)>;

impl Network {
    /// Frees everything that belongs to none of the attachments named, each by
    /// its sandbox's id and its interface. What this daemon has attached since it
    /// started, and not removed, need not be named.
    ///
    /// # Errors
    /// Some of it could not be freed; the rest is.
    pub async fn collect(&self, valid: &[(String, String)]) -> Result<(), NetworkError> {
        let valid: Valid = valid.iter().cloned().collect();
        let mut failures = Vec::new();
        for record in self.on_disk(|inner| inner.cache.all()).await?? {
            if let Err(error) = self.collect_record(&record, &valid).await {
                failures.push(full_text(&error));
            }
        }
        if let Some(list) = self.current().await?.filter(|list| can_collect(list)) {
            failures.extend(self.collect_by_plugins(&list, valid).await?);
        }
        if failures.is_empty() { Ok(()) } else { Err(NetworkError::Collect { failures }) }
    }

    async fn collect_record(&self, record: &Record, valid: &Valid) -> Result<(), NetworkError> {
        if !self.is_stale(record, valid) {
            return Ok(());
        }
        let _turn = self.inner.turns.sandbox(&record.container_id).await;
        // Whoever had the turn before may have been attaching it, or removed it.
        let (network, id, interface) = (record.network_name.clone(), record.container_id.clone(), record.if_name.clone());
        let path = self.inner.cache.path(&network, &id, &interface);
        let gone = !self.on_disk(move |_| path.exists()).await?;
        if gone || !self.is_stale(record, valid) {
            return Ok(());
        }
        let list = self.list_of(record, self.state(|state| state.network()))?;
        if list.disable_gc {
            return Ok(());
        }
        tracing::info!(sandbox = id, network, "collecting the network of a sandbox that is gone");
        self.delete(&list, record).await
    }

    async fn collect_by_plugins(&self, list: &NetworkList, mut valid: Valid) -> Result<Vec<String>, NetworkError> {
        let _all = self.inner.turns.everything().await;
        let ours = self.attached(|attached| attached.keys().cloned().collect::<Vec<_>>());
        valid.extend(ours.into_iter().map(|id| (id, INTERFACE.to_owned())));
        let others = self.on_disk(|inner| inner.cache.all()).await??;
        let others = others.into_iter().filter(|record| !self.is_ours(record));
        valid.extend(others.map(|record| (record.container_id, record.if_name)));

        let valid: Vec<(String, String)> = valid.into_iter().collect();
        let mut failures = Vec::new();
        for plugin in &list.plugins {
            if let Err(error) = chain::collect(&self.inner.launcher, list, plugin, &valid).await {
                failures.push(full_text(&error));
            }
        }
        Ok(failures)
    }

    fn is_stale(&self, record: &Record, valid: &Valid) -> bool {
        let named = valid.contains(&(record.container_id.clone(), record.if_name.clone()));
        let held = self.attached(|attached| attached.contains_key(&record.container_id));
        self.is_ours(record) && !named && !held
    }

    /// Ours are those in namespaces that we name and pin; see
    /// [`super::NetworkConfig::netns_dir`].
    fn is_ours(&self, record: &Record) -> bool {
        let path = Path::new(&record.netns);
        let name = path.file_name().map(|name| name.to_string_lossy());
        path.parent() == Some(&self.inner.config.netns_dir) && name.is_some_and(|name| name.starts_with(netns::PREFIX))
    }
}

fn can_collect(list: &NetworkList) -> bool {
    list.version >= SpecVersion::WITH_STATUS && !list.disable_gc
}
