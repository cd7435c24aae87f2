//! What is damaged on the disk is noticed by the next pull, and fetched again.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use images::{CodeError, Config, Images};
use serde_json::json;
use support::archive::{Archive, gzip};
use support::registry::{Registry, digest};
use support::{Node, Shared, list, wasm};

fn layer() -> Archive {
    Archive::default()
        .file("app.wasm", wasm("app"))
        .file("d/data", "content")
        .symlink("link", "d/data")
        .hard_link("e/hard", "d/data")
}

/// Pulls an image of one layer; gives its name and the path of its blob.
fn image(registry: &Registry) -> (String, String) {
    registry.image("1", vec![layer()], json!({"Cmd": ["/app.wasm"]}));
    (registry.name("a:1"), format!("blobs/{}", digest(&gzip(&layer().bytes()))))
}

#[tokio::test]
async fn every_kind_of_damage_to_a_layer_is_noticed_and_repaired() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let (name, blob) = image(&registry);
    let id = node.images.pull(&name, None).await.unwrap().id.clone();
    node.images.collect_removed().await;
    let damages: [fn(&Path); 8] = [
        |fs| fs::write(fs.join("app.wasm"), wasm("apq")).unwrap(),
        |fs| fs::write(fs.join("d/data"), "Content").unwrap(),
        |fs| fs::write(fs.join("d/data"), "").unwrap(),
        |fs| fs::remove_file(fs.join("app.wasm")).unwrap(),
        |fs| fs::write(fs.join("d/more"), "x").unwrap(),
        |fs| fs::set_permissions(fs.join("app.wasm"), fs::Permissions::from_mode(0o600)).unwrap(),
        |fs| fs::remove_dir_all(fs).unwrap(),
        |fs| fs::remove_file(fs.parent().unwrap().join("layer.json")).unwrap(),
    ];
    for (count, damage) in damages.iter().enumerate() {
        let image = node.images.get(&name).unwrap();
        let fs = node.images.lower_dirs(&image)[0].clone();
        damage(&fs);
        let again = node.images.pull(&name, None).await.unwrap();
        assert_eq!((&again.id, registry.requests(&blob)), (&id, count + 2));
        assert_eq!(fs::read(fs.join("app.wasm")).unwrap(), wasm("app"));
        assert_eq!(fs::read(fs.join("e/hard")).unwrap(), b"content");
        assert!(!fs.join("d/more").exists());
        // Whole again, it is not fetched again.
        node.images.pull(&name, None).await.unwrap();
        assert_eq!(registry.requests(&blob), count + 2);
        assert!(list(&node.root().join("aside")).is_empty());
        assert_eq!(list(&node.root().join("layers")).len(), 1);
    }
    // Another image with the same layer notices it too.
    let fs = node.images.lower_dirs(&node.images.get(&name).unwrap())[0].clone();
    fs::write(fs.join("app.wasm"), wasm("bad")).unwrap();
    registry.image("2", vec![layer(), Archive::default().file("x", "")], json!({}));
    let other = node.images.pull(&registry.name("a:2"), None).await.unwrap();
    assert_eq!(node.images.read_file(&other, Path::new("/app.wasm"), 100).unwrap(), wasm("app"));
}

#[tokio::test]
async fn a_store_that_was_copied_is_not_fetched_again() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let (name, blob) = image(&registry);
    node.images.pull(&name, None).await.unwrap();
    let copy = node.directory.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(node.root()).arg(&copy).status();
    assert!(copied.unwrap().success());
    let images = Images::open(Config::new(&copy), Arc::new(Shared(node.compiler.clone()))).await.unwrap();
    let record = || fs::read(copy.join("layers").join(&list(&copy.join("layers"))[0]).join("layer.json")).unwrap();
    let before = record();
    images.pull(&name, None).await.unwrap();
    let after = record();
    assert_ne!(before, after);
    images.pull(&name, None).await.unwrap();
    assert_eq!((record(), registry.requests(&blob)), (after, 1));
}

#[tokio::test]
async fn damaged_manifests_and_configurations_are_written_again() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let (name, blob) = image(&registry);
    node.images.pull(&name, None).await.unwrap();
    let blobs = node.root().join("blobs/sha256");
    let names = list(&blobs);
    assert_eq!(names.len(), 2);
    let right: Vec<Vec<u8>> = names.iter().map(|name| fs::read(blobs.join(name)).unwrap()).collect();
    for damaged in &names {
        fs::write(blobs.join(damaged), "damaged").unwrap();
        node.images.pull(&name, None).await.unwrap();
        fs::remove_file(blobs.join(damaged)).unwrap();
        node.images.pull(&name, None).await.unwrap();
    }
    let now: Vec<Vec<u8>> = names.iter().map(|name| fs::read(blobs.join(name)).unwrap()).collect();
    assert_eq!(now, right);
    assert_eq!(registry.requests(&blob), 1);
}

#[tokio::test]
async fn a_damaged_layer_is_not_taken_from_under_a_container() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let (name, _blob) = image(&registry);
    let image = node.images.pull(&name, None).await.unwrap();
    let hold = node.images.hold(&image.id).unwrap();
    let fs = node.images.lower_dirs(&image)[0].clone();
    fs::remove_file(fs.join("app.wasm")).unwrap();
    // As a mount has it: the directory itself, whatever its name.
    let mounted = fs::File::open(&fs).unwrap();
    let through = format!("/proc/self/fd/{}/d/data", std::os::fd::AsRawFd::as_raw_fd(&mounted));
    let usage = node.images.usage().await.unwrap();
    node.images.pull(&name, None).await.unwrap();
    assert!(fs.join("app.wasm").exists());
    assert_eq!(fs::read(&through).unwrap(), b"content");
    assert!(node.images.usage().await.unwrap().inodes > usage.inodes);

    // Over a restart too, until it is known what containers use.
    drop(hold);
    let node = node.reopen().await;
    assert_eq!(list(&node.root().join("aside")).len(), 1);
    let hold = node.images.hold(&image.id).unwrap();
    node.images.collect_removed().await;
    assert_eq!(fs::read(&through).unwrap(), b"content");
    drop(hold);
    for _ in 0..200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if list(&node.root().join("aside")).is_empty() && fs::read(&through).is_err() {
            return;
        }
    }
    panic!("left: {:?}", list(&node.root().join("aside")));
}

#[tokio::test]
async fn a_wasm_file_that_cannot_be_compiled_any_more_is_repaired_by_a_pull() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("code"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    let code = node.images.code(&image.wasm[0].digest).await.unwrap();
    fs::write(node.images.lower_dirs(&image)[0].join("main.wasm"), wasm("rott")).unwrap();
    fs::remove_file(code.path).unwrap();
    let error = node.images.code(&image.wasm[0].digest).await.unwrap_err();
    assert!(matches!(&error, CodeError::Damaged { .. }) && error.to_string().contains("pull the image again"), "{error}");
    node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    node.images.code(&image.wasm[0].digest).await.unwrap();
    assert_eq!(fs::read(node.images.lower_dirs(&image)[0].join("main.wasm")).unwrap(), wasm("code"));
}
