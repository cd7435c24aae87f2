//! Generates the CRI's services and messages from `proto/`, without protoc.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "proto/runtime/v1/api.proto";
    println!("cargo:rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["proto"])?;
    // `cri-wasm descriptors` prints this set; the conformance run compares it with the CRI's own Go module.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("cri.descriptors"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        // A call of a newer CRI answers UNIMPLEMENTED, which every kubelet knows how to handle.
        .generate_default_stubs(true)
        .compile_fds(descriptors)?;
    // The guests of `cri-wasm demo` that need no wasm toolchain.
    for guest in ["idle/idle", "crash/crash"] {
        let source = PathBuf::from("examples").join(guest).with_extension("wat");
        println!("cargo:rerun-if-changed={}", source.display());
        let name = source.file_name().unwrap_or_default();
        std::fs::write(out.join(name).with_extension("wasm"), wat::parse_file(&source)?)?;
    }
    Ok(())
}
