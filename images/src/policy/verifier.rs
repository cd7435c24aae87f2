//! One call of a verifier program.
//!
//! The contract is that of containerd's image verifiers (its plugin `bindir`), so that the same programs serve:
//!
//! - arguments: the configured ones, then `-name` and the normalised reference, `-digest` and the digest that it led to
//!   (of the index where it names one: that is what is signed), `-stdin-media-type` and
//!   `application/vnd.oci.descriptor.v1+json`;
//! - standard input: that descriptor as JSON (`mediaType`, `digest`, `size`), then the end;
//! - exit code 0 lets the image in, any other refuses it. What it prints is the reason, which the user sees: standard
//!   output, or standard error where that is empty.
//!
//! The environment is `PATH`, `HOME` and what finds a way out of the node ([`ENVIRONMENT`]), no more: the daemon's own
//! may hold secrets. The directory is `/`. A program runs in a process group of its own, which is killed whole when the
//! program ends, when its time is up, and when the pull is given up.

use std::process::Stdio;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::Verifier;
use crate::digest::Digest;
use crate::error::PullError;
use crate::reference::Reference;

/// What is passed on where the daemon has it.
const ENVIRONMENT: [&str; 12] = [
    "PATH",
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "DOCKER_CONFIG",
    "TMPDIR",
];
const DESCRIPTOR: &str = "application/vnd.oci.descriptor.v1+json";

/// Bytes of each output that are kept; the rest is read and thrown away.
const OUTPUT: usize = 4096;

/// What is judged.
pub(crate) struct Subject<'a> {
    pub(crate) reference: &'a Reference,
    /// What the reference led to.
    pub(crate) digest: &'a Digest,
    /// Its document: an index or a manifest.
    pub(crate) document: &'a [u8],
}

/// How a program ended.
struct Verdict {
    status: std::process::ExitStatus,
    text: String,
}

/// Lets the program judge.
pub(super) async fn ask(verifier: &Verifier, subject: &Subject<'_>) -> Result<(), PullError> {
    let (reference, program) = (subject.reference.to_string(), verifier.program.display().to_string());
    let begun = std::time::Instant::now();
    let verdict = match tokio::time::timeout(verifier.timeout, run(verifier, subject)).await {
        Ok(verdict) => verdict.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took longer than {:?}", verifier.timeout)),
    };
    let ms = begun.elapsed().as_millis() as u64;
    match verdict {
        Ok(Verdict { status, text }) if status.success() => {
            tracing::info!(reference, digest = %subject.digest, program, text, ms, "the verifier lets the image in");
            Ok(())
        }
        Ok(Verdict { status, text }) => match status.code() {
            Some(code) => {
                let text = if text.is_empty() { format!("exit code {code}, without a word") } else { text };
                Err(PullError::Refused { reference, digest: subject.digest.to_string(), verifier: program, text })
            }
            None => Err(PullError::VerifierFailed { reference, verifier: program, reason: format!("it ended with {status}") }),
        },
        Err(reason) => Err(PullError::VerifierFailed { reference, verifier: program, reason }),
    }
}

async fn run(verifier: &Verifier, subject: &Subject<'_>) -> std::io::Result<Verdict> {
    let descriptor = descriptor(subject)?;
    let mut command = Command::new(&verifier.program);
    command
        .args(&verifier.args)
        .args(["-name", &subject.reference.to_string(), "-digest", subject.digest.as_str(), "-stdin-media-type", DESCRIPTOR])
        .env_clear()
        .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // A service has no home, and programs that keep trust roots there would fail without one.
    if std::env::var_os("HOME").is_none() {
        command.env("HOME", "/root");
    }
    let mut child = command.spawn()?;
    let group = Group::of(&child)?;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(stdin) = &mut stdin {
            // A program that does not read it need not.
            let _unread = stdin.write_all(&descriptor).await;
        }
        drop(stdin.take());
    };
    let ended = async {
        let ended = group.ended().await;
        // What it left running would hold the pipes open. It is not reaped yet, so the group's number is still its own.
        group.kill();
        ended
    };
    let ((), ended, stdout, stderr) = futures_util::join!(feed, ended, read(stdout), read(stderr));
    ended?;
    let status = child.wait().await?;
    group.forget();
    let (stdout, stderr) = (readable(&stdout), readable(&stderr));
    tracing::debug!(program = %verifier.program.display(), %status, stdout, stderr, "a verifier has ended");
    Ok(Verdict { status, text: if stdout.is_empty() { stderr } else { stdout } })
}

/// The descriptor of the document, as the image specification writes it.
fn descriptor(subject: &Subject<'_>) -> std::io::Result<Vec<u8>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Descriptor<'a> {
        media_type: &'a str,
        digest: &'a str,
        size: usize,
    }
    let document: Document = serde_json::from_slice(subject.document)?;
    // The field may be left out; then it is of OCI, where the fields tell the kind.
    let media_type = match (&document.media_type, document.manifests) {
        (Some(media_type), _) => media_type,
        (None, Some(_)) => "application/vnd.oci.image.index.v1+json",
        (None, None) => "application/vnd.oci.image.manifest.v1+json",
    };
    let descriptor = Descriptor { media_type, digest: subject.digest.as_str(), size: subject.document.len() };
    let mut bytes = serde_json::to_vec(&descriptor)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The beginning of an output, which is read to its end.
async fn read(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0u8; 1024]);
    let Some(mut output) = output else { return kept };
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        let room = OUTPUT - kept.len();
        kept.extend(buffer.iter().take(count.min(room)));
    }
    kept
}

/// One line that is safe in a log, a terminal and an event: no control characters, nothing that turns the direction of
/// text, no colours.
fn readable(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.peek() == Some(&'[') => {
                // Up to the letter that ends the sequence.
                while characters.next().is_some_and(|next| !next.is_ascii_alphabetic()) {}
            }
            '\n' => plain.push('\n'),
            '\t' => plain.push(' '),
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            other if other.is_control() => {}
            other => plain.push(other),
        }
    }
    let lines: Vec<&str> = plain.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// The program's process group: killed when this is dropped before the program was reaped.
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn of(child: &tokio::process::Child) -> std::io::Result<Group> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("it has no process id"))?;
        Ok(Group { leader: Some(pid) })
    }

    /// Until the program has ended; it is not reaped. The thread that waits ends with the program, and that is killed
    /// with its pull.
    async fn ended(&self) -> std::io::Result<()> {
        let Some(leader) = self.leader else { return Ok(()) };
        let wait = move || loop {
            match rustix::process::waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        };
        let waited = tokio::task::spawn_blocking(wait).await.map_err(std::io::Error::other)?;
        Ok(waited?)
    }

    fn kill(&self) {
        if let Some(leader) = self.leader {
            // That there is none left is what is wanted.
            let _none = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }

    /// It was reaped: its number may be another's.
    fn forget(mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_without_control_characters() {
        assert_eq!(readable(b"\x1b[31mno signature\x1b[0m\r\n\n  for a\tb\x07\x00 \n"), "no signature; for a b");
        assert_eq!(readable("a\u{202e}b\u{2028}c".as_bytes()), "abc");
        assert_eq!(readable(b"\xff\xfe ok"), "\u{fffd}\u{fffd} ok");
        assert_eq!(readable(b"\x1b["), "");
    }

    #[test]
    fn the_descriptor_has_the_type_that_the_document_has_or_shows() {
        let reference = Reference::parse("ghcr.io/a/b").unwrap();
        for (document, expected) in [
            (r#"{"schemaVersion":2,"mediaType":"a/b","manifests":[]}"#, "a/b"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, "application/vnd.oci.image.index.v1+json"),
            (r#"{"schemaVersion":2,"layers":[]}"#, "application/vnd.oci.image.manifest.v1+json"),
        ] {
            let digest = Digest::of(document.as_bytes());
            let subject = Subject { reference: &reference, digest: &digest, document: document.as_bytes() };
            let value: serde_json::Value = serde_json::from_slice(&descriptor(&subject).unwrap()).unwrap();
            assert_eq!(value, serde_json::json!({"mediaType": expected, "digest": digest.as_str(), "size": document.len()}));
        }
    }
}
