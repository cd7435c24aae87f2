//! What the suites stand on: a private daemon, a real registry, guests, a CRI client, and the look at what was left behind.

pub mod calls;
pub mod client;
pub mod guests;
pub mod http;
pub mod image;
pub mod leak;
pub mod log;
pub mod missing;
pub mod netns;
pub mod node;
pub mod place;
pub mod process;
pub mod registry;
pub mod session;
pub mod systemd;
pub mod wait;

pub use calls::{Ended, Pod, image_spec, network};
pub use cri_wasm::proto::runtime::v1 as cri;
pub use guests::{container, words};
pub use node::{AT_ONCE, Node, Options};
pub use session::Streams;
pub use wait::{eventually, until};
