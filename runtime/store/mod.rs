//! Records on disk, the names that are taken, and the ids of pods and containers.
//!
//! A record is what the daemon must find again after it was killed: [`records`] keeps it in two stores, [`names`] says which
//! names are reserved, [`ids`] makes ids and finds objects by a unique beginning of one.

mod backend;
mod error_chain;
mod file;
pub mod ids;
mod mirror;
pub mod names;
pub mod records;
#[cfg(test)]
mod records_test;

pub use error_chain::chain;
pub use ids::{ContainerId, IdError, SandboxId};
pub use names::{Names, Reservation, Reserve};
pub use records::{Origin, Record, Store, StoreError, Table};
