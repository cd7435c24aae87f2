//! Requests: back-off, redirects, proxies.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use images::{Auth, PullError};
use support::stub::{Reply, Seen, Shelf, Stub};
use support::{Node, wasm};

/// The first `times` requests below `/v2/a/` get `reply`.
fn failing(shelf: &Shelf, times: usize, reply: Reply) -> Stub {
    let (shelf, left) = (shelf.clone(), AtomicUsize::new(times));
    let fails = move || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    Stub::new(move |seen| if seen.target.starts_with("/v2/a/") && fails() { reply.clone() } else { shelf.reply(seen) })
}

#[tokio::test]
async fn a_registry_that_is_busy_or_hangs_up_is_asked_up_to_five_times() {
    for reply in [Reply::new(429, ""), Reply::new(500, ""), Reply::new(503, ""), Reply::none()] {
        let (shelf, node) = (Shelf::new(&wasm("busy")), Node::new().await);
        let registry = failing(&shelf, 2, reply.clone());
        node.images.pull(&registry.name("a:v1"), None).await.unwrap();
        assert_eq!(registry.seen_at("manifests/v1").len(), 3);
    }
    let (shelf, node) = (Shelf::new(&wasm("busy")), Node::new().await);
    let registry = failing(&shelf, 100, Reply::new(502, ""));
    let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::RegistryUnavailable { detail, .. } if detail.contains("502")), "{error}");
    assert_eq!(registry.seen_at("manifests/v1").len(), 5);
}

#[tokio::test]
async fn a_registry_that_asks_for_time_is_given_it_within_bounds() {
    let (shelf, node) = (Shelf::new(&wasm("later")), Node::new().await);
    let registry = failing(&shelf, 1, Reply::new(429, "").header("Retry-After", 2));
    let begun = Instant::now();
    node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let registry = failing(&shelf, 1, Reply::new(503, "").header("Retry-After", 3600));
    let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
    assert!(error.to_string().contains("left alone for 3600 s"), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_begun_again_where_it_is_held_in_memory() {
    let (shelf, node) = (Shelf::new(&wasm("cut")), Node::new().await);
    let registry = failing(&shelf, 2, Reply::new(200, "{}           ").cut(3));
    node.images.pull(&registry.name("a:v1"), None).await.unwrap();
}

#[tokio::test]
async fn redirects_are_followed_without_what_is_for_the_registry() {
    let shelf = Shelf::new(&wasm("moved"));
    let kept = shelf.clone();
    let storage = Stub::new(move |seen| kept.reply(seen));
    let (kept, address) = (shelf.clone(), storage.address);
    let registry = Stub::new(move |seen| match seen.header("authorization") {
        None => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=x"),
        // Another port is another host; the same one, by a path, is not.
        Some(_) if seen.target.contains("/v2/a/blobs/") => Reply::redirect(format!("http://{address}{}", seen.target)),
        Some(_) if seen.target.contains("/v2/a/manifests/") => Reply::redirect("/elsewhere/manifests/v1"),
        Some(_) => kept.reply(seen),
    });
    let node = Node::with(|config| config.certs_dirs = vec![config.root.with_file_name("certs.d")]).await;
    let directory = node.directory.path().join("certs.d").join(registry.address.to_string());
    std::fs::create_dir_all(&directory).unwrap();
    let text = format!("server = 'http://{}'\n[header]\nx-secret = 's'\ncookie = 'c'\n", registry.address);
    std::fs::write(directory.join("hosts.toml"), text).unwrap();
    let auth = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
    node.images.pull(&registry.name("a:v1"), Some(auth)).await.unwrap();
    let here = &registry.seen_at("/elsewhere/")[0];
    assert_eq!((here.header("authorization"), here.header("x-secret")), (Some("Basic dTpw"), Some("s")));
    assert_eq!(storage.seen().len(), 2);
    for there in storage.seen() {
        for name in ["authorization", "x-secret", "cookie"] {
            assert_eq!(there.header(name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn redirects_end() {
    let node = Node::new().await;
    let registry = Stub::new(|seen| Reply::redirect(format!("{}x", seen.target)));
    let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
    assert!(error.to_string().contains("more than 5 redirects"), "{error}");
    assert_eq!(registry.seen_at("manifests/v1").len(), 6);
    let registry = Stub::new(|_| Reply::redirect("ftp://x/"));
    let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
    assert!(error.to_string().contains("without a place to go to"), "{error}");
}

/// The environment is the process's, so the test runs itself with another.
#[test]
fn proxies_of_the_environment_are_used_and_never_for_loopback() {
    if let Ok(proxy) = std::env::var("TEST_PROXY_CHILD") {
        return in_the_child(&proxy);
    }
    let shelf = Shelf::new(&wasm("proxied"));
    let kept = shelf.clone();
    let proxy = Stub::new(move |seen: &Seen| {
        let inside = ["http://127.0.0.1:1/x", "http://localhost:1/x", "http://169.254.169.254/latest", "http://[::1]/"];
        match seen.target.split("/v2/redirect").nth(1).map(|rest| &rest[..1]) {
            Some("t") => Reply::new(401, "").header("WWW-Authenticate", "Bearer realm=\"http://169.254.169.254/token\""),
            Some(number) => Reply::redirect(inside[number.parse::<usize>().unwrap()]),
            None if seen.method == "CONNECT" => Reply::new(403, "not that way"),
            None => kept.reply(seen),
        }
    });
    for (http, https, except) in [("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"), ("http_proxy", "https_proxy", "no_proxy")] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "proxies_of_the_environment_are_used_and_never_for_loopback", "--nocapture"]);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] {
            child.env_remove(name);
        }
        child.env("TEST_PROXY_CHILD", proxy.address.to_string());
        child.env(http, format!("http://u:p@{}", proxy.address)).env(https, proxy.address.to_string());
        let output = child.env(except, "direct.example,10.0.0.0/8").output().unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let seen = proxy.seen_at("http://registry.example/v2/app/manifests/v1");
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("proxy-authorization"), Some("Basic dTpw"));
    assert!(proxy.seen().iter().any(|seen| seen.method == "CONNECT" && seen.target == "secure.example:443"));
    for never in ["127.0.0.1", "localhost", "169.254", "direct.example"] {
        assert!(proxy.seen_at(&format!("http://{never}")).is_empty(), "{never}");
    }
}

fn in_the_child(proxy: &str) {
    let shelf = Shelf::new(&wasm("direct"));
    let local = Stub::new(move |seen| shelf.reply(seen));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let insecure = ["registry.example", "direct.example"].map(str::to_owned).to_vec();
        let node = Node::with(|config| config.insecure_registries = insecure).await;
        node.images.pull("registry.example/app:v1", None).await.unwrap();
        node.images.pull(&local.name("app:v1"), None).await.unwrap();
        assert!(node.images.pull("direct.example/app:v1", None).await.is_err());
        let error = node.images.pull("secure.example/app:v1", None).await.unwrap_err();
        assert!(matches!(error, PullError::RegistryUnavailable { .. }), "{error} {proxy}");
        for redirect in ["redirect0", "redirect1", "redirect2", "redirect3", "redirectt"] {
            let error = node.images.pull(&format!("registry.example/{redirect}/a:v1"), None).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains("an address of this node or its link; that is not followed"), "{redirect}: {text}");
        }
    });
}
