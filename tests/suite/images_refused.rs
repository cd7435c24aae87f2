//! Images that cannot be pulled: each error says why, and nothing of them is kept.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::harness::guests::NO_START;
use crate::harness::image::{Blob, Image, Layered};
use crate::harness::registry::{Registry, Setup};
use crate::harness::{Node, cri, image_spec, missing};
use crate::images::{node_and_registry, wasm};

/// Pulls what cannot be pulled: the error says why, and nothing is left of it.
fn refused(node: &Node, reference: &str, said: &str) -> tonic::Status {
    let before = node.holdings();
    let refused = node.pull(reference).expect_err(reference);
    assert!(refused.message().contains(said), "{reference}: {said:?} in {refused}");
    assert!(node.image(reference).is_none());
    node.assert_nothing_leaked(&before);
    refused
}

#[test]
fn a_module_that_asks_for_what_is_not_there_fails_the_pull_by_name() {
    let Some((node, registry)) = node_and_registry() else { return };
    let module = |import: &str| {
        wat::parse_str(format!(r#"(module {import} (memory (export "memory") 1) (func (export "_start")))"#)).unwrap()
    };
    let component = |import: &str| wat::parse_str(format!("(component {import})")).unwrap();
    for (name, bytes, said) in [
        ("function", module(r#"(import "env" "mystery" (func))"#), "mystery"),
        ("wasi", module(r#"(import "wasi_snapshot_preview1" "fd_teleport" (func (param i32)))"#), "fd_teleport"),
        ("signature", module(r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i64)))"#), "proc_exit"),
        // Not an import that is lacking, but a proposal that is not given.
        ("shared", module("(memory 1 1 shared)"), "proposal threads"),
        (
            "component",
            component(r#"(import "example:mystery/power@1.0.0" (instance (export "use" (func))))"#),
            "example:mystery/power",
        ),
    ] {
        let image = if name == "wasi" {
            Layered::new().file("/bin/app", &bytes).entrypoint(&["/bin/app"]).build()
        } else {
            Image::artifact(&bytes)
        };
        registry.push("images/import", name, &image);
        let status = refused(&node, &registry.reference(&format!("images/import:{name}")), said);
        assert_eq!(status.code(), Code::FailedPrecondition, "{name}");
    }
    node.finish();
}

#[test]
fn a_library_is_no_command_and_the_error_says_what_is_lacking() {
    let Some(node) = Node::start() else { return };
    if NO_START.push().is_none() {
        return;
    }
    let said = match node.pull(&NO_START.reference()) {
        Err(refused) => refused.message().to_owned(),
        Ok(_) => {
            let pod = node.pod("web");
            let refused = node.create(&pod, &NO_START.container("main", &[])).and_then(|id| node.start_container(&id));
            refused.expect_err("there is nothing to run").message().to_owned()
        }
    };
    assert!(said.contains("_start"), "{said}");
    node.finish();
}

#[test]
fn what_is_no_wasm_fails_the_pull() {
    let Some((node, registry)) = node_and_registry() else { return };
    let good = wasm("good");
    for (name, bytes, said) in [
        ("empty", Vec::new(), "wasm"),
        ("text", b"this is no module at all, it is a sentence".to_vec(), "wasm"),
        ("cut", good[..good.len() - 3].to_vec(), "wasm"),
        ("invalid", [b"\0asm\x01\0\0\0".as_slice(), &[1, 4, 1, 0x60, 0, 9]].concat(), "wasm"),
    ] {
        registry.push("images/invalid", name, &Image::artifact(&bytes));
        let status = refused(&node, &registry.reference(&format!("images/invalid:{name}")), &format!("images/invalid:{name}"));
        assert!(status.message().to_lowercase().contains(said), "{name}: {status}");
    }
    node.finish();
}

#[test]
fn bytes_that_are_not_those_that_were_named_are_refused_and_not_kept() {
    if !missing::has_registry() {
        return;
    }
    // One of its own, whose storage can be spoilt.
    let registry = Registry::start(&Setup::default());
    let Some(node) = Node::start() else { return };
    let bytes = wasm("genuine");
    let other = wasm("forgery");
    assert_eq!(bytes.len(), other.len());
    let image = Image::artifact(&bytes);
    registry.push("images/forged", "v1", &image);
    let reference = registry.reference("images/forged:v1");
    registry.corrupt(&image.layers[0], &other);
    refused(&node, &reference, "digest");
    registry.corrupt(&image.layers[0], &bytes);
    registry.corrupt(&image.config, &vec![b' '; image.config.bytes.len()]);
    refused(&node, &reference, "digest");
    registry.corrupt(&image.config, &image.config.bytes);
    assert_eq!(node.pull(&reference).unwrap(), image.id());
    // A manifest that is not the one that was asked for.
    let second = Image::artifact(&wasm("second"));
    let id = registry.push("images/forged", "v2", &second);
    registry.corrupt(&Blob::new(second.manifest_type, second.manifest()), &image.manifest());
    refused(&node, &registry.reference(&format!("images/forged@{id}")), "digest");
    node.finish();
}

#[test]
fn what_the_registry_does_not_have_is_not_found_and_a_dead_registry_unavailable() {
    let Some((node, registry)) = node_and_registry() else { return };
    registry.push("images/there", "v1", &Image::artifact(&wasm("there")));
    for name in ["images/never:v1", "images/there:v2", &format!("images/there@sha256:{}", "1".repeat(64))] {
        let status = refused(&node, &registry.reference(name), name);
        assert_eq!(status.code(), Code::NotFound, "{name}");
    }
    // A port that nobody listens on: it was free a moment ago.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begin = Instant::now();
    let status = refused(&node, &format!("{dead}/images/there:v1"), &dead.to_string());
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    // The kubelet shows this prefix as its own reason.
    assert!(status.message().starts_with("RegistryUnavailable"), "{status}");
    for name in ["", "UPPER/Case:1", "a b", "host/name@sha256:short"] {
        assert_eq!(node.pull(name).expect_err(name).code(), Code::InvalidArgument, "{name}");
    }
    node.finish();
}

#[test]
fn a_private_registry_is_shown_the_pods_credentials() {
    if !missing::has_registry() {
        return;
    }
    // `reader` with the password `open sesame`, as htpasswd -B writes it.
    const HTPASSWD: &str = "reader:$2y$05$EvsuGYKXCJzM3aGzAMxlJ.uPFQH0wRmTW4ZEdKWrBg4d.67oZmUUO";
    let open = Registry::start(&Setup::default());
    open.push("images/private", "v1", &Image::artifact(&wasm("private")));
    let closed = Registry::start(&Setup { storage: Some(&open.storage), htpasswd: Some(HTPASSWD), ..Default::default() });
    let Some(node) = Node::start() else { return };
    let reference = closed.reference("images/private:v1");
    let pull = |auth: Option<cri::AuthConfig>| {
        let request = cri::PullImageRequest { image: Some(image_spec(&reference)), auth, ..Default::default() };
        node.client.pull_image(request)
    };
    let login = |username: &str, password: &str| {
        Some(cri::AuthConfig { username: username.into(), password: password.into(), ..Default::default() })
    };
    assert_eq!(refused(&node, &reference, "refused access").code(), Code::Unauthenticated);
    let wrong = pull(login("reader", "guess-the-word")).unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated);
    assert!(!wrong.message().contains("guess-the-word"));
    assert!(!node.daemon_log().contains("guess-the-word"), "a secret that no log shows");
    pull(login("reader", "open sesame")).unwrap();
    assert!(!node.daemon_log().contains("open sesame"));
    node.finish();
}
