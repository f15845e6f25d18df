//! Compiles the service's contract. In your own repository, vendor the proto files.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    // The mailer calls MailService and reads UserEvent. Its tests play the users.
    let files = [
        "auth_service",
        "mail_service",
        "recovery_service",
        "user_event",
    ];
    let files = files.map(|file| format!("realchat/auth/v1/{file}.proto"));
    let descriptors = protox::compile(files, ["../../proto"])?;
    tonic_prost_build::configure()
        // A message without `Debug` cannot leak an address or a token into a log.
        .skip_debug(["."])
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
