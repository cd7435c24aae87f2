//! The whole room against plugins: scripted ones, which say what they were
//! asked, and real ones.

mod attach;
mod collect;
mod failures;
mod list;
mod namespaces;
mod real;
mod status;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Network, NetworkConfig, PodNetwork, netns};

/// Notes what it is asked, then does what the test has left for it. Otherwise
/// it adds its own address to what was there, and succeeds.
const SCRIPT: &str = r#"#!/bin/sh
notes=$(dirname "$0")/../notes
name=$(basename "$0")
echo "$CNI_COMMAND $name" >> "$notes/calls"
cat > "$notes/$name.$CNI_COMMAND.config"
env | grep '^CNI_' > "$notes/$name.$CNI_COMMAND.env"
if [ -f "$notes/$name.$CNI_COMMAND.act" ]; then . "$notes/$name.$CNI_COMMAND.act"; fi
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}' ;;
ADD) echo '{"interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.0.0.9/24","interface":0}],"by":"'$name'"}' ;;
esac
"#;

/// A node of its own: configuration, plugins, cache and namespaces.
struct Node {
    dir: TempDir,
    timeout: Duration,
}

impl Node {
    fn new() -> Node {
        let node = Node { dir: tempfile::tempdir().unwrap(), timeout: Duration::from_secs(20) };
        for name in ["conf", "bin", "notes", "netns"] {
            fs::create_dir(node.path(name)).unwrap();
        }
        node
    }

    /// One with plugins `first` and `second` in a network of that version.
    fn with_network(version: &str) -> Node {
        let node = Node::new();
        node.plugin("first");
        node.plugin("second");
        node.conf(
            "10-net.conflist",
            &json!({
                "cniVersion": version, "name": "net",
                "plugins": [
                    { "type": "first", "color": "red" },
                    { "type": "second", "capabilities": { "portMappings": true, "bandwidth": false } },
                ],
            }),
        );
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn network(&self) -> Network {
        Network::new(NetworkConfig {
            conf_dir: self.path("conf"),
            bin_dirs: vec![self.path("nowhere"), self.path("bin")],
            cache_dir: self.path("cache"),
            netns_dir: self.path("netns"),
            plugin_timeout: self.timeout,
        })
        .unwrap()
    }

    fn conf(&self, name: &str, content: &Value) {
        fs::write(self.path("conf").join(name), content.to_string()).unwrap();
    }

    fn plugin(&self, name: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, SCRIPT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What a plugin does at a command, in shell.
    fn act(&self, plugin: &str, command: &str, script: &str) {
        fs::write(self.path("notes").join(format!("{plugin}.{command}.act")), script).unwrap();
    }

    fn act_no_more(&self, plugin: &str, command: &str) {
        fs::remove_file(self.path("notes").join(format!("{plugin}.{command}.act"))).unwrap();
    }

    /// The calls since the last look, without those for versions.
    fn calls(&self) -> Vec<String> {
        let path = self.path("notes").join("calls");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(&path);
        calls.lines().filter(|line| !line.starts_with("VERSION")).map(str::to_owned).collect()
    }

    /// The configuration that a plugin was given at a command.
    fn given(&self, plugin: &str, command: &str) -> Value {
        let path = self.path("notes").join(format!("{plugin}.{command}.config"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn environment(&self, plugin: &str, command: &str) -> Vec<String> {
        let path = self.path("notes").join(format!("{plugin}.{command}.env"));
        let mut lines: Vec<String> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The names of the cached records.
    fn records(&self) -> Vec<String> {
        names_in(&self.path("cache/results"))
    }

    fn pod(&self, id: &str) -> PodNetwork {
        PodNetwork {
            sandbox_id: id.to_owned(),
            netns: self.path("netns").join(netns::name(id)),
            namespace: "default".to_owned(),
            name: format!("pod-{id}"),
            uid: format!("uid-{id}"),
            ..PodNetwork::default()
        }
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Tells that a test has not run, which is a failure where all must run.
fn skip(test: &str, missing: &str) {
    println!("skipped: {test}: {missing}");
    assert!(std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none_or(|value| value != "1"), "{test} needs {missing}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
