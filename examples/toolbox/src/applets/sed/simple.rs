//! The commands of one letter.

use super::{After, Sed};
use crate::context::{Context, Fail};

impl Sed<'_> {
    /// Runs one; what follows, if it is not the next command.
    pub(super) async fn simple(&mut self, context: &mut Context, letter: char) -> Result<Option<After>, Fail> {
        match letter {
            'd' => return Ok(Some(After::Delete)),
            'D' => match self.pattern.iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    self.pattern.drain(..=at);
                    return Ok(Some(After::Restart));
                }
                None => return Ok(Some(After::Delete)),
            },
            'n' => {
                if self.input.is_last(context, self.null).await? {
                    // GNU and busybox print the last line where there is no next one.
                    return Ok(Some(After::Quit(true, self.input.status)));
                }
                if !self.quiet {
                    let pattern = self.pattern.clone();
                    self.print(context, &pattern).await?;
                }
                self.flush_appended(context).await?;
                if let Some(line) = self.input.next(context, self.null).await? {
                    self.pattern = line;
                    self.number += 1;
                }
            }
            'N' => {
                if self.input.is_last(context, self.null).await? {
                    return Ok(Some(After::Quit(true, self.input.status)));
                }
                self.flush_appended(context).await?;
                if let Some(line) = self.input.next(context, self.null).await? {
                    self.pattern.push(b'\n');
                    self.pattern.extend(line);
                    self.number += 1;
                }
            }
            'p' => {
                let pattern = self.pattern.clone();
                self.print(context, &pattern).await?;
            }
            'P' => {
                let line = self.pattern.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
                context.bytes(&line).await?;
                context.bytes(b"\n").await?;
            }
            'h' => self.hold.clone_from(&self.pattern),
            'H' => {
                self.hold.push(b'\n');
                self.hold.extend(&self.pattern);
            }
            'g' => self.pattern.clone_from(&self.hold),
            'G' => {
                self.pattern.push(b'\n');
                self.pattern.extend(&self.hold);
            }
            'x' => std::mem::swap(&mut self.pattern, &mut self.hold),
            'z' => self.pattern.clear(),
            'F' => context.print("-\n").await?,
            'l' => {
                let mut text = String::new();
                for byte in &self.pattern {
                    match byte {
                        b'\\' => text.push_str("\\\\"),
                        b'\n' => text.push_str("\\n"),
                        b'\t' => text.push_str("\\t"),
                        0x20..=0x7e => text.push(char::from(*byte)),
                        other => text.push_str(&format!("\\{other:03o}")),
                    }
                }
                context.print(&format!("{text}$\n")).await?;
            }
            _ => {}
        }
        Ok(None)
    }
}
