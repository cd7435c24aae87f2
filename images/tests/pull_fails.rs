//! Pulls that fail: registries that lie, break off, refuse or are not there, and callers that give up.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use images::{Auth, PullError};
use serde_json::json;
use support::archive::Archive;
use support::registry::{Door, Registry, Trouble, digest};
use support::{Node, wasm};

#[tokio::test]
async fn bytes_that_are_not_those_named_are_refused_and_nothing_is_left() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm("right");
    let id = registry.artifact("v1", &module, None);
    let blob = format!("blobs/{}", digest(&module));
    let by_digest = format!("{}@{id}", registry.name("w"));
    let (by_tag, manifest) = (registry.name("w:v1"), format!("manifests/{id}"));

    registry.trouble(&manifest, Trouble::Instead(b"{}".to_vec()));
    let error = node.images.pull(&by_digest, None).await.unwrap_err();
    assert!(matches!(error, PullError::DigestMismatch { .. }), "{error}");
    registry.no_trouble();

    registry.trouble(&blob, Trouble::Instead(wasm("wrong")));
    let error = node.images.pull(&by_tag, None).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PullError::DigestMismatch { .. }), "{text}");
    assert!(text.contains(&by_tag) && text.contains(&digest(&wasm("wrong"))), "{text}");

    registry.trouble(&blob, Trouble::Instead(module[..module.len() - 2].to_vec()));
    let error = node.images.pull(&by_tag, None).await.unwrap_err();
    assert!(matches!(error, PullError::RegistryUnavailable { .. }), "{error}");

    registry.trouble(&blob, Trouble::CutAfter(4));
    let error = node.images.pull(&by_tag, None).await.unwrap_err();
    assert!(matches!(error, PullError::RegistryUnavailable { .. }), "{error}");

    for end in [Trouble::Endless, Trouble::Instead([module.clone(), vec![0; 100]].concat())] {
        registry.trouble(&blob, end);
        let error = node.images.pull(&by_tag, None).await.unwrap_err();
        assert!(error.to_string().contains("more bytes"), "{error}");
    }
    assert!(node.images.list().is_empty());
    node.becomes_empty().await;

    registry.no_trouble();
    node.images.pull(&by_tag, None).await.unwrap();
}

#[tokio::test]
async fn a_manifest_without_end_is_cut_at_the_cap() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("x"), None);
    registry.trouble("manifests/v1", Trouble::Endless);
    let error = node.images.pull(&registry.name("x:v1"), None).await.unwrap_err();
    assert!(matches!(error, PullError::TooLarge { option: "max_manifest_bytes", .. }), "{error}");
}

#[tokio::test]
async fn a_layer_that_leads_out_fails_the_pull_and_leaves_nothing() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.image("1", vec![Archive::default().file("ok", "1"), Archive::default().file("../../evil", "x")], json!({}));
    let error = node.images.pull(&registry.name("evil:1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::InvalidArtifact { .. }), "{error}");
    assert!(error.to_string().contains("../../evil"), "{error}");
    node.becomes_empty().await;
    assert!(!node.root().join("evil").exists() && !node.directory.path().join("evil").exists());
}

#[tokio::test]
async fn what_is_not_wasm_is_refused_in_words() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("text", b"not wasm", None);
    let error = node.images.pull(&registry.name("x:text"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::InvalidArtifact { .. }), "{error}");
    let chart = registry.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"chart");
    let config = registry.blob("application/vnd.cncf.helm.config.v1+json", b"{}");
    registry.manifest("chart", &json!({"schemaVersion": 2, "config": config, "layers": [chart]}));
    let error = node.images.pull(&registry.name("x:chart"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::Unsupported { reason, .. } if reason.contains("helm")), "{error}");
    node.becomes_empty().await;
}

#[tokio::test]
async fn a_module_that_does_not_compile_fails_the_pull_with_the_compilers_words() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("unknown-import"), Some("app.wasm"));
    let error = node.images.pull(&registry.name("bad:v1"), None).await.unwrap_err();
    assert!(matches!(error, PullError::Compile { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("/app.wasm") && text.contains("env::nope") && text.contains("bad:v1"), "{text}");
    assert!(node.images.list().is_empty());
    node.becomes_empty().await;
}

#[tokio::test]
async fn names_that_are_none_and_registries_that_are_not_there_are_told_apart() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let pull = |name: String| async { node.images.pull(&{ name }, None).await.unwrap_err() };
    let error = pull("Not A Name".to_owned()).await;
    assert!(matches!(error, PullError::InvalidReference { .. }), "{error}");
    let error = pull(registry.name("missing:v1")).await;
    assert!(matches!(error, PullError::NotFound { .. }) && error.to_string().contains("missing:v1"), "{error}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = pull(format!("{nobody}/a:b")).await;
    assert!(matches!(error, PullError::RegistryUnavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_that_is_busy_for_a_moment_is_asked_again() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("busy"), None);
    registry.trouble("manifests/v1", Trouble::Status(503, 1));
    registry.trouble(&format!("blobs/{}", digest(&wasm("busy"))), Trouble::Status(429, 1));
    node.images.pull(&registry.name("b:v1"), None).await.unwrap();
    registry.trouble("manifests/v1", Trouble::Status(500, 10));
    let error = node.images.pull(&registry.name("b:v1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::RegistryUnavailable { detail, .. } if detail.contains("500")), "{error}");
}

#[tokio::test]
async fn credentials_are_given_where_they_are_asked_for() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("secret"), None);
    let name = registry.name("s:v1");
    let good = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
    let packed = Auth { auth: "dTpw".into(), ..Auth::default() };
    let wrong = Auth { username: "u".into(), password: "wrong".into(), ..Auth::default() };
    let elsewhere = Auth { server_address: "https://elsewhere.example".into(), ..good.clone() };
    for door in [Door::Basic("dTpw".to_owned()), Door::Token("dTpw".to_owned())] {
        registry.door(door);
        for refused in [None, Some(wrong.clone()), Some(elsewhere.clone())] {
            let error = node.images.pull(&name, refused).await.unwrap_err();
            assert!(matches!(error, PullError::Unauthorized { .. }), "{error}");
            assert!(error.to_string().contains(&name) && !error.to_string().contains("wrong\""), "{error}");
        }
        for auth in [&good, &packed] {
            node.images.pull(&name, Some(auth.clone())).await.unwrap();
            // An image that is here is not given to somebody whom the registry would refuse.
            assert!(node.images.pull(&name, Some(wrong.clone())).await.is_err());
        }
        node.images.remove(&name).await.unwrap();
    }
    registry.door(Door::Token(String::new()));
    node.images.pull(&name, None).await.unwrap();
    registry.door(Door::Token("nobody".to_owned()));
    let given = Auth { registry_token: "given".into(), ..Auth::default() };
    node.images.pull(&name, Some(given)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_ends_its_pull_unless_another_waits() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm(&"slow".repeat(1000));
    registry.artifact("v1", &module, None);
    registry.trouble(&format!("blobs/{}", digest(&module)), Trouble::Stall);
    let name = registry.name("slow:v1");
    let given_up = tokio::time::timeout(Duration::from_millis(300), node.images.pull(&name, None)).await;
    assert!(given_up.is_err());
    node.becomes_empty().await;

    registry.no_trouble();
    let (gone, stays) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(1), node.images.pull(&name, None)),
        node.images.pull(&name, None)
    );
    assert!(gone.is_err());
    stays.unwrap();
}
