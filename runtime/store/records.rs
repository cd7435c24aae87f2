//! Records in two stores: a live one that is always right within this boot, and a mirror that outlives the machine's power.
//!
//! The live store lies in the state directory (tmpfs) and is written before an RPC is answered; it costs tens of microseconds and
//! no disk. The mirror lies in the root directory and follows within a second, in one synced commit. At start the live store is
//! taken if its boot id is this boot's; else the mirror is. One store with a sync at each change would wear flash and cost
//! milliseconds a pod; one without would be lost with the power (measured: shared design, "What must survive what").
//!
//! Nothing here is ever fatal for the daemon but a state directory that cannot be written, or another daemon on it: a store that
//! does not open is renamed aside, a record that does not decode is moved to a table of its own, and both are named in the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::error_chain::chain;
use super::file::open_or_set_aside;
use super::mirror::{Key, Mirror};
use crate::metrics::metrics;

/// First byte of every record: how the rest is encoded. 1: JSON.
const ENCODING_JSON: u8 = 1;

/// Records that did not decode, under `table/id`; kept for a person to look at.
const BAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bad");
/// What is known of the store itself.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const BOOT_ID: &str = "boot_id";

/// Why the records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be made.
    #[error("cannot open the store of records {path}")]
    Open {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<DatabaseError>,
    },
    /// The file cannot be made or renamed.
    #[error("cannot use the file {path}")]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the store open.
    #[error("another daemon uses {path}")]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// A transaction failed.
    #[error("cannot {action} in the store of records")]
    Transaction {
        /// What was to be done.
        action: &'static str,
        /// Why it was not.
        #[source]
        source: Box<redb::Error>,
    },
    /// A record cannot be encoded.
    #[error("cannot encode the record {id}")]
    Encode {
        /// The object's id.
        id: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The mirror's task has gone.
    #[error("the mirror of the records was interrupted")]
    Interrupted,
}

/// Tables of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Pod sandboxes.
    Sandboxes,
    /// Containers.
    Containers,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sandboxes, Self::Containers];

    /// The table's name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sandboxes => "sandboxes",
            Self::Containers => "containers",
        }
    }

    fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// Something that is kept as a record.
pub trait Record: Serialize + DeserializeOwned {
    /// The table that it is kept in.
    const TABLE: Table;

    /// Its key there.
    fn id(&self) -> &str;
}

/// Where the records of this start came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The live store of this boot: they are complete.
    Live,
    /// The mirror, written in this boot: the live store was lost; the last second may be missing.
    Mirror,
    /// The mirror of an earlier boot: nothing of it runs any more.
    Rebooted,
    /// There was nothing.
    Empty,
}

/// The two stores.
#[derive(Debug)]
pub struct Store {
    live: Database,
    mirror: Option<Arc<Mirror>>,
}

impl Store {
    /// Opens `live` and `mirror`, makes what is missing, sets aside what does not open, and brings both to one content.
    ///
    /// `boot_id` is the kernel's `/proc/sys/kernel/random/boot_id`. Blocks for a few milliseconds: to be called at start only.
    pub fn open(live: &Path, mirror: &Path, boot_id: &str) -> Result<(Self, Origin), StoreError> {
        let mirror_database = match open_or_set_aside(mirror, true) {
            Ok(database) => Some(database),
            Err(error @ StoreError::InUse { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(path = %mirror.display(), error = chain(&error), "records will not survive a reboot");
                None
            }
        };
        let mut live_database = open_or_set_aside(live, false)?;
        if boot_of(&live_database).as_deref() == Some(boot_id) {
            let content = read_all(&live_database)?;
            let mirror = mirror_database.map(|database| reconcile(database, content, boot_id)).map(Arc::new);
            return Ok((Self { live: live_database, mirror }, Origin::Live));
        }
        if boot_of(&live_database).is_some() {
            // It is of an earlier boot: what it says was true a second longer than the mirror at best, and its unsynced pages may
            // be torn.
            drop(live_database);
            std::fs::remove_file(live).map_err(|source| StoreError::File { path: live.to_owned(), source })?;
            live_database = open_or_set_aside(live, false)?;
        }
        let (content, origin) = match &mirror_database {
            None => (BTreeMap::new(), Origin::Empty),
            Some(database) => match read_all(database) {
                Ok(content) => match boot_of(database) {
                    None => (content, Origin::Empty),
                    Some(boot) if boot == boot_id => (content, Origin::Mirror),
                    Some(_) => (content, Origin::Rebooted),
                },
                Err(error) => {
                    tracing::error!(path = %mirror.display(), error = chain(&error), "the mirror cannot be read");
                    (BTreeMap::new(), Origin::Empty)
                }
            },
        };
        write(&live_database, content.iter().map(|(key, value)| (key, Some(value.as_slice()))), Some(boot_id))?;
        let mirror = mirror_database.map(|database| reconcile(database, content, boot_id)).map(Arc::new);
        Ok((Self { live: live_database, mirror }, origin))
    }

    /// All records of one kind. What does not decode is moved aside and named in the log.
    pub fn load<R: Record>(&self) -> Result<Vec<R>, StoreError> {
        let mut records = Vec::new();
        for (key, bytes) in read_all(&self.live)? {
            if key.0 != R::TABLE {
                continue;
            }
            match decode::<R>(&bytes) {
                Ok(record) if record.id() == key.1 => records.push(record),
                Ok(_) => self.set_aside(&key, &bytes, "it is another object's")?,
                Err(reason) => self.set_aside(&key, &bytes, &reason)?,
            }
        }
        Ok(records)
    }

    /// Writes a record; when this returns, a daemon killed now finds it again.
    pub fn put<R: Record>(&self, record: &R) -> Result<(), StoreError> {
        let mut bytes = vec![ENCODING_JSON];
        serde_json::to_writer(&mut bytes, record).map_err(|source| StoreError::Encode { id: record.id().to_owned(), source })?;
        self.apply((R::TABLE, record.id().to_owned()), Some(bytes))
    }

    /// Deletes a record if it is there.
    pub fn delete(&self, table: Table, id: &str) -> Result<(), StoreError> {
        self.apply((table, id.to_owned()), None)
    }

    /// Copies changes to the mirror until `stop`, and then what is left. To be run as a task; at most one.
    pub async fn follow(&self, stop: CancellationToken) {
        if let Some(mirror) = &self.mirror {
            mirror.follow(stop).await;
        }
    }

    fn apply(&self, key: Key, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        let begun = std::time::Instant::now();
        write(&self.live, std::iter::once((&key, value.as_deref())), None)?;
        metrics().record_commits.inc();
        metrics().record_commit_duration.observe(begun.elapsed().as_secs_f64());
        if let Some(mirror) = &self.mirror {
            mirror.note(key, value);
        }
        Ok(())
    }

    fn set_aside(&self, key: &Key, bytes: &[u8], reason: &str) -> Result<(), StoreError> {
        let name = format!("{}/{}", key.0.name(), key.1);
        tracing::error!(record = %name, reason, "a record cannot be read and is set aside in the table bad");
        let transaction = self.live.begin_write().map_err(failed("begin"))?;
        {
            let mut bad = transaction.open_table(BAD).map_err(failed("open a table"))?;
            bad.insert(name.as_str(), bytes).map_err(failed("write"))?;
            let mut table = transaction.open_table(key.0.definition()).map_err(failed("open a table"))?;
            table.remove(key.1.as_str()).map_err(failed("write"))?;
        }
        transaction.commit().map_err(failed("commit"))?;
        if let Some(mirror) = &self.mirror {
            mirror.note(key.clone(), None);
        }
        Ok(())
    }
}

/// Encoding byte, then JSON.
fn decode<R: Record>(bytes: &[u8]) -> Result<R, String> {
    match bytes.split_first() {
        Some((&ENCODING_JSON, json)) => serde_json::from_slice(json).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("its encoding {version} is not known")),
        None => Err("it is empty".to_owned()),
    }
}

/// The boot in which the store was written last.
fn boot_of(database: &Database) -> Option<String> {
    let transaction = database.begin_read().ok()?;
    let table = transaction.open_table(META).ok()?;
    let value = table.get(BOOT_ID).ok()??;
    String::from_utf8(value.value().to_vec()).ok()
}

fn read_all(database: &Database) -> Result<BTreeMap<Key, Vec<u8>>, StoreError> {
    let mut content = BTreeMap::new();
    let transaction = database.begin_read().map_err(failed("begin"))?;
    for name in Table::ALL {
        let table = match transaction.open_table(name.definition()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(failed("open a table")(error)),
        };
        for entry in table.iter().map_err(failed("read"))? {
            let (key, value) = entry.map_err(failed("read"))?;
            content.insert((name, key.value().to_owned()), value.value().to_vec());
        }
    }
    Ok(content)
}

/// One transaction; `None` deletes.
pub(super) fn write<'a>(
    database: &Database,
    changes: impl Iterator<Item = (&'a Key, Option<&'a [u8]>)>,
    boot_id: Option<&str>,
) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(failed("begin"))?;
    {
        let mut sandboxes = transaction.open_table(Table::Sandboxes.definition()).map_err(failed("open a table"))?;
        let mut containers = transaction.open_table(Table::Containers.definition()).map_err(failed("open a table"))?;
        for ((table, id), value) in changes {
            let table = match table {
                Table::Sandboxes => &mut sandboxes,
                Table::Containers => &mut containers,
            };
            match value {
                Some(bytes) => drop(table.insert(id.as_str(), bytes).map_err(failed("write"))?),
                None => drop(table.remove(id.as_str()).map_err(failed("write"))?),
            }
        }
    }
    if let Some(boot_id) = boot_id {
        let mut meta = transaction.open_table(META).map_err(failed("open a table"))?;
        meta.insert(BOOT_ID, boot_id.as_bytes()).map_err(failed("write"))?;
    }
    transaction.commit().map_err(failed("commit"))
}

/// Brings the mirror to `content`; what fails here is tried again with the next change.
fn reconcile(database: Database, content: BTreeMap<Key, Vec<u8>>, boot_id: &str) -> Mirror {
    let old = read_all(&database).unwrap_or_default();
    let mut changes: BTreeMap<Key, Option<Vec<u8>>> = BTreeMap::new();
    for key in old.keys() {
        if !content.contains_key(key) {
            changes.insert(key.clone(), None);
        }
    }
    for (key, value) in content {
        if old.get(&key) != Some(&value) {
            changes.insert(key, Some(value));
        }
    }
    let same_boot = boot_of(&database).as_deref() == Some(boot_id);
    let mirror = Mirror::new(database);
    if !same_boot || !changes.is_empty() {
        mirror.write_now(&changes, Some(boot_id));
    }
    mirror
}

pub(super) fn failed<E: Into<redb::Error>>(action: &'static str) -> impl FnOnce(E) -> StoreError {
    move |source| StoreError::Transaction { action, source: Box::new(source.into()) }
}
