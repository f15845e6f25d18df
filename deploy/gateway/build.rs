//! Compiles the service's contract. In your own repository, vendor the proto file.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let descriptors = protox::compile(["realchat/auth/v1/auth_service.proto"], ["../../proto"])?;
    tonic_prost_build::configure()
        // A message without `Debug` cannot leak a password or a token into a log.
        .skip_debug(["."])
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
