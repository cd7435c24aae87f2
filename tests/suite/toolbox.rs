//! The toolbox in a container: its scripts beside what dash and busybox make of them, and a person at its shell.

use std::path::Path;
use std::sync::Mutex;

use crate::harness::guests::{PROBE, TOOLBOX};
use crate::harness::image::Layered;
use crate::harness::registry::Registry;
use crate::harness::{Node, Streams, container, cri};

const APPLETS: &str = include_str!("../../examples/toolbox/applets.txt");
const TTY: Streams = Streams { stdin: true, tty: true };

/// A container of the toolbox as examples/toolbox/image makes it, which waits.
fn waiting(user: i64) -> Option<(Node, String)> {
    let module = TOOLBOX.wasm()?;
    let node = Node::with(&[PROBE])?;
    let mut image = Layered::new()
        .file_of("/bin/toolbox", &module, 0o755, 0)
        .directory("/tmp", 0o1777, 0)
        .file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        .file("/etc/group", b"root:x:0:\n")
        .env(&["PATH=/bin", "HOME=/root", "TMPDIR=/tmp", "TZ=UTC"]);
    for applet in APPLETS.lines() {
        image = image.link(&format!("/bin/{applet}"), "toolbox");
    }
    Registry::shared()?.push("suite/toolbox", "1", &image.build());
    let reference = Registry::shared()?.reference("suite/toolbox:1");
    node.pull(&reference).expect("the image is pulled");
    let pod = node.pod("tools");
    let security = cri::LinuxContainerSecurityContext {
        run_as_user: Some(cri::Int64Value { value: user }),
        run_as_group: Some(cri::Int64Value { value: user }),
        supplemental_groups: vec![3000],
        ..Default::default()
    };
    let config = cri::ContainerConfig {
        command: vec!["sleep".into(), "infinity".into()],
        linux: Some(cri::LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
        ..container(&reference, "main", &[])
    };
    let id = node.launch(&pod, &config);
    Some((node, id))
}

#[test]
fn every_script_says_what_dash_and_busybox_say_or_differs_as_documented() {
    let Some((node, id)) = waiting(0) else { return };
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toolbox");
    let prelude = std::fs::read_to_string(suite.join("prelude")).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(suite.join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "sh"));
    names.sort();
    assert!(names.len() >= 150, "{} scripts", names.len());
    let (next, failed) = (Mutex::new(names.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(path) = next.lock().unwrap().next() else { return };
                    let script = std::fs::read_to_string(path).unwrap();
                    let differs = script.lines().any(|line| line.starts_with("# differs: "));
                    let wanted = std::fs::read(path.with_extension(if differs { "differs" } else { "out" })).unwrap();
                    // As a shell's own substitution takes a file: without the newlines at its end.
                    let text = format!("{}\n{}", prelude.trim_end_matches('\n'), script.trim_end_matches('\n'));
                    let done = match node.try_exec(&id, &["sh", "-c", &text], 30) {
                        Ok(done) => done,
                        Err(status) => {
                            failed.lock().unwrap().push(format!("{}: {}", path.display(), status.message()));
                            continue;
                        }
                    };
                    let told = [done.stdout.as_slice(), format!("[status {}]\n", done.exit_code).as_bytes()].concat();
                    if told != wanted {
                        let [told, wanted, said] =
                            [told, wanted, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{}:\n{told}--- instead of\n{wanted}--- stderr\n{said}", path.display()));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} scripts differ:\n{}", failed.len(), names.len(), failed.join("\n"));
    node.finish();
}

#[test]
fn a_person_at_the_shell_edits_lines_recalls_them_and_interrupts_what_takes_too_long() {
    let Some((node, id)) = waiting(0) else { return };
    let mut session = node.open_exec(&id, &["sh"], TTY);
    session.resize(100, 30);
    session.wait_for("# ");
    session.write(b"echo wrold\x1b[D\x1b[D\x1b[D\x7for\x1b[3~\r");
    session.wait_for("\r\nworld\r\n");
    session.stdout.clear();
    session.write(b"\x1b[A\r");
    session.wait_for("\r\nworld\r\n");
    session.write(b"sleep 1000\r");
    session.wait_for("sleep 1000");
    session.wait_for("\r\n");
    session.write(b"\x03");
    session.stdout.clear();
    session.write(b"echo status $?\r");
    session.wait_for("status 130\r\n");
    session.write(b"exit 5\r");
    assert_eq!(session.finish(), Ok(5));
    node.finish();
}

#[test]
fn the_tools_know_who_the_container_runs_as() {
    let Some((node, id)) = waiting(1234) else { return };
    let said = |command: &[&str]| String::from_utf8(node.exec(&id, command).stdout).unwrap();
    assert_eq!((said(&["id", "-u"]).as_str(), said(&["id", "-g"]).as_str()), ("1234\n", "1234\n"));
    assert!(said(&["id", "-G"]).split_whitespace().any(|group| group == "3000"));
    node.finish();
}
