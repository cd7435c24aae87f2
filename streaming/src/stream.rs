//! The byte streams of a session, the same for every transport: a transport fills [`Input`]s and empties what
//! [`Output`]s wrote; a command or a forwarded connection has the other ends.

mod gone;
mod input;
mod output;
mod resize;

pub use gone::Gone;
pub use input::Input;
pub use output::{ClientGone, Output};
pub use resize::Resize;

pub(crate) use input::{End, Filler, Pool, queue};
pub(crate) use output::{Ender, Message, Outbox, Outgoing, PIECE, outbox};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use resize::Sizes;
pub(crate) use resize::{follow, sizes};
