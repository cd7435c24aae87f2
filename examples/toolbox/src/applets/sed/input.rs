//! What `sed` reads.

use crate::applets::stream::open;
use crate::context::{Context, Fail};
use crate::runtime::file::Lines;

/// The lines of all files, with one read ahead, by which the last is known.
pub(super) struct Input {
    names: std::vec::IntoIter<String>,
    current: Option<Lines>,
    ahead: Option<(Vec<u8>, bool)>,
    ended: bool,
    pub(super) status: u8,
    /// The line that is worked on had a newline.
    pub(super) newline: bool,
}

impl Input {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names: names.into_iter(), current: None, ahead: None, ended: false, status: 0, newline: true }
    }

    async fn read(&mut self, context: &mut Context, null: bool) -> Result<Option<(Vec<u8>, bool)>, Fail> {
        loop {
            if self.current.is_none() {
                let Some(name) = self.names.next() else { return Ok(None) };
                match open(context, &name, "").await {
                    Some(handle) => self.current = Some(if null { Lines::new(handle).delimiter(0) } else { Lines::new(handle) }),
                    None => self.status = 1,
                }
                continue;
            }
            if let Some(lines) = &mut self.current {
                match context.next(lines).await? {
                    Some(line) => return Ok(Some(line)),
                    None => self.current = None,
                }
            }
        }
    }

    /// The next line. One is read ahead only where it is asked whether this is the last, so that lines are not held back.
    pub(super) async fn next(&mut self, context: &mut Context, null: bool) -> Result<Option<Vec<u8>>, Fail> {
        let line = match self.ahead.take() {
            Some(line) => Some(line),
            None if self.ended => None,
            None => self.read(context, null).await?,
        };
        Ok(line.map(|(line, newline)| {
            self.newline = newline;
            line
        }))
    }

    pub(super) async fn is_last(&mut self, context: &mut Context, null: bool) -> Result<bool, Fail> {
        if self.ahead.is_none() && !self.ended {
            self.ahead = self.read(context, null).await?;
            self.ended = self.ahead.is_none();
        }
        Ok(self.ahead.is_none())
    }
}
