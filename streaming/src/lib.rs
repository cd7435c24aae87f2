//! The CRI streaming server: exec, attach and port-forward, as every kubelet and crictl ask for them.
//!
//! The crate knows nothing of CRI messages and nothing of containers: its user implements [`Sessions`], asks the
//! [`Server`] for a path with a token in it, and gets the byte streams of whoever comes with that token. In reading order:

// What callers say and get.
mod config;
mod server;
mod sessions;
mod stream;
mod token;

// From a connection to a session.
mod http;
mod negotiation;
mod wire;

// What a session does.
mod command;
mod forward;
mod link;
mod session;
mod status;

// How it is spoken.
mod spdy;
mod websocket;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs, reason = "for fuzz/ alone")]
pub mod fuzzing;

pub use config::{Config, TokenLimits};
pub use server::Server;
pub use sessions::{CommandStreams, Kind, Outcome, Sessions, TerminalSize, Wanted};
pub use stream::{ClientGone, Gone, Input, Output, Resize};
pub use token::UrlError;
