//! Redirections: what the descriptors of a command are.

use std::fs::OpenOptions;
use std::io;

use super::syntax::{Redirection, RedirectionKind};
use super::{Flow, Shell};
use crate::context::{Fds, absolute, open};
use crate::runtime::file::OpenFile;
use crate::{sys, text};

/// What came of redirections.
pub enum Redirected {
    /// The descriptors.
    Open(Fds),
    /// One failed, which has been said.
    Failed,
}

impl Shell {
    /// The descriptors that redirections lead to.
    pub async fn redirected(&mut self, redirections: &[Redirection]) -> Result<Redirected, Flow> {
        let mut fds = self.fds.clone();
        for redirection in redirections {
            let (word, options) = match &redirection.kind {
                RedirectionKind::Here(text) => {
                    let body = match text.get() {
                        Some(word) => self.expand_here(word).await?,
                        None => String::new(),
                    };
                    fds.insert(redirection.descriptor, OpenFile::memory(text::encode(&body).into_owned()));
                    continue;
                }
                RedirectionKind::Duplicate(word) => {
                    let from = self.expand_one(word).await?;
                    if from == "-" {
                        fds.remove(&redirection.descriptor);
                        continue;
                    }
                    match from.parse::<u32>().ok().and_then(|number| fds.get(&number).cloned()) {
                        Some(handle) => fds.insert(redirection.descriptor, handle),
                        None => {
                            self.complain_to(&fds, &format!("{from}: Bad file descriptor")).await;
                            return Ok(Redirected::Failed);
                        }
                    };
                    continue;
                }
                RedirectionKind::Read(word) => (word, OpenOptions::new().read(true).clone()),
                RedirectionKind::Append(word) => (word, OpenOptions::new().append(true).create(true).clone()),
                RedirectionKind::ReadWrite(word) => {
                    (word, OpenOptions::new().read(true).write(true).create(true).truncate(false).clone())
                }
                RedirectionKind::Write(word, _) => (word, OpenOptions::new().write(true).create(true).truncate(true).clone()),
            };
            let name = self.expand_one(word).await?;
            let path = absolute(&self.cwd, &name);
            let reading = matches!(redirection.kind, RedirectionKind::Read(_));
            let guarded = self.options.no_clobber && matches!(redirection.kind, RedirectionKind::Write(_, false));
            let result = if guarded && sys::status(&path, true).is_ok_and(|status| status.kind == sys::Kind::File) {
                Err(io::Error::from_raw_os_error(libc::EEXIST))
            } else {
                open(&path, &fds, &options)
            };
            match result {
                Ok(handle) => {
                    fds.insert(redirection.descriptor, handle);
                }
                Err(error) => {
                    let missing = error.raw_os_error() == Some(libc::ENOENT);
                    let (verb, what) = match (reading, missing) {
                        (true, true) => ("open", "no such file".to_string()),
                        (true, false) => ("open", sys::words(&error)),
                        (false, true) => ("create", "nonexistent directory".to_string()),
                        (false, false) => ("create", sys::words(&error)),
                    };
                    self.complain_to(&fds, &format!("can't {verb} {name}: {what}")).await;
                    return Ok(Redirected::Failed);
                }
            }
        }
        Ok(Redirected::Open(fds))
    }

    /// Says something where the redirections so far lead standard error.
    async fn complain_to(&self, fds: &Fds, message: &str) {
        if let Some(handle) = fds.get(&2) {
            let _ = handle.write(&text::encode(&format!("{}: {message}\n", self.label))).await;
        }
    }
}
