//! One command to all plugins of a network.
//!
//! `ADD` and `CHECK` go through the list forwards, `DEL` backwards. Each plugin
//! gets its own part of the configuration, the network's name and version, the
//! result so far, and of the capability arguments those it asks for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::cache::Record;
use super::error::{PluginError, PluginFailure};
use super::list::{NetworkList, Plugin};
use super::plugin::{Command, Launcher, excerpt};
use super::result;
use super::spec_version::SpecVersion;

/// An attachment and the network that it belongs to.
pub struct Chain<'a> {
    /// Runs the plugins.
    pub launcher: &'a Launcher,
    /// The network as it was at `ADD`.
    pub list: &'a NetworkList,
    /// What the attachment was asked for.
    pub record: &'a Record,
    /// The pod's namespace, or nothing if it is gone.
    pub netns: &'a str,
}

/// `ADD` stopped in the middle.
pub struct HalfAdded {
    /// Why.
    pub error: PluginError,
    /// How many plugins have run, the failed one among them if it was started.
    pub called: usize,
    /// The last result there was.
    pub result: Option<Map<String, Value>>,
}

impl Chain<'_> {
    /// Attaches. The result is the last plugin's.
    pub async fn add(&self) -> Result<Map<String, Value>, Box<HalfAdded>> {
        let mut result = None;
        for (index, plugin) in self.list.plugins.iter().enumerate() {
            let added = self.call(plugin, Command::Add, result.as_ref()).await.and_then(|output| {
                result::parse(&output, self.list.version).map_err(|source| PluginError {
                    plugin: plugin.kind.clone(),
                    command: Command::Add,
                    failure: PluginFailure::Garbage { output: excerpt(&output), source },
                })
            });
            match added {
                Ok(added) => result = Some(added),
                Err(error) => {
                    let called = index + usize::from(error.failure.may_have_run());
                    return Err(Box::new(HalfAdded { error, called, result }));
                }
            }
        }
        // A list is never empty; an empty result is refused by who reads it.
        Ok(result.unwrap_or_default())
    }

    /// Asks whether the attachment is as it should be.
    pub async fn check(&self) -> Result<(), PluginError> {
        for plugin in &self.list.plugins {
            self.call(plugin, Command::Check, self.record.result.as_ref()).await?;
        }
        Ok(())
    }

    /// Detaches. The first plugin that fails ends it: those before it in the
    /// list own what the later ones stand on (specification, section 3).
    pub async fn delete(&self) -> Result<(), PluginError> {
        for plugin in self.list.plugins.iter().rev() {
            self.call(plugin, Command::Del, self.result_for_delete(self.record.result.as_ref())).await?;
        }
        Ok(())
    }

    /// Takes back what a broken `ADD` has left, as far as it goes. A plugin that
    /// fails at this does not keep the others from it; the first failure is told.
    pub async fn undo(&self, called: usize, result: Option<&Map<String, Value>>) -> Result<(), PluginError> {
        let mut outcome = Ok(());
        for plugin in self.list.plugins.iter().take(called).rev() {
            if let Err(error) = self.call(plugin, Command::Del, self.result_for_delete(result)).await {
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    fn result_for_delete<'r>(&self, result: Option<&'r Map<String, Value>>) -> Option<&'r Map<String, Value>> {
        result.filter(|_| self.list.version >= SpecVersion::WITH_CHECK)
    }

    async fn call(
        &self,
        plugin: &Plugin,
        command: Command,
        previous: Option<&Map<String, Value>>,
    ) -> Result<Vec<u8>, PluginError> {
        let mut config = base_config(self.list, plugin);
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), Value::Object(previous.clone()));
        }
        let asked_for: Map<String, Value> = plugin
            .capabilities
            .iter()
            .filter_map(|name| Some((name.clone(), self.record.capability_args.get(name)?.clone())))
            .collect();
        if !asked_for.is_empty() {
            config.insert("runtimeConfig".to_owned(), Value::Object(asked_for));
        }
        let args: Vec<String> = self.record.cni_args.iter().map(|[key, value]| format!("{key}={value}")).collect();
        let parameters = BTreeMap::from([
            ("CNI_CONTAINERID", self.record.container_id.clone()),
            ("CNI_NETNS", self.netns.to_owned()),
            ("CNI_IFNAME", self.record.if_name.clone()),
            ("CNI_ARGS", args.join(";")),
        ]);
        self.launcher.run(&plugin.kind, command, &parameters, &text(config)).await
    }
}

/// Asks a plugin whether it could attach a container now.
pub async fn status(launcher: &Launcher, list: &NetworkList, plugin: &Plugin) -> Result<(), PluginError> {
    let config = text(base_config(list, plugin));
    launcher.run(&plugin.kind, Command::Status, &BTreeMap::new(), &config).await.map(|_| ())
}

/// Tells a plugin which attachments there are, so that it frees what belongs to
/// no other. The second key is the name that an early draft of the
/// specification had, and that plugins of its time read.
pub async fn collect(
    launcher: &Launcher,
    list: &NetworkList,
    plugin: &Plugin,
    valid: &[(String, String)],
) -> Result<(), PluginError> {
    let valid: Vec<Value> = valid.iter().map(|(id, name)| json!({ "containerID": id, "ifname": name })).collect();
    let mut config = base_config(list, plugin);
    config.insert("cni.dev/attachments".to_owned(), Value::Array(valid.clone()));
    config.insert("cni.dev/valid-attachments".to_owned(), Value::Array(valid));
    launcher.run(&plugin.kind, Command::Gc, &BTreeMap::new(), &text(config)).await.map(|_| ())
}

/// The versions that a plugin speaks. `None` if it does not tell them in a form
/// that can be understood: then `ADD` will show.
pub async fn versions(launcher: &Launcher, plugin: &Plugin) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        supported_versions: Vec<String>,
    }
    // Plugins of before 0.3.0's libraries look at all variables first.
    let parameters = BTreeMap::from([
        ("CNI_CONTAINERID", "none".to_owned()),
        ("CNI_NETNS", "none".to_owned()),
        ("CNI_IFNAME", "none".to_owned()),
    ]);
    let config = text(Map::from_iter([("cniVersion".to_owned(), SpecVersion::NEWEST.to_string().into())]));
    match launcher.run(&plugin.kind, Command::Version, &parameters, &config).await {
        Ok(output) => serde_json::from_slice::<Answer>(&output).ok().map(|answer| answer.supported_versions),
        Err(error) => {
            tracing::debug!(plugin = plugin.kind, %error, "plugin does not tell its versions");
            None
        }
    }
}

fn base_config(list: &NetworkList, plugin: &Plugin) -> Map<String, Value> {
    let mut config = plugin.config.clone();
    config.insert("name".to_owned(), Value::String(list.name.clone()));
    config.insert("cniVersion".to_owned(), Value::String(list.version.to_string()));
    config
}

fn text(config: Map<String, Value>) -> Vec<u8> {
    Value::Object(config).to_string().into_bytes()
}
