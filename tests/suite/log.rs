//! Log files: the CRI's format, written to the end, and rotated without a loss.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::harness::guests::{FIRST_LINE, PROBE};
use crate::harness::log::Log;
use crate::harness::{AT_ONCE, Node, cri, until, words};

fn reopen(node: &Node, id: &str) -> Result<(), tonic::Status> {
    node.client.reopen_container_log(cri::ReopenContainerLogRequest { container_id: id.to_owned() }).map(drop)
}

/// Renames the log and has it opened anew, as the kubelet does. Returns the old file's new name.
fn rotate(node: &Node, id: &str, log: &Path, number: usize) -> PathBuf {
    let old = PathBuf::from(format!("{}.{number}", log.display()));
    std::fs::rename(log, &old).unwrap();
    reopen(node, id).expect("ReopenContainerLog");
    assert!(log.exists(), "the new file is there when the call returns");
    old
}

#[test]
fn both_streams_are_logged_in_the_order_in_which_they_were_written() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let log = node.run(&pod, &PROBE.container("main", &["both", "100"])).log;
    let said: Vec<String> =
        log.0.iter().map(|entry| format!("{} {}", entry.stream, String::from_utf8_lossy(&entry.text))).collect();
    let wanted: Vec<String> =
        (1..=100).flat_map(|number| [format!("stdout out {number}"), format!("stderr err {number}")]).collect();
    assert_eq!(said, wanted);
    assert!(log.0.iter().all(|entry| entry.full));
    let mut times: Vec<&str> = log.0.iter().map(|entry| entry.time.as_str()).collect();
    let written = times.clone();
    times.sort_by_key(|time| (time.len(), *time));
    // Only of one length do they compare as text.
    if times.first().map(|time| time.len()) == times.last().map(|time| time.len()) {
        assert_eq!(times, written, "time does not go backwards");
    }
    node.finish();
}

#[test]
fn a_long_line_is_written_in_parts_that_a_kubelet_can_read() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    const PART: usize = 16 << 10;
    for length in [PART - 1, PART, PART + 1, 100_000] {
        let log = node.run(&pod, &PROBE.container(&format!("c{length}"), &["long", &length.to_string()])).log;
        let (last, parts) = log.0.split_last().unwrap();
        assert!(last.full && parts.iter().all(|entry| !entry.full), "{length}");
        assert!(log.0.iter().all(|entry| entry.text.len() <= PART), "{length}");
        let line: Vec<u8> = (b'a'..=b'z').cycle().take(length).chain([b'\n']).collect();
        assert_eq!(log.bytes("stdout"), line, "{length}");
    }
    node.finish();
}

#[test]
fn text_without_a_last_newline_is_a_part() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let log = node.run(&pod, &PROBE.container("main", &words("echo whole + partial rest"))).log;
    assert_eq!(log.stdout(), "whole\nrest");
    let last = log.0.last().unwrap();
    assert!(!last.full);
    // A line that is written bit by bit is one line.
    let log = node.run(&pod, &PROBE.container("bits", &words("partial a + partial b + err between + echo c"))).log;
    assert_eq!((log.stdout().as_str(), log.stderr().as_str()), ("abc\n", "between\n"));
    node.finish();
}

#[test]
fn empty_lines_and_bytes_that_are_no_text_are_logged_as_they_are() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let log = node.run(&pod, &PROBE.container("empty", &words("echo + echo x + echo"))).log;
    assert_eq!(log.stdout(), "\nx\n\n");
    let log = node.run(&pod, &PROBE.container("binary", &["binary"])).log;
    assert_eq!(log.bytes("stdout"), b"lone \x80 byte\ncut \xe2\x82\nnul \x00 byte\n\xff\xfe crlf\r\n");
    node.finish();
}

#[test]
fn the_log_is_complete_before_the_exit_is_seen() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    for number in 0..20 {
        // The harness reads the log at once when it sees the state.
        let log = node.run(&pod, &PROBE.container(&format!("c{number}"), &["lines", "3000"])).log;
        assert_eq!(log.0.len(), 3000);
        assert_eq!(log.0.last().unwrap().text, b"line 3000");
    }
    node.finish();
}

#[test]
fn without_a_log_path_nothing_is_logged() {
    let Some(node) = Node::with(&[FIRST_LINE]) else { return };
    let pod = node.pod("web");
    let config = cri::ContainerConfig { log_path: String::new(), ..FIRST_LINE.container("main", &[]) };
    let status = node.run(&pod, &config).status;
    assert_eq!((status.exit_code, status.log_path.as_str()), (0, ""));
    let nowhere = cri::PodSandboxConfig { log_directory: String::new(), ..node.pod_config("nowhere") };
    let pod = node.run_pod(&nowhere).unwrap();
    let status = node.run(&pod, &FIRST_LINE.container("main", &[])).status;
    assert_eq!((status.exit_code, status.log_path.as_str()), (0, ""));
    node.finish();
}

#[test]
fn a_log_that_is_there_is_appended_to() {
    let Some(node) = Node::with(&[FIRST_LINE]) else { return };
    let pod = node.pod("web");
    let before = "2026-11-21T00:00:00Z stdout F from before\n";
    std::fs::write(Path::new(&pod.config.log_directory).join("main.log"), before).unwrap();
    let ended = node.run(&pod, &FIRST_LINE.container("main", &[]));
    assert_eq!(ended.log.stdout(), "from before\nhello\n");
    node.finish();
}

#[test]
fn rotation_loses_no_line_of_a_guest_that_writes_all_the_time() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    const LINES: usize = 150_000;
    let id = node.launch(&pod, &PROBE.container("main", &["lines", &LINES.to_string(), "60"]));
    let log = PathBuf::from(node.status(&id).log_path);
    let mut files = Vec::new();
    while node.status(&id).state() == cri::ContainerState::ContainerRunning && files.len() < 40 {
        until("the log grows", || {
            std::fs::metadata(&log).is_ok_and(|file| file.len() > 1000)
                || node.status(&id).state() != cri::ContainerState::ContainerRunning
        });
        let old = PathBuf::from(format!("{}.{}", log.display(), files.len()));
        std::fs::rename(&log, &old).unwrap();
        // The guest may end in between: then there is nothing to write anew.
        let reopened = reopen(&node, &id);
        files.push(old);
        if reopened.is_err() {
            assert_ne!(node.status(&id).state(), cri::ContainerState::ContainerRunning, "{reopened:?}");
        }
    }
    assert!(files.len() > 3, "the guest was rotated while it wrote: {} times", files.len());
    assert_eq!(node.wait_exit(&id).status.exit_code, 0);
    files.push(log);
    let entries: Vec<_> = files.iter().flat_map(|file| Log::read(file).0).collect();
    assert_eq!(entries.len(), LINES);
    for (index, entry) in entries.iter().enumerate() {
        let number = format!("line {} ", index + 1);
        assert!(
            entry.full && entry.text.starts_with(number.as_bytes()),
            "line {} is {:?}",
            index + 1,
            String::from_utf8_lossy(&entry.text)
        );
    }
    node.finish();
}

#[test]
fn a_renamed_log_does_not_grow_once_it_was_reopened() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &words("lines 0 0 5")));
    node.wait_stdout(&id, "line 1\n");
    let log = PathBuf::from(node.status(&id).log_path);
    let old = rotate(&node, &id, &log, 1);
    // A line whose writing had begun may still go there.
    until("the new log is written to", || std::fs::metadata(&log).is_ok_and(|file| file.len() > 0));
    let length = std::fs::metadata(&old).unwrap().len();
    let new = std::fs::metadata(&log).unwrap().len();
    until("the new log grows", || std::fs::metadata(&log).is_ok_and(|file| file.len() > new + 200));
    assert_eq!(std::fs::metadata(&old).unwrap().len(), length);
    node.finish();
}

#[test]
fn the_log_of_a_guest_that_spins_is_reopened_all_the_same() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &["spin-after-lines", "3"]));
    node.wait_stdout(&id, "line 1\nline 2\nline 3\n");
    let log = PathBuf::from(node.status(&id).log_path);
    // Nobody looks at the new files while the guest computes.
    for number in 1..=8 {
        let begin = Instant::now();
        let old = rotate(&node, &id, &log, number);
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        let wanted = if number == 1 { "line 1\nline 2\nline 3\n" } else { "" };
        assert_eq!(Log::read(&old).stdout(), wanted);
    }
    node.stop_container(&id, 0).unwrap();
    node.finish();
}

#[test]
fn what_a_guest_writes_after_many_rotations_is_in_the_newest_file() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let args = words("echo before + wait-for /data/go + echo after");
    let id = node.launch(&pod, &cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("main", &args) });
    node.wait_stdout(&id, "before\n");
    let log = PathBuf::from(node.status(&id).log_path);
    for number in 1..=8 {
        rotate(&node, &id, &log, number);
    }
    std::fs::write(volume.join("go"), "").unwrap();
    let ended = node.wait_exit(&id);
    assert_eq!((ended.status.exit_code, ended.log.stdout().as_str()), (0, "after\n"));
    assert_eq!(Log::read(Path::new(&format!("{}.1", log.display()))).stdout(), "before\n");
    node.finish();
}

#[test]
fn reopening_the_log_of_a_container_that_does_not_run_neither_hangs_nor_makes_a_file_with_an_error() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let exited = node.run(&pod, &PROBE.container("exited", &["echo"])).status;
    let log = PathBuf::from(&exited.log_path);
    std::fs::remove_file(&log).unwrap();
    // critest takes either.
    match reopen(&node, &exited.id) {
        Ok(()) => assert!(log.exists()),
        Err(refused) => {
            assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
            assert!(!log.exists());
        }
    }
    node.finish();
}
