//! Compiles the service's contract. In your own repository, vendor the proto files.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let files = ["auth", "account", "edge", "recovery"];
    let files = files.map(|name| format!("realchat/auth/v1/{name}_service.proto"));
    let descriptors = protox::compile(files, ["../../proto"])?;
    tonic_prost_build::configure()
        // A message without `Debug` cannot leak a password or a token into a log.
        .skip_debug(["."])
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
