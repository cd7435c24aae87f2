//! Containers that cannot be made or started: what they leave behind is nothing, and the retry succeeds.

use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::{Node, cri, image_spec};

#[test]
fn nothing_is_created_in_a_stopped_pod() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    node.stop_pod(&pod.id).unwrap();
    let before = node.holdings();
    let refused = node.create(&pod, &PROBE.container("main", &["echo"])).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn a_container_that_cannot_be_made_leaves_nothing_and_the_retry_succeeds() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let before = node.holdings();
    let good = PROBE.container("main", &["echo", "well"]);
    let change = |change: &dyn Fn(&mut cri::ContainerConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    let mount = |mount: cri::Mount| change(&move |config| config.mounts = vec![mount.clone()]);
    let missing_path = node.place.files.join("nowhere").display().to_string();
    let files = node.place.files.display().to_string();
    for (config, code, said) in [
        (change(&|config| config.metadata = None), Some(Code::InvalidArgument), "metadata"),
        (change(&|config| config.image = None), Some(Code::InvalidArgument), "image"),
        (
            change(&|config| config.image = Some(image_spec("example.com/no/such:image"))),
            Some(Code::NotFound),
            "example.com/no/such",
        ),
        (
            mount(cri::Mount { host_path: missing_path.clone(), container_path: "/data".into(), ..Default::default() }),
            None,
            missing_path.as_str(),
        ),
        (mount(cri::Mount { host_path: files.clone(), container_path: "data".into(), ..Default::default() }), None, "data"),
        (
            mount(cri::Mount {
                host_path: files.clone(),
                container_path: "/data".into(),
                recursive_read_only: true,
                ..Default::default()
            }),
            None,
            "read-only",
        ),
        (
            mount(cri::Mount {
                host_path: files,
                container_path: "/data".into(),
                readonly: true,
                recursive_read_only: true,
                propagation: cri::MountPropagation::PropagationBidirectional.into(),
                ..Default::default()
            }),
            None,
            "propagation",
        ),
        (
            mount(cri::Mount {
                image: Some(image_spec(&PROBE.reference())),
                container_path: "/data".into(),
                ..Default::default()
            }),
            Some(Code::FailedPrecondition),
            "ImageVolumeMountFailed",
        ),
        (
            mount(cri::Mount {
                host_path: node.place.files.display().to_string(),
                container_path: "/data".into(),
                uid_mappings: vec![cri::IdMapping { host_id: 1, container_id: 0, length: 1 }],
                ..Default::default()
            }),
            None,
            "user namespace",
        ),
        (
            change(&|config| {
                let device =
                    cri::Device { host_path: "/dev/null".into(), container_path: "/dev/x".into(), permissions: "r".into() };
                config.devices = vec![device];
            }),
            Some(Code::Unimplemented),
            "device",
        ),
        (
            change(&|config| {
                let profile = cri::SecurityProfile {
                    profile_type: cri::security_profile::ProfileType::Localhost.into(),
                    localhost_ref: "no-such-profile".into(),
                };
                config.linux.as_mut().unwrap().security_context =
                    Some(cri::LinuxContainerSecurityContext { apparmor: Some(profile), ..Default::default() });
            }),
            Some(Code::FailedPrecondition),
            "apparmor",
        ),
        (
            change(&|config| config.envs = vec![cri::KeyValue { key: "BINARY".into(), value: vec![0xff, 0xfe] }]),
            Some(Code::InvalidArgument),
            "BINARY",
        ),
        (
            change(&|config| {
                config.envs = vec![cri::KeyValue { key: "A=B".into(), value: b"c".to_vec() }];
            }),
            Some(Code::InvalidArgument),
            "A=B",
        ),
    ] {
        let refused = node.create(&pod, &config).expect_err(said);
        assert!(refused.message().to_lowercase().contains(&said.to_lowercase()), "{said}: {refused}");
        assert!(code.is_none_or(|code| refused.code() == code), "{said}: {refused:?}");
        assert!(node.containers(None).is_empty());
        node.assert_nothing_leaked(&before);
    }
    assert_eq!(node.run(&pod, &good).log.stdout(), "well\n");
    node.finish();
}

#[test]
fn a_start_that_fails_says_why_and_leaves_a_container_that_can_be_removed() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    node.run(&pod, &PROBE.container("warm", &["echo"]));
    let volume = node.place.directory("volume");
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let before = node.holdings();
    let id = node.create(&pod, &cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("main", &["echo"]) }).unwrap();
    std::fs::remove_dir(&volume).unwrap();
    let refused = node.start_container(&id).unwrap_err();
    assert!(refused.message().contains(&volume.display().to_string()), "{refused}");
    let status = node.status(&id);
    assert_eq!((status.state(), status.exit_code), (cri::ContainerState::ContainerExited, 128));
    assert_eq!(status.reason, "StartError");
    assert!(status.finished_at > 0 && status.message.contains(&volume.display().to_string()), "{status:?}");
    node.remove_container(&id).unwrap();
    node.assert_nothing_leaked(&before);
    node.finish();
}
