//! Records of attachments, in libcni's own format and place.
//!
//! A record is written before the first plugin runs and deleted after the last
//! `DEL`, so that an attachment which somebody broke off in the middle is known
//! and can be removed with the very configuration it was made with. Other
//! runtimes of the node keep theirs in the same directory; containerd or cnitool
//! can read ours.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

const KIND: &str = "cniCacheV1";

/// An attachment: what was asked for, by which configuration, with what result.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    kind: String,
    /// The sandbox's id.
    pub container_id: String,
    /// The network's configuration list.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub config: Vec<u8>,
    /// The interface in the pod.
    pub if_name: String,
    /// The network's name.
    pub network_name: String,
    /// The pod's network namespace.
    #[serde(default, rename = "netns", skip_serializing_if = "String::is_empty")]
    pub netns: String,
    /// `CNI_ARGS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cni_args: Vec<[String; 2]>,
    /// Everything that plugins could ask for.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub capability_args: Map<String, Value>,
    /// The last plugin's result; missing until `ADD` has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
}

impl Record {
    /// A record of an attachment that is about to be made.
    pub fn new(container_id: String, if_name: String, network_name: String, config: Vec<u8>) -> Record {
        Record {
            kind: KIND.to_owned(),
            container_id,
            config,
            if_name,
            network_name,
            netns: String::new(),
            cni_args: Vec::new(),
            capability_args: Map::new(),
            result: None,
        }
    }

    /// The same with a result, or with what there is of one.
    pub fn with_result(self, result: Option<Map<String, Value>>) -> Record {
        Record { result, ..self }
    }
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

/// Why a record could not be read, written or deleted.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the network's record {path}")]
pub struct CacheError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The directory of records.
#[derive(Clone, Debug)]
pub struct Cache {
    results: PathBuf,
}

impl Cache {
    /// The cache under libcni's directory, commonly `/var/lib/cni`.
    pub fn new(dir: &Path) -> Cache {
        Cache { results: dir.join("results") }
    }

    /// Where the record of an attachment is.
    pub fn path(&self, network: &str, container_id: &str, interface: &str) -> PathBuf {
        self.results.join(format!("{network}-{container_id}-{interface}"))
    }

    /// Writes a record, at once or not at all. It is not synced: what a power
    /// cut takes is the pod itself too, and addresses that it held are given
    /// back by the collection at the next start.
    pub fn write(&self, record: &Record) -> Result<PathBuf, CacheError> {
        let path = self.path(&record.network_name, &record.container_id, &record.if_name);
        let failed = |source| CacheError { action: "write", path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.results).map_err(failed)?;
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        // One writer an attachment: the caller holds the sandbox's turn. A dot
        // in front, so that nobody takes a torn file for a record.
        let mut draft_name = std::ffi::OsString::from(".");
        draft_name.push(path.file_name().unwrap_or_default());
        let draft = path.with_file_name(draft_name);
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            // Nothing can be said about it that `written` does not say already.
            let _ = fs::remove_file(&draft);
        }
        written.map_err(failed)?;
        Ok(path)
    }

    /// The record of an attachment.
    pub fn get(&self, network: &str, container_id: &str, interface: &str) -> Result<Option<Record>, CacheError> {
        // Names that are joined with dashes may meet in one path.
        Ok(read(&self.path(network, container_id, interface))?.filter(|record| record.container_id == container_id))
    }

    /// The record of an attachment whose network is guessed; where the guess is
    /// wrong, all names are looked through. A record that cannot be understood
    /// is none, and is told to the log.
    pub fn find(&self, guess: Option<&str>, container_id: &str, interface: &str) -> Result<Option<Record>, CacheError> {
        if let Some(network) = guess
            && let Some(record) = self.get(network, container_id, interface)?
        {
            return Ok(Some(record));
        }
        let ending = format!("-{container_id}-{interface}");
        for path in self.paths()? {
            let fits = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&ending));
            if !fits {
                continue;
            }
            if let Some(record) = read(&path)?.filter(|record| record.container_id == container_id) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// All records, of all runtimes, in the order of their names.
    pub fn all(&self) -> Result<Vec<Record>, CacheError> {
        let mut records = Vec::new();
        for path in self.paths()? {
            records.extend(read(&path)?);
        }
        Ok(records)
    }

    /// Deletes a record; one that is not there is deleted.
    pub fn remove(&self, network: &str, container_id: &str, interface: &str) -> Result<(), CacheError> {
        let path = self.path(network, container_id, interface);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CacheError { action: "delete", path, source }),
            _ => Ok(()),
        }
    }

    fn paths(&self) -> Result<Vec<PathBuf>, CacheError> {
        let failed = |source| CacheError { action: "list", path: self.results.clone(), source };
        let entries = match fs::read_dir(&self.results) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().to_string_lossy().starts_with('.') {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }
}

fn read(path: &Path) -> Result<Option<Record>, CacheError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(CacheError { action: "read", path: path.to_owned(), source }),
    };
    match serde_json::from_slice::<Record>(&text) {
        Ok(record) if record.kind == KIND => Ok(Some(record)),
        Ok(record) => {
            tracing::warn!(path = %path.display(), kind = record.kind, "a network record of unknown kind is ignored");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a network record that cannot be read is ignored");
            Ok(None)
        }
    }
}
