//! Whole sessions over real TCP, by clients of the tests' own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod exec;
mod forward;
mod requests;
mod websocket;
