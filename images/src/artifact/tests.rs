use std::collections::BTreeMap;

use super::*;

fn descriptor(media_type: &str, title: Option<&str>) -> Descriptor {
    let annotations = title.map(|title| BTreeMap::from([(TITLE.to_owned(), title.to_owned())]));
    let media_type = media_type.to_owned();
    Descriptor { media_type, digest: Digest::of(b"x"), size: 1, annotations, platform: None, artifact_type: None }
}

fn manifest(config: &str, layers: &[(&str, Option<&str>)]) -> Manifest {
    let layers = layers.iter().map(|(media_type, title)| descriptor(media_type, *title)).collect();
    Manifest { config: descriptor(config, None), layers, annotations: BTreeMap::new(), artifact_type: None }
}

const TAR: &str = TAR_LAYERS[0];
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

#[test]
fn every_wasm_type_makes_an_artifact_whatever_the_configuration() {
    for layer in [
        "application/wasm",
        "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.module.wasm.content.layer.v1+wasm",
        "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
        "application/vnd.w3c.wasm.module.v1+wasm",
    ] {
        for config in [WASM_CONFIG, IMAGE_CONFIGS[0], EMPTY, "application/vnd.anything"] {
            let made = manifest(config, &[(layer, None), ("application/x-yaml", Some("policy.yaml"))]);
            assert!(matches!(recognise(&made), Ok(Packaging::Module { file_name, .. }) if file_name == DEFAULT_NAME), "{layer}");
        }
    }
}

#[test]
fn a_title_stands_for_a_type_where_the_tool_gave_none() {
    for layer in [TAR, "application/vnd.oci.image.layer.v1.tar+gzip", "application/octet-stream", "text/plain", ""] {
        for name in ["app.wasm", "app.wat"] {
            let made = manifest(EMPTY, &[(layer, Some(name)), (TAR, Some("readme.md"))]);
            assert!(matches!(recognise(&made), Ok(Packaging::Module { file_name, .. }) if file_name == name), "{layer}");
        }
        assert!(recognise(&manifest(EMPTY, &[(layer, None)])).is_err(), "{layer}");
        assert!(recognise(&manifest(EMPTY, &[(layer, Some("app.wasm.sig"))])).is_err(), "{layer}");
    }
    assert!(recognise(&manifest(EMPTY, &[("application/vnd.cyclonedx+json", Some("app.wasm"))])).is_err());
}

#[test]
fn layers_of_tar_are_an_image_even_with_titles() {
    for layer in ["application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.gzip", TAR] {
        for config in IMAGE_CONFIGS {
            let made = manifest(config, &[(layer, Some("app.wasm"))]);
            let seen = |diff_ids: &str| {
                let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{diff_ids}]}}}}"#);
                recognise(&made).unwrap().seen_with(&made, config.as_bytes()).unwrap()
            };
            let id = Digest::of(b"y").to_string();
            assert!(matches!(seen(&format!("{id:?}")), Packaging::Image), "{layer}");
            assert!(matches!(seen(""), Packaging::Module { .. }), "{layer}");
        }
    }
}

#[test]
fn what_is_neither_wasm_nor_a_file_system_is_refused_by_name() {
    let helm = "application/vnd.cncf.helm.config.v1+json";
    for (config, layers, named) in [
        (WASM_CONFIG, vec!["application/octet-stream"], "application/wasm"),
        (
            helm,
            vec!["application/vnd.cncf.helm.chart.content.v1.tar+gzip"],
            "a Helm chart, of the types application/vnd.cncf.helm",
        ),
        (helm, vec![], "helm.config"),
        (IMAGE_CONFIGS[0], vec!["application/vnd.dev.cosign.simplesigning.v1+json"], "a cosign signature"),
        (IMAGE_CONFIGS[0], vec!["application/vnd.in-toto+json"], "an attestation"),
        (IMAGE_CONFIGS[0], vec![TAR, "application/vnd.cncf.nydus.bootstrap"], "unknown type application/vnd.cncf.nydus"),
        (EMPTY, vec!["text/spdx+json"], "SBOM"),
        ("application/vnd.docker.plugin.v1+json", vec![TAR_LAYERS[2]], "a Docker plugin"),
        (
            EMPTY,
            vec!["application/vnd.acme"],
            "it is of the types application/vnd.oci.empty.v1+json, application/vnd.acme; expected",
        ),
        (WASM_CONFIG, vec!["application/wasm", "application/wasm"], "2 wasm files"),
    ] {
        let layers: Vec<_> = layers.into_iter().map(|layer| (layer, None)).collect();
        let manifest = manifest(config, &layers);
        let (Refused::Invalid(text) | Refused::Unsupported(text)) = recognise(&manifest).unwrap_err();
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn a_hostile_title_never_leaves_the_layer() {
    for (title, name) in [
        (Some("dir/app.wasm"), "app.wasm"),
        (Some("../../etc/passwd"), "passwd"),
        (Some(".."), DEFAULT_NAME),
        (Some("a/"), DEFAULT_NAME),
        (Some(".wh.x"), DEFAULT_NAME),
        (Some("a\0b"), DEFAULT_NAME),
        (None, DEFAULT_NAME),
    ] {
        assert_eq!(file_name(&descriptor("application/wasm", title)), name);
    }
}

#[test]
fn a_hostile_spin_application_is_refused() {
    let layer = "application/vnd.wasm.content.layer.v1+wasm";
    let made = manifest(IMAGE_CONFIGS[0], &[(layer, None), (spin::APPLICATION, None), ("application/x", None)]);
    assert!(matches!(recognise(&made), Ok(Packaging::Spin { application: Some(_) })));
    let digest = Digest::of(b"x").to_string();
    let component = |id: &str, digest: &str, more: &str| {
        format!(r#"{{"id":{id:?},"source":{{"content_type":"application/wasm","digest":{digest:?}}}{more}}}"#)
    };
    let read = |components: &[String]| {
        let locked = format!(r#"{{"spin_lock_version":0,"triggers":[],"components":[{}]}}"#, components.join(","));
        spin::contents(&made, locked.as_bytes())
    };
    assert_eq!(read(&[component("a", &digest, "")]).unwrap().kind(), ArtifactKind::Artifact { module: Some("/a.wasm".into()) });
    let other = Digest::of(b"other").to_string();
    for components in [
        vec![],
        vec![component("a/../../b", &digest, "")],
        vec![component("a", &digest, ""), component("a", &digest, "")],
        vec![component("a", &other, "")],
        (0..257).map(|number| component(&format!("c{number}"), &digest, "")).collect(),
        vec![component("a", "md5:00", "")],
        vec![component("a", &digest, r#","dependencies":{"x:y/z":{"source":{"digest":null}}}"#)],
    ] {
        assert!(read(&components).is_err(), "{components:?}");
    }
    for locked in ["", "[]", "{}", r#"{"spin_lock_version":2,"components":[]}"#] {
        assert!(spin::contents(&made, locked.as_bytes()).is_err(), "{locked}");
    }
}
