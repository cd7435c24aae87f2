//! Image volumes: files of one image in a container of another.

use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::image::Layered;
use crate::harness::registry::Registry;
use crate::harness::{Node, cri, image_spec, words};

/// A node with the image `tools:1` of two directories, one of them with a program.
fn node(name: &str) -> Option<(Node, String)> {
    let node = Node::with(&[PROBE])?;
    let tools = Layered::new().file("/bin/tool", &PROBE.wasm()?).file("/data/greeting", b"hello").link("/data/link", "greeting");
    Registry::shared()?.push(name, "1", &tools.build());
    let reference = Registry::shared()?.reference(&format!("{name}:1"));
    node.pull(&reference).expect("the image is pulled");
    Some((node, reference))
}

fn volume(image: &str, sub_path: &str, at: &str) -> cri::Mount {
    cri::Mount {
        container_path: at.to_owned(),
        readonly: true,
        image: Some(image_spec(image)),
        image_sub_path: sub_path.to_owned(),
        ..Default::default()
    }
}

#[test]
fn an_images_files_are_there_read_only_and_its_programs_run() {
    let Some((node, tools)) = node("volumes/run") else { return };
    let pod = node.pod("web");
    let mounts = vec![volume(&tools, "", "/tools"), volume(&tools, "data", "/data"), volume(&tools, "data/greeting", "/one")];
    let args = words("cat /data/link + cat /one + -write /tools/new x + -write /one x + ls /tools + sleep forever");
    let id = node.launch(&pod, &cri::ContainerConfig { mounts: mounts.clone(), ..PROBE.container("main", &args) });
    node.wait_stdout(&id, "hellohellobin/\ndata/\n");
    assert_eq!(node.log(&id).stderr(), "write: /tools/new: EROFS\nwrite: /one: EROFS\n");
    assert_eq!(node.exec(&id, &words("/tools/bin/tool echo from the volume")).stdout, b"from the volume\n");
    let told = node.status(&id).mounts;
    assert_eq!(told.len(), mounts.len());
    for (told, asked) in told.iter().zip(&mounts) {
        assert_eq!((&told.container_path, &told.image_sub_path), (&asked.container_path, &asked.image_sub_path));
        let image = told.image.as_ref().unwrap();
        assert_eq!((image.image.as_str(), image.image_ref.as_str()), (tools.as_str(), node.image(&tools).unwrap().id.as_str()));
    }
    node.finish();
}

#[test]
fn the_files_stay_as_long_as_the_container_although_the_image_is_removed() {
    let Some((mut node, tools)) = node("volumes/stay") else { return };
    let pod = node.pod("web");
    let config =
        cri::ContainerConfig { mounts: vec![volume(&tools, "", "/tools")], ..PROBE.container("main", &words("sleep forever")) };
    let (started, created) = (
        node.launch(&pod, &config),
        node.create(
            &pod,
            &cri::ContainerConfig {
                metadata: Some(cri::ContainerMetadata { name: "later".into(), attempt: 0 }),
                ..config.clone()
            },
        )
        .unwrap(),
    );
    node.remove_image(&tools).unwrap();
    node.restart_daemon();
    node.start_container(&created).unwrap();
    for id in [&started, &created] {
        assert_eq!(node.exec(id, &words("/tools/bin/tool echo still here")).stdout, b"still here\n");
    }
    node.finish();
}

#[test]
fn what_cannot_be_mounted_is_refused_when_the_container_is_created() {
    let Some((node, tools)) = node("volumes/refused") else { return };
    let pod = node.pod("web");
    let refused = |mount: cri::Mount| {
        let status =
            node.create(&pod, &cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("main", &[]) }).unwrap_err();
        (status.code(), status.message().to_owned())
    };
    for (mount, wanted) in [
        (volume("nosuch:1", "", "/v"), "the image is not here"),
        (volume(&tools, "nothing", "/v"), "nothing"),
        (volume(&tools, "../data", "/v"), ".."),
        (cri::Mount { readonly: false, ..volume(&tools, "", "/v") }, "only be mounted read-only"),
    ] {
        let (code, said) = refused(mount);
        assert!(
            code == Code::FailedPrecondition && said.starts_with("ImageVolumeMountFailed: ") && said.contains(wanted),
            "{said}"
        );
    }
    node.finish();
}
