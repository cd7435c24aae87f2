//! Blobs that break off, and what a failed, cancelled or killed pull leaves for the next one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use images::{Config, Image, Images, PullError};
use serde_json::json;
use support::archive::{Archive, gzip};
use support::registry::{Registry, Trouble, digest};
use support::{FakeCompiler, Node, Shared, list, noise, wasm};

/// An image of one layer with a file that does not compress; gives the path of its blob.
fn one_layer(registry: &Registry) -> String {
    let layer = || Archive::default().file("noise", noise(200_000)).file("app.wasm", wasm("app"));
    registry.image("1", vec![layer()], json!({}));
    format!("blobs/{}", digest(&gzip(&layer().bytes())))
}

fn is_right(node: &Node, image: &Image) {
    assert_eq!(fs::read(node.images.lower_dirs(image)[0].join("noise")).unwrap(), noise(200_000));
    assert!(list(&node.root().join("partial")).is_empty());
    assert!(list(&node.root().join("ingest")).is_empty());
}

/// The only partial file, with its length.
fn partial(root: &std::path::Path) -> Option<(std::path::PathBuf, u64)> {
    let path = root.join("partial").join(list(&root.join("partial")).first()?);
    let length = fs::metadata(&path).ok()?.len();
    Some((path, length))
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_taken_up_where_it_ended() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let blob = one_layer(&registry);
    // More often than it may break off without a gain.
    registry.trouble(&blob, Trouble::CutTimes(50_000, 3));
    let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    is_right(&node, &image);
    assert_eq!(registry.ranges(&blob), ["bytes=50000-", "bytes=100000-", "bytes=150000-"]);

    let module = wasm(&"x".repeat(100_000));
    registry.artifact("v1", &module, None);
    let blob = format!("blobs/{}", digest(&module));
    registry.trouble(&blob, Trouble::CutTimes(40_000, 2));
    let image = node.images.pull(&registry.name("m:v1"), None).await.unwrap();
    assert_eq!(fs::read(node.images.lower_dirs(&image)[0].join("main.wasm")).unwrap(), module);
    assert_eq!(registry.ranges(&blob), ["bytes=40000-", "bytes=80000-"]);
    assert!(partial(&node.root()).is_none());
}

#[tokio::test]
async fn where_ranges_are_ignored_what_is_here_is_passed_over() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let blob = one_layer(&registry);
    registry.trouble(&blob, Trouble::CutWithoutRanges(120_000, 2));
    node.images.pull(&registry.name("a:1"), None).await.unwrap_err();
    assert_eq!(partial(&node.root()).unwrap().1, 120_000);
    let layer = Archive::default().file("noise", noise(200_000)).file("app.wasm", wasm("app"));
    registry.trouble(&blob, Trouble::Instead(gzip(&layer.bytes())));
    let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    is_right(&node, &image);
    assert_eq!(registry.requests(&blob), 3);
}

#[tokio::test]
async fn a_blob_that_never_gets_on_is_given_up_and_goes_on_after_a_restart() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let blob = one_layer(&registry);
    registry.trouble(&blob, Trouble::CutWithoutRanges(70_000, 100));
    let error = node.images.pull(&registry.name("a:1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::RegistryUnavailable { detail, .. } if detail.contains("70000 of")), "{error}");
    // The first try, and the one that brought nothing.
    assert_eq!(registry.requests(&blob), 2);
    assert_eq!(partial(&node.root()).unwrap().1, 70_000);
    let usage = node.images.usage().await.unwrap().used_bytes;

    let node = node.reopen().await;
    assert!(node.images.usage().await.unwrap().used_bytes + 16_384 > usage);
    registry.no_trouble();
    let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    is_right(&node, &image);
    assert_eq!(registry.ranges(&blob).last().unwrap(), "bytes=70000-");
}

#[tokio::test]
async fn a_part_that_is_wrong_is_dropped_and_the_blob_fetched_once_more() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let blob = one_layer(&registry);
    for damage in [0u64, 40_000] {
        registry.trouble(&blob, Trouble::CutAfter(70_000));
        node.images.pull(&registry.name("a:1"), None).await.unwrap_err();
        registry.no_trouble();
        let (path, length) = partial(&node.root()).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"wrong", damage).unwrap();
        let before = registry.requests(&blob);
        let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
        is_right(&node, &image);
        assert_eq!(registry.requests(&blob), before + 2);
        assert_eq!(registry.ranges(&blob).last().unwrap(), &format!("bytes={length}-"));
        node.images.remove(&image.id).await.unwrap();
    }
    // The same where the registry does not know such a range, and where more is here than there is.
    registry.trouble(&blob, Trouble::CutAfter(70_000));
    node.images.pull(&registry.name("a:1"), None).await.unwrap_err();
    registry.trouble(&blob, Trouble::Status(416, 1));
    let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    is_right(&node, &image);
    node.images.remove(&image.id).await.unwrap();
    fs::write(node.root().join("partial").join(blob.rsplit(':').next().unwrap()), noise(300_000)).unwrap();
    let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    is_right(&node, &image);
}

#[tokio::test]
async fn wrong_bytes_are_told_as_such_and_leave_nothing() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let blob = one_layer(&registry);
    // Of the right length, so that only the digests tell; no archive, so that the unpacker fails before the end.
    let layer = gzip(&Archive::default().file("noise", noise(200_000)).file("app.wasm", wasm("app")).bytes());
    registry.trouble(&blob, Trouble::Instead(noise(layer.len())));
    let error = node.images.pull(&registry.name("a:1"), None).await.unwrap_err();
    assert!(matches!(error, PullError::DigestMismatch { .. }), "{error}");
    assert_eq!(registry.requests(&blob), 1);
    node.becomes_empty().await;
    assert!(partial(&node.root()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_at_fault_leaves_no_part_of_its_other_layers() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let large = || Archive::default().file("noise", noise(100_000));
    registry.image("1", vec![large(), Archive::default().file("a", "1").file("../evil", "x")], json!({}));
    registry.trouble(&format!("blobs/{}", digest(&gzip(&large().bytes()))), Trouble::Stall);
    let error = node.images.pull(&registry.name("a:1"), None).await.unwrap_err();
    assert!(matches!(error, PullError::InvalidArtifact { .. }), "{error}");
    node.becomes_empty().await;
    assert!(partial(&node.root()).is_none());
}

#[tokio::test]
async fn finished_layers_of_a_failed_pull_are_kept_for_the_next_one() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let layers = || [Archive::default().file("a.wasm", wasm("a")), Archive::default().file("noise", noise(100_000))];
    registry.image("1", layers().into(), json!({}));
    let [first, second] = layers().map(|layer| format!("blobs/{}", digest(&gzip(&layer.bytes()))));
    let name = registry.name("a:1");
    registry.trouble(&second, Trouble::CutAfter(50_000));
    node.images.pull(&name, None).await.unwrap_err();
    assert_eq!(list(&node.root().join("layers")).len(), 1);
    node.images.pull(&name, None).await.unwrap_err();
    assert_eq!(registry.requests(&first), 1);
    registry.no_trouble();
    node.images.pull(&name, None).await.unwrap();
    assert_eq!(registry.requests(&first), 1);
    let content = node.content();
    let node = node.reopen().await;
    assert_eq!(node.content(), content);

    // They go when the store is opened, and when their time is over.
    node.images.remove(&name).await.unwrap();
    registry.trouble(&second, Trouble::CutAfter(50_000));
    node.images.pull(&name, None).await.unwrap_err();
    assert_eq!(list(&node.root().join("layers")).len(), 1);
    let node = node.reopen().await;
    assert!(node.content().is_empty(), "{:?}", node.content());
    let short = Node::with(|config| config.keep_layers = Duration::ZERO).await;
    short.images.pull(&name, None).await.unwrap_err();
    short.images.usage().await.unwrap();
    short.becomes_empty().await;
    let small = Node::with(|config| config.unfinished_bytes = 1).await;
    small.images.pull(&name, None).await.unwrap_err();
    small.images.usage().await.unwrap();
    small.becomes_empty().await;
    assert!(partial(&small.root()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pull_stops_and_the_next_one_goes_on_from_there() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let blob = one_layer(&registry);
    let name = registry.name("a:1");
    registry.trouble(&blob, Trouble::Stall);
    let gone = tokio::time::timeout(Duration::from_secs(1), node.images.pull(&name, None)).await;
    assert!(gone.is_err());
    node.becomes_empty().await;
    let half = partial(&node.root()).unwrap().1;
    assert!(half > 0);
    registry.no_trouble();
    let image = node.images.pull(&name, None).await.unwrap();
    is_right(&node, &image);
    assert_eq!(registry.ranges(&blob), [format!("bytes={half}-")]);
}

const ROOT: &str = "CRI_WASM_IMAGES_RESUME_ROOT";
const NAME: &str = "CRI_WASM_IMAGES_RESUME_NAME";

/// What the next test runs in a process of its own; by itself it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_is_killed() {
    let (Ok(root), Ok(name)) = (std::env::var(ROOT), std::env::var(NAME)) else { return };
    let images = Images::open(Config::new(root), Arc::new(Shared(FakeCompiler::new()))).await.unwrap();
    images.pull(&name, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_goes_on_by_range_after_a_kill() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let blob = one_layer(&registry);
    registry.trouble(&blob, Trouble::Stall);
    let root = node.directory.path().join("killed");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_process_that_is_killed"]).env(ROOT, &root).env(NAME, registry.name("a:1"));
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let arrived = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        partial(&root).is_some_and(|(_, length)| length > 50_000)
    });
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(arrived);
    registry.no_trouble();
    let half = partial(&root).unwrap().1;
    let config = Config::new(&root);
    let images = Images::open(config.clone(), Arc::new(Shared(node.compiler.clone()))).await.unwrap();
    let image = images.pull(&registry.name("a:1"), None).await.unwrap();
    let node = Node { images, config, ..node };
    is_right(&node, &image);
    assert_eq!(registry.ranges(&blob), [format!("bytes={half}-")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_layers_of_one_blob_do_not_write_one_file() {
    let (registry, node) = (Registry::new(), Node::new().await);
    // One module under two names, and pulls of both at once.
    let module = wasm(&"twice".repeat(30_000));
    registry.artifact("one", &module, Some("one.wasm"));
    registry.artifact("two", &module, Some("two.wasm"));
    registry.trouble(&format!("blobs/{}", digest(&module)), Trouble::CutTimes(30_000, 3));
    let names = ["a:one", "b:two"].map(|name| registry.name(name));
    for image in futures_util::future::join_all(names.iter().map(|name| node.images.pull(name, None))).await {
        let image = image.unwrap();
        let path = image.wasm[0].path.clone();
        assert_eq!(node.images.read_file(&image, &path, 1 << 20).unwrap(), module);
    }
    assert!(partial(&node.root()).is_none());
}
