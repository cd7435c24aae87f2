//! Who a guest is, and what its process may do: user, groups, capabilities, seccomp, namespaces, cgroup.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::harness::guests::PROBE;
use crate::harness::image::Layered;
use crate::harness::leak::cgroups_of_container;
use crate::harness::process;
use crate::harness::registry::Registry;
use crate::harness::{Node, container, cri, words};

fn number(value: i64) -> Option<cri::Int64Value> {
    Some(cri::Int64Value { value })
}

fn with_security(mut config: cri::ContainerConfig, security: cri::LinuxContainerSecurityContext) -> cri::ContainerConfig {
    config.linux.as_mut().unwrap().security_context = Some(security);
    config
}

/// User, group and further groups of a process, as the kernel has them.
fn ids(pid: i32) -> (String, String, BTreeSet<u32>) {
    let status = process::status(pid);
    let all_four = |name: &str| {
        let ids: BTreeSet<&str> = status[name].split_whitespace().collect();
        assert_eq!(ids.len(), 1, "real, effective, saved and filesystem id are one: {ids:?}");
        ids.into_iter().next().unwrap().to_owned()
    };
    let groups = status["Groups"].split_whitespace().map(|id| id.parse().unwrap()).collect();
    (all_four("Uid"), all_four("Gid"), groups)
}

/// An image with users and groups of its own.
fn image_with_users(node: &Node, name: &str, user: &str) -> Option<String> {
    let image = Layered::new()
        .file("/bin/probe", &PROBE.wasm()?)
        .file_of(
            "/etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nme:x:1234:5678:me:/home/me:/bin/sh\nbare:x:77:78::/:/bin/sh\n",
            0o644,
            0,
        )
        .file_of("/etc/group", b"root:x:0:\nstaff:x:50000:me,other\nteam:x:50001:me\nothers:x:50002:other\n", 0o644, 0)
        .user(user)
        .entrypoint(&["/bin/probe"])
        .build();
    let registry = Registry::shared()?;
    registry.push(&format!("user/{name}"), "1", &image);
    let reference = registry.reference(&format!("user/{name}:1"));
    node.pull(&reference).expect("the image is pulled");
    Some(reference)
}

#[test]
fn files_that_a_guest_makes_are_its_users() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    rustix::fs::chmod(&volume, rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
    let security = cri::LinuxContainerSecurityContext {
        run_as_user: number(1001),
        run_as_group: number(1002),
        supplemental_groups: vec![1234, 5678],
        ..Default::default()
    };
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let args = words("write /data/file x + mkdir /data/dir + echo made + sleep forever");
    let config = with_security(cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("main", &args) }, security);
    let id = node.launch(&pod, &config);
    node.wait_stdout(&id, "made\n");
    for name in ["file", "dir"] {
        let about = std::fs::metadata(volume.join(name)).unwrap();
        assert_eq!((about.uid(), about.gid()), (1001, 1002), "{name}");
    }
    let (user, group, groups) = ids(node.guest_pid(&id));
    assert_eq!((user.as_str(), group.as_str()), ("1001", "1002"));
    assert!(groups.is_superset(&BTreeSet::from([1234, 5678])), "{groups:?}");
    let told = node.status(&id).user.unwrap().linux.unwrap();
    assert_eq!((told.uid, told.gid), (1001, 1002));
    assert_eq!(told.supplemental_groups.iter().map(|id| u32::try_from(*id).unwrap()).collect::<BTreeSet<_>>(), groups);
    node.finish();
}

/// Fails unless the process has exactly these capabilities, cannot gain any, and is under a filter of system calls.
pub(crate) fn assert_powerless(pid: i32, capabilities: &str) {
    let status = process::status(pid);
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status[set], capabilities, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    // 2: a filter.
    assert_eq!(status["Seccomp"], "2");
}

#[test]
fn a_guest_without_a_user_is_root_without_its_powers() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("root", &["sleep", "forever"]));
    let (user, group, _) = ids(node.guest_pid(&id));
    assert_eq!((user.as_str(), group.as_str()), ("0", "0"));
    // On the node's own network root may listen on low ports; nothing else is left to it.
    assert_powerless(node.guest_pid(&id), "0000000000000400");
    let security = cri::LinuxContainerSecurityContext { run_as_user: number(1000), ..Default::default() };
    let id = node.launch(&pod, &with_security(PROBE.container("user", &["sleep", "forever"]), security));
    assert_powerless(node.guest_pid(&id), "0000000000000000");
    node.finish();
}

#[test]
fn users_by_name_come_from_the_images_passwd() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let Some(image) = image_with_users(&node, "names", "") else { return };
    let by_name = |name: &str| cri::LinuxContainerSecurityContext { run_as_username: name.into(), ..Default::default() };
    let config = with_security(container(&image, "me", &words("env HOME + sleep forever")), by_name("me"));
    let id = node.launch(&pod, &config);
    node.wait_stdout(&id, "HOME=/home/me\n");
    let (user, group, groups) = ids(node.guest_pid(&id));
    assert_eq!((user.as_str(), group.as_str()), ("1234", "5678"));
    // Policy Merge, the default: those of the image's /etc/group too.
    assert!(groups.contains(&50000) && groups.contains(&50001) && !groups.contains(&50002), "{groups:?}");

    let before = node.holdings();
    let refused = node.create(&pod, &with_security(container(&image, "who", &[]), by_name("nobody-knows"))).unwrap_err();
    assert!(refused.message().contains("nobody-knows"), "{refused}");
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn with_policy_strict_only_the_groups_that_were_asked_for_count() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let features = node.client.status(cri::StatusRequest::default()).unwrap().features.unwrap();
    assert!(features.supplemental_groups_policy);
    let pod = node.pod("web");
    let Some(image) = image_with_users(&node, "strict", "me") else { return };
    for (name, policy, wanted) in [
        ("merge", cri::SupplementalGroupsPolicy::Merge, BTreeSet::from([5678, 42, 50000, 50001])),
        ("strict", cri::SupplementalGroupsPolicy::Strict, BTreeSet::from([5678, 42])),
    ] {
        let security = cri::LinuxContainerSecurityContext {
            supplemental_groups: vec![42],
            supplemental_groups_policy: policy.into(),
            ..Default::default()
        };
        let id = node.launch(&pod, &with_security(container(&image, name, &["sleep", "forever"]), security));
        let (_, _, mut groups) = ids(node.guest_pid(&id));
        // The primary group may be listed or not; it is in force either way.
        groups.insert(5678);
        assert_eq!(groups, wanted, "{name}");
    }
    node.finish();
}

#[test]
fn the_images_user_counts_where_the_pod_names_none() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    for (name, user, uid, gid) in [
        ("number", "1002", "1002", "0"),
        ("both", "1003:1004", "1003", "1004"),
        ("name", "me", "1234", "5678"),
        ("named-group", "me:staff", "1234", "50000"),
        ("number-of-a-name", "77", "77", "78"),
    ] {
        let Some(image) = image_with_users(&node, name, user) else { return };
        let id = node.launch(&pod, &container(&image, name, &["sleep", "forever"]));
        let (user, group, _) = ids(node.guest_pid(&id));
        assert_eq!((user.as_str(), group.as_str()), (uid, gid), "{name}");
        let status = node.status(&id);
        assert_eq!(status.user.unwrap().linux.unwrap().uid.to_string(), uid);
    }
    let Some(image) = image_with_users(&node, "over", "me") else { return };
    let security = cri::LinuxContainerSecurityContext { run_as_user: number(99), ..Default::default() };
    let id = node.launch(&pod, &with_security(container(&image, "over", &["sleep", "forever"]), security));
    assert_eq!(ids(node.guest_pid(&id)).0, "99");
    node.finish();
}

#[test]
fn a_group_without_a_user_is_refused() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let before = node.holdings();
    let security = cri::LinuxContainerSecurityContext { run_as_group: number(1002), ..Default::default() };
    let refused = node.create(&pod, &with_security(PROBE.container("main", &[]), security)).unwrap_err();
    assert!(refused.message().contains("group"), "{refused}");
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn each_guest_has_a_mount_ipc_and_uts_namespace_of_its_own() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let first = node.guest_pid(&node.launch(&pod, &PROBE.container("first", &["sleep", "forever"])));
    let second = node.guest_pid(&node.launch(&pod, &PROBE.container("second", &["sleep", "forever"])));
    let own = i32::try_from(std::process::id()).unwrap();
    let supervisor = node.supervisor().pid;
    for kind in ["mnt", "ipc"] {
        let spaces: BTreeSet<_> = [own, supervisor, first, second].map(|pid| process::namespace(pid, kind)).into();
        assert!(spaces.len() >= 3, "{kind}: {spaces:?}");
        assert_ne!(process::namespace(first, kind), process::namespace(own, kind));
        assert_ne!(process::namespace(first, kind), process::namespace(second, kind));
    }
    assert_eq!(process::namespace(first, "net"), process::namespace(own, "net"), "the pod asked for the node's network");
    // Its root is nothing of the node: no mount of the node is to be seen from it.
    let mounts = process::mount_points(&first.to_string());
    assert!(!mounts.iter().any(|path| path.starts_with("/sys") || path.starts_with("/proc")), "{mounts:?}");
    node.finish();
}

/// Makes a group in each hierarchy, and returns all that were made, each before those in it.
fn make_groups(group: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let hierarchies = text.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let mut made = Vec::new();
    for hierarchy in hierarchies {
        let mut path = PathBuf::from(hierarchy);
        for part in group.trim_start_matches('/').split('/') {
            path.push(part);
            if std::fs::create_dir(&path).is_ok() {
                made.push(path.clone());
            }
        }
    }
    made
}

#[test]
fn a_guests_limits_are_in_its_own_cgroup_below_the_pods() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let mut config = node.pod_config("web");
    let parent = format!("{}/kubepods/burstable/pod1234", node.place.cgroup());
    config.linux.as_mut().unwrap().cgroup_parent = parent.clone();
    // The kubelet makes the pod's group, and takes it away once the runtime has left it.
    let made = make_groups(&parent);
    let pod = node.run_pod(&config).unwrap();
    let mut config = PROBE.container("main", &["sleep", "forever"]);
    config.linux.as_mut().unwrap().resources = Some(cri::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 25_000,
        cpu_shares: 256,
        memory_limit_in_bytes: 48 << 20,
        oom_score_adj: 985,
        cpuset_cpus: "0".into(),
        ..Default::default()
    });
    let id = node.launch(&pod, &config);
    let pid = node.guest_pid(&id);
    let groups = cgroups_of_container(&node.place, &id);
    assert!(!groups.is_empty());
    for group in &groups {
        assert!(group.display().to_string().contains(&parent), "{} is below {parent}", group.display());
        assert_eq!(std::fs::read_to_string(group.join("cgroup.procs")).unwrap(), format!("{pid}\n"), "{}", group.display());
    }
    let read = |name: &str| {
        groups.iter().find_map(|group| std::fs::read_to_string(group.join(name)).ok()).map(|text| text.trim().to_owned())
    };
    let either = |v1: &str, v2: &str| read(v1).or_else(|| read(v2)).unwrap_or_else(|| panic!("{v1} or {v2}"));
    assert_eq!(either("memory.limit_in_bytes", "memory.max"), (48 << 20).to_string());
    if let Some(quota) = read("cpu.cfs_quota_us") {
        assert_eq!(
            (quota.as_str(), read("cpu.cfs_period_us").as_deref(), read("cpu.shares").as_deref()),
            ("25000", Some("100000"), Some("256"))
        );
    } else {
        assert_eq!(read("cpu.max").as_deref(), Some("25000 100000"));
        // (256 - 2) · 9999 / 262142 + 1, as runc has it.
        assert_eq!(read("cpu.weight").as_deref(), Some("10"));
    }
    assert_eq!(read("cpuset.cpus").as_deref(), Some("0"));
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "985");
    node.remove_pod(&pod.id).unwrap();
    for group in &groups {
        assert!(!group.exists(), "{}", group.display());
    }
    for group in made.iter().rev() {
        std::fs::remove_dir(group).expect("nothing of the pod is left in its group");
    }
    node.finish();
}

#[test]
fn a_guest_holds_no_descriptor_of_the_daemon_or_the_supervisor() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let first = node.launch(&pod, &PROBE.container("first", &["sleep", "forever"]));
    let second = node.launch(&pod, &PROBE.container("second", &words("echo here + sleep forever")));
    node.wait_stdout(&second, "here\n");
    let open = process::descriptors(node.guest_pid(&second));
    for path in &open {
        let text = path.display().to_string();
        for foreign in ["records", "daemon.log", "cgroup.procs", &first] {
            assert!(!text.contains(foreign), "{text}");
        }
    }
    // A socket or pipe that two processes have open is a way from one to the other.
    let shared = |pid: i32| {
        let theirs = process::descriptors(pid);
        let is_way =
            |path: &&PathBuf| path.to_string_lossy().starts_with("socket:[") || path.to_string_lossy().starts_with("pipe:[");
        open.iter().filter(is_way).filter(|path| theirs.contains(path)).cloned().collect::<Vec<_>>()
    };
    let neighbour = node.guest_pid(&first);
    for (name, pid) in [("the daemon", node.daemon_pid()), ("the supervisor", node.supervisor().pid), ("a neighbour", neighbour)]
    {
        assert_eq!(shared(pid), Vec::<PathBuf>::new(), "{name}");
    }
    node.finish();
}
