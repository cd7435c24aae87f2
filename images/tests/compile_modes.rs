//! What is compiled when, whose failure it is, and what an image tells about itself.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use images::{CodeError, CompileError, CompileMode, FileKind, LookupError, PullError};
use serde_json::json;
use support::archive::Archive;
use support::registry::Registry;
use support::{Node, wasm};

async fn lazy() -> Node {
    Node::with(|config| config.compile = CompileMode::AtFirstStart).await
}

fn compiled(node: &Node) -> usize {
    support::list(&node.root().join("compiled/engine-1")).iter().filter(|name| name.ends_with(".cwasm")).count()
}

#[tokio::test]
async fn lazily_a_pull_compiles_nothing_and_the_first_start_does() {
    let (registry, node) = (Registry::new(), lazy().await);
    registry.artifact("v1", &wasm("x"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    assert_eq!(node.compiler.runs(), 0);
    let (one, two) = tokio::join!(node.images.code(&image.wasm[0].digest), node.images.code(&image.wasm[0].digest));
    assert_eq!((one.unwrap(), node.compiler.runs(), compiled(&node)), (two.unwrap(), 1, 1));
    node.images.remove(&image.id).await.unwrap();
    node.becomes_empty().await;
}

#[tokio::test]
async fn lazily_made_code_goes_with_the_last_image_that_has_the_file_and_with_its_engine() {
    let (registry, node) = (Registry::new(), lazy().await);
    registry.artifact("v1", &wasm("x"), Some("one.wasm"));
    registry.artifact("v2", &wasm("x"), Some("two.wasm"));
    let one = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    let two = node.images.pull(&registry.name("a:v2"), None).await.unwrap();
    node.images.code(&one.wasm[0].digest).await.unwrap();
    node.images.remove(&one.id).await.unwrap();
    assert_eq!(compiled(&node), 1);
    *node.compiler.fingerprint.lock().unwrap() = "engine-2".to_owned();
    let node = node.reopen().await;
    assert_eq!(support::list(&node.root().join("compiled")), ["engine-2"]);
    node.images.code(&two.wasm[0].digest).await.unwrap();
    node.images.remove(&two.id).await.unwrap();
    assert!(support::list(&node.root().join("compiled/engine-2")).is_empty());
}

#[tokio::test]
async fn code_of_an_image_that_is_removed_while_it_is_made_does_not_stay() {
    let (registry, node) = (Registry::new(), lazy().await);
    registry.artifact("v1", &wasm("x"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    let hold = node.images.hold(&image.id).unwrap();
    let removed = async {
        node.images.remove(&image.id).await.unwrap();
        drop(hold);
    };
    let (_code, ()) = tokio::join!(node.images.code(&image.wasm[0].digest), removed);
    node.becomes_empty().await;
}

#[tokio::test]
async fn a_module_that_does_not_compile_fails_its_first_start_and_is_not_tried_again() {
    let (registry, node) = (Registry::new(), lazy().await);
    registry.artifact("v1", &wasm("unknown-import"), None);
    let image = node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    for _ in 0..3 {
        let error = node.images.code(&image.wasm[0].digest).await.unwrap_err();
        assert!(
            matches!(&error, CodeError::Compile { reason: CompileError::Rejected(text), .. } if text.contains("env::nope")),
            "{error}"
        );
    }
    assert_eq!(node.compiler.runs(), 1);
    let details = node.images.inspect(&image).await;
    assert!(details.wasm[0].rejected.as_ref().is_some_and(|text| text.contains("env::nope")) && !details.wasm[0].compiled);
    let node = node.reopen().await;
    node.images.code(&image.wasm[0].digest).await.unwrap_err();
    assert_eq!(node.compiler.runs(), 2);
}

/// An image with a good and a bad program, and this configuration.
fn mixed(registry: &Registry, tag: &str, config: serde_json::Value) {
    let files = Archive::default()
        .directory("bin/")
        .file("bin/bad.wasm", wasm("unknown-import"))
        .file("bin/good.wasm", wasm("good"))
        .file("bin/native", b"\x7fELF...")
        .symlink("bin/run", "bad.wasm");
    registry.image(tag, vec![files], config);
}

#[tokio::test]
async fn a_file_beside_the_entrypoint_need_not_compile() {
    let (registry, node) = (Registry::new(), Node::new().await);
    mixed(&registry, "1", json!({"Entrypoint": ["/bin/good.wasm"]}));
    let image = node.images.pull(&registry.name("a:1"), None).await.unwrap();
    assert_eq!((node.compiler.runs(), compiled(&node)), (2, 1));
    let bad = image.wasm.iter().find(|file| file.path == Path::new("/bin/bad.wasm")).unwrap();
    let error = node.images.code(&bad.digest).await.unwrap_err();
    assert!(matches!(error, CodeError::Compile { .. }), "{error}");
    node.images.pull(&registry.name("a:1"), None).await.unwrap();
    assert_eq!(node.compiler.runs(), 2);
}

#[tokio::test]
async fn what_the_image_runs_must_compile_however_it_is_named() {
    let (registry, node) = (Registry::new(), Node::new().await);
    for config in [
        json!({"Entrypoint": ["/bin/bad.wasm"]}),
        json!({"Entrypoint": ["/bin/run"]}),
        json!({"Entrypoint": ["bad.wasm"]}),
        json!({"Cmd": ["bad.wasm", "x"]}),
        json!({"Entrypoint": ["bad.wasm"], "Env": ["PATH=/nothing:/bin"]}),
        json!({"Entrypoint": ["./bad.wasm"], "WorkingDir": "/bin"}),
    ] {
        mixed(&registry, "1", config.clone());
        let error = node.images.pull(&registry.name("a:1"), None).await.unwrap_err();
        assert!(matches!(&error, PullError::Compile { path, .. } if path == "/bin/bad.wasm"), "{config}: {error}");
        node.becomes_empty().await;
    }
}

#[tokio::test]
async fn without_a_known_entrypoint_one_file_must_compile() {
    let (registry, node) = (Registry::new(), Node::new().await);
    mixed(&registry, "mixed", json!({"Entrypoint": ["/nothing"]}));
    node.images.pull(&registry.name("a:mixed"), None).await.unwrap();
    let bad = || Archive::default().file("a.wasm", wasm("unknown-import 1")).file("b.wasm", wasm("unknown-import 2"));
    registry.image("bad", vec![bad()], json!({}));
    let error = node.images.pull(&registry.name("a:bad"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::Compile { path, .. } if path == "/a.wasm"), "{error}");
    // Web assets beside a native program, which is refused later and in other words.
    registry.image("native", vec![bad().file("server", b"\x7fELF")], json!({"Entrypoint": ["/server"]}));
    node.images.pull(&registry.name("a:native"), None).await.unwrap();
}

#[tokio::test]
async fn of_many_files_so_many_are_compiled_the_entrypoint_first_and_the_others_when_they_are_used() {
    let registry = Registry::new();
    let node = Node::with(|config| config.max_compiled = 3).await;
    let files = (0..8).fold(Archive::default(), |archive, n| archive.file(&format!("{n}.wasm"), wasm(&n.to_string())));
    registry.image("1", vec![files], json!({"Entrypoint": ["/6.wasm"]}));
    let image = node.images.pull(&registry.name("many:1"), None).await.unwrap();
    let details = node.images.inspect(&image).await;
    let ready: Vec<&str> = details.wasm.iter().filter(|file| file.compiled).map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!((ready, details.wasm.len()), (vec!["/0.wasm", "/1.wasm", "/6.wasm"], 8));
    node.images.code(&image.wasm[7].digest).await.unwrap();
    assert_eq!((node.compiler.runs(), compiled(&node)), (4, 4));
    node.images.remove(&image.id).await.unwrap();
    node.becomes_empty().await;
}

#[tokio::test]
async fn hard_links_to_one_file_are_compiled_once_and_told_as_one() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let files = (0..100).fold(Archive::default().file("bin/all", wasm("all")), |archive, n| {
        archive.hard_link(&format!("bin/tool{n:02}"), "bin/all")
    });
    registry.image("1", vec![files], json!({"Entrypoint": ["tool07"], "Env": ["PATH=/bin"]}));
    let image = node.images.pull(&registry.name("links:1"), None).await.unwrap();
    assert_eq!((image.wasm.len(), node.compiler.runs(), compiled(&node)), (101, 1, 1));
    let details = node.images.inspect(&image).await;
    let told: Vec<(&str, usize)> = details.wasm.iter().map(|file| (file.path.to_str().unwrap(), file.same.len())).collect();
    assert_eq!(told, [("/bin/all", 100)]);
    node.images.remove(&image.id).await.unwrap();
    node.becomes_empty().await;
}

#[tokio::test]
async fn inspect_tells_names_layers_files_and_what_was_compiled() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let module = wasm("hello");
    let id = registry.artifact("v1", &module, Some("hello.wasm"));
    let image = node.images.pull(&registry.name("hello:v1"), None).await.unwrap();
    let details = node.images.inspect(&image).await;
    assert_eq!((&details.manifest_digest, &details.repo_tags), (&id, &image.repo_tags));
    assert_eq!((details.layers.len(), details.wasm.len(), details.pinned), (1, 1, false));
    assert!(details.layers[0].bytes.unwrap() >= module.len() as u64 && details.layers[0].inodes.unwrap() >= 2);
    let file = &details.wasm[0];
    assert_eq!((file.path.as_path(), file.size, file.compiled), (Path::new("/hello.wasm"), Some(module.len() as u64), true));
    assert_eq!(file.report.as_ref().unwrap().world, "command");
    let json = serde_json::to_value(&details).unwrap();
    assert_eq!((&json["manifestDigest"], &json["wasm"][0]["report"]["wasi"]), (&json!(id), &json!("p1")));
    assert_eq!(json["kind"], json!({"artifact": {"module": "/hello.wasm"}}));
}

#[tokio::test]
async fn a_sub_path_leads_to_a_directory_or_a_file_inside_the_image() {
    let (registry, node) = (Registry::new(), Node::new().await);
    let files = Archive::default()
        .directory("data/")
        .file("data/model.bin", "m")
        .file("app.wasm", wasm("app"))
        .symlink("out", "/etc")
        .symlink("up", "../../data")
        .symlink("loop", "loop");
    registry.image("1", vec![files, Archive::default().file("data/.wh.model.bin", "").file("data/new", "n")], json!({}));
    let image = node.images.pull(&registry.name("v:1"), None).await.unwrap();
    let view = |path: &str| node.images.subpath(&image, path);
    let layers = node.images.lower_dirs(&image);
    for (path, inside, kind, of) in [
        ("", "/", FileKind::Directory, &layers[..]),
        ("data", "/data", FileKind::Directory, &layers[..]),
        ("./data/", "/data", FileKind::Directory, &layers[..]),
        ("up", "/data", FileKind::Directory, &layers[..]),
        ("up/new", "/data/new", FileKind::Other, &layers[..1]),
        ("app.wasm", "/app.wasm", FileKind::Wasm { digest: image.wasm[0].digest.clone() }, &layers[1..]),
    ] {
        let view = view(path).unwrap();
        let places: Vec<_> = of.iter().map(|layer| layer.join(inside.trim_start_matches('/'))).collect();
        assert_eq!((view.path.as_path(), &view.kind, &view.places), (Path::new(inside), &kind, &places));
    }
    // The node has an /etc, the image has none.
    for path in ["out", "data/model.bin", "nothing", "out/passwd"] {
        assert!(matches!(view(path), Err(LookupError::NotFound { .. })), "{path}");
    }
    for path in ["/data", "data/../app.wasm", "..", "a\0b"] {
        assert!(matches!(view(path), Err(LookupError::SubPath { .. })), "{path}");
    }
    assert!(matches!(view("loop"), Err(LookupError::Loop { .. })));
    assert!(matches!(view("app.wasm/x"), Err(LookupError::NotADirectory { .. })));
}
