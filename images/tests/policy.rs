//! Trust: lists, verifiers, the recipe for cosign, and pins.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use images::{Config, Images, OpenError, Policy, PullError, Verifier};
use serde_json::{Value, json};
use support::archive::Archive;
use support::registry::{Registry, digest};
use support::{FakeCompiler, Node, Shared, wasm};

/// A shell script as a verifier; the shell reads it, so that no file that is being written is executed.
fn script(text: &str) -> Verifier {
    Verifier { args: vec!["-c".into(), text.into(), "verifier".into()], ..Verifier::new("*", "/bin/sh") }
}

async fn judged_by(verifiers: Vec<Verifier>) -> Node {
    Node::with(|config| config.policy.verifiers = verifiers).await
}

fn wait_for(path: &Path) -> String {
    for _ in 0..500 {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    panic!("{} does not come", path.display());
}

/// Whether a process is gone, or soon is.
fn ends(pid: &str) -> bool {
    let gone = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    };
    (0..500).any(|_| {
        gone(pid) || {
            std::thread::sleep(Duration::from_millis(20));
            false
        }
    })
}

#[tokio::test]
async fn what_the_deny_list_names_is_refused_before_anything_is_asked_of_the_network() {
    let registry = Registry::new();
    registry.artifact("v1", &wasm("x"), None);
    let (host, name) = (registry.address.to_string(), registry.name("acme/web:v1"));
    let node = Node::with(|config| {
        config.policy.allow = vec![host.clone()];
        config.policy.deny = vec![format!("{host}/acme")];
    })
    .await;
    let error = node.images.pull(&name, None).await.unwrap_err();
    assert!(matches!(error, PullError::Denied { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&name) && text.contains("trust.deny") && text.contains(&format!("{host}/acme")), "{text}");
    assert_eq!(registry.requests(""), 0);
    node.images.pull(&registry.name("acme-two/web:v1"), None).await.unwrap();
}

#[tokio::test]
async fn what_no_allow_entry_names_is_refused() {
    let registry = Registry::new();
    registry.artifact("v1", &wasm("x"), None);
    let node = Node::with(|config| config.policy.allow = vec![registry.name("ours"), "*.example.com".into()]).await;
    node.images.pull(&registry.name("ours/a:v1"), None).await.unwrap();
    let asked = registry.requests("");
    for name in [registry.name("theirs/a:v1"), "wasm".to_owned(), "example.com/x".to_owned()] {
        let error = node.images.pull(&name, None).await.unwrap_err();
        assert!(matches!(&error, PullError::Denied { reason, .. } if reason.contains("trust.allow")), "{error}");
    }
    assert_eq!(registry.requests(""), asked);
}

#[tokio::test]
async fn a_policy_that_cannot_be_is_refused_with_its_key_and_the_store_does_not_open() {
    let deny = Policy { deny: vec!["library/wasm".into()], ..Policy::default() };
    let relative = Policy { verifiers: vec![Verifier::new("ghcr.io", "cosign")], ..Policy::default() };
    let tagged = Policy { allow: vec!["ghcr.io/a:v1".into()], ..Policy::default() };
    let no_time = Verifier { timeout: Duration::ZERO, ..Verifier::new("*", "/bin/true") };
    let no_time = Policy { verifiers: vec![no_time], ..Policy::default() };
    let twice =
        Policy { verifiers: ["GHCR.io", "ghcr.io:443"].map(|scope| Verifier::new(scope, "/a")).to_vec(), ..Policy::default() };
    for (policy, key) in
        [(&deny, "deny"), (&relative, "verifiers"), (&tagged, "allow"), (&no_time, "verifiers"), (&twice, "verifiers")]
    {
        let error = policy.check().unwrap_err();
        assert!(error.starts_with(&format!("trust.{key}: ")), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let config = Config { policy: deny, ..Config::new(directory.path().join("images")) };
    let opened = Images::open(config, std::sync::Arc::new(Shared(FakeCompiler::new()))).await;
    assert!(matches!(opened, Err(OpenError::Config(_))) && !directory.path().join("images").exists());
    let config = Config { pinned: vec!["x y".into()], ..Config::default() };
    assert!(config.check().unwrap_err().starts_with("images.pinned: "));
}

#[tokio::test]
async fn a_verifier_is_called_as_containerd_calls_its_own() {
    let registry = Registry::new();
    let id = registry.artifact("v1", &wasm("x"), None);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().display();
    let node =
        judged_by(vec![script(&format!("printf '%s\\n' \"$@\" >{out}/args; cat >{out}/stdin; env >{out}/env; pwd >>{out}/env"))])
            .await;
    let name = registry.name("web:v1");
    node.images.pull(&name, None).await.unwrap();
    let args = fs::read_to_string(directory.path().join("args")).unwrap();
    let expected = ["-name", &name, "-digest", &id, "-stdin-media-type", "application/vnd.oci.descriptor.v1+json"];
    assert_eq!(args.lines().collect::<Vec<_>>(), expected);
    let stdin: Value = serde_json::from_str(&fs::read_to_string(directory.path().join("stdin")).unwrap()).unwrap();
    assert_eq!((&stdin["digest"], stdin["mediaType"].as_str()), (&json!(id), Some("application/vnd.oci.image.manifest.v1+json")));
    let environment = fs::read_to_string(directory.path().join("env")).unwrap();
    assert!(environment.contains("PATH=") && environment.contains("HOME=") && environment.ends_with("/\n"), "{environment}");
    assert!(!environment.contains("CARGO"), "{environment}");
}

#[tokio::test]
async fn of_an_index_the_index_is_judged() {
    let registry = Registry::new();
    let inner = registry.image("inner", vec![Archive::default().file("a.wasm", wasm("i"))], json!({}));
    let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": inner, "size": 1,
        "platform": {"os": "wasi", "architecture": "wasm"}});
    let index = registry.manifest("multi", &json!({"schemaVersion": 2, "manifests": [entry]}));
    let signed = format!("grep -q 'index.v1+json.*{index}' && [ \"$4\" = {index} ]");
    let node = judged_by(vec![script(&signed)]).await;
    node.images.pull(&registry.name("i:multi"), None).await.unwrap();
    // Signed was the index, not what it leads to.
    let error = node.images.pull(&format!("{}@{inner}", registry.name("i")), None).await.unwrap_err();
    assert!(matches!(&error, PullError::Refused { digest, .. } if *digest == inner), "{error}");
}

#[tokio::test]
async fn a_refusal_shows_the_programs_words_and_no_layer_is_fetched() {
    let registry = Registry::new();
    let module = wasm("x");
    let id = registry.artifact("v1", &module, None);
    let node = judged_by(vec![script("printf '\\033[31mno signature\\033[0m\\nfor you\\007\\n' >&2; exit 3")]).await;
    let error = node.images.pull(&registry.name("web:v1"), None).await.unwrap_err();
    let PullError::Refused { digest: judged, verifier, text, .. } = &error else { panic!("{error}") };
    assert_eq!((judged.as_str(), verifier.as_str(), text.as_str()), (id.as_str(), "/bin/sh", "no signature; for you"));
    assert!(node.content().is_empty() && registry.requests(&digest(&module)) == 0);

    let node = judged_by(vec![script("yes reason | head -c 1000000; exit 1")]).await;
    let error = node.images.pull(&registry.name("web:v1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::Refused { text, .. } if text.starts_with("reason; ") && text.len() < 8192), "{error}");
    let node = judged_by(vec![script("exit 1")]).await;
    let error = node.images.pull(&registry.name("web:v1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::Refused { text, .. } if text.contains("exit code 1")), "{error}");
}

#[tokio::test]
async fn an_image_that_is_here_is_judged_again() {
    let registry = Registry::new();
    registry.artifact("v1", &wasm("x"), None);
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    fs::write(&good, "").unwrap();
    let node = judged_by(vec![script(&format!("test -e {}", good.display()))]).await;
    let image = node.images.pull(&registry.name("web:v1"), None).await.unwrap();
    fs::remove_file(&good).unwrap();
    let error = node.images.pull(&registry.name("web:v1"), None).await.unwrap_err();
    assert!(matches!(error, PullError::Refused { .. }), "{error}");
    // What was let in before stays for those who use it.
    assert_eq!(node.images.get(&registry.name("web:v1")), Some(image));
}

#[tokio::test]
async fn the_verifier_of_the_closest_scope_is_asked_and_no_other() {
    let registry = Registry::new();
    registry.artifact("v1", &wasm("x"), None);
    let says = |scope: String, text: &str| Verifier { scope, ..script(&format!("echo {text}; exit 1")) };
    let node = judged_by(vec![
        says("*".into(), "all"),
        says(registry.name("a/b"), "repository"),
        says(registry.name("a"), "namespace"),
        says("ghcr.io".into(), "other"),
        Verifier { scope: registry.name("free"), ..script("exit 0") },
    ])
    .await;
    for (name, expected) in [("a/b/c:v1", "repository"), ("a/x:v1", "namespace"), ("b:v1", "all")] {
        let error = node.images.pull(&registry.name(name), None).await.unwrap_err();
        assert!(matches!(&error, PullError::Refused { text, .. } if text == expected), "{error}");
    }
    node.images.pull(&registry.name("free:v1"), None).await.unwrap();
}

#[tokio::test]
async fn without_a_verdict_the_pull_is_refused() {
    let registry = Registry::new();
    registry.artifact("v1", &wasm("x"), None);
    let slow = Verifier { timeout: Duration::from_millis(50), ..script("sleep 1000") };
    for (verifier, part) in [
        (Verifier::new("*", "/nonexistent/verifier"), "No such file"),
        (Verifier::new("*", "/etc/passwd"), "ermission denied"),
        (script("kill -9 $$"), "signal: 9"),
        (slow, "longer than 50ms"),
    ] {
        let node = judged_by(vec![verifier]).await;
        let error = node.images.pull(&registry.name("web:v1"), None).await.unwrap_err();
        assert!(matches!(&error, PullError::VerifierFailed { reason, .. } if reason.contains(part)), "{error}");
        assert!(node.content().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_and_what_it_started_end_with_their_time_their_pull_and_their_verdict() {
    let registry = Registry::new();
    registry.artifact("v1", &wasm("x"), None);
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let work = format!("sleep 1000 & echo $$ $! >{}", pids.display());
    let name = registry.name("web:v1");

    let node = judged_by(vec![Verifier { timeout: Duration::from_secs(3), ..script(&format!("{work}; wait")) }]).await;
    let error = node.images.pull(&name, None).await.unwrap_err();
    assert!(matches!(error, PullError::VerifierFailed { .. }), "{error}");
    assert!(wait_for(&pids).split_whitespace().all(ends));
    fs::remove_file(&pids).unwrap();

    let node = judged_by(vec![script(&format!("{work}; wait"))]).await;
    let pull = tokio::spawn({
        let (images, name) = (node.images.clone(), name.clone());
        async move { images.pull(&name, None).await }
    });
    let started = wait_for(&pids);
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    assert!(started.split_whitespace().all(ends));
    fs::remove_file(&pids).unwrap();

    // The sleep holds the output open; the verdict does not wait for it.
    let node = judged_by(vec![script(&work)]).await;
    node.images.pull(&name, None).await.unwrap();
    assert!(wait_for(&pids).split_whitespace().all(ends));
}

/// Files for the recipe: a cosign that accepts one digest.
fn fake_cosign(directory: &Path, accepts: &str) {
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >{}\ncase $* in *@{accepts}) echo '[{{}}]' ;; *) echo 'Error: no signatures found' >&2; \
         echo 'main.go:69: error during command execution: no signatures found' >&2; exit 10 ;; esac\n",
        directory.join("called").display()
    );
    // Written by another process: a file that this one had open for writing might be inherited and could not be run.
    let write = format!("cat >{0} <<'END'\n{text}END\nchmod +x {0}", directory.join("cosign").display());
    assert!(Command::new("sh").args(["-c", &write]).status().unwrap().success());
}

fn recipe() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../contrib/verify-cosign").display().to_string()
}

#[tokio::test]
async fn the_recipe_asks_cosign_about_the_digest_and_shows_its_error() {
    let registry = Registry::new();
    let signed = registry.artifact("signed", &wasm("signed"), None);
    registry.artifact("unsigned", &wasm("unsigned"), None);
    let directory = tempfile::tempdir().unwrap();
    fake_cosign(directory.path(), &signed);
    let path = format!("PATH={}:/usr/bin:/bin", directory.path().display());
    let args = vec![path, "/bin/sh".into(), recipe(), "--key".into(), "/a key/cosign.pub".into()];
    let node = judged_by(vec![Verifier { args, ..Verifier::new("*", "/usr/bin/env") }]).await;
    node.images.pull(&registry.name("a/web:signed"), None).await.unwrap();
    let called = fs::read_to_string(directory.path().join("called")).unwrap();
    let image = format!("{}@{signed}", registry.name("a/web"));
    assert_eq!(called.lines().collect::<Vec<_>>(), ["verify", "--key", "/a key/cosign.pub", &image]);
    node.images.pull(&format!("{}@{signed}", registry.name("a/web")), None).await.unwrap();
    let error = node.images.pull(&registry.name("a/web:unsigned"), None).await.unwrap_err();
    assert!(
        matches!(&error, PullError::Refused { text, .. } if text.starts_with("cosign: Error: no signatures found")),
        "{error}"
    );
}

#[test]
fn the_recipe_called_wrongly_refuses_and_says_how() {
    let digest = digest(b"");
    let run = |args: &[&str]| {
        let output = Command::new("/bin/sh").arg(recipe()).args(args).env_clear().env("PATH", "/nonexistent").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for (args, code, part) in [
        (&["--key", "k", "-name", "a/b"][..], 2, "-digest"),
        (&["--key", "k", "-digest", &digest], 2, "-name"),
        (&["-name", "a/b", "-digest", &digest], 2, "--key"),
        (&["--key", "k", "-name"], 2, "no value"),
        (&["--key", "k", "-name", "a/b", "-digest", &digest], 1, "not installed"),
    ] {
        let (status, text) = run(args);
        assert!(status == Some(code) && text.contains(part), "{args:?}: {status:?} {text}");
    }
}

#[tokio::test]
async fn pins_name_images_and_do_not_keep_them_from_being_removed() {
    let registry = Registry::new();
    let id = registry.artifact("v1", &wasm("one"), None);
    registry.artifact("v2", &wasm("two"), None);
    for pin in [
        registry.address.to_string(),
        registry.name("base/*"),
        registry.name("base/a:v1"),
        format!("{}@{id}", registry.name("base/a")),
    ] {
        let node = Node::with(|config| config.pinned = vec!["ghcr.io/x".into(), pin.clone()]).await;
        let image = node.images.pull(&registry.name("base/a:v1"), None).await.unwrap();
        assert!(node.images.is_pinned(&image), "{pin}");
        assert!(node.images.inspect(&image).await.pinned);
        let other = node.images.pull(&registry.name("other:v2"), None).await.unwrap();
        assert_eq!(node.images.is_pinned(&other), pin == registry.address.to_string(), "{pin}");
        node.images.remove(&image.id).await.unwrap();
        assert!(node.images.get(&image.id).is_none());
    }
}
