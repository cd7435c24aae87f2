//! Reads log files in the CRI's format, and fails on anything that is not.

use std::path::Path;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// RFC 3339 with nanoseconds.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether the guest's line ends here.
    pub full: bool,
    pub text: Vec<u8>,
}

/// A whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log(pub Vec<Entry>);

impl Log {
    /// Reads a file; one that is not there is an empty log.
    pub fn read(path: &Path) -> Log {
        let bytes = std::fs::read(path).unwrap_or_default();
        assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "the last line of {} has no end", path.display());
        let lines = bytes.split(|&byte| byte == b'\n');
        let count = bytes.iter().filter(|&&byte| byte == b'\n').count();
        Log(lines.take(count).map(parse).collect())
    }

    /// What the guest wrote to stdout, as it wrote it.
    pub fn stdout(&self) -> String {
        String::from_utf8(self.bytes("stdout")).expect("text")
    }

    /// What the guest wrote to stderr, as it wrote it.
    pub fn stderr(&self) -> String {
        String::from_utf8(self.bytes("stderr")).expect("text")
    }

    /// What the guest wrote to a stream, as it wrote it.
    pub fn bytes(&self, stream: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in self.0.iter().filter(|entry| entry.stream == stream) {
            bytes.extend_from_slice(&entry.text);
            if entry.full {
                bytes.push(b'\n');
            }
        }
        bytes
    }
}

fn parse(line: &[u8]) -> Entry {
    let shown = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
    let fields: Vec<&[u8]> = line.splitn(4, |&byte| byte == b' ').collect();
    let [time, stream, tags, text] = fields[..] else { panic!("a log line of fewer than four fields: {shown:?}") };
    let word = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap_or_else(|_| panic!("no text: {shown:?}"));
    let (time, stream, tags) = (word(time), word(stream), word(tags));
    assert!(is_rfc3339_nano(&time), "no time: {shown:?}");
    assert!(stream == "stdout" || stream == "stderr", "no stream: {shown:?}");
    let first = tags.split(':').next().unwrap_or_default();
    assert!(first == "F" || first == "P", "no tag: {shown:?}");
    Entry { time, stream, full: first == "F", text: text.to_owned() }
}

/// `2006-01-02T15:04:05.999999999Z07:00`, as Go's parser takes it.
fn is_rfc3339_nano(time: &str) -> bool {
    const SHAPE: &str = "dddd-dd-ddTdd:dd:dd";
    if time.len() < SHAPE.len() || !time.is_ascii() {
        return false;
    }
    let (date, rest) = time.split_at(SHAPE.len());
    let fits = date
        .chars()
        .zip(SHAPE.chars())
        .all(|(found, wanted)| if wanted == 'd' { found.is_ascii_digit() } else { found == wanted });
    let zone = rest.trim_start_matches('.').trim_start_matches(|digit: char| digit.is_ascii_digit());
    fits && (zone == "Z" || (zone.len() == 6 && zone.starts_with(['+', '-'])))
}

#[test]
fn the_log_parser_knows_times() {
    assert!(is_rfc3339_nano("2026-11-21T03:10:34.22947241Z"));
    assert!(is_rfc3339_nano("2026-11-21T03:10:34.229472410+01:00"));
    assert!(is_rfc3339_nano("2026-11-21T03:10:34Z"));
    assert!(!is_rfc3339_nano("2026-11-21 03:10:34Z"));
    assert!(!is_rfc3339_nano("1763700000"));
}
