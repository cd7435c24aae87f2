//! What a guest is told: its command, arguments, environment and working directory, as Kubernetes composes them over the image's.

use crate::harness::guests::PROBE;
use crate::harness::image::{Image, Layered};
use crate::harness::registry::Registry;
use crate::harness::{Node, Pod, container, cri};

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Pushes an image and pulls it, and returns its reference.
fn pulled(node: &Node, repository: &str, image: &Image) -> String {
    let registry = Registry::shared().expect("the guests were pushed");
    registry.push(repository, "1", image);
    let reference = registry.reference(&format!("{repository}:1"));
    node.pull(&reference).expect("the image is pulled");
    reference
}

fn probe_image(probe: &[u8]) -> Layered {
    Layered::new().file("/bin/probe", probe).env(&["PATH=/bin", "A=image", "B=image"]).working_dir("/srv")
}

/// What the guest prints with this command and these arguments.
fn printed(node: &Node, pod: &Pod, image: &str, name: &str, command: &[&str], args: &[&str]) -> String {
    let config = cri::ContainerConfig { command: owned(command), ..container(image, name, args) };
    let ended = node.run(pod, &config);
    assert_eq!(ended.status.exit_code, 0, "{name}: {} {}", ended.status.message, ended.log.stderr());
    ended.log.stdout()
}

#[test]
fn command_takes_the_entrypoints_place_and_args_that_of_the_images_arguments() {
    let Some(probe) = PROBE.wasm() else { return };
    let Some(node) = Node::with(&[PROBE]) else { return };
    let image = probe_image(&probe).entrypoint(&["/bin/probe", "args"]).cmd(&["from", "image"]).build();
    let image = pulled(&node, "command/entrypoint", &image);
    let pod = node.pod("web");
    for (name, command, args, wanted) in [
        ("neither", &[][..], &[][..], "0: /bin/probe\n1: args\n2: from\n3: image\n"),
        ("args", &[], &["x"], "0: /bin/probe\n1: args\n2: x\n"),
        ("command", &["/bin/probe", "args"], &[], "0: /bin/probe\n1: args\n"),
        ("both", &["/bin/probe", "args", "a b"], &["", "ü"], "0: /bin/probe\n1: args\n2: a b\n3: \n4: ü\n"),
        ("path", &["probe", "args"], &[], "0: probe\n1: args\n"),
        ("relative", &["../bin/probe", "args"], &[], "0: ../bin/probe\n1: args\n"),
    ] {
        assert_eq!(printed(&node, &pod, &image, name, command, args), wanted, "{name}");
    }
    node.finish();
}

#[test]
fn a_bare_artifact_runs_its_only_module_with_the_args() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let image = PROBE.reference();
    let all = printed(&node, &pod, &image, "args", &[], &["args", "x"]);
    let (name, rest) = all.split_once('\n').unwrap();
    assert!(name.starts_with("0: ") && name.len() > 3, "a guest has a name: {name}");
    assert_eq!(rest, "1: args\n2: x\n");
    // There is nothing else to run, so a command is the name that the guest sees.
    assert_eq!(printed(&node, &pod, &image, "command", &["my-app", "args"], &["x"]), "0: my-app\n1: args\n2: x\n");
    node.finish();
}

#[test]
fn the_environment_is_the_images_under_the_containers() {
    let Some(probe) = PROBE.wasm() else { return };
    let Some(node) = Node::with(&[PROBE]) else { return };
    let image = pulled(&node, "command/env", &probe_image(&probe).entrypoint(&["/bin/probe"]).build());
    let pod = node.pod("web");
    let pair = |key: &str, value: &str| cri::KeyValue { key: key.into(), value: value.as_bytes().to_vec() };
    let config = cri::ContainerConfig {
        envs: vec![
            pair("B", "pod"),
            pair("C", "first"),
            pair("C", "second"),
            pair("EQUALS", "a=b"),
            pair("EMPTY", ""),
            pair("ML", "a\nb"),
        ],
        ..container(&image, "main", &["env", "A", "B", "C", "EQUALS", "EMPTY", "ML", "PATH", "NONE"])
    };
    let ended = node.run(&pod, &config);
    assert_eq!(ended.log.stdout(), "A=image\nB=pod\nC=second\nEQUALS=a=b\nEMPTY=\nML=a\nb\nPATH=/bin\nNONE is not set\n");
    let bare = printed(&node, &pod, &PROBE.reference(), "bare", &[], &["env", "PATH", "HOSTNAME"]);
    assert!(bare.starts_with("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"), "{bare}");
    assert!(bare.contains("HOSTNAME=") && !bare.contains("HOSTNAME is not set"), "{bare}");
    let all = printed(&node, &pod, &PROBE.reference(), "all", &[], &["env"]);
    for line in all.lines() {
        let name = line.split('=').next().unwrap();
        assert!(["PATH", "HOSTNAME", "HOME", "PWD"].contains(&name), "nothing of the daemon's own environment: {line}");
    }
    node.finish();
}

#[test]
fn the_working_directory_is_the_containers_or_the_images() {
    let Some(probe) = PROBE.wasm() else { return };
    let Some(node) = Node::with(&[PROBE]) else { return };
    let image = probe_image(&probe).file("/srv/here", b"srv").file("/other/here", b"other").entrypoint(&["/bin/probe"]).build();
    let image = pulled(&node, "command/workdir", &image);
    let pod = node.pod("web");
    for (name, asked, wanted) in [("image", "", "/srv"), ("container", "/other", "/other"), ("up", "/srv/../other", "/other")] {
        let config = cri::ContainerConfig { working_dir: asked.into(), ..container(&image, name, &["pwd"]) };
        let said = node.run(&pod, &config).log.stdout();
        assert!(said.starts_with(&format!("PWD={wanted}\n")), "{name}: {said}");
    }
    let bare = printed(&node, &pod, &PROBE.reference(), "bare", &[], &["pwd"]);
    assert!(bare.starts_with("PWD=/\n"), "{bare}");
    node.finish();
}

#[test]
fn a_program_is_found_through_links_and_the_search_path() {
    let Some(probe) = PROBE.wasm() else { return };
    let Some(node) = Node::with(&[PROBE]) else { return };
    let image = Layered::new()
        .file("/opt/app/main.wasm", &probe)
        .link("/usr/bin/app", "../../opt/app/main.wasm")
        .link("/bin", "usr/bin")
        .file("/sbin/app/not-a-program", b"")
        .env(&["PATH=/sbin:/usr/bin"])
        .build();
    let image = pulled(&node, "command/links", &image);
    let pod = node.pod("web");
    for (name, command) in [("path", "app"), ("link", "/usr/bin/app"), ("twice", "/bin/app"), ("direct", "/opt/app/main.wasm")] {
        assert_eq!(printed(&node, &pod, &image, name, &[command], &["echo", "found"]), "found\n", "{name}");
    }
    node.finish();
}

#[test]
fn what_cannot_run_is_refused_in_the_words_that_people_know() {
    let Some(probe) = PROBE.wasm() else { return };
    let Some(node) = Node::with(&[PROBE]) else { return };
    let native = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let image = Layered::new()
        .file("/bin/probe", &probe)
        .file("/bin/native", &native[..65_536])
        .file("/bin/script", b"#!/bin/sh\necho hi\n")
        .file("/etc/motd", b"hello\n")
        .env(&["PATH=/bin"])
        .build();
    let image = pulled(&node, "command/refused", &image);
    let pod = node.pod("web");
    let before = node.holdings();
    for (name, command, said) in [
        ("native", &["native"][..], "RuntimeClass"),
        ("native-path", &["/bin/native"], "RuntimeClass"),
        ("script", &["/bin/script"], "interpreter"),
        ("missing", &["nosuch"], "\"nosuch\": executable file not found in $PATH"),
        ("missing-path", &["/bin/nosuch"], "\"/bin/nosuch\": no such file or directory"),
        ("directory", &["/bin"], "is a directory"),
        ("text", &["/etc/motd"], "no WebAssembly"),
        ("nothing", &[], "command"),
    ] {
        let config = cri::ContainerConfig { command: owned(command), ..container(&image, name, &[]) };
        let refused = match node.create(&pod, &config) {
            Err(refused) => refused,
            Ok(id) => {
                let refused = node.start_container(&id).expect_err(name);
                node.remove_container(&id).unwrap();
                refused
            }
        };
        assert!(refused.message().contains(said), "{name}: {refused}");
        node.assert_nothing_leaked(&before);
    }
    node.finish();
}

#[test]
fn an_image_with_dockers_media_types_runs() {
    let Some(probe) = PROBE.wasm() else { return };
    let Some(node) = Node::with(&[PROBE]) else { return };
    let image =
        pulled(&node, "command/docker", &probe_image(&probe).entrypoint(&["probe"]).cmd(&["echo", "docker"]).docker().build());
    let pod = node.pod("web");
    assert_eq!(printed(&node, &pod, &image, "main", &[], &[]), "docker\n");
    node.finish();
}

#[test]
fn arguments_and_variables_may_be_many_and_long() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let long = "x".repeat(100_000);
    let mut args = vec!["args".to_owned(), long.clone()];
    args.extend((0..2000).map(|number| format!("argument {number}")));
    let envs =
        (0..2000).map(|number| cri::KeyValue { key: format!("NAME_{number}"), value: format!("value {number}").into_bytes() });
    let config = cri::ContainerConfig { args, envs: envs.collect(), ..PROBE.container("args", &[]) };
    let ended = node.run(&pod, &config);
    assert_eq!(ended.status.exit_code, 0, "{}", ended.status.message);
    let out = ended.log.stdout();
    assert!(out.contains(&format!("2: {long}\n")) && out.ends_with("2002: argument 1999\n"));
    let config = cri::ContainerConfig {
        args: owned(&["env", "NAME_0", "NAME_1999"]),
        metadata: Some(cri::ContainerMetadata { name: "env".into(), attempt: 0 }),
        log_path: "env.log".into(),
        ..config
    };
    assert_eq!(node.run(&pod, &config).log.stdout(), "NAME_0=value 0\nNAME_1999=value 1999\n");
    node.finish();
}
