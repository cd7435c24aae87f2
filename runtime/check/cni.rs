//! Whether pods get a network: the CNI configuration, its plugins, and what hostPort needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Finding;
use crate::config::Network;

/// Where iptables and nft are on systems whose services have a short PATH.
const SYSTEM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The endings that libcni reads.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

pub(super) fn configuration(network: &Network) -> Finding {
    let name = "CNI";
    let directory = network.conf_dir.display();
    let without = "without it, pods of the host's network run (hostNetwork: true), and the kubelet holds the others back";
    let Some(file) = first_configuration(&network.conf_dir) else {
        let remedy = format!("install a network add-on, or a file such as docs/node.md shows; {without}");
        return Finding::warning(name, format!("no configuration in {directory}"), remedy);
    };
    let shown = file.display();
    let plugins = match plugins_of(&file) {
        Ok(plugins) => plugins,
        Err(reason) => {
            return Finding::warning(name, format!("{shown}: {reason}"), format!("put the file right; {without}"));
        }
    };
    let lacking: Vec<&str> =
        plugins.iter().map(String::as_str).filter(|plugin| find(plugin, &network.bin_dirs).is_none()).collect();
    if lacking.is_empty() {
        return Finding::ok(name, format!("{shown} with plugins {}", plugins.join(", ")));
    }
    let places: Vec<String> = network.bin_dirs.iter().map(|place| place.display().to_string()).collect();
    Finding::warning(
        name,
        format!("{shown} needs plugins that are not in {}: {}", places.join(" or "), lacking.join(", ")),
        format!("install containernetworking-plugins, or set `network.bin_dirs`; {without}"),
    )
}

pub(super) fn host_ports(network: &Network) -> Finding {
    let name = "hostPort";
    let plugins = first_configuration(&network.conf_dir).and_then(|file| plugins_of(&file).ok()).unwrap_or_default();
    if !plugins.iter().any(|plugin| plugin == "portmap") {
        return Finding::ok(name, "the CNI configuration has no portmap: each pod with such ports gets a forwarding process");
    }
    // Since 1.6 portmap can do with nft.
    match ["iptables", "nft"].into_iter().find(|program| find(program, &search_path()).is_some()) {
        Some(program) => Finding::ok(name, format!("portmap and {program} are there")),
        None => {
            let remedy = "install iptables, or take portmap out of the CNI configuration; pods without hostPort run";
            Finding::warning(name, "portmap needs iptables, which is not there", remedy)
        }
    }
}

/// The first file by name, as libcni chooses it.
fn first_configuration(directory: &Path) -> Option<PathBuf> {
    let is_configuration =
        |path: &PathBuf| path.is_file() && ENDINGS.iter().any(|ending| path.extension().is_some_and(|e| e == *ending));
    fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).filter(is_configuration).min()
}

/// The types of a list's plugins, or of a single one, with those of their address management.
fn plugins_of(file: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("it cannot be read: {error}"))?;
    let network: Value = serde_json::from_str(&text).map_err(|error| format!("it is no JSON: {error}"))?;
    let single = [network.clone()];
    let plugins = match network.get("plugins") {
        Some(Value::Array(plugins)) => plugins.as_slice(),
        Some(_) => return Err("`plugins` is no array".to_owned()),
        None => single.as_slice(),
    };
    let mut types = Vec::new();
    for plugin in plugins {
        let kind = plugin.get("type").and_then(Value::as_str).ok_or("a plugin has no `type`")?;
        let ipam = plugin.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str);
        types.extend([Some(kind), ipam].into_iter().flatten().map(str::to_owned));
    }
    types.dedup();
    if types.is_empty() { Err("it names no plugin".to_owned()) } else { Ok(types) }
}

fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(SYSTEM_DIRECTORIES.map(PathBuf::from)).collect()
}

/// An executable of this name. A name with a slash in it is none.
fn find(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let is_executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let plain = !name.is_empty() && !name.contains('/');
    directories.iter().filter(|_| plain).map(|directory| directory.join(name)).find(is_executable)
}
