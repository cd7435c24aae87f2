//! Pulls from a registry on a loopback port: what arrives, and under which names.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use images::{ArtifactKind, FileKind, Image, LookupError, PullError};
use serde_json::json;
use support::archive::Archive;
use support::registry::{Registry, digest};
use support::{Node, wasm};

#[tokio::test]
async fn an_artifact_becomes_an_image_with_one_file() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm("hello");
    let id = registry.artifact("v1", &module, Some("dir/hello.wasm"));
    let image = node.images.pull(&registry.name("hello:v1"), None).await.unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.repo_tags, [registry.name("hello:v1")]);
    assert_eq!(image.repo_digests, [format!("{}@{id}", registry.name("hello"))]);
    assert_eq!(image.kind, ArtifactKind::Artifact { module: Some("/hello.wasm".into()) });
    assert_eq!((image.os.as_str(), image.architecture.as_str()), ("wasip1", "wasm"));
    assert!(image.size > module.len() as u64);
    assert_eq!(image.config.labels["a"], "b");
    assert_eq!((image.wasm.len(), image.wasm[0].path.to_str().unwrap()), (1, "/hello.wasm"));

    let code = node.images.code(&image.wasm[0].digest).await.unwrap();
    assert_eq!(std::fs::read(code.path).unwrap(), [b"code of ", module.as_slice()].concat());
    assert_eq!((code.report.world.as_str(), node.compiler.runs()), ("command", 1));

    let found = node.images.lookup(&image, Path::new("/hello.wasm")).unwrap();
    assert_eq!(found.kind, FileKind::Wasm { digest: digest(&module) });
    assert_eq!(node.images.read_file(&image, Path::new("hello.wasm"), 100).unwrap(), module);
    assert!(matches!(node.images.read_file(&image, Path::new("hello.wasm"), 3), Err(LookupError::TooLarge { .. })));
}

#[tokio::test]
async fn an_artifact_without_a_title_is_main_wasm() {
    let (registry, node) = (Registry::new(), Node::new().await);
    registry.artifact("latest", &wasm("x"), None);
    let image = node.images.pull(&registry.name("a"), None).await.unwrap();
    assert_eq!(image.kind, ArtifactKind::Artifact { module: Some("/main.wasm".into()) });
    assert_eq!(image.repo_tags, [registry.name("a:latest")]);
}

/// Two layers that use all that layers can say.
fn two_layers() -> Vec<Archive> {
    vec![
        Archive::default()
            .directory("app/")
            .file("app/old.wasm", wasm("old"))
            .file("app/kept.wasm", wasm("kept"))
            .file("etc/passwd", "root:x:0:0::/:/\n")
            .file("data/lower", "1")
            .file("swap", "file")
            .file("bin/native", b"\x7fELF...")
            .file("bin/script", "#!/bin/sh\n")
            .symlink("run.wasm", "/app/link")
            .symlink("loop", "loop"),
        Archive::default()
            .file("app/new.wasm", wasm("new"))
            .hard_link("app/hard.wasm", "app/new.wasm")
            .symlink("app/link", "../app/./new.wasm")
            .file("app/.wh.old.wasm", "")
            .file("data/.wh..wh..opq", "")
            .file("data/upper", "2")
            .directory("swap/")
            .file("swap/inner", "3"),
    ]
}

async fn pull_two_layers(registry: &Registry, node: &Node) -> Arc<Image> {
    let config = json!({"Entrypoint": ["/app/new.wasm"], "Cmd": ["x"], "Env": ["A=b"], "User": "1:2", "WorkingDir": "/app",
        "Labels": {"l": "m"}, "StopSignal": "SIGINT"});
    registry.image("1", two_layers(), config);
    node.images.pull(&registry.name("two:1"), None).await.unwrap()
}

#[tokio::test]
async fn an_image_shows_the_merged_view_of_its_layers() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let image = pull_two_layers(&registry, &node).await;
    assert_eq!(image.kind, ArtifactKind::Image);
    let config = &image.config;
    assert_eq!((&config.entrypoint[0][..], &config.cmd[0][..], &config.user[..]), ("/app/new.wasm", "x", "1:2"));
    assert_eq!((&config.env[0][..], &config.working_dir[..], &config.stop_signal[..]), ("A=b", "/app", "SIGINT"));

    let paths: Vec<&str> = image.wasm.iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/app/hard.wasm", "/app/kept.wasm", "/app/new.wasm"]);
    assert_eq!(node.compiler.runs(), 2);

    let look = |path: &str| node.images.lookup(&image, Path::new(path));
    let found = look("/run.wasm").unwrap();
    assert_eq!(found.path, Path::new("/app/new.wasm"));
    assert_eq!(found.kind, FileKind::Wasm { digest: digest(&wasm("new")) });
    assert_eq!(look("app/../../app/./kept.wasm").unwrap().path, Path::new("/app/kept.wasm"));
    assert_eq!(look("/bin/native").unwrap().kind, FileKind::Elf);
    assert_eq!(look("/bin/script").unwrap().kind, FileKind::Script);
    assert_eq!(look("/").unwrap().kind, FileKind::Directory);
    assert_eq!(look("/data/upper").unwrap().kind, FileKind::Other);
    assert_eq!(look("/swap").unwrap().kind, FileKind::Directory);
    assert_eq!(look("/swap/inner").unwrap().kind, FileKind::Other);
    for gone in ["/app/old.wasm", "/data/lower", "/nothing", "/app/nothing/x", ""] {
        let result = look(gone);
        assert!(matches!(result, Err(LookupError::NotFound { .. })) || gone.is_empty(), "{gone}: {result:?}");
    }
    assert!(matches!(look("/loop"), Err(LookupError::Loop { .. })));
    assert!(matches!(look("/etc/passwd/x"), Err(LookupError::NotADirectory { .. })));
    assert_eq!(node.images.read_file(&image, Path::new("/etc/passwd"), 4096).unwrap(), b"root:x:0:0::/:/\n");
    assert!(matches!(node.images.read_file(&image, Path::new("/etc"), 4096), Err(LookupError::NotAFile { .. })));
}

#[tokio::test]
async fn overlayfs_shows_what_lookup_says() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let image = pull_two_layers(&registry, &node).await;
    let lower: Vec<String> = node.images.lower_dirs(&image).iter().map(|path| path.display().to_string()).collect();
    assert_eq!(lower.len(), 2);
    let target = node.directory.path().join("mnt");
    std::fs::create_dir(&target).unwrap();
    let script = format!(
        "mount -t overlay none -o ro,lowerdir={} {mnt} && cd {mnt} && ls app data swap && cat app/link >/dev/null",
        lower.join(":"),
        mnt = target.display()
    );
    let output = std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text, "app:\nhard.wasm\nkept.wasm\nlink\nnew.wasm\n\ndata:\nupper\n\nswap:\ninner\n");
}

#[tokio::test]
async fn images_share_layers() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let base = || Archive::default().file("base", "b");
    registry.image("1", vec![base(), Archive::default().file("one", "1")], json!({}));
    registry.image("2", vec![base(), Archive::default().file("two", "2"), base()], json!({}));
    let one = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    let two = node.images.pull(&registry.name("a:2"), None).await.unwrap();
    assert_eq!(support::list(&node.root().join("layers")).len(), 3);
    assert_eq!((node.images.lower_dirs(&one).len(), node.images.lower_dirs(&two).len()), (2, 2));
    node.images.remove(&one.id).await.unwrap();
    assert_eq!(node.images.read_file(&two, Path::new("base"), 10).unwrap(), b"b");
    assert_eq!(support::list(&node.root().join("layers")).len(), 2);
}

#[tokio::test]
async fn a_digest_pull_has_no_tag_and_exactly_its_digest() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let id = registry.artifact("v1", &wasm("d"), None);
    let by_digest = format!("{}@{id}", registry.name("d"));
    let image = node.images.pull(&by_digest, None).await.unwrap();
    assert!(image.repo_tags.is_empty());
    assert_eq!(image.repo_digests, [by_digest.as_str()]);
    let tagged = format!("{}:v1@{id}", registry.name("d"));
    assert_eq!(node.images.pull(&tagged, None).await.unwrap(), image);
    assert_eq!(node.images.get(&by_digest).unwrap(), image);
    assert_eq!(node.images.get(&tagged).unwrap(), image);
    assert!(node.images.get(&registry.name("d:v1")).is_none());
}

#[tokio::test]
async fn an_image_is_found_by_each_of_its_names() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let id = registry.artifact("latest", &wasm("n"), None);
    let image = node.images.pull(&registry.name("n"), None).await.unwrap();
    let hex = id.strip_prefix("sha256:").unwrap();
    let by_digest = format!("{}@{id}", registry.name("n"));
    for name in [&id, hex, &hex[..13], &id[..20], &registry.name("n"), &registry.name("n:latest"), &by_digest] {
        assert_eq!(node.images.get(name).as_ref(), Some(&image), "{name}");
    }
    for name in [&hex[..8], &registry.name("n:other"), &registry.name("m"), "n", "", "sha256:", "Not/A/Name"] {
        assert!(node.images.get(name).is_none(), "{name}");
    }
}

#[tokio::test]
async fn one_manifest_in_two_registries_is_one_image_with_two_tags() {
    let (one, two, node) = (Registry::new(), Registry::new(), Node::new().await);
    one.artifact("v1", &wasm("same"), None);
    two.artifact("v1", &wasm("same"), None);
    let first = node.images.pull(&one.name("a:v1"), None).await.unwrap();
    let second = node.images.pull(&two.name("b:v1"), None).await.unwrap();
    assert_eq!(first.id, second.id);
    let mut tags = vec![one.name("a:v1"), two.name("b:v1")];
    tags.sort();
    assert_eq!((node.images.list().len(), &second.repo_tags, second.repo_digests.len()), (1, &tags, 2));
    node.images.remove(&one.name("a:v1")).await.unwrap();
    assert!(node.images.list().is_empty() && node.images.get(&two.name("b:v1")).is_none());
    assert!(node.content().is_empty(), "{:?}", node.content());
}

#[tokio::test]
async fn a_tag_that_moved_leaves_the_old_image_with_its_digest() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let name = registry.name("moving:v1");
    let old = registry.artifact("v1", &wasm("old"), None);
    node.images.pull(&name, None).await.unwrap();
    let new = registry.artifact("v1", &wasm("new"), None);
    node.images.pull(&name, None).await.unwrap();
    assert_eq!(node.images.get(&name).unwrap().id, new);
    let left = node.images.get(&old).unwrap();
    assert_eq!((left.repo_tags.len(), left.repo_digests.len()), (0, 1));
    let node = node.reopen().await;
    assert_eq!(node.images.get(&name).unwrap().id, new);
    assert_eq!(node.images.get(&old).unwrap(), left);
}

#[tokio::test]
async fn of_an_index_the_wasm_variant_is_taken_and_the_index_digest_kept() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let native = registry.image("native", vec![Archive::default().file("bin/a", b"\x7fELF")], json!({}));
    let wasm_one = registry.image("wasm", vec![Archive::default().file("a.wasm", wasm("i"))], json!({}));
    let entry = |digest: &str, os: &str, architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
            "platform": {"os": os, "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&native, "linux", "amd64"), entry(&wasm_one, "wasi", "wasm")]});
    let index = registry.manifest("multi", &index);
    let image = node.images.pull(&registry.name("i:multi"), None).await.unwrap();
    assert_eq!(image.id, wasm_one);
    assert_eq!(image.repo_digests, [format!("{}@{index}", registry.name("i"))]);
    let by_index = format!("{}@{index}", registry.name("j"));
    let image = node.images.pull(&by_index, None).await.unwrap();
    assert!(image.repo_digests.contains(&by_index));
    assert_eq!(node.images.get(&by_index).unwrap().id, wasm_one);

    let strange = json!({"schemaVersion": 2, "manifests": [entry(&native, "windows", "amd64")]});
    registry.manifest("strange", &strange);
    let error = node.images.pull(&registry.name("i:strange"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::Unsupported { reason, .. } if reason.contains("windows/amd64")), "{error}");
    let nested = json!({"schemaVersion": 2, "manifests": [entry(&index, "wasi", "wasm")]});
    registry.manifest("nested", &nested);
    let error = node.images.pull(&registry.name("i:nested"), None).await.unwrap_err();
    assert!(matches!(error, PullError::InvalidArtifact { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_at_once_share_the_work() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm("shared");
    registry.artifact("v1", &module, None);
    registry.artifact("v2", &module, None);
    let names = ["a:v1", "a:v1", "a:v1", "b:v1", "c:v2"].map(|name| registry.name(name));
    let pulls = names.iter().map(|name| node.images.pull(name, None));
    for image in futures_util::future::join_all(pulls).await {
        image.unwrap();
    }
    assert_eq!(registry.requests(&digest(&module)), 1);
    assert_eq!((node.compiler.runs(), node.images.list().len()), (1, 1));
    let removals = (0..5).map(|_| node.images.remove(&names[0]));
    for removed in futures_util::future::join_all(removals).await {
        removed.unwrap();
    }
    assert!(node.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_compiled_at_most_so_many_at_once() {
    let registry = Registry::new();
    let node = Node::with(|config| config.max_parallel_compiles = 2).await;
    let files = (0..6).fold(Archive::default(), |archive, n| archive.file(&format!("{n}.wasm"), wasm(&n.to_string())));
    registry.image("1", vec![files], json!({}));
    node.images.pull(&registry.name("many:1"), None).await.unwrap();
    let most = node.compiler.most_at_once.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!((node.compiler.runs(), most), (6, 2));
}
