//! What an operator sets about images: mirrors, trust, pins, and when code is made.

use std::process::Command;

use tonic::Code;

use crate::harness::guests::FIRST_LINE;
use crate::harness::image::{Image, Layered};
use crate::harness::node::PROGRAM;
use crate::harness::registry::Registry;
use crate::harness::{Node, Options, container, cri, image_spec};
use crate::images::wasm;

/// A node with this configuration.
fn node(config: &str) -> Option<Node> {
    Node::start_with(&Options { config, ..Default::default() })
}

/// Code files of the node.
fn compiled(node: &Node) -> usize {
    let engines = std::fs::read_dir(node.place.root.join("images/compiled")).unwrap();
    let files = engines.flat_map(|engine| std::fs::read_dir(engine.unwrap().path()).unwrap());
    files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "cwasm")).count()
}

#[test]
fn an_image_of_a_registry_that_is_not_there_comes_from_its_mirror() {
    let Some(registry) = Registry::shared() else { return };
    let id = registry.push("settings/mirrored", "v1", &Image::artifact(&wasm("mirrored")));
    let directory = tempfile::tempdir().unwrap();
    let of_host = directory.path().join("registry.example");
    std::fs::create_dir(&of_host).unwrap();
    let hosts = format!(
        "server = 'https://127.0.0.1:1'\n[host.'http://127.0.0.1:2']\n[host.'http://{}']\ncapabilities = ['pull', 'resolve']\n",
        registry.address
    );
    std::fs::write(of_host.join("hosts.toml"), hosts).unwrap();
    let Some(node) = node(&format!("[images]\ncerts_dirs = ['{}']\n", directory.path().display())) else { return };
    assert_eq!(node.pull("registry.example/settings/mirrored:v1").unwrap(), id);
    let told = node.image("registry.example/settings/mirrored:v1").unwrap();
    assert_eq!(
        told.repo_digests,
        [format!("registry.example/settings/mirrored@{id}")],
        "the image has its own name, not the mirror's"
    );

    // Read at each pull: the daemon need not be told.
    std::fs::write(of_host.join("hosts.toml"), "server = 1\n").unwrap();
    let refused = node.pull("registry.example/settings/mirrored:v1").unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("hosts.toml"), "{refused}");
    node.finish();
}

#[test]
fn what_the_lists_refuse_is_not_pulled_and_what_is_here_neither() {
    let Some(registry) = Registry::shared() else { return };
    registry.push("settings/good", "v1", &Image::artifact(&wasm("good")));
    registry.push("settings/bad", "v1", &Image::artifact(&wasm("bad")));
    let name = |name: &str| registry.reference(&format!("settings/{name}"));
    let config = format!("[trust]\nallow = ['{}']\ndeny = ['{}']\n", registry.reference("settings"), name("bad"));
    let Some(node) = node(&config) else { return };
    node.pull(&name("good:v1")).unwrap();
    for reference in [name("bad:v1"), registry.reference("elsewhere/image:v1")] {
        let refused = node.pull(&reference).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        assert!(refused.message().contains("trust."), "{refused}");
    }
    node.finish();
}

#[test]
fn a_verifiers_refusal_reaches_the_user_in_its_own_words() {
    let Some(registry) = Registry::shared() else { return };
    let id = registry.push("settings/signed", "v1", &Image::artifact(&wasm("signed")));
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("verifier");
    let script = "#!/bin/sh\necho \"$@\" >\"$0.seen\"\n[ -e \"$0.good\" ] && exit 0\necho 'no signature by the release team' >&2\nexit 1\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = format!("[[trust.verifiers]]\nscope = '{}'\nprogram = '{}'\n", registry.address, program.display());
    let Some(node) = node(&config) else { return };
    let reference = registry.reference("settings/signed:v1");
    let refused = node.pull(&reference).unwrap_err();
    // What the kubelet knows the reason by: the beginning of the text, with no code before it.
    assert_eq!(refused.code(), Code::Unknown, "{refused}");
    assert!(refused.message().starts_with("SignatureValidationFailed: "), "{refused}");
    assert!(refused.message().contains("no signature by the release team"), "{refused}");
    let seen = std::fs::read_to_string(directory.path().join("verifier.seen")).unwrap();
    assert!(seen.contains("settings/signed") && seen.contains(&id), "{seen}");
    std::fs::write(directory.path().join("verifier.good"), "").unwrap();
    assert_eq!(node.pull(&reference).unwrap(), id);
    std::fs::remove_file(directory.path().join("verifier.good")).unwrap();
    assert!(node.pull(&reference).is_err(), "what is here already is judged again");
    node.finish();
}

#[test]
fn a_pinned_image_says_so() {
    let Some(registry) = Registry::shared() else { return };
    registry.push("settings/pinned", "v1", &Image::artifact(&wasm("pinned")));
    let reference = registry.reference("settings/pinned:v1");
    let Some(node) = node(&format!("[images]\npinned = ['{reference}']\n")) else { return };
    node.pull(&reference).unwrap();
    assert!(node.image(&reference).unwrap().pinned);
    assert!(node.images()[0].pinned);
    node.remove_image(&reference).unwrap();
    node.finish();
}

#[test]
fn code_is_made_at_the_first_start_where_the_operator_wants_that() {
    let Some(()) = FIRST_LINE.push() else { return };
    let Some(node) = node("[compile]\nwhen = 'start'\n") else { return };
    node.pull(&FIRST_LINE.reference()).unwrap();
    assert_eq!(compiled(&node), 0);
    let pod = node.pod("web");
    assert_eq!(node.run(&pod, &FIRST_LINE.container("main", &[])).log.stdout(), "hello\n");
    assert_eq!(compiled(&node), 1);
    node.remove_pod(&pod.id).unwrap();
    node.remove_image(&FIRST_LINE.reference()).unwrap();
    assert_eq!(compiled(&node), 0, "it goes with its image");
    node.finish();
}

#[test]
fn a_file_that_does_not_compile_fails_the_pull_only_where_it_is_what_runs() {
    let Some(registry) = Registry::shared() else { return };
    let browser = wat::parse_str(r#"(module (import "env" "fd_write" (func)))"#).unwrap();
    let image = |entrypoint: &str| {
        Layered::new().file("/app.wasm", &wasm("app")).file("/www/browser.wasm", &browser).entrypoint(&[entrypoint]).build()
    };
    registry.push("settings/browser", "beside", &image("/app.wasm"));
    registry.push("settings/browser", "entrypoint", &image("/www/browser.wasm"));
    let Some(node) = Node::start() else { return };
    let refused = node.pull(&registry.reference("settings/browser:entrypoint")).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("did you mean wasi_snapshot_preview1.fd_write?"), "{refused}");
    let beside = registry.reference("settings/browser:beside");
    node.pull(&beside).unwrap();
    let pod = node.pod("web");
    assert_eq!(node.run(&pod, &container(&beside, "app", &[])).status.exit_code, 0);
    let other = cri::ContainerConfig { command: vec!["/www/browser.wasm".into()], ..container(&beside, "browser", &[]) };
    let refused = node.create(&pod, &other).and_then(|id| node.start_container(&id)).unwrap_err();
    assert!(refused.message().contains("env.fd_write"), "{refused}");
    node.finish();
}

#[test]
fn a_verbose_status_says_what_an_image_is_made_of() {
    let Some(registry) = Registry::shared() else { return };
    let id = registry.push("settings/verbose", "v1", &Image::artifact(&wasm("verbose")));
    let reference = registry.reference("settings/verbose:v1");
    let Some(node) = Node::start() else { return };
    node.pull(&reference).unwrap();
    let request = cri::ImageStatusRequest { image: Some(image_spec(&reference)), verbose: true };
    let answer = node.client.image_status(request).unwrap();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    let text = info.to_string();
    for part in [id.as_str(), "command", "layers", "main.wasm"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    node.finish();
}

#[test]
fn people_pull_with_a_command_that_shows_each_part_and_prints_the_id() {
    let Some(registry) = Registry::shared() else { return };
    let image = Layered::new().file("/app.wasm", &wasm("by hand")).entrypoint(&["/app.wasm"]).build();
    let id = registry.push("settings/command", "v1", &image);
    let Some(node) = Node::start() else { return };
    let pull = |reference: &str| {
        let socket = node.place.state.join("cri.sock");
        let output =
            Command::new(PROGRAM).args(["pull", "--socket"]).arg(socket).arg(registry.reference(reference)).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, out, err) = pull("settings/command:v1");
    assert_eq!((status, out.trim_end()), (Some(0), id.as_str()), "{err}");
    assert!(err.contains("done"), "{err}");
    let (status, out, err) = pull("settings/command:none");
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("not found"), "{err}");
    node.finish();
}
