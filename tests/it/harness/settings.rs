//! The settings with which tests start the service. Each is written here once.
//!
//! They are named like the variables of the environment. [`config`](super::config) turns
//! them into command line options for a service inside the test process.

/// The token of the internal caller `gateway`.
pub const INTERNAL_TOKEN: &str = INTERNAL_TOKENS.split_at("gateway:".len()).1;
/// The secret that signs.
pub const JWT_SECRET: &str = "a-secret-of-the-tests-32-bytes-long";

/// The key of the stored data.
pub const DATA_KEY: &str = "a-data-key-of-the-tests-of-32-bytes";

const INTERNAL_TOKENS: &str = "gateway:an-internal-token-of-32-characters";

/// The kernel picks both ports.
pub const FREE_PORTS: [(&str, &str); 2] =
    [("GRPC_ADDR", "127.0.0.1:0"), ("ADMIN_ADDR", "127.0.0.1:0")];

/// Accepts [`INTERNAL_TOKEN`].
pub const GATEWAY: [(&str, &str); 1] = [("INTERNAL_TOKENS", INTERNAL_TOKENS)];

/// For a test that makes more wrong guesses than the throttle lets through.
pub const NO_THROTTLE: [(&str, &str); 4] = [
    ("THROTTLE_FREE_PER_DEVICE", "1000000"),
    ("THROTTLE_FREE_PER_ACCOUNT", "1000000"),
    ("THROTTLE_FREE_PER_NETWORK", "1000000"),
    ("THROTTLE_DAILY_PER_ACCOUNT", "1000000"),
];

/// The settings of every service of a test. Settings in `more` come later, so they win.
pub fn settings<'a>(database_url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let base = [
        ("DATABASE_URL", database_url),
        ("JWT_SECRET", JWT_SECRET),
        ("DATA_KEY", DATA_KEY),
        // The cheapest hash that the service accepts.
        ("BCRYPT_COST", "10"),
        // On a busy machine a hash waits longer than the default allows.
        ("PASSWORD_MAX_WAIT", "9s"),
    ];
    [&base[..], &FREE_PORTS, more].concat()
}

/// The command line option of a variable: `--grpc-addr` for `GRPC_ADDR`.
pub fn option(variable: &str) -> String {
    format!("--{}", variable.to_lowercase().replace('_', "-"))
}
