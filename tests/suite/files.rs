//! What a guest sees of files: its root, its mounts at their paths, and nothing else of the node.

use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::harness::guests::PROBE;
use crate::harness::image::Layered;
use crate::harness::registry::Registry;
use crate::harness::{Node, Pod, container, cri, words};

fn mount(host: &Path, inside: &str) -> cri::Mount {
    cri::Mount { host_path: host.display().to_string(), container_path: inside.into(), ..Default::default() }
}

fn readonly(mount: cri::Mount) -> cri::Mount {
    cri::Mount { readonly: true, ..mount }
}

fn with_mounts(name: &str, mounts: Vec<cri::Mount>, args: &[&str]) -> cri::ContainerConfig {
    cri::ContainerConfig { mounts, ..PROBE.container(name, args) }
}

/// What the probe says to stdout and stderr.
fn said(node: &Node, pod: &Pod, config: &cri::ContainerConfig) -> (String, String) {
    let ended = node.run(pod, config);
    assert!(ended.status.exit_code <= 1, "{} {}", ended.status.exit_code, ended.status.message);
    (ended.log.stdout(), ended.log.stderr())
}

fn mode(path: &Path, mode: u32) {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).unwrap();
}

#[test]
fn a_volume_is_read_and_written_at_its_path() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    std::fs::write(volume.join("given"), "from-the-node").unwrap();
    let args = words(
        "cat /data/given + echo + write /data/made from-the-guest + mkdir /data/d + rename /data/made /data/d/moved \
         + symlink moved /data/d/link + cat /data/d/link + echo + ls -r /data + truncate /data/given 4 + stat /data/given \
         + rm /data/d/link",
    );
    let (out, err) = said(&node, &pod, &with_mounts("main", vec![mount(&volume, "/data")], &args));
    assert_eq!(err, "");
    assert_eq!(
        out,
        "from-the-node\nfrom-the-guest\n/data/d/\n/data/d/link@\n/data/d/moved\n/data/given\n/data/given: file 4 bytes\n"
    );
    assert_eq!(std::fs::read_to_string(volume.join("d/moved")).unwrap(), "from-the-guest");
    assert_eq!(std::fs::read_to_string(volume.join("given")).unwrap(), "from");
    node.finish();
}

#[test]
fn a_readonly_mount_is_readonly_in_the_kernel() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    std::fs::write(volume.join("file"), "text").unwrap();
    mode(&volume.join("file"), 0o666);
    let args = words(
        "cat /data/file + echo + -write /data/file x + -write /data/new x + -mkdir /data/d + -rm /data/file \
         + -rename /data/file /data/other + -truncate /data/file 0 + -touch /data/file + -symlink a /data/link",
    );
    let (out, err) = said(&node, &pod, &with_mounts("main", vec![readonly(mount(&volume, "/data"))], &args));
    assert_eq!(out, "text\n");
    assert_eq!(
        err,
        "write: /data/file: EROFS\nwrite: /data/new: EROFS\nmkdir: /data/d: EROFS\nrm: /data/file: EROFS\nrename: /data/file: EROFS\n\
         truncate: /data/file: EROFS\ntouch: /data/file: EROFS\nsymlink: /data/link: EROFS\n"
    );
    assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "text");
    node.finish();
}

#[test]
fn a_readonly_mount_covers_what_is_mounted_below_it_only_where_that_is_asked_for() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    std::fs::create_dir(volume.join("below")).unwrap();
    // Unmounted with the place, if the test does not get there.
    rustix::mount::mount("tmpfs", volume.join("below"), "tmpfs", MountFlags::empty(), None).unwrap();
    let args = words("-write /data/file x + -write /data/below/file x");
    let plain = with_mounts("plain", vec![readonly(mount(&volume, "/data"))], &args);
    assert_eq!(said(&node, &pod, &plain).1, "write: /data/file: EROFS\n");
    assert!(volume.join("below/file").exists());
    let all = cri::Mount { recursive_read_only: true, ..readonly(mount(&volume, "/data")) };
    let (_, err) = said(&node, &pod, &with_mounts("recursive", vec![all], &args));
    assert_eq!(err, "write: /data/file: EROFS\nwrite: /data/below/file: EROFS\n");
    node.remove_pod(&pod.id).unwrap();
    rustix::mount::unmount(volume.join("below"), UnmountFlags::empty()).expect("no guest holds it any more");
    node.finish();
}

#[test]
fn a_readonly_root_is_readonly_and_mounts_on_it_keep_their_own_setting() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    let args = words("-write /file x + -mkdir /d + write /data/file x + -write /etc/hosts x");
    let mut config = with_mounts("main", vec![mount(&volume, "/data")], &args);
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxContainerSecurityContext { readonly_rootfs: true, ..Default::default() });
    let (_, err) = said(&node, &pod, &config);
    assert_eq!(err, "write: /file: EROFS\nmkdir: /d: EROFS\nwrite: /etc/hosts: EROFS\n");
    assert!(volume.join("file").exists());
    node.finish();
}

#[test]
fn what_a_container_writes_to_its_root_is_its_own_and_goes_with_it() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let (out, err) = said(&node, &pod, &PROBE.container("first", &words("write /file mine + cat /file")));
    assert_eq!((out.as_str(), err.as_str()), ("mine", ""));
    let (_, err) = said(&node, &pod, &PROBE.container("second", &["cat", "/file"]));
    assert_eq!(err, "cat: /file: ENOENT\n");
    node.finish();
}

#[test]
fn single_files_are_mounted_and_their_mount_points_are_made() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let file = node.place.files.join("file");
    std::fs::write(&file, "one").unwrap();
    let mounts = vec![mount(&file, "/dev/termination-log"), readonly(mount(&file, "/deep/er/ro"))];
    let args = words("cat /deep/er/ro + write /dev/termination-log two + cat /deep/er/ro + -write /deep/er/ro x");
    let (out, err) = said(&node, &pod, &with_mounts("main", mounts, &args));
    assert_eq!((out.as_str(), err.as_str()), ("onetwo", "write: /deep/er/ro: EROFS\n"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
    node.finish();
}

#[test]
fn a_mount_below_a_mount_lies_in_it_whatever_their_order() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let (outer, inner) = (node.place.directory("outer"), node.place.directory("inner"));
    std::fs::write(outer.join("o"), "").unwrap();
    std::fs::write(inner.join("i"), "").unwrap();
    for (name, mounts) in [
        ("outer-first", vec![mount(&outer, "/data"), mount(&inner, "/data/in")]),
        ("inner-first", vec![mount(&inner, "/data/in"), mount(&outer, "/data")]),
    ] {
        let (out, _) = said(&node, &pod, &with_mounts(name, mounts, &["ls", "-r", "/data"]));
        assert_eq!(out, "/data/in/\n/data/in/i\n/data/o\n", "{name}");
    }
    node.finish();
}

#[test]
fn a_host_path_that_is_a_link_leads_to_its_target() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    std::fs::write(volume.join("file"), "found").unwrap();
    let link = node.place.files.join("link");
    symlink(&volume, &link).unwrap();
    let config = with_mounts("main", vec![mount(&link, "/data")], &["cat", "/data/file"]);
    let ended = node.run(&pod, &config);
    assert_eq!(ended.log.stdout(), "found");
    assert_eq!(ended.status.mounts, config.mounts, "told as it was asked for");
    node.finish();
}

#[test]
fn a_host_path_that_is_missing_is_an_error_that_names_it_and_the_retry_succeeds() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    node.run(&pod, &PROBE.container("warm", &["echo"]));
    let before = node.holdings();
    let volume = node.place.files.join("late");
    let config = with_mounts("main", vec![mount(&volume, "/data")], &["ls", "/data"]);
    let refused = node.create(&pod, &config).unwrap_err();
    assert!(refused.message().contains(&volume.display().to_string()), "{refused}");
    assert!(!volume.exists(), "the runtime makes nothing on the node");
    node.assert_nothing_leaked(&before);
    std::fs::create_dir(&volume).unwrap();
    assert_eq!(node.run(&pod, &config).status.exit_code, 0);
    node.finish();
}

#[test]
fn the_guest_sees_nothing_of_the_node_but_its_mounts() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let secret = node.place.files.join("secret");
    std::fs::write(&secret, "do not tell").unwrap();
    let volume = node.place.directory("volume");
    symlink(&secret, volume.join("absolute")).unwrap();
    symlink("../secret", volume.join("relative")).unwrap();
    symlink("/proc/1/root", volume.join("root")).unwrap();
    let secret = secret.display().to_string();
    let line = format!(
        "-cat {secret} + -cat /../../../..{secret} + -cat /data/absolute + -cat /data/relative + -cat /data/../secret \
         + -ls /data/root + -cat /proc/self/environ + -ls /sys + -ls /var/tmp + -cat /etc/shadow + ls /data + preopens"
    );
    let args = words(&line);
    let ended = node.run(&pod, &with_mounts("main", vec![mount(&volume, "/data")], &args));
    let out = ended.log.stdout();
    assert!(!out.contains("do not tell"), "{out}");
    assert!(out.starts_with("absolute@\nrelative@\nroot@\n"), "not one of them was read: {out}");
    assert_eq!(ended.log.stderr().lines().count(), 10, "{}", ended.log.stderr());
    // What it has been given as directories is its own root, and no path of the node.
    for line in out.lines().skip(3) {
        assert!(["/", "/data", "."].contains(&line.split_once(": ").unwrap().1), "{line}");
    }
    let (root, _) = said(&node, &pod, &PROBE.container("root", &["ls", "/"]));
    for name in root.lines() {
        assert!(!["proc/", "sys/", "root/", "home/", "var/", "run/", "work/"].contains(&name), "{root}");
    }
    node.finish();
}

#[test]
fn what_the_kernel_refuses_the_guest_is_told_as_such() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    std::fs::write(volume.join("private"), "x").unwrap();
    mode(&volume.join("private"), 0o600);
    std::fs::create_dir(volume.join("closed")).unwrap();
    mode(&volume.join("closed"), 0o700);
    std::fs::create_dir(volume.join("full")).unwrap();
    std::fs::write(volume.join("full/file"), "").unwrap();
    mode(&volume.join("full"), 0o777);
    let args = words(
        "-cat /data/private + -ls /data/closed + -write /data/new x + -cat /data/none + -cat /data/private/below + -mkdir /data/full + -rmdir /data/full + -rm /data/full",
    );
    let mut config = with_mounts("main", vec![mount(&volume, "/data")], &args);
    config.linux.as_mut().unwrap().security_context =
        Some(cri::LinuxContainerSecurityContext { run_as_user: Some(cri::Int64Value { value: 1000 }), ..Default::default() });
    let (_, err) = said(&node, &pod, &config);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(
        &lines[..6],
        [
            "cat: /data/private: EACCES",
            "ls: /data/closed: EACCES",
            "write: /data/new: EACCES",
            "cat: /data/none: ENOENT",
            "cat: /data/private/below: ENOTDIR",
            "mkdir: /data/full: EEXIST",
        ]
    );
    // The directory above is not writable either, and kernels differ in what they look at first.
    assert!(["rmdir: /data/full: EACCES", "rmdir: /data/full: ENOTEMPTY"].contains(&lines[6]), "{err}");
    node.finish();
}

#[test]
fn the_pods_names_and_resolvers_are_in_its_files_of_etc() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let dns = cri::DnsConfig {
        servers: vec!["10.10.10.10".into(), "fd00::53".into()],
        searches: vec!["google.com".into(), "svc.cluster.local".into()],
        options: vec!["ndots:8".into()],
    };
    let config = cri::PodSandboxConfig { dns_config: Some(dns), ..node.pod_config("dns") };
    let pod = node.run_pod(&config).unwrap();
    let (out, err) = said(&node, &pod, &PROBE.container("main", &["cat", "/etc/resolv.conf"]));
    assert_eq!(err, "");
    assert_eq!(
        out.lines().filter(|line| line.starts_with("nameserver")).collect::<Vec<_>>(),
        ["nameserver 10.10.10.10", "nameserver fd00::53"]
    );
    assert!(out.lines().any(|line| line == "search google.com svc.cluster.local"), "{out}");
    assert!(out.lines().any(|line| line == "options ndots:8"), "{out}");
    let (hosts, _) = said(&node, &pod, &PROBE.container("hosts", &["cat", "/etc/hosts"]));
    assert!(hosts.lines().any(|line| line.starts_with("127.0.0.1") && line.contains("localhost")), "{hosts}");
    let (hostname, _) = said(&node, &pod, &PROBE.container("hostname", &["cat", "/etc/hostname"]));
    let of_node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(hostname.trim(), of_node.trim(), "a pod on the node's network has the node's name");

    let plain = node.pod("plain");
    let (out, _) = said(&node, &plain, &PROBE.container("main", &["cat", "/etc/resolv.conf"]));
    assert_eq!(out, std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(), "without a DNS configuration the node's");
    node.finish();
}

#[test]
fn files_of_etc_that_the_kubelet_brings_go_before_the_runtimes_own() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let hosts = node.place.files.join("hosts");
    std::fs::write(&hosts, "# Kubernetes-managed hosts file\n").unwrap();
    let (out, _) = said(&node, &pod, &with_mounts("main", vec![mount(&hosts, "/etc/hosts")], &["cat", "/etc/hosts"]));
    assert_eq!(out, "# Kubernetes-managed hosts file\n");
    node.finish();
}

#[test]
fn an_images_files_are_the_guests_root_with_their_modes_and_owners() {
    let Some(probe) = PROBE.wasm() else { return };
    let Some(node) = Node::with(&[PROBE]) else { return };
    let image = Layered::new()
        .file("/bin/probe", &probe)
        .file_of("/srv/public", b"for all", 0o644, 0)
        .file_of("/srv/private", b"for root", 0o600, 0)
        .file_of("/srv/mine", b"for me", 0o600, 1000)
        .directory("/srv/box", 0o755, 1000)
        .link("/srv/link", "public")
        .user("1000")
        .entrypoint(&["/bin/probe"])
        .build();
    let registry = Registry::shared().unwrap();
    registry.push("files/modes", "1", &image);
    let image = registry.reference("files/modes:1");
    node.pull(&image).unwrap();
    let pod = node.pod("web");
    let args = words("cat /srv/link /srv/mine + -cat /srv/private + write /srv/box/new x + -write /srv/new x");
    let (out, err) = said(&node, &pod, &container(&image, "main", &args));
    assert_eq!(out, "for allfor me");
    assert_eq!(err, "cat: /srv/private: EACCES\nwrite: /srv/new: EACCES\n");
    node.finish();
}

#[test]
fn a_container_may_have_a_hundred_mounts_and_too_many_are_refused() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let mounts = |count: usize| -> Vec<cri::Mount> {
        let directory = |number: usize| node.place.directory(&format!("volumes/{number}"));
        (0..count).map(|number| mount(&directory(number), &format!("/data/{number}"))).collect()
    };
    let (out, err) = said(&node, &pod, &with_mounts("hundred", mounts(100), &words("write /data/99/file x + ls /data/99")));
    assert_eq!((out.as_str(), err.as_str()), ("file\n", ""));
    let before = node.holdings();
    let config = with_mounts("thousand", mounts(1000), &["echo"]);
    let refused = match node.create(&pod, &config) {
        Err(refused) => refused,
        Ok(id) => {
            let refused = node.start_container(&id).expect_err("a message holds 253 descriptors");
            node.remove_container(&id).unwrap();
            refused
        }
    };
    assert!(refused.message().contains("mounts"), "{refused}");
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn a_mount_made_later_is_seen_where_its_propagation_says_so() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    std::fs::create_dir(volume.join("later")).unwrap();
    // A mount of its own that tells its copies what happens to it.
    rustix::mount::mount_bind(&volume, &volume).unwrap();
    rustix::mount::mount_change(&volume, rustix::mount::MountPropagationFlags::SHARED).unwrap();
    let launch = |name: &str, propagation: cri::MountPropagation| {
        let mount = cri::Mount { propagation: propagation.into(), ..mount(&volume, "/data") };
        let config = with_mounts(name, vec![mount], &words("echo here + wait-for /data/go + ls /data/later"));
        let id = node.launch(&pod, &config);
        node.wait_stdout(&id, "here\n");
        id
    };
    let private = launch("private", cri::MountPropagation::PropagationPrivate);
    let slave = launch("slave", cri::MountPropagation::PropagationHostToContainer);
    rustix::mount::mount("tmpfs", volume.join("later"), "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::write(volume.join("later/file"), "").unwrap();
    std::fs::write(volume.join("go"), "").unwrap();
    assert_eq!(node.wait_exit(&slave).log.stdout(), "here\nfile\n");
    assert_eq!(node.wait_exit(&private).log.stdout(), "here\n");
    node.remove_pod(&pod.id).unwrap();
    for path in [volume.join("later"), volume] {
        rustix::mount::unmount(path, UnmountFlags::empty()).expect("no guest holds it any more");
    }
    node.finish();
}
