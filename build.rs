//! Generates services and messages from `proto/`, without protoc: the CRI's, and the daemon's own.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/runtime/v1/api.proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_file("runtime/v1/api.proto")?;
    // `cri-wasm descriptors` prints this set; the conformance run compares it with the CRI's own Go module.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Encoded by the compiler itself: prost's types have no field for `debug_redact`.
    std::fs::write(out.join("cri.descriptors"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_client(true)
        // A call of a newer CRI answers UNIMPLEMENTED, which every kubelet knows how to handle.
        .generate_default_stubs(true)
        .compile_fds(compiler.file_descriptor_set())?;
    println!("cargo:rerun-if-changed=proto/images/v1/images.proto");
    tonic_prost_build::configure().compile_fds(protox::compile(["images/v1/images.proto"], ["proto"])?)?;
    // The guests of `cri-wasm demo` that need no wasm toolchain.
    for guest in ["idle/idle", "crash/crash"] {
        let source = PathBuf::from("examples").join(guest).with_extension("wat");
        println!("cargo:rerun-if-changed={}", source.display());
        let name = source.file_name().unwrap_or_default();
        std::fs::write(out.join(name).with_extension("wasm"), wat::parse_file(&source)?)?;
    }
    Ok(())
}
