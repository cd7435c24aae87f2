//! Every way in which wasm is packed, each shaped as its tool shapes it.
//!
//! The shapes were read in the tools' sources: the CNCF TAG Runtime's layout and oci-wasm 0.6 (wkg), engineerd/wasm-to-oci
//! 0.1.2, wash 0.2x (wasmCloud), solo-io/wasm's specification, spin-oci (Spin 3), oras 1.3 and 0.12, runwasi's
//! oci-tar-builder, and the annotations of crun and buildah. What the tools themselves push is tried by
//! tests/packaging-tools.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use images::{ArtifactKind, FileKind, Image, PullError};
use serde_json::{Value, json};
use support::archive::{Archive, gzip};
use support::registry::{Registry, digest};
use support::{Node, wasm};

const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Puts a manifest under `a:v1` and pulls it.
async fn pull(registry: &Registry, node: &Node, manifest: &Value) -> Result<Arc<Image>, PullError> {
    registry.manifest("v1", manifest);
    node.images.pull(&registry.name("a:v1"), None).await
}

fn manifest(config: Value, layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers})
}

fn with(mut value: Value, key: &str, what: Value) -> Value {
    value[key] = what;
    value
}

fn titled(layer: Value, title: &str) -> Value {
    with(layer, "annotations", json!({"org.opencontainers.image.title": title}))
}

/// The artifact runs this module and nothing else.
fn runs(image: &Image, path: &str, module: &[u8]) {
    assert_eq!(image.kind, ArtifactKind::Artifact { module: Some(path.into()) });
    let wasm: Vec<_> = image.wasm.iter().map(|file| (file.path.to_str().unwrap(), file.digest.clone())).collect();
    assert_eq!(wasm, [(path, digest(module))]);
}

#[tokio::test]
async fn the_cncf_artifact_is_pulled_as_wkg_pushes_it() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = [b"\0asm\x0d\0\x01\0".as_slice(), b"component"].concat();
    let layer = titled(registry.blob("application/wasm", &module), "hello.wasm");
    let config = json!({"created": "2026-08-19T15:50:20.123456789Z", "author": null, "architecture": "wasm", "os": "wasip2",
        "layerDigests": [digest(&module)],
        "component": {"exports": ["wasi:cli/run@0.2.0"], "imports": ["wasi:io/streams@0.2.0"], "target": null}});
    let blob = |config: &Value| registry.blob("application/vnd.wasm.config.v0+json", config.to_string().as_bytes());
    let image = pull(&registry, &node, &manifest(blob(&config), std::slice::from_ref(&layer))).await.unwrap();
    runs(&image, "/hello.wasm", &module);
    assert_eq!((image.os.as_str(), image.architecture.as_str()), ("wasip2", "wasm"));

    // The manifest decides; a configuration that was copied from elsewhere, or that says nothing, does no harm.
    for config in [with(config, "layerDigests", json!([digest(b"other")])), json!({}), json!([])] {
        let image = pull(&registry, &node, &manifest(blob(&config), std::slice::from_ref(&layer))).await.unwrap();
        runs(&image, "/hello.wasm", &module);
    }
    // The layout tells readers to refuse this.
    let two = manifest(blob(&json!({})), &[layer.clone(), titled(registry.blob("application/wasm", b"\0asm2"), "b.wasm")]);
    let error = pull(&registry, &node, &two).await.unwrap_err();
    assert!(matches!(&error, PullError::Unsupported { reason, .. } if reason.contains("2 wasm files")), "{error}");
}

#[tokio::test]
async fn wasm_to_oci_and_wasmcloud_artifacts_are_pulled() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm("old");
    // wasm-to-oci: no media type in the manifest, the path as the title.
    let config = registry.blob("application/vnd.wasm.config.v1+json", b"{}");
    let layer = titled(registry.blob("application/vnd.wasm.content.layer.v1+wasm", &module), "testdata/hello.wasm");
    let made = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    runs(&pull(&registry, &node, &made).await.unwrap(), "/hello.wasm", &module);

    // wash, before version 0.30: no title.
    let config = registry.blob("application/vnd.wasmcloud.actor.archive.config", b"{}");
    let layer = registry.blob("application/vnd.module.wasm.content.layer.v1+wasm", &module);
    let image = pull(&registry, &node, &manifest(config, std::slice::from_ref(&layer))).await.unwrap();
    runs(&image, "/main.wasm", &module);

    // wasme: the same type, and a description as a layer of its own.
    let described = registry.blob("application/vnd.module.wasm.config.v1+json", br#"{"type":"envoy_proxy"}"#);
    let config = registry.blob("application/vnd.unknown.config.v1+json", b"{}");
    let layers = [titled(described, "runtime-config.json"), titled(layer, "filter.wasm")];
    runs(&pull(&registry, &node, &manifest(config, &layers)).await.unwrap(), "/filter.wasm", &module);

    // A provider of wasmCloud is a native program.
    let config = registry.blob("application/vnd.wasmcloud.provider.archive.config", b"{}");
    let layer = registry.blob("application/vnd.wasmcloud.provider.archive.layer.v1+par", b"x");
    let error = pull(&registry, &node, &manifest(config, &[layer])).await.unwrap_err();
    assert!(matches!(&error, PullError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("a native provider of wasmCloud"), "{error}");
}

/// As spin-oci builds it: wasm layers, layers of files, and last the locked application.
fn spin(registry: &Registry, components: &[(&str, &[u8], Value)], files: &[&[u8]]) -> Value {
    let mut layers: Vec<Value> = Vec::new();
    let mut locked = Vec::new();
    for (id, module, more) in components {
        let layer = registry.blob("application/vnd.wasm.content.layer.v1+wasm", module);
        // Equal components share a layer.
        if !layers.contains(&layer) {
            layers.push(layer);
        }
        let mut component = json!({"id": id, "metadata": {"build": {"command": "cargo build"}},
            "source": {"content_type": "application/wasm", "digest": digest(module)}});
        component.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        locked.push(component);
    }
    layers.extend(files.iter().map(|file| registry.blob("application/vnd.wasm.content.layer.v1+data", file)));
    layers.push(registry.blob("application/vnd.wasm.content.bundle.v1.tar+gzip", &gzip(&Archive::default().bytes())));
    let locked = json!({"spin_lock_version": 0, "metadata": {"name": "app", "trigger": {"type": "http", "base": "/"}},
        "triggers": [{"id": "trigger--a", "trigger_type": "http", "trigger_config": {"component": "a", "route": "/..."}}],
        "components": locked});
    let locked = locked.to_string();
    layers.push(registry.blob("application/vnd.fermyon.spin.application.v1+config", locked.as_bytes()));
    let config = json!({"architecture": "wasm", "os": "Wasip1", "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"Labels": {"com.fermyon.spin.lockedAppDigest": digest(locked.as_bytes())}}});
    let made = manifest(registry.blob(OCI_CONFIG, config.to_string().as_bytes()), &layers);
    with(made, "annotations", json!({"org.opencontainers.image.title": "app", "org.opencontainers.image.version": "0.1.0"}))
}

#[tokio::test]
async fn a_spin_application_of_one_component_runs_it() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm("hello");
    let more = json!({"env": {"GREETING": "hi"}, "files": [{"digest": digest(b"page"), "path": "index.html"}]});
    let image = pull(&registry, &node, &spin(&registry, &[("hello", &module, more)], &[b"page"])).await.unwrap();
    runs(&image, "/hello.wasm", &module);
    assert_eq!((image.os.as_str(), image.architecture.as_str()), ("wasip1", "wasm"));
    assert_eq!(image.config.env, ["GREETING=hi"]);
    assert_eq!(image.config.labels["org.opencontainers.image.title"], "app");
    // Files and archives are left out, and not fetched.
    assert_eq!(registry.requests(&digest(b"page")), 0);

    // Before Spin 2 the locked application was the configuration.
    let locked = json!({"spin_lock_version": 0, "triggers": [], "components":
        [{"id": "hello", "source": {"content_type": "application/wasm", "digest": digest(&module)}}]});
    let config = registry.blob("application/vnd.fermyon.spin.application.v1+config", locked.to_string().as_bytes());
    let layer = registry.blob("application/vnd.wasm.content.layer.v1+wasm", &module);
    runs(&pull(&registry, &node, &manifest(config, &[layer])).await.unwrap(), "/hello.wasm", &module);
}

#[tokio::test]
async fn of_several_spin_components_none_is_the_default() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let (one, two) = (wasm("one"), wasm("two"));
    let env = json!({"env": {"A": "b"}});
    let made = spin(&registry, &[("api", &one, env), ("web-ui", &two, json!({})), ("copy", &one, json!({}))], &[]);
    let image = pull(&registry, &node, &made).await.unwrap();
    assert_eq!(image.kind, ArtifactKind::Artifact { module: None });
    let paths: Vec<_> = image.wasm.iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/api.wasm", "/copy.wasm", "/web-ui.wasm"]);
    assert!(image.config.env.is_empty());
    let found = node.images.lookup(&image, Path::new("web-ui.wasm")).unwrap();
    assert_eq!(found.kind, FileKind::Wasm { digest: digest(&two) });
    assert_eq!(node.compiler.runs(), 2);
    let (before, node) = (image.clone(), node.reopen().await);
    assert_eq!(node.images.get(&before.id).unwrap(), before);
}

#[tokio::test]
async fn a_spin_component_that_is_not_composed_is_refused() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let part = wasm("part");
    let source = json!({"content_type": "application/wasm", "digest": digest(&part)});
    let more = json!({"dependencies": {"test:part": {"source": source, "export": null}}});
    let made = spin(&registry, &[("hello", &wasm("hello"), more)], &[]);
    let error = pull(&registry, &node, &made).await.unwrap_err();
    assert!(matches!(&error, PullError::Unsupported { reason, .. } if reason.contains("composed")), "{error}");
}

#[tokio::test]
async fn a_file_that_oras_pushed_without_any_type_is_pulled() {
    let module = wasm("bare");
    let empty = |registry: &Registry| with(registry.blob("application/vnd.oci.empty.v1+json", b"{}"), "data", json!("e30="));
    let unknown = |registry: &Registry| registry.blob("application/vnd.unknown.config.v1+json", b"{}");
    let platform = |registry: &Registry| registry.blob(OCI_CONFIG, br#"{"architecture":"wasm","os":"wasip1"}"#);
    type Config<'a> = &'a dyn Fn(&Registry) -> Value;
    for config in [&empty as Config<'_>, &unknown, &platform] {
        for layer_type in [OCI_TAR, "application/octet-stream", "application/wasm"] {
            let (registry, node) = (Registry::new(), Node::new().await);
            let layer = titled(registry.blob(layer_type, &module), "app.wasm");
            let mut made = manifest(config(&registry), &[layer]);
            made["artifactType"] = json!("application/vnd.unknown.artifact.v1");
            made["annotations"] = json!({"org.opencontainers.image.created": "2026-11-21T11:00:00Z"});
            runs(&pull(&registry, &node, &made).await.unwrap(), "/app.wasm", &module);
        }
    }
}

#[tokio::test]
async fn text_is_wasm_where_it_is_named_so() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let text = b"\n;; hello\n(; a (; nested ;) comment ;)\n(module)";
    let config = registry.blob("application/vnd.oci.empty.v1+json", b"{}");
    for (layer_type, title, found) in [
        (OCI_TAR, "hello.wat", Some("/hello.wat")),
        ("application/wasm", "hello.wat", Some("/hello.wat")),
        ("application/wasm", "hello.wasm", None),
    ] {
        let layer = titled(registry.blob(layer_type, text), title);
        match (pull(&registry, &node, &manifest(config.clone(), &[layer])).await, found) {
            (Ok(image), Some(path)) => runs(&image, path, text),
            (Err(PullError::InvalidArtifact { reason, .. }), None) => assert!(reason.contains("is not"), "{reason}"),
            other => panic!("{title}: {other:?}"),
        }
    }

    let layer = Archive::default()
        .file("a.wat", text)
        .file("b.lisp", "(defun)")
        .file("c.wat", "no parenthesis")
        .file("d", "(module)")
        .hard_link("d.wat", "d")
        .symlink("e", "a.wat");
    registry.image("text", vec![layer], json!({"Entrypoint": ["/e"]}));
    let image = node.images.pull(&registry.name("a:text"), None).await.unwrap();
    let paths: Vec<_> = image.wasm.iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/a.wat", "/d.wat"]);
    let look = |path: &str| node.images.lookup(&image, Path::new(path)).unwrap().kind;
    assert_eq!(look("/e"), FileKind::Wasm { digest: digest(text) });
    for other in ["/b.lisp", "/c.wat", "/d"] {
        assert_eq!(look(other), FileKind::Other, "{other}");
    }
}

#[tokio::test]
async fn text_above_its_cap_is_refused_by_name() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let mut text = b"(module)".to_vec();
    text.resize((16 << 20) + 1, b' ');
    let config = registry.blob("application/vnd.oci.empty.v1+json", b"{}");
    let layer = titled(registry.blob(OCI_TAR, &text), "large.wat");
    let error = pull(&registry, &node, &manifest(config, &[layer])).await.unwrap_err();
    assert!(matches!(&error, PullError::TooLarge { what, limit: 16_777_216, .. } if what.contains("large.wat")), "{error}");
}

#[tokio::test]
async fn precompiled_code_is_never_taken_for_something_that_runs() {
    let (registry, node) = (Registry::new(), Node::new().await);
    // What `wasmtime compile` writes: an ELF file whose OS/ABI byte is wasmtime's own.
    let code = b"\x7fELF\x02\x01\x01\xc8\0\0\0\0\0\0\0\0\x01\0\xb7\0";
    let config = registry.blob("application/vnd.wasm.config.v0+json", b"{}");
    for (content, named) in
        [(&code[..], "precompiled code, which is not run"), (b"\x7fELF\x02\x01\x01\0", "native Linux program")]
    {
        let layer = titled(registry.blob("application/wasm", content), "app.cwasm");
        let error = pull(&registry, &node, &manifest(config.clone(), &[layer])).await.unwrap_err();
        assert!(matches!(&error, PullError::Unsupported { reason, .. } if reason.contains(named)), "{error}");
        assert!(error.to_string().contains("app.cwasm"), "{error}");
    }
    node.becomes_empty().await;

    registry.image("i", vec![Archive::default().file("app.cwasm", code).file("app.wasm", wasm("x"))], json!({}));
    let image = node.images.pull(&registry.name("a:i"), None).await.unwrap();
    assert_eq!(image.wasm.len(), 1);
    assert_eq!(node.images.lookup(&image, Path::new("/app.cwasm")).unwrap().kind, FileKind::Precompiled);
}

/// An image of one layer with one wasm file, as docker (schema 2) or buildah (OCI) pushes it.
fn image_of(registry: &Registry, docker: bool, platform: (&str, &str), module: &[u8], annotations: Value) -> Value {
    let layer = Archive::default().file("app.wasm", module).bytes();
    let config = json!({"os": platform.0, "architecture": platform.1, "config": {"Cmd": ["/app.wasm"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}, "history": [{"created_by": "COPY app.wasm / # buildkit"}]});
    let (manifest_type, config_type, layer_type) = if docker {
        let prefix = "application/vnd.docker";
        (
            format!("{prefix}.distribution.manifest.v2+json"),
            format!("{prefix}.container.image.v1+json"),
            format!("{prefix}.image.rootfs.diff.tar.gzip"),
        )
    } else {
        (OCI_MANIFEST.to_owned(), OCI_CONFIG.to_owned(), format!("{OCI_TAR}+gzip"))
    };
    let config = registry.blob(&config_type, config.to_string().as_bytes());
    let layer = registry.blob(&layer_type, &gzip(&layer));
    json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer], "annotations": annotations})
}

#[tokio::test]
async fn images_are_the_same_with_and_without_the_annotations_of_other_runtimes() {
    let module = wasm("image");
    for docker in [false, true] {
        for annotations in [
            json!(null),
            json!({"module.wasm.image/variant": "compat"}),
            json!({"module.wasm.image/variant": "compat-smart"}),
            json!({"run.oci.handler": "wasm"}),
        ] {
            let (registry, node) = (Registry::new(), Node::new().await);
            let made = image_of(&registry, docker, ("linux", "amd64"), &module, annotations);
            let image = pull(&registry, &node, &made).await.unwrap();
            assert_eq!((&image.kind, image.wasm[0].digest.clone()), (&ArtifactKind::Image, digest(&module)));
            assert_eq!((image.config.cmd.as_slice(), image.os.as_str()), (&["/app.wasm".to_owned()][..], "linux"));
        }
    }
}

#[tokio::test]
async fn an_index_gives_its_wasm_variant_and_else_the_native_one() {
    let native = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    for (platforms, chosen) in [
        (vec![("linux", native), ("wasi", "wasm")], "wasi/wasm"),
        (vec![("linux", native), ("wasi", "wasm32")], "wasi/wasm32"),
        (vec![("wasip1", "wasm"), ("linux", native)], "wasip1/wasm"),
        (vec![("wasip1", "wasm"), ("wasip2", "wasm")], "wasip2/wasm"),
        (vec![("linux", native), ("linux", "wasm")], "linux/wasm"),
        (vec![("windows", native), ("linux", native)], &format!("linux/{native}")),
    ] {
        for docker in [false, true] {
            let (registry, node) = (Registry::new(), Node::new().await);
            let mut entries = Vec::new();
            for (os, architecture) in &platforms {
                let made = image_of(&registry, docker, (os, architecture), &wasm(&format!("{os}/{architecture}")), json!(null));
                let bytes = serde_json::to_vec(&made).unwrap();
                let platform = json!({"os": os, "architecture": architecture, "variant": "v7"});
                let digest = registry.manifest("unused", &made);
                entries
                    .push(json!({"mediaType": made["mediaType"], "digest": digest, "size": bytes.len(), "platform": platform}));
            }
            // What buildkit adds for each image.
            entries.push(json!({"mediaType": OCI_MANIFEST, "digest": digest(b"attestation"), "size": 1,
                "platform": {"os": "unknown", "architecture": "unknown"},
                "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}));
            let list = "application/vnd.docker.distribution.manifest.list.v2+json";
            let media_type = if docker { list } else { "application/vnd.oci.image.index.v1+json" };
            let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
            let image = pull(&registry, &node, &index).await.unwrap();
            assert_eq!(format!("{}/{}", image.os, image.architecture), chosen);
            assert_eq!(image.wasm[0].digest, digest(&wasm(chosen)));
        }
    }
}

#[tokio::test]
async fn an_index_of_artifacts_gives_the_wasm_one() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm("artifact");
    registry.artifact("unused", &module, None);
    let config = registry.blob("application/vnd.wasm.config.v0+json", b"{}");
    let made = manifest(config, &[registry.blob("application/wasm", &module)]);
    let size = serde_json::to_vec(&made).unwrap().len();
    let wasm = json!({"mediaType": OCI_MANIFEST, "digest": registry.manifest("unused", &made), "size": size,
        "artifactType": "application/vnd.wasm.config.v0+json"});
    let other = json!({"mediaType": OCI_MANIFEST, "digest": digest(b"x"), "size": 1, "artifactType": "text/spdx+json"});
    let index = |entries: Value| json!({"schemaVersion": 2, "manifests": entries});
    runs(&pull(&registry, &node, &index(json!([other, wasm]))).await.unwrap(), "/main.wasm", &module);
    let plain = with(wasm, "artifactType", json!(null));
    runs(&pull(&registry, &node, &index(json!([plain]))).await.unwrap(), "/main.wasm", &module);
    let error = pull(&registry, &node, &index(json!([other, plain]))).await.unwrap_err();
    assert!(error.to_string().ends_with("only: a manifest without a platform, an artifact of type text/spdx+json"), "{error}");
}

#[tokio::test]
async fn a_helm_chart_is_refused_before_anything_of_it_is_fetched() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let config = registry.blob("application/vnd.cncf.helm.config.v1+json", br#"{"name":"chart"}"#);
    let layer = registry.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"chart");
    let error = pull(&registry, &node, &manifest(config.clone(), &[layer])).await.unwrap_err();
    assert!(matches!(&error, PullError::Unsupported { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("a Helm chart") && text.contains("helm.config.v1+json") && text.contains("application/wasm"), "{text}");
    assert_eq!(registry.requests(config["digest"].as_str().unwrap()), 0);
}
