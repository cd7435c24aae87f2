//! Black-box suites: a private daemon for each test, spoken to over its socket as a kubelet does, with a real registry and real
//! CNI plugins. A file per subject; a test's name says what the runtime does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod harness;

mod v1alpha2;
mod version_status;

mod dns;
mod host_port;
mod names;
mod network;
mod network_failures;
mod port_forward;
mod preview1_http;
mod preview1_sockets;
mod sandbox;

mod attach;
mod command;
mod container;
mod container_failures;
mod exec;
mod exec_sync;
mod exit;
mod files;
mod interfaces;
mod log;
mod pod_metrics;
mod procfs;
mod resources;
mod security;
mod stats;
mod systemd;
mod user;
mod userns;
mod wasi;
mod wasi_p1;
mod web;
mod web_outgoing;

mod image_volumes;
mod images;
mod images_limits;
mod images_refused;
mod images_settings;

mod again;
mod concurrency;
mod config_cli;
mod desk;
mod events;
mod metrics;
mod programs;
mod records;
mod restart;
mod stream;
mod toolbox;
mod traces;
mod tuning;
