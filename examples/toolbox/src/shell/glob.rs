//! Patterns of file names become the names that match them, sorted.

use super::pattern::Pattern;
use crate::runtime::executor::tick;
use crate::{context, sys, text};

/// The paths that a field matches; none if nothing does.
pub async fn expand(cwd: &str, field: &[(char, bool)]) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut components = field.split(|(character, _)| *character == '/').peekable();
    let mut first = true;
    while let Some(component) = components.next() {
        let last = components.peek().is_none();
        let mut next = Vec::new();
        if component.is_empty() {
            if first || !last {
                found.iter_mut().for_each(|path| path.push('/'));
            }
            first = false;
            continue;
        }
        let pattern = Pattern::new(component);
        let trailing = components.clone().next().is_some_and(<[_]>::is_empty) && components.clone().count() == 1;
        for path in &found {
            tick().await;
            match pattern.as_text() {
                Some(name) => next.push(format!("{path}{name}")),
                None => {
                    let directory = if path.is_empty() { cwd.to_string() } else { context::absolute(cwd, path) };
                    for name in names(&directory, &pattern) {
                        let entry = format!("{path}{name}");
                        let wanted =
                            last || sys::status(&context::absolute(cwd, &entry), true).is_ok_and(|status| status.is_directory());
                        if wanted {
                            next.push(entry);
                        }
                    }
                }
            }
        }
        if !last {
            next.iter_mut().for_each(|path| path.push('/'));
            if trailing {
                components.next();
            }
        }
        found = next;
        first = false;
    }
    found.retain(|path| sys::status(&context::absolute(cwd, path), false).is_ok());
    found.sort_unstable();
    found
}

/// Names in a directory that match; hidden ones only if the pattern begins with a dot.
fn names(directory: &str, pattern: &Pattern) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().map(|entry| text::decode(entry.file_name().as_encoded_bytes())).collect();
    if pattern.starts_with('.') {
        names.extend([".".to_string(), "..".to_string()]);
    } else {
        names.retain(|name| !name.starts_with('.'));
    }
    names.retain(|name| pattern.matches(name));
    names
}
