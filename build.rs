//! Compiles the contracts in `proto/`, and the part of Envoy's that the edge uses, with `protox`,
//! so the build needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 7] = [
    "realchat/auth/v1/account_service.proto",
    "realchat/auth/v1/admin_service.proto",
    "realchat/auth/v1/auth_service.proto",
    "realchat/auth/v1/edge_service.proto",
    "realchat/auth/v1/mail_service.proto",
    "realchat/auth/v1/recovery_service.proto",
    "realchat/auth/v1/user_event.proto",
];

/// Not in `proto/`, because it is no contract of this service.
const ENVOY: &str = "src/edge/envoy/authorization.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed={ENVOY}");
    // The binary embeds the migrations.
    println!("cargo:rerun-if-changed=migrations");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(PROTOS)?;
    // Server reflection shows these descriptors to grpcurl.
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    // Messages have no `Debug`, so they cannot leak a password or a token into a log. The
    // client has no `connect()`, because the caller chooses the transport.
    tonic_prost_build::configure()
        .skip_debug(["."])
        .build_transport(false)
        .compile_fds(compiler.file_descriptor_set())?;

    // A header of a request may be a token.
    tonic_prost_build::configure()
        .skip_debug(["."])
        .bytes(".")
        .compile_fds(protox::compile([ENVOY], ["src/edge/envoy"])?)?;
    Ok(())
}
