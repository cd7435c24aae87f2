//! Status: whether pods can be run, which handlers there are, and which features are true.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::Error;
use crate::proto::runtime::v1 as cri;
use crate::state::Runtime;

pub(super) async fn status(runtime: Arc<Runtime>, request: cri::StatusRequest) -> Result<cri::StatusResponse, Error> {
    let host = runtime.host.ready();
    let network = runtime.network.status();
    let condition = |kind: &str, ready: bool, reason: &str, message: String| cri::RuntimeCondition {
        r#type: kind.to_owned(),
        status: ready,
        reason: reason.to_owned(),
        message,
    };
    let conditions = vec![
        match &host {
            Ok(()) => condition("RuntimeReady", true, "", String::new()),
            Err(message) => condition("RuntimeReady", false, "SupervisorNotReady", message.clone()),
        },
        condition("NetworkReady", network.ready, &network.reason, network.message.clone()),
    ];
    let user_namespaces = runtime.user_namespaces.look(&runtime.config).await.is_ok();
    let handler = |name: &String| cri::RuntimeHandler {
        name: name.clone(),
        // A mount that is read-only all the way down is set by mount_setattr(2), which every kernel that is supported has.
        features: Some(cri::RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces }),
    };
    Ok(cri::StatusResponse {
        status: Some(cri::RuntimeStatus { conditions }),
        info: if request.verbose { info(&runtime) } else { HashMap::new() },
        runtime_handlers: runtime.config.handlers.keys().map(handler).collect(),
        features: Some(cri::RuntimeFeatures { supplemental_groups_policy: true, user_namespaces_host_network: user_namespaces }),
    })
}

fn info(runtime: &Runtime) -> HashMap<String, String> {
    let config = &runtime.config;
    // `config.stateDir` is what critest reads.
    let settings = serde_json::json!({
        "rootDir": config.root,
        "stateDir": config.state,
        "socket": config.socket(),
        "cniConfDir": config.network.conf_dir,
        "cniBinDirs": config.network.bin_dirs,
        "cgroupDriver": "cgroupfs",
        "cgroupDefaultParent": config.cgroup.default_parent,
        "handlers": config.handlers.keys().collect::<Vec<_>>(),
    });
    let node = serde_json::json!({
        "engine": runtime.host.engine_fingerprint(),
        "cgroupVersion": format!("{:?}", runtime.cgroups.version()),
        "cgroupControllersMissing": runtime.cgroups.missing(),
        "sandboxes": runtime.sandboxes.all().len(),
        "containers": runtime.containers.all().len(),
    });
    HashMap::from([("config".to_owned(), settings.to_string()), ("node".to_owned(), node.to_string())])
}
