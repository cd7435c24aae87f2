//! The parser of `find`'s expressions.

use std::collections::VecDeque;

use super::{Compare, Find, Test};
use crate::context::{Context, Fail, fail};
use crate::shell::pattern::Pattern;
use crate::sys::{Kind, Status};

impl Find {
    /// An expression: what stands between `-o`s.
    pub(super) fn either(&mut self, context: &Context, words: &mut VecDeque<String>) -> Result<Test, Fail> {
        let mut list = vec![self.both(context, words)?];
        while words.front().is_some_and(|word| matches!(word.as_str(), "-o" | "-or")) {
            words.pop_front();
            list.push(self.both(context, words)?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Test::Or(list) })
    }

    fn both(&mut self, context: &Context, words: &mut VecDeque<String>) -> Result<Test, Fail> {
        let mut list = Vec::new();
        while let Some(word) = words.front() {
            match word.as_str() {
                "-o" | "-or" | ")" => break,
                "-a" | "-and" => {
                    words.pop_front();
                }
                _ => list.push(self.one(context, words)?),
            }
        }
        if list.is_empty() { fail("an expression is missing") } else { Ok(Test::And(list)) }
    }

    fn one(&mut self, context: &Context, words: &mut VecDeque<String>) -> Result<Test, Fail> {
        let word = words.pop_front().unwrap_or_default();
        let mut value = || words.pop_front().ok_or_else(|| Fail::Message(format!("'{word}' needs an argument"), 1));
        let bad = |text: &str| Fail::Message(format!("invalid argument '{text}' of '{word}'"), 1);
        Ok(match word.as_str() {
            "(" => {
                let inner = self.either(context, words)?;
                if words.pop_front().as_deref() != Some(")") {
                    return fail("missing ')'");
                }
                inner
            }
            "!" | "-not" => Test::Not(Box::new(self.one(context, words)?)),
            "-name" => Test::Name(Pattern::from_text(&value()?), false),
            "-iname" => Test::Name(Pattern::from_text(&value()?.to_lowercase()), true),
            "-path" | "-wholename" => Test::Path(Pattern::from_text(&value()?)),
            "-type" => {
                let text = value()?;
                let kind = |letter: char| {
                    [Kind::File, Kind::Directory, Kind::Link, Kind::Character, Kind::Block, Kind::Pipe, Kind::Socket]
                        .into_iter()
                        .find(|kind| crate::applets::ls::letter(*kind) == if letter == 'f' { '-' } else { letter })
                };
                let kinds: Option<Vec<Kind>> = text.split(',').map(|part| part.chars().next().and_then(kind)).collect();
                Test::Kind(kinds.ok_or_else(|| bad(&text))?)
            }
            "-size" => {
                let text = value()?;
                let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
                let unit = match text.get(digits.len()..) {
                    Some("c") => 1,
                    Some("w") => 2,
                    Some("" | "b") => 512,
                    Some("k") => 1 << 10,
                    Some("M") => 1 << 20,
                    Some("G") => 1 << 30,
                    _ => return Err(bad(&text)),
                };
                Test::Size(Compare::parse(digits).ok_or_else(|| bad(&text))?, unit)
            }
            "-mtime" | "-atime" | "-ctime" | "-mmin" | "-amin" | "-cmin" => {
                let text = value()?;
                let unit = if word.ends_with("min") { 60 } else { 86400 };
                let time: fn(&Status) -> i64 = match word.chars().nth(1) {
                    Some('a') => |status| status.accessed.0,
                    Some('c') => |status| status.changed.0,
                    _ => |status| status.modified.0,
                };
                Test::Age(Compare::parse(&text).ok_or_else(|| bad(&text))?, unit, time)
            }
            "-newer" => {
                let name = value()?;
                match context.status(&name, true) {
                    Ok(status) => Test::Newer(status.modified),
                    Err(error) => return crate::context::because(&name, &error),
                }
            }
            "-links" => {
                let text = value()?;
                Test::Links(Compare::parse(&text).ok_or_else(|| bad(&text))?)
            }
            "-inum" => {
                let text = value()?;
                Test::Inode(Compare::parse(&text).ok_or_else(|| bad(&text))?)
            }
            "-empty" => Test::Empty,
            "-true" => Test::Always(true),
            "-false" => Test::Always(false),
            "-prune" => Test::Prune,
            "-depth" | "-d" => {
                self.depth_first = true;
                Test::Always(true)
            }
            "-xdev" | "-mount" | "-noleaf" => Test::Always(true),
            "-follow" => {
                self.follow = true;
                Test::Always(true)
            }
            "-maxdepth" | "-mindepth" => {
                let text = value()?;
                let depth = text.parse().map_err(|_| bad(&text))?;
                *(if word == "-maxdepth" { &mut self.most } else { &mut self.least }) = depth;
                Test::Always(true)
            }
            "-print" | "-print0" => {
                self.acts = true;
                Test::Print(if word == "-print" { '\n' } else { '\0' })
            }
            "-delete" => {
                self.acts = true;
                self.depth_first = true;
                Test::Delete
            }
            "-quit" => {
                self.acts = true;
                Test::Quit
            }
            "-exec" | "-ok" => {
                self.acts = true;
                let mut command = Vec::new();
                loop {
                    match words.pop_front() {
                        None => return fail("'-exec' needs ';' or '{} +' at its end"),
                        Some(word) if word == ";" => break Test::Exec(command, usize::MAX),
                        Some(word) if word == "+" && command.last().is_some_and(|last| last == "{}") => {
                            command.pop();
                            self.batches.push((command, Vec::new()));
                            break Test::Exec(Vec::new(), self.batches.len() - 1);
                        }
                        Some(word) => command.push(word),
                    }
                }
            }
            other => return fail(format!("unrecognized: {other}")),
        })
    }
}
