//! Images: pulled from a real registry, told about, listed, measured and removed.

use std::path::Path;
use std::time::Duration;

use crate::harness::guests::{FIRST_LINE, PROBE};
use crate::harness::image::{Blob, INDEX, Image, Layered};
use crate::harness::registry::Registry;
use crate::harness::{Node, container, cri, image_spec, words};

/// A small command of its own, so that every test has an image that nobody else has.
pub(crate) fn wasm(mark: &str) -> Vec<u8> {
    wat::parse_str(format!(r#"(module (memory (export "memory") 1) (data (i32.const 0) "{mark}") (func (export "_start")))"#))
        .unwrap()
}

/// A node, and the registry that it pulls from.
pub(crate) fn node_and_registry() -> Option<(Node, &'static Registry)> {
    let registry = Registry::shared()?;
    Some((Node::start()?, registry))
}

#[test]
fn an_image_pulled_by_tag_is_told_about_under_each_of_its_names_and_its_id() {
    let Some((node, registry)) = node_and_registry() else { return };
    let image = Image::artifact(&wasm("by tag"));
    let id = registry.push("images/tag", "v1", &image);
    let (name, tag) = (registry.reference("images/tag"), registry.reference("images/tag:v1"));
    assert!(node.image(&tag).is_none(), "an image that is not here is no error");
    assert!(node.images().is_empty());
    assert_eq!(node.pull(&tag).unwrap(), id);

    let told = node.image(&tag).unwrap();
    assert_eq!(told.id, id, "the manifest's digest");
    assert_eq!(told.repo_tags, std::slice::from_ref(&tag));
    assert_eq!(told.repo_digests, [format!("{name}@{id}")]);
    assert!(told.size >= wasm("by tag").len() as u64);
    assert!(!told.pinned);
    for reference in [id.clone(), format!("{name}@{id}"), id.trim_start_matches("sha256:").to_owned()] {
        assert_eq!(node.image(&reference).as_ref(), Some(&told), "{reference}");
    }
    assert_eq!(node.images(), std::slice::from_ref(&told));
    let filtered = |reference: &str| {
        let filter = Some(cri::ImageFilter { image: Some(image_spec(reference)) });
        node.client.list_images(cri::ListImagesRequest { filter }).unwrap().images
    };
    assert_eq!(filtered(&tag), [told]);
    assert!(filtered("example.com/other:1").is_empty());
    assert_eq!(node.pull(&tag).unwrap(), id, "pulling again is well");
    node.finish();
}

#[test]
fn an_image_pulled_by_digest_has_no_tag() {
    let Some((node, registry)) = node_and_registry() else { return };
    let image = Image::artifact(&wasm("by digest"));
    let id = registry.push("images/digest", "v1", &image);
    let reference = registry.reference(&format!("images/digest@{id}"));
    assert_eq!(node.pull(&reference).unwrap(), id);
    let told = node.image(&reference).unwrap();
    assert!(told.repo_tags.is_empty());
    assert_eq!(told.repo_digests, [reference]);
    node.finish();
}

#[test]
fn a_name_without_a_tag_means_latest() {
    let Some((node, registry)) = node_and_registry() else { return };
    registry.push("images/latest", "latest", &Image::artifact(&wasm("latest")));
    let name = registry.reference("images/latest");
    node.pull(&name).unwrap();
    let told = node.image(&name).unwrap();
    assert_eq!(told.repo_tags, [format!("{name}:latest")]);
    assert_eq!(node.image(&format!("{name}:latest")), Some(told));
    node.finish();
}

#[test]
fn one_manifest_under_many_names_is_one_image_and_goes_with_all_of_them() {
    let Some((node, registry)) = node_and_registry() else { return };
    let image = Image::artifact(&wasm("many names"));
    let references: Vec<String> =
        ["images/one:a", "images/one:b", "images/two:a"].iter().map(|name| registry.reference(name)).collect();
    for (repository, tag) in [("images/one", "a"), ("images/one", "b"), ("images/two", "a")] {
        registry.push(repository, tag, &image);
        node.pull(&registry.reference(&format!("{repository}:{tag}"))).unwrap();
    }
    let told = node.image(&references[0]).unwrap();
    let mut tags = told.repo_tags.clone();
    tags.sort();
    assert_eq!(tags, references);
    assert_eq!(told.repo_digests.len(), 2, "one of each repository: {:?}", told.repo_digests);
    assert_eq!(node.images().len(), 1);
    node.remove_image(&references[1]).unwrap();
    for reference in &references {
        assert!(node.image(reference).is_none());
    }
    assert!(node.images().is_empty());
    node.finish();
}

#[test]
fn a_tag_that_moves_leaves_the_old_image_with_its_digest() {
    let Some((node, registry)) = node_and_registry() else { return };
    let reference = registry.reference("images/moves:v1");
    let old = registry.push("images/moves", "v1", &Image::artifact(&wasm("old")));
    node.pull(&reference).unwrap();
    let new = registry.push("images/moves", "v1", &Image::artifact(&wasm("new")));
    assert_eq!(node.pull(&reference).unwrap(), new);
    assert_eq!(node.image(&reference).unwrap().id, new);
    let told = node.image(&old).expect("the old image is still here");
    assert!(told.repo_tags.is_empty() && told.repo_digests.len() == 1, "{told:?}");
    node.finish();
}

#[test]
fn a_removed_image_gives_its_room_back_and_removing_again_is_well() {
    let Some((node, registry)) = node_and_registry() else { return };
    registry.push("images/removed", "v1", &Image::artifact(&wasm("removed")));
    let reference = registry.reference("images/removed:v1");
    node.pull(&reference).unwrap();
    node.remove_image(&reference).unwrap();
    let before = node.holdings();
    let used = image_bytes(&node);
    let id = node.pull(&reference).unwrap();
    assert!(image_bytes(&node) > used);
    node.remove_image(&id).unwrap();
    assert!(node.image(&reference).is_none());
    node.assert_nothing_leaked(&before);
    assert_eq!(image_bytes(&node), used);
    for reference in [reference.as_str(), &id, &format!("sha256:{}", "0".repeat(64)), "example.com/never/seen:1"] {
        node.remove_image(reference).unwrap();
    }
    node.finish();
}

#[test]
fn an_image_removed_by_many_at_once_is_removed() {
    let Some((node, registry)) = node_and_registry() else { return };
    let id = registry.push("images/crowd", "v1", &Image::artifact(&wasm("crowd")));
    node.pull(&registry.reference("images/crowd:v1")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| node.remove_image(&id).unwrap());
        }
    });
    assert!(node.images().is_empty());
    node.finish();
}

#[test]
fn an_image_that_a_container_uses_is_kept_until_that_is_gone() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let args = words("echo here + wait-for /data/go + ls /data");
    let running = node.launch(&pod, &cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("running", &args) });
    let created = node.create(&pod, &PROBE.container("created", &["echo", "late"])).unwrap();
    node.wait_stdout(&running, "here\n");
    // Either it is refused, or the name goes and what containers need stays.
    let _ = node.remove_image(&PROBE.reference());
    node.start_container(&created).expect("what was created can start");
    assert_eq!(node.wait_exit(&created).log.stdout(), "late\n");
    std::fs::write(volume.join("go"), "").unwrap();
    assert_eq!(node.wait_exit(&running).log.stdout(), "here\ngo\n");
    node.remove_pod(&pod.id).unwrap();
    node.remove_image(&PROBE.reference()).unwrap();
    assert!(node.images().is_empty());
    node.finish();
}

#[test]
fn the_images_user_is_told() {
    let Some((node, registry)) = node_and_registry() else { return };
    for (name, user, uid, username) in [
        ("number", "1002", Some(1002), ""),
        ("both", "1003:1004", Some(1003), ""),
        ("name", "www-data", None, "www-data"),
        ("name-group", "www-data:1004", None, "www-data"),
    ] {
        let image = Layered::new().file("/app.wasm", &wasm(user)).user(user).entrypoint(&["/app.wasm"]).build();
        registry.push("images/user", name, &image);
        let reference = registry.reference(&format!("images/user:{name}"));
        node.pull(&reference).unwrap();
        let told = node.image(&reference).unwrap();
        assert_eq!((told.uid.map(|uid| uid.value), told.username.as_str()), (uid, username), "{user}");
    }
    node.finish();
}

#[test]
fn of_an_index_the_wasm_variant_is_taken() {
    let Some((node, registry)) = node_and_registry() else { return };
    let native = Image::artifact(&wasm("for another platform"));
    let ours = Image::artifact(&wasm("for wasm"));
    for image in [&native, &ours] {
        registry.push("images/index", "parts", image);
    }
    let entry = |image: &Image, architecture: &str, os: &str| {
        let mut entry = Blob::new(image.manifest_type, image.manifest()).descriptor();
        entry["platform"] = serde_json::json!({ "architecture": architecture, "os": os });
        entry
    };
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [entry(&native, "amd64", "linux"), entry(&ours, "wasm", "wasip1")],
    });
    registry.push_manifest("images/index", "all", INDEX, index.to_string().as_bytes());
    let reference = registry.reference("images/index:all");
    assert_eq!(node.pull(&reference).unwrap(), ours.id());
    assert_eq!(node.image(&reference).unwrap().id, ours.id());
    node.finish();
}

fn image_filesystem(node: &Node) -> cri::FilesystemUsage {
    let info = node.client.image_fs_info(cri::ImageFsInfoRequest {}).unwrap();
    let [images] = &info.image_filesystems[..] else { panic!("one filesystem: {info:?}") };
    let [containers] = &info.container_filesystems[..] else { panic!("one filesystem: {info:?}") };
    for usage in [images, containers] {
        assert!(usage.timestamp > 1_700_000_000_000_000_000);
        // A kubelet without this number crashes.
        assert!(usage.used_bytes.is_some());
        assert!(Path::new(&usage.fs_id.as_ref().unwrap().mountpoint).is_dir());
    }
    images.clone()
}

fn image_bytes(node: &Node) -> u64 {
    image_filesystem(node).used_bytes.unwrap().value
}

#[test]
fn the_filesystems_numbers_are_real() {
    let Some((node, registry)) = node_and_registry() else { return };
    let before = image_filesystem(&node);
    let mountpoint = before.fs_id.clone().unwrap().mountpoint;
    assert!(Path::new(&mountpoint).starts_with(&node.place.root), "{mountpoint}");
    // Two megabytes that do not compress.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(2 << 20)
    .collect();
    let image = Layered::new().file("/app.wasm", &wasm("numbers")).file("/noise", &noise).entrypoint(&["/app.wasm"]).build();
    registry.push("images/numbers", "v1", &image);
    node.pull(&registry.reference("images/numbers:v1")).unwrap();
    let after = image_filesystem(&node);
    let more = after.used_bytes.unwrap().value - before.used_bytes.unwrap().value;
    assert!((2 << 20..10 << 20).contains(&more), "{more}");
    assert!(after.inodes_used.unwrap().value > before.inodes_used.unwrap().value);
    let size = node.image(&registry.reference("images/numbers:v1")).unwrap().size;
    assert!((2 << 20..10 << 20).contains(&size), "{size}");
    node.finish();
}

#[test]
fn what_containers_write_is_counted_as_theirs() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let used = |node: &Node| {
        node.client.image_fs_info(cri::ImageFsInfoRequest {}).unwrap().container_filesystems[0].used_bytes.unwrap().value
    };
    node.run(&pod, &PROBE.container("warm", &["echo"]));
    let before = used(&node);
    let ended = node.run(&pod, &PROBE.container("main", &words("fill /file 3M + sync /file")));
    assert_eq!(ended.status.exit_code, 0, "{}", ended.log.stderr());
    assert!(used(&node) >= before + (3 << 20));
    node.finish();
}

#[test]
fn one_image_pulled_by_many_at_once_is_pulled_well() {
    let Some((node, registry)) = node_and_registry() else { return };
    let id = registry.push("images/together", "v1", &Image::artifact(&PROBE.wasm().unwrap_or_else(|| wasm("together"))));
    let references: Vec<String> = (0..4)
        .map(|number| {
            registry.push("images/together", &format!("n{number}"), &Image::artifact(&wasm(&format!("together {number}"))));
            registry.reference(&format!("images/together:n{number}"))
        })
        .collect();
    let same = registry.reference("images/together:v1");
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(node.pull(&same).unwrap(), id));
        }
        for reference in &references {
            scope.spawn(|| node.pull(reference).unwrap());
        }
    });
    assert_eq!(node.images().len(), 5);
    node.finish();
}

#[test]
fn a_pull_that_its_caller_gave_up_leaves_nothing_half_done() {
    let Some((node, registry)) = node_and_registry() else { return };
    let image = Image::artifact(&wasm("given up"));
    let id = registry.push("images/given-up", "v1", &image);
    let reference = registry.reference("images/given-up:v1");
    let request = cri::PullImageRequest { image: Some(image_spec(&reference)), ..Default::default() };
    let _ = node.client.pull_image_within(Duration::from_millis(1), request);
    assert_eq!(node.pull(&reference).unwrap(), id);
    assert_eq!(node.images().len(), 1);
    node.finish();
}

#[test]
fn images_and_their_code_are_there_after_a_restart() {
    let Some(mut node) = Node::with(&[FIRST_LINE, PROBE]) else { return };
    let before = node.images();
    node.restart_daemon();
    assert_eq!(node.images().len(), before.len());
    for image in &before {
        assert_eq!(node.image(&image.id).as_ref(), Some(image));
    }
    let pod = node.pod("web");
    assert_eq!(node.run(&pod, &FIRST_LINE.container("main", &[])).log.stdout(), "hello\n");
    node.finish();
}

#[test]
fn every_wasm_file_of_an_image_can_be_run() {
    let (Some(probe), Some(first_line)) = (PROBE.wasm(), FIRST_LINE.wasm()) else { return };
    let Some((node, registry)) = node_and_registry() else { return };
    let image = Layered::new()
        .file("/bin/probe", &probe)
        .file("/bin/hello", &first_line)
        .env(&["PATH=/bin"])
        .entrypoint(&["probe", "echo"])
        .build();
    registry.push("images/two-programs", "v1", &image);
    let reference = registry.reference("images/two-programs:v1");
    node.pull(&reference).unwrap();
    let pod = node.pod("web");
    assert_eq!(node.run(&pod, &container(&reference, "default", &["default"])).log.stdout(), "default\n");
    let other = cri::ContainerConfig { command: vec!["hello".into()], ..container(&reference, "other", &[]) };
    assert_eq!(node.run(&pod, &other).log.stdout(), "hello\n");
    node.finish();
}
