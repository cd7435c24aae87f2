//! ListMetricDescriptors: asked once at each scrape of the kubelet's `/metrics/cadvisor`.

use std::sync::Arc;

use super::error::Error;
use super::metric;
use crate::proto::runtime::v1::{ListMetricDescriptorsRequest, ListMetricDescriptorsResponse};
use crate::state::Runtime;

pub(super) async fn list(_: Arc<Runtime>, _: ListMetricDescriptorsRequest) -> Result<ListMetricDescriptorsResponse, Error> {
    Ok(ListMetricDescriptorsResponse { descriptors: metric::ALL.iter().map(|metric| metric.message()).collect() })
}
