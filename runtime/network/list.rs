//! Network configurations: which file is used, and what stands in it.
//!
//! The file is the cluster's or the distribution's. As with the other runtimes
//! the first valid one in lexical order counts; one that is broken is told and
//! passed over, because an installer may be writing it this moment.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::error::full_text;
use super::pod::is_cni_name;
use super::spec_version::{NotAVersion, SpecVersion};

/// Larger than any configuration that a node has; guards against a wrong file.
const MAX_FILE: u64 = 1 << 20;

/// A network: a chain of plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// The version that its plugins are called with.
    pub version: SpecVersion,
    /// `CHECK` must not be called.
    pub disable_check: bool,
    /// Nothing must be collected.
    pub disable_gc: bool,
    /// In the order of `ADD`. Never empty.
    pub plugins: Vec<Plugin>,
    /// A list in JSON that says all this by itself, for the cache.
    pub config: Vec<u8>,
}

impl NetworkList {
    /// A plugin maps the node's ports to pods': the capability's name is CNI's (CONVENTIONS.md).
    pub fn maps_ports(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.capabilities.iter().any(|name| name == "portMappings"))
    }
}

/// A plugin of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// The name of its executable.
    pub kind: String,
    /// The capability arguments that it asks for.
    pub capabilities: Vec<String>,
    /// Its configuration, without the members that are ours to set or to read.
    pub config: Map<String, Value>,
}

/// Why a file is no network configuration.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// It is too long.
    #[error("longer than {MAX_FILE} bytes")]
    TooLong,
    /// It is not JSON.
    #[error("not JSON")]
    Json(#[from] serde_json::Error),
    /// A member is missing.
    #[error("no {0:?}")]
    Missing(&'static str),
    /// A list stands in a file for a single plugin.
    #[error("no \"type\"; a list of plugins belongs into a file named .conflist")]
    ListInPluginFile,
    /// A member has the wrong type, or a value that is not allowed.
    #[error("{0:?} must be {1}")]
    Member(&'static str, &'static str),
    /// A version is no version.
    #[error(transparent)]
    NotAVersion(#[from] NotAVersion),
    /// None of the versions can be used.
    #[error("version {0} is not one from {oldest} to {newest}", oldest = SpecVersion::OLDEST, newest = SpecVersion::NEWEST)]
    Version(SpecVersion),
    /// There is nothing to run.
    #[error("no plugins")]
    NoPlugins,
    /// One of the files in the network's own directory is broken.
    #[error("plugin file {path}")]
    PluginFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<ListError>,
    },
}

/// What a configuration directory holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The first valid network.
    pub network: Option<Arc<NetworkList>>,
    /// The broken files before it, and what is wrong with each.
    pub broken: Vec<String>,
}

/// Looks for the first valid network in a directory. A directory that is
/// missing is an empty one.
pub fn load(dir: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    let files = match files_in(dir, &["conflist", "conf", "json"]) {
        Ok(files) => files,
        Err(error) => {
            loaded.broken.push(format!("{}: {error}", dir.display()));
            return loaded;
        }
    };
    for path in files {
        let network = if path.extension().is_some_and(|extension| extension == "conflist") {
            read(&path).and_then(|bytes| parse(&bytes, Some(dir)))
        } else {
            read(&path).and_then(|bytes| parse_single(&bytes))
        };
        match network {
            Ok(network) => {
                loaded.network = Some(Arc::new(network));
                break;
            }
            Err(error) => loaded.broken.push(format!("{}: {}", path.display(), full_text(&error))),
        }
    }
    loaded
}

/// Reads a list. With a directory, the plugins of `<directory>/<name>/*.conf`
/// follow those of the list unless it has `loadOnlyInlinedPlugins`.
pub fn parse(bytes: &[u8], dir: Option<&Path>) -> Result<NetworkList, ListError> {
    let mut list: Map<String, Value> = serde_json::from_slice(bytes)?;
    let name = network_name(&list)?;
    let version = version(&list)?;
    let disable_check = flag(&list, "disableCheck")?;
    let disable_gc = flag(&list, "disableGC")?;
    let only_inlined = flag(&list, "loadOnlyInlinedPlugins")?;

    let mut inlined = match list.remove("plugins") {
        None if only_inlined => return Err(ListError::Missing("plugins")),
        None => Vec::new(),
        Some(Value::Array(plugins)) if plugins.is_empty() => return Err(ListError::NoPlugins),
        Some(Value::Array(plugins)) => plugins,
        Some(_) => return Err(ListError::Member("plugins", "an array")),
    };
    let mut config = bytes.to_vec();
    if let (Some(dir), false) = (dir, only_inlined) {
        let added = plugins_in(&dir.join(&name))?;
        if !added.is_empty() {
            // DEL must find the whole chain when these files are gone.
            inlined.extend(added);
            list.insert("loadOnlyInlinedPlugins".to_owned(), Value::Bool(true));
            list.insert("plugins".to_owned(), Value::Array(inlined.clone()));
            config = serde_json::to_vec(&list)?;
        }
    }
    if inlined.is_empty() {
        return Err(ListError::NoPlugins);
    }
    let plugins = inlined.into_iter().map(plugin).collect::<Result<_, _>>()?;
    Ok(NetworkList { name, version, disable_check, disable_gc, plugins, config })
}

/// Reads the old form, a single plugin, as the list that it stands for.
fn parse_single(bytes: &[u8]) -> Result<NetworkList, ListError> {
    let config: Map<String, Value> = serde_json::from_slice(bytes)?;
    if !config.contains_key("type") && config.contains_key("plugins") {
        return Err(ListError::ListInPluginFile);
    }
    let name = network_name(&config)?;
    let version = version(&config)?;
    let list = json!({ "cniVersion": version.to_string(), "name": name, "plugins": [config] });
    parse(&serde_json::to_vec(&list)?, None)
}

fn plugin(config: Value) -> Result<Plugin, ListError> {
    let Value::Object(mut config) = config else {
        return Err(ListError::Member("plugins", "an array of objects"));
    };
    let kind = match config.get("type") {
        Some(Value::String(kind)) if !kind.is_empty() => kind.clone(),
        Some(_) => return Err(ListError::Member("type", "the name of a plugin")),
        None => return Err(ListError::Missing("type")),
    };
    // Ours to read, not the plugin's (specification, section 3).
    let capabilities = match config.remove("capabilities") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(asked)) => {
            let mut capabilities = Vec::new();
            for (capability, value) in asked {
                match value {
                    Value::Bool(true) => capabilities.push(capability),
                    Value::Bool(false) => {}
                    _ => return Err(ListError::Member("capabilities", "an object of booleans")),
                }
            }
            capabilities
        }
        Some(_) => return Err(ListError::Member("capabilities", "an object of booleans")),
    };
    Ok(Plugin { kind, capabilities, config })
}

fn plugins_in(dir: &Path) -> Result<Vec<Value>, ListError> {
    let broken = |path: &Path, source| ListError::PluginFile { path: path.to_owned(), source: Box::new(source) };
    let files = files_in(dir, &["conf"]).map_err(|error| broken(dir, ListError::Read(error)))?;
    let mut plugins = Vec::with_capacity(files.len());
    for path in files {
        let config = read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Value>(&bytes)?));
        let config = config.and_then(|config| plugin(config.clone()).map(|_| config));
        plugins.push(config.map_err(|error| broken(&path, error))?);
    }
    Ok(plugins)
}

fn network_name(config: &Map<String, Value>) -> Result<String, ListError> {
    match config.get("name") {
        Some(Value::String(name)) if is_cni_name(name) => Ok(name.clone()),
        Some(_) => Err(ListError::Member("name", "a letter or digit, then letters, digits, '_', '.', '-'")),
        None => Err(ListError::Missing("name")),
    }
}

/// The highest version that the network offers and that is known here. A
/// network that offers newer ones beside it is fine; one that has only those
/// is not.
fn version(config: &Map<String, Value>) -> Result<SpecVersion, ListError> {
    let mut offered = Vec::new();
    match config.get("cniVersion") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => offered.push(text.parse::<SpecVersion>()?),
        Some(_) => return Err(ListError::Member("cniVersion", "a string")),
    }
    match config.get("cniVersions") {
        None => {}
        Some(Value::Array(versions)) => {
            for version in versions {
                let text = version.as_str().ok_or(ListError::Member("cniVersions", "an array of strings"))?;
                offered.push(text.parse()?);
            }
        }
        Some(_) => return Err(ListError::Member("cniVersions", "an array of strings")),
    }
    // Without a version the specification means 0.1.0, which is too old.
    let highest = *offered.iter().max().ok_or(ListError::Missing("cniVersion"))?;
    let usable = offered.into_iter().filter(|version| (SpecVersion::OLDEST..=SpecVersion::NEWEST).contains(version));
    usable.max().ok_or(ListError::Version(highest))
}

/// A boolean, or the word for it: templates that installers fill in give either.
fn flag(config: &Map<String, Value>, key: &'static str) -> Result<bool, ListError> {
    match config.get(key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(ListError::Member(key, "true or false")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ListError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ListError::Read)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(ListError::Read)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ListError::TooLong);
    }
    Ok(bytes)
}

/// The files with one of the extensions, in lexical order.
fn files_in(dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let wanted = path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension));
        if wanted && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
