//! The configuration as text: for `cri-wasm config`, and for docs/configuration.md.

use std::fmt::Write;

use toml::{Table, Value};

use super::section::Section;
use super::{Cgroup, Compile, Config, Handler, Images, Limits, Log, Metrics, Network, Streaming, Tracing, Trust};

/// The tables with keys of their own, in the order of their declaration in [`Config`]. The handlers are not among
/// them: their names are the user's.
const TABLES: [(&str, Keys); 10] = [
    ("log", Log::KEYS),
    ("network", Network::KEYS),
    ("streaming", Streaming::KEYS),
    ("metrics", Metrics::KEYS),
    ("tracing", Tracing::KEYS),
    ("images", Images::KEYS),
    ("trust", Trust::KEYS),
    ("compile", Compile::KEYS),
    ("cgroup", Cgroup::KEYS),
    ("limits", Limits::KEYS),
];

const HANDLERS: &str = "handlers";

type Keys = &'static [(&'static str, &'static [&'static str])];

pub(super) fn render(config: &Config) -> String {
    let values = as_table(config);
    let mut text = String::from("# The effective configuration of cri-wasm: defaults, file and command line.\n");
    for (key, comment) in Config::KEYS.iter().filter(|(key, _)| !is_table(key)) {
        write_key(&mut text, key, comment, values.get(*key));
    }
    for (table, comment) in Config::KEYS.iter().filter(|(key, _)| is_table(key)) {
        text.push('\n');
        write_comment(&mut text, comment);
        let inner = values.get(*table).and_then(Value::as_table);
        if *table == HANDLERS {
            for name in inner.into_iter().flat_map(Table::keys) {
                // A writer to a String does not fail.
                let _ = writeln!(text, "[{HANDLERS}.{}]", Value::String(name.clone()));
                let handler = inner.and_then(|inner| inner.get(name)?.as_table());
                for (key, comment) in Handler::KEYS {
                    write_key(&mut text, key, comment, handler.and_then(|handler| handler.get(*key)));
                }
            }
            continue;
        }
        let _ = writeln!(text, "[{table}]");
        for (key, comment) in keys_of(table) {
            write_key(&mut text, key, comment, inner.and_then(|inner| inner.get(*key)));
        }
    }
    text
}

/// The keys with their defaults and words, as tables of Markdown: what docs/configuration.md carries.
pub fn reference() -> String {
    let defaults = as_table(&Config::default());
    let mut text = String::new();
    write_reference(&mut text, Config::KEYS.iter().filter(|(key, _)| !is_table(key)), Some(&defaults));
    for (table, comment) in Config::KEYS.iter().filter(|(key, _)| is_table(key)) {
        let heading = if *table == HANDLERS { "[handlers.NAME]".to_owned() } else { format!("[{table}]") };
        let _ = writeln!(text, "\n## `{heading}`\n\n{}\n", joined(comment));
        if *table == HANDLERS {
            write_reference(&mut text, Handler::KEYS.iter(), Table::try_from(Handler::default()).ok().as_ref());
            let _ = writeln!(
                text,
                "\nBy default there are `[handlers.\"\"]`, `[handlers.\"wasm\"]`, and `[handlers.\"wasm-compat\"]` with `procfs = true`."
            );
            continue;
        }
        write_reference(&mut text, keys_of(table).iter(), defaults.get(*table).and_then(Value::as_table));
    }
    text
}

fn write_reference<'a>(
    text: &mut String,
    keys: impl Iterator<Item = &'a (&'static str, &'static [&'static str])>,
    defaults: Option<&Table>,
) {
    text.push_str("| key | default | meaning |\n| --- | --- | --- |\n");
    for (key, comment) in keys {
        let default = match defaults.and_then(|defaults| defaults.get(*key)) {
            Some(value) => format!("`{value}`"),
            None => "–".to_owned(),
        };
        let _ = writeln!(text, "| `{key}` | {default} | {} |", joined(comment));
    }
}

fn is_table(key: &str) -> bool {
    key == HANDLERS || TABLES.iter().any(|(table, _)| *table == key)
}

fn keys_of(table: &str) -> Keys {
    TABLES.iter().find(|(name, _)| *name == table).map_or(&[], |(_, keys)| *keys)
}

/// Every value here is one that TOML knows, so that nothing fails; a value that did would be missing in the text, which
/// the tests of this room compare.
fn as_table(config: &Config) -> Table {
    Table::try_from(config).unwrap_or_default()
}

fn write_key(text: &mut String, key: &str, comment: &[&str], value: Option<&Value>) {
    text.push('\n');
    write_comment(text, comment);
    let _ = match value {
        Some(value) => writeln!(text, "{key} = {value}"),
        None => writeln!(text, "# {key} ="),
    };
}

fn write_comment(text: &mut String, comment: &[&str]) {
    for line in comment {
        let _ = writeln!(text, "# {}", line.trim());
    }
}

fn joined(comment: &[&str]) -> String {
    comment.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
