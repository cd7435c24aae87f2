//! Whole sessions over real TCP, by clients of the tests' own.

#[path = "../support/mod.rs"]
mod support;

mod exec;
mod forward;
mod requests;
mod websocket;
