//! Generates the types of the protocol between the daemon and the supervisor.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "../proto/host/host.proto";
    println!("cargo:rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["../proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
