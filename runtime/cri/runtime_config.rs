//! RuntimeConfig and UpdateRuntimeConfig.

use std::sync::Arc;

use super::error::Error;
use crate::proto::runtime::v1::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigRequest, RuntimeConfigResponse, UpdateRuntimeConfigRequest,
    UpdateRuntimeConfigResponse,
};
use crate::state::Runtime;

/// The kubelet takes its cgroup driver from here. An empty answer would mean systemd.
pub(super) async fn get(runtime: Arc<Runtime>, _: RuntimeConfigRequest) -> Result<RuntimeConfigResponse, Error> {
    let driver = if runtime.cgroups.systemd().is_some() { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    let linux = LinuxRuntimeConfiguration { cgroup_driver: driver.into() };
    Ok(RuntimeConfigResponse { linux: Some(linux) })
}

/// The node's pod CIDR: CNI configurations are the network add-on's to write, so there is nothing to do with it.
pub(super) async fn update(_: Arc<Runtime>, request: UpdateRuntimeConfigRequest) -> Result<UpdateRuntimeConfigResponse, Error> {
    let pod_cidr =
        request.runtime_config.and_then(|config| config.network_config).map(|network| network.pod_cidr).unwrap_or_default();
    tracing::debug!(pod_cidr, "the pod CIDR is left to the CNI configuration");
    Ok(UpdateRuntimeConfigResponse {})
}
