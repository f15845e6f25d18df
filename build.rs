//! Compiles the contracts in `proto/` with `protox`, so that nobody needs `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 3] = [
    "realchat/auth/v1/account_service.proto",
    "realchat/auth/v1/auth_service.proto",
    "realchat/auth/v1/user_event.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // The binary embeds the migrations.
    println!("cargo:rerun-if-changed=migrations");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(PROTOS)?;
    // What server reflection shows to grpcurl.
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    // No `Debug`: what cannot be printed cannot leak a password or a token. No
    // `connect()` in the client: the transport is the caller's choice.
    tonic_prost_build::configure()
        .skip_debug(["."])
        .build_transport(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
