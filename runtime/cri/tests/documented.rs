//! docs/cri.md names every call, and docs/cri-fields.md every field of every message, with what the runtime makes of it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::proto::runtime::v1::DESCRIPTORS;

/// What a field can be: the page says what each means.
const WORDS: [&str; 7] = ["honoured", "refused", "recorded", "ignored", "told", "empty", "split"];

// The little of google/protobuf/descriptor.proto that says who has which fields.

#[derive(Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Message)]
struct File {
    #[prost(message, repeated, tag = "4")]
    messages: Vec<MessageType>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<ServiceType>,
}

#[derive(Message)]
struct MessageType {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<FieldType>,
}

#[derive(Message)]
struct FieldType {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Message)]
struct ServiceType {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<MethodType>,
}

#[derive(Message)]
struct MethodType {
    #[prost(string, tag = "1")]
    name: String,
}

fn descriptors() -> FileSet {
    FileSet::decode(DESCRIPTORS).expect("what the build has compiled")
}

fn page(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_call_has_its_heading() {
    let page = page("cri.md");
    // Its own heading, or one with others, or a row of the calls that are not there.
    let first_cell = |line| str::strip_prefix(line, "| ")?.split(" | ").next();
    let headings = page.lines().filter_map(|line| line.strip_prefix("### ").or_else(|| first_cell(line)));
    let named: BTreeSet<&str> = headings.flat_map(|heading| heading.split(", ")).collect();
    for service in descriptors().files.iter().flat_map(|file| &file.services) {
        for method in &service.methods {
            assert!(named.contains(method.name.as_str()), "docs/cri.md has no heading for {} of {}", method.name, service.name);
        }
    }
}

/// The fields of each message that a row of the page names, with the word before them.
fn rows(page: &str) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let mut rows: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for line in page.lines() {
        let Some((name, what)) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")?.split_once(" | ")) else {
            continue;
        };
        // The heading of a table, and what the words mean.
        if !name.starts_with(char::is_uppercase) || name == "Message" {
            continue;
        }
        let fields = rows.entry(name).or_default();
        for part in what.split("; ").filter(|part| *part != "–") {
            let (word, names) = part.split_once(": ").unwrap_or_else(|| panic!("{name}: {part:?} is no word with fields"));
            assert!(WORDS.contains(&word), "{name}: {word:?} is not one of {WORDS:?}");
            fields.extend(names.split(", ").map(|field| (field, word)));
        }
    }
    rows
}

#[test]
fn every_field_has_its_word() {
    let page = page("cri-fields.md");
    let rows = rows(&page);
    let descriptors = descriptors();
    let messages = descriptors.files.iter().flat_map(|file| &file.messages);
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for message in messages {
        known.insert(message.name.as_str());
        let mut fields: Vec<&str> = message.fields.iter().map(|field| field.name.as_str()).collect();
        let mut named: Vec<&str> = rows.get(message.name.as_str()).into_iter().flatten().map(|(field, _)| *field).collect();
        fields.sort_unstable();
        named.sort_unstable();
        if !rows.contains_key(message.name.as_str()) || fields != named {
            wrong.push(format!("{}: it has {fields:?}, the page has {named:?}", message.name));
        }
    }
    wrong.extend(rows.keys().filter(|name| !known.contains(*name)).map(|name| format!("there is no message {name}")));
    assert!(wrong.is_empty(), "docs/cri-fields.md:\n{}", wrong.join("\n"));
}
