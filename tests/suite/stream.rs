//! The Stream… calls: the lists in portions.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::guests::{FIRST_LINE, PROBE};
use crate::harness::{Node, cri, image_spec};

fn stream_pods(node: &Node, filter: Option<cri::PodSandboxFilter>) -> Vec<Vec<cri::PodSandbox>> {
    let messages = node.client.stream_pod_sandboxes(cri::StreamPodSandboxesRequest { filter }).unwrap().all().unwrap();
    messages.into_iter().map(|message| message.pod_sandboxes).collect()
}

fn stream_containers(node: &Node, filter: Option<cri::ContainerFilter>) -> Vec<cri::Container> {
    let messages = node.client.stream_containers(cri::StreamContainersRequest { filter }).unwrap().all().unwrap();
    messages.into_iter().flat_map(|message| message.containers).collect()
}

#[test]
fn nothing_is_an_end_without_a_message() {
    let Some(node) = Node::with(&[]) else { return };
    assert!(stream_pods(&node, None).is_empty());
    assert!(stream_containers(&node, None).is_empty());
    let filter = Some(cri::ImageFilter { image: Some(image_spec("nobody/knows:this")) });
    assert!(node.client.stream_images(cri::StreamImagesRequest { filter }).unwrap().all().unwrap().is_empty());
    node.finish();
}

#[test]
fn pods_and_containers_come_as_in_the_lists_and_each_once() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let mut pods = Vec::new();
    for number in 0..12 {
        let mut config = node.pod_config(&format!("p{number}"));
        config.labels.insert("half".to_owned(), (number % 2).to_string());
        // As long as all annotations together may be: more than a portion.
        config.annotations.insert("large".to_owned(), "x".repeat(30_000));
        let pod = node.run_pod(&config).unwrap();
        node.create(&pod, &PROBE.container("app", &["echo", "x"])).unwrap();
        pods.push(pod);
    }
    node.stop_pod(&pods[0].id).unwrap();
    let portions = stream_pods(&node, None);
    assert!(portions.len() > 2, "{} messages", portions.len());
    assert_eq!(portions.concat(), node.pods(None));
    assert_eq!(stream_containers(&node, None), node.containers(None));

    let half = BTreeMap::from([("half".to_owned(), "1".to_owned())]);
    let filters = [
        cri::PodSandboxFilter { label_selector: half.into_iter().collect(), ..Default::default() },
        cri::PodSandboxFilter { id: pods[3].id[..20].to_owned(), ..Default::default() },
        cri::PodSandboxFilter {
            state: Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxNotready.into() }),
            ..Default::default()
        },
    ];
    for (filter, count) in filters.into_iter().zip([6, 1, 1]) {
        let found = stream_pods(&node, Some(filter.clone())).concat();
        assert_eq!((found.len(), &found), (count, &node.pods(Some(filter))));
    }
    let filter = cri::ContainerFilter { pod_sandbox_id: pods[5].id.clone(), ..Default::default() };
    let found = stream_containers(&node, Some(filter.clone()));
    assert_eq!((found.len(), &found), (1, &node.containers(Some(filter))));
    node.finish();
}

#[test]
fn images_come_as_in_the_list() {
    let Some(node) = Node::with(&[FIRST_LINE, PROBE]) else { return };
    let ids = |images: &[cri::Image]| images.iter().map(|image| image.id.clone()).collect::<BTreeSet<_>>();
    let stream = |filter| {
        let messages = node.client.stream_images(cri::StreamImagesRequest { filter }).unwrap().all().unwrap();
        messages.into_iter().flat_map(|message| message.images).collect::<Vec<_>>()
    };
    let all = stream(None);
    assert_eq!((all.len(), ids(&all)), (2, ids(&node.images())));
    assert_eq!(all, node.images());
    let one = stream(Some(cri::ImageFilter { image: Some(image_spec(&PROBE.reference())) }));
    assert_eq!(one, [node.image(&PROBE.reference()).unwrap()]);
    node.finish();
}

#[test]
fn stats_are_of_the_pods_and_containers_that_the_lists_have() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let mut running = BTreeSet::new();
    let mut ready = BTreeSet::new();
    for number in 0..6 {
        let mut config = node.pod_config(&format!("p{number}"));
        config.annotations.insert("large".to_owned(), "x".repeat(30_000));
        let pod = node.run_pod(&config).unwrap();
        let annotations = config.annotations.clone();
        let config = cri::ContainerConfig { annotations, ..PROBE.container("app", &["sleep", "forever"]) };
        running.insert(node.launch(&pod, &config));
        node.create(&pod, &PROBE.container("created", &["echo"])).unwrap();
        ready.insert(pod.id);
    }
    let id = |attributes: &Option<cri::ContainerAttributes>| attributes.as_ref().unwrap().id.clone();
    let stream = |filter| {
        let request = cri::StreamContainerStatsRequest { filter };
        node.client.stream_container_stats(request).unwrap().all().unwrap()
    };
    let messages = stream(None);
    assert!(messages.len() > 1, "{} messages", messages.len());
    let told: Vec<_> = messages.iter().flat_map(|message| &message.container_stats).collect();
    assert_eq!(told.len(), 6);
    assert_eq!(told.iter().map(|stats| id(&stats.attributes)).collect::<BTreeSet<_>>(), running);
    assert!(told.iter().all(|stats| stats.memory.is_some()));
    let one = running.first().unwrap();
    let filter = cri::ContainerStatsFilter { id: one.clone(), ..Default::default() };
    let found = stream(Some(filter)).remove(0).container_stats;
    assert_eq!(found.iter().map(|stats| id(&stats.attributes)).collect::<Vec<_>>(), std::slice::from_ref(one));

    let request = cri::StreamPodSandboxStatsRequest { filter: None };
    let messages = node.client.stream_pod_sandbox_stats(request).unwrap().all().unwrap();
    let told: Vec<_> = messages.iter().flat_map(|message| &message.pod_sandbox_stats).collect();
    assert_eq!(told.len(), 6);
    assert_eq!(told.iter().map(|stats| stats.attributes.as_ref().unwrap().id.clone()).collect::<BTreeSet<_>>(), ready);
    assert!(told.iter().all(|stats| stats.linux.as_ref().is_some_and(|linux| linux.containers.len() == 1)));
    node.finish();
}

#[test]
fn a_list_that_nobody_reads_on_does_not_hinder_removals() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    for number in 0..8 {
        let mut config = node.pod_config(&format!("p{number}"));
        config.annotations.insert("large".to_owned(), "x".repeat(200_000));
        node.run_pod(&config).unwrap();
    }
    let mut half_read = node.client.stream_pod_sandboxes(cri::StreamPodSandboxesRequest { filter: None }).unwrap();
    assert_eq!(half_read.next().unwrap().unwrap().pod_sandboxes.len(), 1);
    for pod in node.pods(None) {
        node.remove_pod(&pod.id).unwrap();
    }
    let rest = half_read.all().unwrap();
    let known: BTreeSet<_> = rest.iter().flat_map(|message| message.pod_sandboxes.iter().map(|pod| &pod.id)).collect();
    assert_eq!(known.len(), 7, "each is told once, as it was when it was asked for or as it is");
    node.finish();
}

#[test]
fn a_checkpoint_is_refused_with_the_reason() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("app", &["sleep", "forever"]));
    let request = cri::CheckpointContainerRequest { container_id: id, location: "/tmp/c.tar".into(), timeout: 10 };
    let status = node.client.checkpoint_container(request).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(status.message().contains("cannot be checkpointed"), "{}", status.message());
    node.finish();
}
