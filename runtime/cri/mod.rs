//! The CRI: the only room that knows its messages and `tonic::Status`.
//!
//! A file per RPC, noun first. [`runtime_service`] and [`image_service`] are what tonic calls: each call goes through one wrapper
//! ([`service`]), which gates, logs and maps errors ([`error`]). `request_*` turn messages into our own types and check them; `answer_*` turn our types into messages.

mod answer_container;
mod answer_image;
mod answer_sandbox;
mod answer_stats;
pub mod error;
mod filter;
mod image_service;
mod request_container;
mod request_sandbox;
mod runtime_service;
mod service;
mod stream_portions;
#[cfg(test)]
mod tests;

mod runtime_config;
mod runtime_status;
mod runtime_version;

mod sandbox_list;
mod sandbox_port_forward;
mod sandbox_remove;
mod sandbox_run;
mod sandbox_stats;
mod sandbox_stats_list;
mod sandbox_status;
mod sandbox_stop;
mod sandbox_update;

mod container_checkpoint;
mod container_create;
mod container_events;
mod container_exec;
mod container_exec_sync;
mod container_list;
mod container_log_reopen;
mod container_remove;
mod container_start;
mod container_stats;
mod container_stats_list;
mod container_status;
mod container_stop;
mod container_update;

mod image_fs_info;
mod image_list;
mod image_pull;
mod image_pull_watched;
mod image_remove;
mod image_status;

pub use service::Service;
