//! Network namespaces that outlive their makers.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::super::netns::{self, NetnsError};
use super::{is_root, names_in, skip};
use crate::pinned::PinError;

/// Runs something inside a pinned namespace.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = netns::open(path).unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// How many mounts there are at or under a directory.
fn mounts_under(dir: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = |line: &&str| line.split(' ').nth(4).is_some_and(|place| Path::new(place).starts_with(dir));
    mounts.lines().filter(place).count()
}

fn pairs(sysctls: &[(&str, &str)]) -> Vec<(String, String)> {
    sysctls.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_namespace_is_pinned_with_loopback_up_and_leaves_nothing() {
    if !is_root() {
        return skip("a_namespace_is_pinned_with_loopback_up_and_leaves_nothing", "root");
    }
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("made/on/the/way");
    let path = netns::create(&below, "cri-wasm-x", &[]).unwrap();
    assert_eq!(path, below.join("cri-wasm-x"));
    assert!(netns::is_pinned(&path));
    assert_ne!(fs::metadata(&path).unwrap().ino(), fs::metadata("/proc/self/ns/net").unwrap().ino());
    inside(&path, || {
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let error = UdpSocket::bind("0.0.0.0:0").unwrap().connect("192.0.2.1:9").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NETUNREACH.raw_os_error()));
    });
    assert!(matches!(netns::create(&below, "cri-wasm-x", &[]), Err(NetnsError::Pin(PinError::Exists(_)))));
    netns::remove(&path).unwrap();
    netns::remove(&path).unwrap();
    assert!(!netns::is_pinned(&path));
    assert!(names_in(&below).is_empty());
    assert_eq!(mounts_under(dir.path()), 0);
}

#[test]
fn sysctls_are_set_inside_and_only_there() {
    if !is_root() {
        return skip("sysctls_are_set_inside_and_only_there", "root");
    }
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap().trim().replace('\t', " ");
    let outside = read("tcp_fin_timeout");
    let sysctls = pairs(&[("net.ipv4.tcp_fin_timeout", "17"), ("net/ipv4/ip_local_port_range", "20000 20100")]);
    let path = netns::create(dir.path(), "x", &sysctls).unwrap();
    inside(&path, || {
        assert_eq!(read("ip_unprivileged_port_start"), "0");
        assert_eq!(read("ping_group_range"), "0 2147483647");
        assert_eq!(read("tcp_fin_timeout"), "17");
        assert_eq!(read("ip_local_port_range"), "20000 20100");
    });
    // A pod's own word counts for more than the default, and later settings too.
    netns::set_sysctls(&path, &pairs(&[("net.ipv4.ip_unprivileged_port_start", "512")])).unwrap();
    inside(&path, || assert_eq!(read("ip_unprivileged_port_start"), "512"));
    assert_eq!(read("tcp_fin_timeout"), outside);
    netns::remove(&path).unwrap();
}

#[test]
fn a_sysctl_that_fails_leaves_no_namespace() {
    if !is_root() {
        return skip("a_sysctl_that_fails_leaves_no_namespace", "root");
    }
    let dir = tempfile::tempdir().unwrap();
    let create = |name, value| netns::create(dir.path(), "x", &pairs(&[(name, value)])).unwrap_err();
    assert!(matches!(create("net.ipv4.no_such_thing", "1"), NetnsError::Sysctl(_)));
    assert!(matches!(create("net.ipv4.tcp_fin_timeout", "soon"), NetnsError::Sysctl(_)));
    for name in ["kernel.msgmax", "net", "net.", "net/../kernel/msgmax", "/proc/sys/net/x", "", "network.x"] {
        assert!(matches!(create(name, "1"), NetnsError::NotANetworkSysctl(_)), "{name}");
    }
    assert!(names_in(dir.path()).is_empty());
    assert_eq!(mounts_under(dir.path()), 0);
}

#[test]
fn names_and_leftovers_are_handled() {
    if !is_root() {
        return skip("names_and_leftovers_are_handled", "root");
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["", ".", "..", "a/b"] {
        assert!(matches!(netns::create(dir.path(), name, &[]), Err(NetnsError::Pin(PinError::BadName(_)))), "{name}");
    }
    // After a reboot on a disk the file is there, and no namespace.
    let path = dir.path().join("x");
    fs::write(&path, "").unwrap();
    assert!(!netns::is_pinned(&path));
    assert!(matches!(netns::open(&path), Err(NetnsError::Pin(PinError::NotPinned(_)))));
    assert_eq!(netns::create(dir.path(), "x", &[]).unwrap(), path);
    // Pinned twice by somebody, gone at once.
    rustix::mount::mount_bind(&path, &path).unwrap();
    netns::remove(&path).unwrap();
    assert!(names_in(dir.path()).is_empty());
    assert_eq!(mounts_under(dir.path()), 0);
}

#[test]
fn namespaces_are_made_beside_each_other() {
    if !is_root() {
        return skip("namespaces_are_made_beside_each_other", "root");
    }
    let dir = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for number in 0..16 {
            let dir = dir.path();
            scope.spawn(move || {
                let path = netns::create(dir, &netns::name(&number.to_string()), &[]).unwrap();
                assert!(netns::is_pinned(&path));
                netns::remove(&path).unwrap();
            });
        }
    });
    assert!(names_in(dir.path()).is_empty());
    assert_eq!(mounts_under(dir.path()), 0);
}
