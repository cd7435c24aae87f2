//! Registries and manifests that are hostile: each pull ends with an error that names what is wrong, in the memory that a
//! good one takes, and leaves nothing. `pull_fails.rs` has those that are merely broken.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::child::{WARM, Yard};
use support::registry::{Registry, Trouble, digest};
use support::wasm;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MEMORY: u64 = 20 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_pulls() {
    support::child::main().await;
}

fn registry() -> Registry {
    let registry = Registry::new();
    registry.artifact(&WARM[5..], &wasm("warm"), None);
    registry
}

/// Pulls `x:v`, and finds `phrase` in the error.
#[track_caller]
fn refused(registry: &Registry, phrase: &str) {
    let outcome = Yard::new().pull(registry, "x:v");
    let error = outcome.error.unwrap_or_else(|| panic!("it was pulled, {phrase:?} was expected"));
    assert!(error.contains(phrase) && error.contains("x:v"), "{phrase:?} was expected: {:.500}", error);
    assert!(error.len() < 3000, "an error of {} bytes: {:.500}", error.len(), error);
    assert!(outcome.left.is_empty(), "{:?}", outcome.left);
    assert!(outcome.grown < MEMORY, "{phrase}: {} kB", outcome.grown >> 10);
}

fn descriptor(size: Value) -> Value {
    json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(b"x"), "size": size})
}

fn raw(text: String) -> Registry {
    let registry = registry();
    registry.raw("v", text.into_bytes());
    registry
}

/// As large as a manifest may be, made of `part`.
fn full_of(before: &str, part: impl Fn(usize) -> String, after: &str) -> Registry {
    let mut text = before.to_owned();
    for number in 0.. {
        let next = part(number);
        if text.len() + next.len() + after.len() > 4 << 20 {
            break;
        }
        if number > 0 {
            text.push(',');
        }
        text.push_str(&next);
    }
    raw(text + after)
}

#[test]
fn a_manifest_of_a_gigabyte_is_not_read() {
    for trouble in [Trouble::Spaces(1 << 30), Trouble::Endless] {
        let registry = registry();
        registry.artifact("v", &wasm("x"), None);
        registry.trouble("manifests/v", trouble);
        refused(&registry, "max_manifest_bytes");
    }
}

#[test]
fn a_blob_that_does_not_end_is_cut_where_it_should_have_ended() {
    for trouble in [Trouble::Spaces(1 << 30), Trouble::Endless] {
        let registry = registry();
        registry.artifact("v", &wasm("x"), None);
        registry.trouble(&format!("blobs/{}", digest(&wasm("x"))), trouble);
        refused(&registry, "more bytes");
    }
}

#[test]
fn a_registry_that_stalls_is_given_up() {
    for path in ["manifests/v".to_owned(), format!("blobs/{}", digest(&wasm("x")))] {
        let registry = registry();
        registry.artifact("v", &wasm("x"), None);
        registry.trouble(&path, Trouble::Stall);
        refused(&registry, "registry 127.0.0.1");
    }
}

#[test]
fn a_registry_that_wants_a_password_in_mid_pull_is_told_so() {
    let registry = registry();
    registry.artifact("v", &wasm("x"), None);
    registry.trouble(&format!("blobs/{}", digest(&wasm("x"))), Trouble::Status(401, 1000));
    refused(&registry, "imagePullSecrets");
}

#[test]
fn redirects_in_a_circle_end() {
    let registry = registry();
    registry.artifact("v", &wasm("x"), None);
    let blob = format!("blobs/{}", digest(&wasm("x")));
    registry.trouble(&blob, Trouble::Redirect(format!("http://{}/v2/x/{blob}", registry.address)));
    refused(&registry, "redirects");
}

#[test]
fn an_index_that_leads_to_an_index_is_refused() {
    let registry = registry();
    let inner = registry.manifest("inner", &json!({"schemaVersion": 2, "manifests": [descriptor(json!(1))]}));
    let platform = json!({"os": "wasi", "architecture": "wasm"});
    let entry = json!({"mediaType": INDEX, "digest": inner, "size": 9, "platform": platform});
    registry.manifest("v", &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}));
    refused(&registry, "another index");
}

#[test]
fn documents_of_very_many_parts_are_refused_before_they_take_memory() {
    let x = digest(b"x");
    // 10^5 entries are above the cap in bytes; some 40,000 are not.
    let entry = |number: usize| format!(r#"{{"digest":"{x}","size":{number},"annotations":{{"a":""}}}}"#);
    refused(&full_of(r#"{"schemaVersion":2,"manifests":["#, entry, "]}"), "values");
    let config = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{x}","size":1}},"#);
    refused(&full_of(&format!(r#"{config}"layers":["#), entry, "]}"), "values");
    let annotation = |number: usize| format!(r#""{number}":"""#);
    refused(&full_of(&format!(r#"{config}"layers":[],"annotations":{{"#), annotation, "}}"), "values");
    let all = (0..100_000).map(entry).collect::<Vec<_>>().join(",");
    refused(&raw(format!(r#"{{"schemaVersion":2,"manifests":[{all}]}}"#)), "max_manifest_bytes");
}

#[test]
fn documents_of_very_deep_nesting_are_refused() {
    for open in ["[", "{\"a\":"] {
        refused(&raw(open.repeat(500_000)), "the manifest is not one");
        refused(&raw(format!(r#"{{"schemaVersion":2,"layers":{}"#, open.repeat(500_000))), "the manifest is not one");
    }
}

#[test]
fn long_texts_of_a_registry_do_not_make_long_errors() {
    let long = "x".repeat(3 << 20);
    let mut layer = descriptor(json!(1));
    let manifest = |layer: &Value| json!({"schemaVersion": 2, "config": descriptor(json!(1)), "layers": [layer]}).to_string();
    layer["mediaType"] = json!(long);
    refused(&raw(manifest(&layer)), "expected is a wasm artifact");
    layer = descriptor(json!(1));
    layer["digest"] = json!(long);
    refused(&raw(manifest(&layer)), "digest \"xxx");
    let entry = json!({"digest": digest(b"x"), "size": 1, "platform": {"os": long, "architecture": "y"}});
    refused(&raw(json!({"schemaVersion": 2, "manifests": [entry]}).to_string()), "no variant");
}

#[test]
fn sizes_that_are_none_are_refused() {
    for (size, phrase) in [
        (json!(-1), "the manifest is not one"),
        (json!(1e300), "the manifest is not one"),
        (json!(u64::MAX), "layer_bytes"),
        (json!(9_u64 << 30), "layer_bytes"),
    ] {
        let registry = registry();
        let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [digest(b"y")]}}).to_string();
        let config = registry.blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
        registry.manifest("v", &json!({"schemaVersion": 2, "config": config, "layers": [descriptor(size)]}));
        refused(&registry, phrase);
    }
}

#[test]
fn a_configuration_that_is_none_or_too_large_is_refused() {
    let manifest = |registry: &Registry, config: Value| {
        registry.manifest("v", &json!({"schemaVersion": 2, "config": config, "layers": [descriptor(json!(1))]}));
    };
    let kind = "application/vnd.oci.image.config.v1+json";
    for text in ["\"x\"", "[]", "{\"rootfs\":7}", "\0asm"] {
        let registry = registry();
        manifest(&registry, registry.blob(kind, text.as_bytes()));
        refused(&registry, "the configuration is not one");
    }
    let registry = registry();
    manifest(&registry, json!({"mediaType": kind, "digest": digest(b"c"), "size": 1 << 30}));
    refused(&registry, "above the limit");
}
