//! Images that are too large, too costly to compile or hostile, and pulls that are cut off.

use rustix::process::Signal;
use tonic::Code;

use crate::harness::guests::LARGE;
use crate::harness::image::{Image, Layered};
use crate::harness::process::{self, Process};
use crate::harness::registry::Registry;
use crate::harness::{Node, Options, cri, until};
use crate::images::wasm;

#[test]
fn what_is_above_a_cap_is_refused_with_the_caps_name() {
    let Some(registry) = Registry::shared() else { return };
    let big = Layered::new().file("/app", &wasm("caps")).file("/big", &vec![0; 3 << 20]).entrypoint(&["/app"]);
    let many =
        (0..300).fold(Layered::new().file("/app", &wasm("many")), |image, number| image.file(&format!("/d/{number}"), b""));
    registry.push("images/caps", "big", &big.build());
    registry.push("images/caps", "many", &many.entrypoint(&["/app"]).build());
    for (config, tag, said) in [
        ("max_unpacked_bytes = 1000000", "big", "max_unpacked_bytes"),
        ("max_layer_bytes = 500", "big", "max_layer_bytes"),
        ("max_entries = 100", "many", "max_entries"),
        ("max_manifest_bytes = 100", "big", "max_manifest_bytes"),
    ] {
        let config = format!("[images]\n{config}\n");
        let Some(node) = Node::start_with(&Options { config: &config, ..Default::default() }) else { return };
        let before = node.holdings();
        let refused = node.pull(&registry.reference(&format!("images/caps:{tag}"))).expect_err(said);
        assert_eq!(refused.code(), Code::ResourceExhausted, "{said}: {refused}");
        assert!(refused.message().contains(said), "{said}: {refused}");
        node.assert_nothing_leaked(&before);
        node.finish();
    }
}

#[test]
fn a_module_that_takes_too_much_to_compile_is_refused_and_the_daemon_lives() {
    if LARGE.push().is_none() {
        return;
    }
    let options = Options { config: "[compile]\nmemory_bytes = 67108864\n", ..Default::default() };
    let Some(node) = Node::start_with(&options) else { return };
    let before = node.holdings();
    let refused = node.pull(&LARGE.reference()).unwrap_err();
    assert!(refused.message().to_lowercase().contains("memory"), "{refused}");
    node.assert_nothing_leaked(&before);
    let registry = Registry::shared().unwrap();
    registry.push("images/small", "v1", &Image::artifact(&wasm("small")));
    node.pull(&registry.reference("images/small:v1")).expect("what is small enough is pulled");
    node.finish();
}

#[test]
fn a_pull_that_is_cut_by_the_daemons_end_leaves_nothing_and_the_next_one_succeeds() {
    if LARGE.push().is_none() {
        return;
    }
    let Some(mut node) = Node::start() else { return };
    let daemon = Process::look(node.daemon_pid()).unwrap();
    let compilers =
        |node: &Node| process::of_place(&node.place.name).iter().filter(|process| process.role() == "compile").count();
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| node.pull(&LARGE.reference()));
        until("its module is being compiled", || compilers(&node) > 0);
        daemon.signal(Signal::KILL);
        assert!(pull.join().unwrap().is_err());
    });
    node.restart_daemon();
    assert!(node.image(&LARGE.reference()).is_none(), "an image is there wholly or not at all");
    until("nobody compiles for a daemon that is gone", || compilers(&node) == 0);
    node.pull(&LARGE.reference()).unwrap();
    let pod = node.pod("web");
    assert_eq!(node.run(&pod, &LARGE.container("main", &[])).status.exit_code, 0);
    node.finish();
}

#[test]
fn a_layer_cannot_write_outside_of_its_image() {
    let Some(registry) = Registry::shared() else { return };
    let Some(node) = Node::start() else { return };
    let outside = node.place.files.join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = outside.display().to_string();
    let through_link = Layered::new()
        .file("/app", &wasm("links"))
        .link("/exit", &target)
        .file("/exit/planted", b"through an absolute link")
        .link("/up", "../../../../../../../../../../../../..")
        .file(&format!("/up{target}/planted-too"), b"through a relative one")
        .entrypoint(&["/app"])
        .build();
    registry.push("images/hostile", "links", &through_link);
    let up = Layered::new().file("/app", &wasm("dots")).raw_path(&format!("../../../../../../../../../../../..{target}/planted"));
    registry.push("images/hostile", "dots", &up.entrypoint(&["/app"]).build());
    for tag in ["links", "dots"] {
        // Refused, or kept inside: either will do.
        let _ = node.pull(&registry.reference(&format!("images/hostile:{tag}")));
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{tag}");
    }
    assert!(node.client.version(cri::VersionRequest::default()).is_ok());
    node.finish();
}
