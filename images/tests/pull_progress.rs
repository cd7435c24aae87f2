//! What is seen of a pull while it runs, and what it takes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use images::{Config, Images, Phase, Progress};
use serde_json::json;
use support::archive::Archive;
use support::registry::{Registry, Trouble, digest};
use support::{FakeCompiler, Node, Shared, noise, wasm};

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_waits_for_a_pull_sees_how_far_it_is() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm(&"slow".repeat(1000));
    registry.artifact("v1", &module, None);
    registry.artifact("v2", &module, None);
    registry.trouble(&format!("blobs/{}", digest(&module)), Trouble::Stall);
    let shown = [(); 3].map(|()| Progress::new());
    assert!(shown[0].snapshot().blobs.is_empty());
    // Two share a pull, the third one shares its layer.
    let names = ["a:v1", "a:v1", "b:v2"].map(|name| registry.name(name));
    let pulls = names.iter().zip(&shown).map(|(name, shown)| node.images.pull_with(name, None, Some(shown)));
    let half = module.len() as u64 / 2;
    let watch = async {
        for shown in &shown {
            loop {
                let snapshot = shown.snapshot();
                if snapshot.blobs.iter().any(|blob| blob.phase == Phase::Downloading && blob.done == half) {
                    assert_eq!(snapshot.blobs.len(), 1);
                    assert_eq!(
                        (snapshot.blobs[0].digest.clone(), snapshot.blobs[0].total),
                        (digest(&module), module.len() as u64)
                    );
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(pulls) => panic!("the registry stalls"),
        () = watch => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("{shown:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_shows_what_it_compiles_and_ends_with_all_done() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let layers = || vec![Archive::default().file("a.wasm", wasm("a")), Archive::default().file("b.wasm", wasm("b"))];
    registry.image("1", layers(), json!({}));
    let progress = Progress::new();
    let seen = progress.clone();
    let watcher = tokio::spawn(async move {
        while seen.snapshot().compiling.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        seen.snapshot().compiling
    });
    node.images.pull_with(&registry.name("a:1"), None, Some(&progress)).await.unwrap();
    let compiling = tokio::time::timeout(Duration::from_secs(20), watcher).await.unwrap().unwrap();
    assert!(compiling.iter().all(|path| ["/a.wasm", "/b.wasm"].map(PathBuf::from).contains(path)), "{compiling:?}");
    let after = progress.snapshot();
    assert!(after.compiling.is_empty());
    assert!(after.blobs.len() == 2 && after.blobs.iter().all(|blob| blob.phase == Phase::Done && blob.done == blob.total));

    let again = Progress::new();
    node.images.pull_with(&registry.name("a:1"), None, Some(&again)).await.unwrap();
    assert!(again.snapshot().blobs.iter().all(|blob| blob.phase == Phase::Exists), "{again:?}");
    assert_eq!(again.snapshot().blobs.len(), 2);
}

const ROOT: &str = "CRI_WASM_IMAGES_MEMORY_ROOT";
const NAMES: &str = "CRI_WASM_IMAGES_MEMORY_NAMES";

/// What the next test runs in a process of its own; by itself it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_measured() {
    let (Ok(root), Ok(names)) = (std::env::var(ROOT), std::env::var(NAMES)) else { return };
    let images = Images::open(Config::new(root), Arc::new(Shared(FakeCompiler::new()))).await.unwrap();
    let (small, large) = names.split_once(' ').unwrap();
    images.pull(small, None).await.unwrap();
    let resident = |field: &str| -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    // Sets the highest mark back to now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident("VmRSS:");
    let image = images.pull(large, None).await.unwrap();
    let grown = resident("VmHWM:") - before;
    println!("{} bytes pulled, {grown} kB more than before", image.size);
    assert!(grown <= 10 * 1024, "{grown} kB");
}

#[test]
fn a_large_layer_is_never_in_memory() {
    let registry = Registry::new();
    registry.image("small", vec![Archive::default().file("a.wasm", wasm("a"))], json!({}));
    let content = noise(75_000_000);
    registry.image("large", vec![Archive::default().file("data", &content)], json!({}));
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_process_that_is_measured", "--nocapture"]).env(ROOT, directory.path().join("images"));
    command.env(NAMES, [registry.name("x:small"), registry.name("x:large")].join(" "));
    let output = command.stdin(Stdio::null()).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{output:?}");
}
