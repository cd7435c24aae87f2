//! Filters of the list RPCs: every field that is set must match; no filter matches everything.
//!
//! An id may be a unique beginning of one, as everywhere; an id that matches nothing gives an empty list and no error.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::answer_container::container_state;
use super::answer_sandbox::sandbox_state;
use crate::container::Container;
use crate::proto::runtime::v1 as cri;
use crate::sandbox::Sandbox;
use crate::state::Runtime;

/// The sandboxes that match.
pub fn sandboxes(runtime: &Runtime, filter: Option<cri::PodSandboxFilter>) -> Vec<Arc<Sandbox>> {
    let filter = filter.unwrap_or_default();
    let mut sandboxes =
        if filter.id.is_empty() { runtime.sandboxes.all() } else { runtime.sandboxes.find(&filter.id).into_iter().collect() };
    let state = filter.state.map(|state| state.state());
    sandboxes.retain(|sandbox| {
        state.is_none_or(|state| sandbox_state(sandbox.state()) == state)
            && selects(&filter.label_selector, &sandbox.metadata().config.labels)
    });
    sandboxes
}

/// The containers that match.
pub fn containers(runtime: &Runtime, filter: Option<cri::ContainerFilter>) -> Vec<Arc<Container>> {
    let filter = filter.unwrap_or_default();
    let sandbox = if filter.pod_sandbox_id.is_empty() {
        None
    } else {
        match runtime.sandboxes.find(&filter.pod_sandbox_id) {
            Ok(sandbox) => Some(sandbox),
            Err(_) => return Vec::new(),
        }
    };
    let mut containers = match (&sandbox, filter.id.is_empty()) {
        (_, false) => runtime.containers.find(&filter.id).into_iter().collect(),
        (Some(sandbox), true) => runtime.containers_of(sandbox),
        (None, true) => runtime.containers.all(),
    };
    let state = filter.state.map(|state| state.state());
    containers.retain(|container| {
        sandbox.as_ref().is_none_or(|sandbox| container.metadata().sandbox == *sandbox.id())
            && state.is_none_or(|state| container_state(container.state()) == state)
            && selects(&filter.label_selector, &container.metadata().config.labels)
    });
    containers
}

/// Every label of the selector is there with the same value.
fn selects(selector: &HashMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_of_a_selector_must_be_there() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let selector =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert!(selects(&selector(&[]), &labels));
        assert!(selects(&selector(&[("a", "1"), ("b", "2")]), &labels));
        assert!(!selects(&selector(&[("a", "1"), ("c", "3")]), &labels));
        assert!(!selects(&selector(&[("a", "2")]), &labels));
    }
}
