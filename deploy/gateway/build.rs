//! Compiles the service's contract. In a repository of your own, vendor the proto file.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let descriptors = protox::compile(["realchat/auth/v1/auth_service.proto"], ["../../proto"])?;
    tonic_prost_build::configure()
        // What cannot be printed cannot leak a password or a token.
        .skip_debug(["."])
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
