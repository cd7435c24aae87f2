//! The older name of the API, which kubelets 1.20 to 1.22 speak.

use tonic::Code;

use crate::harness::{Node, Options, cri};

const VERSION: &str = "/runtime.v1alpha2.RuntimeService/Version";

#[test]
fn the_same_services_answer_as_v1alpha2_where_that_is_configured() {
    let Some(node) = Node::start_with(&Options { config: "v1alpha2 = true\n", ..Default::default() }) else { return };
    let request = cri::VersionRequest { version: "0.1.0".into() };
    let version: cri::VersionResponse = node.client.call(VERSION, request.clone()).unwrap();
    assert_eq!(version.version, "0.1.0");
    let config = node.pod_config("web");
    let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
    let run: cri::RunPodSandboxResponse = node.client.call("/runtime.v1alpha2.RuntimeService/RunPodSandbox", request).unwrap();
    assert_eq!(node.pods(None)[0].id, run.pod_sandbox_id);
    let images: cri::ListImagesResponse =
        node.client.call("/runtime.v1alpha2.ImageService/ListImages", cri::ListImagesRequest::default()).unwrap();
    assert!(images.images.is_empty());
    node.client.version(cri::VersionRequest::default()).expect("v1 beside it");
    node.finish();
}

#[test]
fn without_that_v1alpha2_is_unimplemented() {
    let Some(node) = Node::start() else { return };
    let refused = node.client.call::<_, cri::VersionResponse>(VERSION, cri::VersionRequest::default()).unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    node.finish();
}
