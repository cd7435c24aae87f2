//! wasi:logging/logging: what a guest logs becomes lines of its container's log, `LEVEL context: message`.
//!
//! Warnings and worse go to standard error, the rest to standard output. Each line of a message begins with level and context, so that
//! none can be taken for another call's; the lines of one call are written at once, and so stay together.

use std::fmt::Write;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};

use super::{SettingError, variable};
use crate::guest::ComponentState;
use crate::stdio::{Output, Streams};

/// The released draft, and the name without a version by which wasmCloud's tools import it.
const NAMES: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

/// The least that is written.
const LEVEL: &str = "CRI_WASM_LOG_LEVEL";

/// Longest message and longest context, in bytes; the rest is cut off, and the cut is told.
const MESSAGE_BYTES: usize = 64 << 10;
const CONTEXT_BYTES: usize = 256;

/// As the interface has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl Level {
    const ALL: [(Level, &'static str); 6] = [
        (Level::Trace, "TRACE"),
        (Level::Debug, "DEBUG"),
        (Level::Info, "INFO"),
        (Level::Warn, "WARN"),
        (Level::Error, "ERROR"),
        (Level::Critical, "CRITICAL"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(level, _)| *level == self).map_or("", |(_, name)| name)
    }
}

/// Writes what guests log.
pub(super) struct Logger {
    least: Level,
    stdout: Output,
    stderr: Output,
}

impl Logger {
    pub(super) fn of(env: &[String], streams: &Streams) -> Result<Self, SettingError> {
        Ok(Logger { least: least(env)?, stdout: streams.stdout.clone(), stderr: streams.stderr.clone() })
    }

    fn log(&self, level: Level, context: &str, message: &str) {
        if level < self.least {
            return;
        }
        let output = if level >= Level::Warn { &self.stderr } else { &self.stdout };
        // A guest goes on where nobody reads what it logs.
        let _ = output.write(lines(level, context, message).as_bytes());
    }
}

fn least(env: &[String]) -> Result<Level, SettingError> {
    let Some(value) = variable(env, LEVEL) else { return Ok(Level::Trace) };
    let known = Level::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(value));
    known.map(|(level, _)| *level).ok_or_else(|| SettingError {
        variable: LEVEL.to_owned(),
        value: value.to_owned(),
        reason: "it is none of trace, debug, info, warn, error and critical".to_owned(),
    })
}

fn lines(level: Level, context: &str, message: &str) -> String {
    let mut prefix = level.name().to_owned();
    if !context.is_empty() {
        prefix.push(' ');
        for character in cut(context, CONTEXT_BYTES).0.chars() {
            if character.is_control() { prefix.extend(character.escape_default()) } else { prefix.push(character) }
        }
    }
    let (message, rest) = cut(message, MESSAGE_BYTES);
    let mut text = String::with_capacity(prefix.len() + message.len() + 3);
    // A line break at the end begins no line; a message of nothing is a line nevertheless.
    let message = message.strip_suffix('\n').unwrap_or(message);
    for line in message.split('\n') {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{prefix}: {}", line.trim_end_matches('\r'));
    }
    if rest > 0 {
        let _ = writeln!(text, "{prefix}: … and {rest} bytes more");
    }
    text
}

/// The beginning of a text, and how many bytes are not in it.
fn cut(text: &str, most: usize) -> (&str, usize) {
    let (beginning, rest) = text.split_at(text.floor_char_boundary(most));
    (beginning, rest.len())
}

pub(super) fn link(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    for name in NAMES {
        linker.instance(name)?.func_wrap(
            "log",
            |store: StoreContextMut<'_, ComponentState>, (level, context, message): (Level, String, String)| {
                store.data().interfaces.shared()?.logger.log(level, &context, &message);
                Ok(())
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_message_can_be_taken_for_another_call() {
        assert_eq!(lines(Level::Info, "app", "hello"), "INFO app: hello\n");
        assert_eq!(lines(Level::Warn, "", ""), "WARN: \n");
        assert_eq!(lines(Level::Error, "a", "one\r\nCRITICAL b: two\n"), "ERROR a: one\nERROR a: CRITICAL b: two\n");
        assert_eq!(lines(Level::Debug, "a\nERROR b", "c"), "DEBUG a\\nERROR b: c\n");
    }

    #[test]
    fn long_messages_are_cut_and_say_so() {
        let text = lines(Level::Trace, &"c".repeat(1000), &"ä".repeat(MESSAGE_BYTES));
        let prefix = format!("TRACE {}: ", "c".repeat(CONTEXT_BYTES));
        let (first, second) = text.split_once('\n').unwrap();
        assert_eq!(first.len(), prefix.len() + MESSAGE_BYTES);
        assert_eq!(second, format!("{prefix}… and {MESSAGE_BYTES} bytes more\n"));
    }

    #[test]
    fn the_environment_says_the_least_level() {
        let of = |value: &str| least(&[format!("CRI_WASM_LOG_LEVEL={value}")]);
        assert_eq!(of("").unwrap(), Level::Trace);
        assert_eq!(of("Warn").unwrap(), Level::Warn);
        let refused = of("loud").unwrap_err().to_string();
        assert!(refused.contains("CRI_WASM_LOG_LEVEL=\"loud\""), "{refused}");
    }
}
