//! Reading a file, putting the command line over it, and checking the values.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError};
use crate::cgroup::{CgroupPath, unit};

/// Values of the command line, which go before those of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
}

/// As [`Config::load`], the default file being a parameter.
pub(super) fn load(file: Option<&Path>, default_file: &Path, overrides: Overrides) -> Result<Config, ConfigError> {
    let (mut config, origin) = match fs::read_to_string(file.unwrap_or(default_file)) {
        Ok(text) => {
            let path = file.unwrap_or(default_file);
            (parse(&text, path)?, path.display().to_string())
        }
        Err(error) if file.is_none() && error.kind() == ErrorKind::NotFound => (Config::default(), "the command line".to_owned()),
        Err(source) => {
            return Err(ConfigError::Read { file: file.unwrap_or(default_file).to_owned(), source });
        }
    };
    let Overrides { root, state, socket } = overrides;
    config.root = root.unwrap_or(config.root);
    config.state = state.unwrap_or(config.state);
    config.socket = socket.or(config.socket);
    settle(&mut config);
    check(&config, &origin)?;
    Ok(config)
}

/// Writes the paths that follow from others where they can be seen.
fn settle(config: &mut Config) {
    config.socket = Some(config.socket());
    config.network.cache_dir = Some(config.cni_cache_dir());
    config.network.netns_dir = Some(config.netns_dir());
}

pub(super) fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.get(..offset).unwrap_or_default();
        ConfigError::Parse {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            at: key_at(text, before).map(|key| format!("{key}: ")).unwrap_or_default(),
            // The parser's words are one line for an unknown key and a wrong type, and a few for a syntax error.
            message: error.message().trim().replace('\n', ", "),
        }
    })
}

/// The key, with its table, of the line that `before` ends in.
fn key_at(text: &str, before: &str) -> Option<String> {
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..)?.lines().next()?.trim();
    let table_of = |line: &str| {
        let line = line.trim().strip_prefix('[')?.split(']').next()?.trim_start_matches('[').trim();
        Some(line.to_owned())
    };
    if let Some(table) = table_of(line) {
        return Some(table);
    }
    let key = line.split_once('=')?.0.trim();
    match text.get(..start)?.lines().rev().find_map(table_of) {
        Some(table) => Some(format!("{table}.{key}")),
        None => Some(key.to_owned()),
    }
}

/// The bits of an octal text such as `0660`.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

/// The longest path of a unix socket, without its closing zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

fn check(config: &Config, origin: &str) -> Result<(), ConfigError> {
    let refuse = |key: &'static str, value: &dyn std::fmt::Debug, reason: &str| {
        Err(ConfigError::Value { origin: origin.to_owned(), key, value: format!("{value:?}"), reason: reason.to_owned() })
    };
    let socket = config.socket();
    let mut paths = vec![
        ("root", config.root.clone()),
        ("state", config.state.clone()),
        ("socket", socket.clone()),
        ("network.conf_dir", config.network.conf_dir.clone()),
        ("network.cache_dir", config.cni_cache_dir()),
        ("network.netns_dir", config.netns_dir()),
    ];
    paths.extend(config.images.certs_dirs.iter().map(|directory| ("images.certs_dirs", directory.clone())));
    paths.extend(config.network.bin_dirs.iter().map(|directory| ("network.bin_dirs", directory.clone())));
    for (key, path) in paths {
        if !path.is_absolute() {
            return refuse(key, &path, "the path must be absolute");
        }
    }
    if config.root.starts_with(&config.state) || config.state.starts_with(&config.root) {
        return refuse("state", &config.state, "it must lie neither above, below nor in the root directory");
    }
    if socket.as_os_str().len() > MAX_SOCKET_PATH {
        return refuse("socket", &socket, "the path of a unix socket has at most 107 bytes");
    }
    if parse_mode(&config.socket_mode).is_none() {
        return refuse("socket_mode", &config.socket_mode, "it is an octal number up to \"0777\", such as \"0660\"");
    }
    if config.handlers.is_empty() {
        return refuse("handlers", &"", "at least one handler is needed, such as [handlers.\"\"]");
    }
    for handler in config.handlers.values() {
        if let Err((key, value, reason)) = handler.check() {
            return refuse(key, &value, &reason);
        }
    }
    if !["auto", "cgroupfs", "systemd"].contains(&config.cgroup.driver.as_str()) {
        return refuse("cgroup.driver", &config.cgroup.driver, "the driver is \"auto\", \"cgroupfs\" or \"systemd\"");
    }
    let parent = config.cgroup.default_parent.as_str();
    let parsed = if config.cgroup.driver != "cgroupfs" && unit::is_slice(parent) {
        unit::slice_path(parent)
    } else {
        CgroupPath::from_cri(parent)
    };
    match parsed {
        _ if parent.is_empty() => {
            return refuse("cgroup.default_parent", &"", "a path such as \"/cri-wasm\" is needed");
        }
        Ok(_) => {}
        Err(error) => return refuse("cgroup.default_parent", &parent, &error.to_string()),
    }
    if let Err((key, value, reason)) = config.streaming.check() {
        return refuse(key, &value, reason);
    }
    if let Err((key, value, reason)) = config.metrics.check().and_then(|()| config.tracing.check()) {
        return refuse(key, &value, reason);
    }
    let images =
        images::Config { policy: config.trust.policy(), pinned: config.images.pinned.clone(), ..images::Config::default() };
    images.check().map_err(|reason| ConfigError::Images { origin: origin.to_owned(), reason })?;
    let at_least = [
        ("network.plugin_timeout_seconds", config.network.plugin_timeout_seconds, 1),
        ("streaming.token_seconds", config.streaming.token_seconds, 1),
        ("streaming.max_tokens", config.streaming.max_tokens, 1),
        ("streaming.idle_seconds", config.streaming.idle_seconds, 1),
        ("streaming.max_connections", config.streaming.max_connections, 1),
        ("images.max_parallel_downloads", config.images.max_parallel_downloads.into(), 1),
        ("images.max_parallel_compiles", config.images.max_parallel_compiles.into(), 1),
        ("images.max_manifest_bytes", config.images.max_manifest_bytes, 1),
        ("images.max_layer_bytes", config.images.max_layer_bytes, 1),
        ("images.max_unpacked_bytes", config.images.max_unpacked_bytes, 1),
        ("images.max_entries", config.images.max_entries, 1),
        ("images.max_layers", config.images.max_layers.into(), 1),
        ("images.max_path_bytes", config.images.max_path_bytes.into(), 1),
        ("images.max_modules", config.images.max_modules.into(), 1),
        ("images.max_ratio", config.images.max_ratio, 1),
        ("images.read_timeout_seconds", config.images.read_timeout_seconds, 1),
        // An engine that cannot even start would blame every module.
        ("compile.memory_bytes", config.compile.memory_bytes, 64 << 20),
        ("compile.cpu_seconds", config.compile.cpu_seconds, 1),
        ("compile.wall_seconds", config.compile.wall_seconds, 1),
        // The descriptors that a guest's process holds before the guest opens anything.
        ("limits.max_open_files", config.limits.max_open_files, 64),
    ];
    match at_least.into_iter().find(|(_, value, least)| value < least) {
        Some((key, value, least)) => refuse(key, &value, &format!("it is at least {least}")),
        None => Ok(()),
    }
}
