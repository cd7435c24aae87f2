//! Completion by tab: commands where a command stands, variables behind `$`, paths everywhere else.

use super::editor::Completion;
use super::{Shell, builtins, special};
use crate::applets;
use crate::applets::files;
use crate::context::absolute;
use crate::sys;

const BUILTINS: [&str; 30] = [
    "alias", "bg", "break", "cd", "command", "continue", "eval", "exec", "exit", "export", "fg", "getopts", "hash", "history",
    "jobs", "local", "pwd", "read", "readonly", "return", "set", "shift", "times", "trap", "type", "ulimit", "umask", "unalias",
    "unset", "wait",
];

/// Candidates that are shown at most.
const MOST: usize = 500;

impl Shell {
    /// What can stand for the word before the cursor.
    pub fn complete(&self, line: &str) -> Completion {
        let characters: Vec<char> = line.chars().collect();
        let mut start = characters.len();
        while start > 0 {
            let character = characters.get(start - 1).copied().unwrap_or(' ');
            let escaped = start > 1 && characters.get(start - 2) == Some(&'\\');
            if !escaped && (character.is_whitespace() || ";|&()<>=\"'`".contains(character)) {
                break;
            }
            start -= 1;
        }
        let word: String = characters.iter().skip(start).collect::<String>().replace("\\ ", " ");
        let before: String = characters.iter().take(start).collect();
        let before = before.trim_end();
        let commanding = before.is_empty()
            || before.ends_with([';', '|', '&', '(', '`'])
            || ["then", "do", "else", "exec", "env", "command", "xargs", "time", "!"]
                .iter()
                .any(|word| before.split_whitespace().last() == Some(word));
        let mut candidates = if let Some((head, name)) = word.rsplit_once('$') {
            let names = self.variables.keys().filter(|own| own.starts_with(name));
            names.map(|own| format!("{head}${own}")).collect()
        } else if commanding && !word.contains('/') {
            self.commands(&word)
        } else {
            self.paths(&word)
        };
        candidates.sort_unstable();
        candidates.dedup();
        candidates.truncate(MOST);
        Completion { start, candidates }
    }

    fn commands(&self, word: &str) -> Vec<String> {
        let mut names: Vec<String> = applets::all().map(|applet| applet.name.to_string()).collect();
        names.extend(
            BUILTINS
                .iter()
                .filter(|name| builtins::is_builtin(name) || special::is_special(name))
                .map(|name| (*name).to_string()),
        );
        names.extend(self.functions.keys().cloned());
        names.extend(self.aliases.keys().cloned());
        names.retain(|name| name.starts_with(word));
        names.iter_mut().for_each(|name| name.push(' '));
        names
    }

    fn paths(&self, word: &str) -> Vec<String> {
        let (directory, stem) = match word.rfind('/') {
            Some(at) => word.split_at(at + 1),
            None => ("", word),
        };
        let place = match directory.strip_prefix("~/") {
            Some(rest) => format!("{}/{rest}", self.value("HOME").unwrap_or_default()),
            None => directory.to_string(),
        };
        let place = if place.is_empty() { self.cwd.clone() } else { absolute(&self.cwd, &place) };
        let names = files::list(&place).unwrap_or_default();
        names
            .into_iter()
            .filter(|name| name.starts_with(stem) && (stem.starts_with('.') || !name.starts_with('.')))
            .map(|name| {
                let is_directory = sys::status(&absolute(&place, &name), true).is_ok_and(|status| status.is_directory());
                let end = if is_directory { '/' } else { ' ' };
                let mut quoted = String::new();
                for character in name.chars() {
                    if " \\'\"$&;|<>()*?[]#`".contains(character) {
                        quoted.push('\\');
                    }
                    quoted.push(character);
                }
                format!("{directory}{quoted}{end}")
            })
            .collect()
    }
}
