//! What the check says of nodes that have and that lack something.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::Network;

fn executable(directory: &Path, name: &str) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join(name), "#!/bin/sh\n").unwrap();
    fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_whole_check_runs_anywhere_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { root: directory.path().join("a/root"), state: "/dev/shm/x".into(), ..Config::default() };
    let findings = run(&config);
    let names: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
    for name in ["root", "kernel", "namespaces", "overlayfs", "root directory", "cgroups", "CNI", "clock"] {
        assert!(names.contains(&name), "{name}");
    }
    for finding in &findings {
        assert_eq!(finding.remedy.is_some(), finding.level != Level::Ok, "{finding:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn root_on_a_current_kernel_lacks_nothing_essential() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none(), "this needs root");
        eprintln!("skipped: this needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let findings = run(&Config { root: directory.path().to_owned(), ..Config::default() });
    assert!(!is_essential_missing(&findings), "{}", render_text(&findings));
}

#[test]
fn trying_namespaces_leaves_this_process_in_its_own() {
    let links = || ["mnt", "net", "ipc", "uts"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
    let before = links();
    kernel::namespaces();
    assert_eq!(links(), before);
}

#[test]
fn kernels_before_mount_setattr_are_refused() {
    for (release, level) in [
        ("5.11.22-generic", Level::Missing),
        ("4.19.0-27-amd64", Level::Missing),
        ("nonsense", Level::Missing),
        ("5.12.0", Level::Ok),
        ("5.15-rc1", Level::Ok),
        ("6.18.44-fc", Level::Ok),
    ] {
        assert_eq!(kernel::judge_version(release).level, level, "{release}");
    }
}

#[test]
fn a_narrow_address_space_is_a_warning() {
    let stack = |end: &str| format!("00400000-00401000 r-xp 0 0:0 0 /x\n7ff0000000-{end} rw-p 0 00:00 0   [stack]\n");
    assert_eq!(kernel::judge_address_space(&stack("7ffd4a3c2000")).level, Level::Ok);
    assert_eq!(kernel::judge_address_space(&stack("7ffd4a3000")).level, Level::Warning);
    assert_eq!(kernel::judge_address_space("").level, Level::Warning);
}

#[test]
fn a_clock_that_was_never_set_is_a_warning() {
    assert_eq!(node::judge_clock(Duration::from_secs(86_400)).level, Level::Warning);
    assert_eq!(node::judge_clock(Duration::from_secs(1_800_000_000)).level, Level::Ok);
}

#[test]
fn a_state_directory_is_judged_by_what_it_would_lie_on() {
    assert_eq!(node::state_directory(Path::new("/dev/shm/not/there/yet")).level, Level::Ok);
    assert_eq!(node::state_directory(Path::new("/proc/self")).level, Level::Warning);
}

#[test]
fn where_no_layer_can_be_id_mapped_pods_have_no_user_namespaces() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: needs root");
    }
    let finding = node::user_namespaces(Path::new("/proc/self/fd"));
    assert_eq!(finding.level, Level::Warning);
    let place = tempfile::tempdir_in(std::env::var("CRI_WASM_TEST_DIR").unwrap_or("/var/tmp".into())).unwrap();
    let tried = node::user_namespaces(place.path());
    assert!(tried.level == Level::Ok || tried.message.contains("cannot"), "{tried:?}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing is left of the try");
}

#[test]
fn a_root_directory_that_cannot_carry_an_overlay_is_missing() {
    let finding = node::root_directory(Path::new("/proc/self/fd"));
    assert_eq!(finding.level, Level::Missing, "{finding:?}");
}

#[test]
fn a_cni_configuration_is_judged_with_its_plugins() {
    let directory = tempfile::tempdir().unwrap();
    let (conf, bin) = (directory.path().join("net.d"), directory.path().join("bin"));
    let network = Network { conf_dir: conf.clone(), bin_dirs: vec![bin.clone()], ..Network::default() };
    let judge = || cni::configuration(&network);
    assert!(judge().message.contains("no configuration in"));

    fs::create_dir(&conf).unwrap();
    fs::write(conf.join("README"), "no configuration").unwrap();
    fs::write(conf.join("10-a.conflist"), r#"{"plugins":[{"type":"bridge","ipam":{"type":"host-local"}}]}"#).unwrap();
    fs::write(conf.join("20-b.conf"), "broken").unwrap();
    executable(&bin, "bridge");
    let finding = judge();
    assert_eq!(finding.level, Level::Warning);
    assert!(finding.message.ends_with(": host-local"), "{}", finding.message);

    executable(&bin, "host-local");
    assert_eq!(judge().level, Level::Ok, "{:?}", judge());
    fs::write(bin.join("bridge"), "").unwrap();
    fs::set_permissions(bin.join("bridge"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(judge().level, Level::Warning, "a plugin that cannot be executed is none");

    for broken in ["broken", "{}", r#"{"plugins":[]}"#, r#"{"plugins":[{"type":3}]}"#, r#"{"plugins":3}"#] {
        fs::write(conf.join("00-first.conf"), broken).unwrap();
        let finding = judge();
        assert_eq!(finding.level, Level::Warning, "{broken}");
        assert!(finding.message.contains("00-first.conf"), "{}", finding.message);
    }
}

#[test]
fn host_ports_need_iptables_only_where_portmap_is_in_the_network() {
    let directory = tempfile::tempdir().unwrap();
    let network = Network { conf_dir: directory.path().to_owned(), ..Network::default() };
    assert!(cni::host_ports(&network).message.contains("forwarding process"));
    let list = r#"{"name": "n", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#;
    std::fs::write(directory.path().join("10.conflist"), list).unwrap();
    assert!(cni::host_ports(&network).message.contains("iptables") || cni::host_ports(&network).message.contains("nft"));
}

#[test]
fn text_has_a_line_for_each_finding_with_its_remedy_below_and_json_the_same_fields() {
    let findings = [Finding::ok("one", "fine"), Finding::warning("other thing", "half", "do this; it works anyway")];
    assert_eq!(
        render_text(&findings),
        "ok       one          fine\n\
         warning  other thing  half\n                      -> do this; it works anyway\n\
         \nPods run on this node; warnings: 1.\n"
    );
    let parsed: serde_json::Value = serde_json::from_str(&render_json(&findings).unwrap()).unwrap();
    assert_eq!(parsed[1]["remedy"], "do this; it works anyway");
    assert_eq!(parsed[0]["level"], "ok");
    assert!(parsed[0].get("remedy").is_none());
    assert!(!is_essential_missing(&findings));
    assert!(is_essential_missing(&[Finding::missing("x", "gone", "get it")]));
    assert!(render_text(&[Finding::missing("x", "gone", "get it")]).contains("No pod runs"));
}
