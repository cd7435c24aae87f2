//! What the store keeps, over restarts and after damage.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use images::{CodeError, Config, Images, OpenError};
use serde_json::json;
use support::archive::Archive;
use support::registry::{Registry, digest};
use support::{Node, Shared, wasm};

#[tokio::test]
async fn images_survive_a_restart_with_their_code() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("a"), None);
    registry.image("v2", vec![Archive::default().file("x.wasm", wasm("b"))], json!({"Cmd": ["/x.wasm"]}));
    node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    node.images.pull(&registry.name("a:v2"), None).await.unwrap();
    let (before, content) = (node.images.list(), node.content());
    let node = node.reopen().await;
    assert_eq!((node.images.list(), node.content()), (before.clone(), content));
    for image in before {
        node.images.code(&image.wasm[0].digest).await.unwrap();
    }
    assert_eq!(node.compiler.runs(), 2);
    assert!(node.images.set_aside().is_empty());
}

#[tokio::test]
async fn two_processes_cannot_open_one_store() {
    let node = Node::new().await;
    let again = Images::open(Config::new(node.root()), Arc::new(Shared(node.compiler.clone()))).await;
    assert!(matches!(again, Err(OpenError::Locked { .. })), "{again:?}");
}

#[tokio::test]
async fn what_interrupted_pulls_left_is_removed_at_open() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("a"), None);
    node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    let content = node.content();
    let root = node.root();
    // As kills leave it between each two steps: temporary files and trees, a layer and blobs and code without a record.
    fs::write(root.join("ingest/7"), "half").unwrap();
    fs::create_dir_all(root.join("ingest/8/fs/deep")).unwrap();
    fs::create_dir_all(root.join("layers/abc/fs")).unwrap();
    fs::create_dir_all(root.join("layers/def/fs")).unwrap();
    fs::write(root.join("layers/def/layer.json"), r#"{"version":1,"bytes":1,"inodes":1,"wasm":[],"opaque":false}"#).unwrap();
    fs::write(root.join("blobs/sha256/abc"), "x").unwrap();
    fs::write(root.join("compiled/engine-1/abc.cwasm"), "x").unwrap();
    fs::create_dir_all(root.join("compiled/engine-0")).unwrap();
    let node = node.reopen().await;
    assert_eq!(node.content(), content);
    assert_eq!(support::list(&root.join("compiled")), ["engine-1"]);
}

#[tokio::test]
async fn a_broken_record_is_set_aside_and_the_others_are_served() {
    let (registry, node) = (Registry::new(), Node::new().await);
    for (tag, content) in [("good", "1"), ("bad", "2"), ("lost", "3")] {
        registry.artifact(tag, &wasm(content), None);
        node.images.pull(&registry.name(&format!("a:{tag}")), None).await.unwrap();
    }
    let record = |node: &Node, tag: &str| {
        let id = node.images.get(&registry.name(&format!("a:{tag}"))).unwrap().id.clone();
        node.root().join(format!("records/{}.json", id.strip_prefix("sha256:").unwrap()))
    };
    let (bad, lost) = (record(&node, "bad"), record(&node, "lost"));
    fs::write(&bad, "{\"version\":").unwrap();
    let lost_image = node.images.get(&registry.name("a:lost")).unwrap();
    fs::remove_dir_all(node.images.lower_dirs(&lost_image)[0].parent().unwrap()).unwrap();
    let node = node.reopen().await;
    let mut aside = vec![bad.with_extension("broken"), lost.with_extension("broken")];
    aside.sort();
    let mut found = node.images.set_aside().to_vec();
    found.sort();
    assert_eq!(found, aside);
    assert!(aside.iter().all(|path| path.exists()));
    let tags: Vec<String> = node.images.list().iter().flat_map(|image| image.repo_tags.clone()).collect();
    assert_eq!(tags, [registry.name("a:good")]);
    // Pulled again, it is whole again.
    node.images.pull(&registry.name("a:bad"), None).await.unwrap();
    let names = node.root().join("records/names.json");
    fs::write(&names, "nonsense").unwrap();
    let node = node.reopen().await;
    assert_eq!(node.images.list().len(), 2);
    assert!(node.images.list().iter().all(|image| image.repo_tags.is_empty()));
}

#[tokio::test]
async fn a_layer_that_is_gone_is_fetched_again_by_the_next_pull() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("a"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    fs::remove_dir_all(node.images.lower_dirs(&image)[0].parent().unwrap()).unwrap();
    let again = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    assert_eq!(again.id, image.id);
    assert!(node.images.lower_dirs(&again)[0].join("main.wasm").exists());
}

#[tokio::test]
async fn a_removed_image_leaves_nothing_and_unknown_is_fine() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.image("1", vec![Archive::default().file("a.wasm", wasm("a")), Archive::default().file("b", "b")], json!({}));
    let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    node.images.remove(&image.id).await.unwrap();
    assert!(node.content().is_empty(), "{:?}", node.content());
    for unknown in [image.id.as_str(), &"0".repeat(64), "nothing", "Not A Name"] {
        node.images.remove(unknown).await.unwrap();
    }
    assert!(matches!(node.images.code(&image.wasm[0].digest).await, Err(CodeError::Unknown { .. })));
    assert!(node.images.hold(&image.id).is_err());
}

#[tokio::test]
async fn what_is_held_stays_until_the_last_hold_is_gone() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("held"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    let (one, two) = (node.images.hold(&image.id).unwrap(), node.images.hold(&image.id).unwrap());
    node.images.remove(&image.id).await.unwrap();
    assert!(node.images.list().is_empty() && node.images.get(&image.id).is_none());
    drop(one);
    assert!(node.images.lower_dirs(&image)[0].join("main.wasm").exists());
    node.images.code(&image.wasm[0].digest).await.unwrap();
    drop(two);
    node.becomes_empty().await;
}

#[tokio::test]
async fn a_removed_image_is_held_over_a_restart_and_pulled_back() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("held"), None);
    let name = registry.name("a:v1");
    let image = node.images.pull(&name, None).await.unwrap();
    let hold = node.images.hold(&image.id).unwrap();
    node.images.remove(&name).await.unwrap();
    // As a kill does it: the guard is not dropped.
    std::mem::forget(hold);
    let content = node.content();
    let (directory, compiler) = (node.directory, node.compiler);
    drop(node.images);
    // The forgotten guard keeps the lock of the old store, so this one works on a copy.
    let copy = directory.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(directory.path().join("images")).arg(&copy).status();
    assert!(copied.unwrap().success());
    let images = Images::open(Config::new(&copy), Arc::new(Shared(compiler.clone()))).await.unwrap();
    assert!(images.list().is_empty());
    let hold = images.hold(&image.id).unwrap();
    images.collect_removed().await;
    assert!(images.lower_dirs(&image)[0].join("main.wasm").exists());
    let back = images.pull(&name, None).await.unwrap();
    assert_eq!((back.id.as_str(), &back.repo_tags), (image.id.as_str(), &vec![name.clone()]));
    drop(hold);
    assert!(images.get(&name).is_some());
    images.remove(&name).await.unwrap();
    assert!(!content.is_empty());
    for directory in ["layers", "records", "compiled/engine-1", "blobs/sha256"] {
        let left: Vec<String> = support::list(&copy.join(directory)).into_iter().filter(|name| name != "names.json").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn nobody_holding_it_a_removed_image_goes_after_a_restart() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("gone"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    let record = node.root().join(format!("records/{}.json", image.id.strip_prefix("sha256:").unwrap()));
    let text = fs::read_to_string(&record).unwrap().replace("\"removed\": false", "\"removed\": true");
    fs::write(&record, text).unwrap();
    let node = node.reopen().await;
    assert!(node.images.list().is_empty());
    node.images.collect_removed().await;
    assert!(node.content().is_empty(), "{:?}", node.content());
}

#[tokio::test]
async fn damaged_code_and_code_of_another_engine_is_made_again() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("code"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    let wasm_digest = image.wasm[0].digest.clone();
    let code = node.images.code(&wasm_digest).await.unwrap();
    let right = fs::read(&code.path).unwrap();
    assert_eq!(node.compiler.runs(), 1);

    for damage in [b"short".to_vec(), vec![b'x'; right.len()]] {
        fs::write(&code.path, damage).unwrap();
        assert_eq!(node.images.code(&wasm_digest).await.unwrap(), code);
        assert_eq!(fs::read(&code.path).unwrap(), right);
    }
    fs::remove_file(code.path.with_extension("json")).unwrap();
    node.images.code(&wasm_digest).await.unwrap();
    assert_eq!(node.compiler.runs(), 4);
    let node = node.reopen().await;
    fs::write(&code.path, vec![b'x'; right.len()]).unwrap();
    node.images.code(&wasm_digest).await.unwrap();
    assert_eq!(node.compiler.runs(), 5);

    *node.compiler.fingerprint.lock().unwrap() = "engine 2/with a strange name".to_owned();
    let node = node.reopen().await;
    let other = node.images.code(&wasm_digest).await.unwrap();
    assert_ne!(other.path, code.path);
    assert_eq!((node.compiler.runs(), support::list(&node.root().join("compiled")).len()), (6, 1));
}

#[tokio::test]
async fn a_wasm_file_that_was_changed_is_not_compiled() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("v1", &wasm("code"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    fs::write(node.images.lower_dirs(&image)[0].join("main.wasm"), wasm("other")).unwrap();
    let code = node.images.code(&image.wasm[0].digest).await.unwrap();
    fs::remove_file(code.path).unwrap();
    let error = node.images.code(&image.wasm[0].digest).await.unwrap_err();
    assert!(matches!(error, CodeError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn usage_is_what_the_disk_says() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let big = Archive::default().file("big", vec![1u8; 300_000]).directory("d").hard_link("d/link", "big");
    registry.image("1", vec![big, Archive::default().file("d/.wh.x", "")], json!({}));
    let before = node.images.usage().await.unwrap();
    let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    let usage = node.images.usage().await.unwrap();
    assert_eq!(usage.mountpoint, node.root());
    assert!(usage.used_bytes >= before.used_bytes + 300_000 && usage.inodes > before.inodes);
    // `du` counts a few directories that hold only directories, which usage() leaves out.
    let (mut blocks, mut inodes) = (0, std::collections::HashSet::new());
    let mut pending = vec![node.root()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if inodes.insert(metadata.ino()) {
            blocks += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(
        blocks - usage.used_bytes <= 4 * 4096 && inodes.len() as u64 - usage.inodes <= 4,
        "{usage:?} {blocks} {}",
        inodes.len()
    );
    node.images.remove(&image.id).await.unwrap();
    assert!(node.images.usage().await.unwrap().used_bytes <= before.used_bytes + 4096);
}

#[tokio::test]
async fn an_image_without_layers_has_a_layer_for_overlayfs() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.image("1", vec![], json!({}));
    let image = node.images.pull(&registry.name("empty:1"), None).await.unwrap();
    let lower = node.images.lower_dirs(&image);
    assert!(lower.len() == 1 && lower[0].is_dir());
    assert!(image.size > 0 && image.wasm.is_empty());
    assert_ne!(digest(b""), image.id);
}
