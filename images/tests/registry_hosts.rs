//! `hosts.toml`: which hosts are asked, in which order, with what.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use images::{Auth, PullError};
use support::stub::{Reply, Shelf, Stub};
use support::{Node, wasm};

/// A node with a `hosts.toml` for one registry.
async fn node(registry: &str, text: &str) -> Node {
    let node = Node::with(|config| config.certs_dirs = vec![config.root.with_file_name("certs.d")]).await;
    write(&node, registry, text);
    node
}

fn write(node: &Node, registry: &str, text: &str) {
    let directory = node.directory.path().join("certs.d").join(registry);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("hosts.toml"), text).unwrap();
}

fn serving(shelf: &Shelf) -> Stub {
    let shelf = shelf.clone();
    Stub::new(move |seen| shelf.reply(seen))
}

fn answering(status: u16) -> Stub {
    Stub::new(move |_| Reply::new(status, ""))
}

#[tokio::test]
async fn mirrors_are_asked_in_the_order_of_the_file_and_told_whose_they_are() {
    let shelf = Shelf::new(&wasm("mirrored"));
    let (without, serves, unneeded) = (answering(404), serving(&shelf), serving(&shelf));
    let mirrors = [&without, &serves, &unneeded].map(|stub| format!("[host.'http://{}']\n", stub.address)).concat();
    let node = node("r.example:5000", &mirrors).await;
    node.images.pull("r.example:5000/team/app:v1", None).await.unwrap();
    let target = "/v2/team/app/manifests/v1?ns=r.example%3A5000";
    assert_eq!((without.seen_at(target).len(), serves.seen_at(target).len()), (1, 1));
    assert_eq!(serves.seen_at(&format!("blobs/{}?ns=", shelf.blob)).len(), 1);
    assert!(unneeded.seen().is_empty());
}

#[tokio::test]
async fn a_tag_is_asked_only_where_it_may_be_resolved_and_blobs_where_they_may_be_pulled() {
    let shelf = Shelf::new(&wasm("capable"));
    let (blobs, tags) = (serving(&shelf), serving(&shelf));
    let text = format!(
        "server = 'http://{}'\ncapabilities = ['pull', 'resolve']\n[host.'http://{}']\ncapabilities = ['pull']\n",
        tags.address, blobs.address
    );
    let node = node(&tags.address.to_string(), &text).await;
    node.images.pull(&tags.name("app:v1"), None).await.unwrap();
    assert!(blobs.seen_at("manifests/v1").is_empty());
    assert_eq!((tags.seen_at("manifests/v1").len(), tags.seen_at("ns=").len()), (1, 0));
    assert_eq!((blobs.seen_at("blobs/").len(), tags.seen_at("blobs/").len()), (2, 0));
    node.images.remove(&tags.name("app:v1")).await.unwrap();
    node.images.pull(&tags.name(&format!("app@{}", shelf.manifest)), None).await.unwrap();
    assert_eq!(blobs.seen_at("manifests/sha256").len(), 1);

    write(&node, &tags.address.to_string(), &format!("server = 'http://{}'\ncapabilities = ['pull']\n", blobs.address));
    let error = node.images.pull(&tags.name("app:v1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::RegistryConfig { detail, .. } if detail.contains("may resolve")), "{error}");
}

#[tokio::test]
async fn each_way_of_failing_leads_to_the_next_host_and_the_error_names_them_all() {
    let shelf = Shelf::new(&wasm("fallback"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (busy, refusing, not_tls, origin) = (answering(503), answering(403), answering(200), serving(&shelf));
    let lying = Stub::new(|_| Reply::new(200, "{}"));
    let text = format!(
        "server = 'http://{}'\n[host.'http://{nobody}']\n[host.'http://{}']\n[host.'http://{}']\n[host.'https://{}']\n",
        origin.address, busy.address, refusing.address, not_tls.address
    );
    let node = node("r.example", &format!("{text}[host.'http://{}']\ncapabilities = ['pull']\n", lying.address)).await;
    node.images.pull("r.example/app:v1", None).await.unwrap();
    assert!(!busy.seen().is_empty() && !refusing.seen().is_empty());
    assert_eq!(lying.seen_at("manifests/v1").len(), 0);

    let by_digest = format!("r.example/other@{}", shelf.manifest);
    node.images.pull(&by_digest, None).await.unwrap();
    assert_eq!(lying.seen_at("/other/manifests/").len(), 1);

    let error = node.images.pull("r.example/app:v2", None).await.unwrap_err();
    assert!(matches!(error, PullError::NotFound { .. }), "{error}");
    let text = error.to_string();
    for (stub, reason) in
        [(nobody, "refused"), (busy.address, "503"), (refusing.address, "refused access: HTTP 403"), (not_tls.address, ": ")]
    {
        assert!(text.contains(&format!("{stub}: ")) && text.contains(reason), "{text}");
    }
}

#[tokio::test]
async fn paths_and_headers_of_a_host_are_for_it_alone() {
    let shelf = Shelf::new(&wasm("headers"));
    let (mirror, plain, origin) = (answering(404), answering(404), serving(&shelf));
    let text = format!(
        "server = 'http://{}/root'\n[header]\nx-origin = 'o'\n[host.'http://{}/v2/proxy']\noverride_path = true\n\
         [host.'http://{}/v2/proxy'.header]\nx-key = ['a', 'b']\n[host.'http://{}']\n",
        origin.address, mirror.address, mirror.address, plain.address
    );
    let node = node("_default", &text).await;
    node.images.pull("r.example/app:v1", None).await.unwrap();
    let seen = &mirror.seen_at("/v2/proxy/app/manifests/v1?ns=r.example")[0];
    assert_eq!((seen.header("x-key"), seen.header("x-origin")), (Some("a"), None));
    let seen = &plain.seen_at("/v2/app/manifests/v1?ns=r.example")[0];
    assert_eq!((seen.header("x-key"), seen.header("x-origin")), (None, None));
    let seen = &origin.seen_at("/root/v2/app/manifests/v1?ns=r.example")[0];
    assert_eq!((seen.header("x-key"), seen.header("x-origin")), (None, Some("o")));
}

#[tokio::test]
async fn a_broken_file_is_an_error_until_it_is_mended_without_a_restart() {
    let shelf = Shelf::new(&wasm("mended"));
    let origin = serving(&shelf);
    let node = node(&origin.address.to_string(), "server = 'http://m'\nskip_verify = 'no'\n").await;
    let error = node.images.pull(&origin.name("app:v1"), None).await.unwrap_err();
    assert!(matches!(error, PullError::RegistryConfig { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("hosts.toml line 2: skip_verify is to be true or false") && text.contains("mend the file"), "{text}");
    assert!(origin.seen().is_empty());
    write(&node, &origin.address.to_string(), "");
    node.images.pull(&origin.name("app:v1"), None).await.unwrap();
}

#[tokio::test]
async fn credentials_go_to_the_host_that_they_are_for_and_without_one_to_each_that_asks() {
    let shelf = Shelf::new(&wasm("whose"));
    let kept = shelf.clone();
    let origin = Stub::new(move |seen| match seen.header("authorization") {
        Some("Basic dTpw") => kept.reply(seen),
        _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"o\""),
    });
    let mirror = Stub::new(|seen| match seen.header("authorization") {
        Some(_) => Reply::new(403, ""),
        None => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"m\""),
    });
    let text = format!("server = 'http://{}'\n[host.'http://{}']\n", origin.address, mirror.address);
    let node = node(&origin.address.to_string(), &text).await;
    let given = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
    let sent = || mirror.seen().iter().filter_map(|seen| seen.header("authorization").map(str::to_owned)).collect::<Vec<_>>();

    let only = Auth { server_address: format!("http://{}", origin.address), ..given.clone() };
    node.images.pull(&origin.name("app:v1"), Some(only)).await.unwrap();
    assert!(sent().is_empty() && !mirror.seen().is_empty());
    node.images.pull(&origin.name("app:v1"), Some(given)).await.unwrap();
    assert_eq!(sent(), ["Basic dTpw"]);
    let token = Auth { registry_token: "t".into(), ..Auth::default() };
    let error = node.images.pull(&origin.name("app:v1"), Some(token)).await.unwrap_err();
    assert!(matches!(&error, PullError::Unauthorized { detail, .. } if detail.contains("registry token")), "{error}");
    assert_eq!(sent().len(), 1);
    assert_eq!(origin.seen().last().unwrap().header("authorization"), Some("Bearer t"));
}
