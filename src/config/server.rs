use std::{net::SocketAddr, path::Path, time::Duration};

use super::{
    Args, Problem,
    reader::Reader,
    value::{address, boolean, duration},
    variable::{value, variables},
};
use crate::grpc::Exposure;

variables! {
    "Server"

    /// Where gRPC listens; port 0 picks a free one
    GRPC_ADDR: SocketAddr = value("IP:PORT", address).default("127.0.0.1:50051");
    /// Where /metrics, /livez and /readyz are answered
    ADMIN_ADDR: SocketAddr = value("IP:PORT", address).default("127.0.0.1:9464");
    /// The longest a call may take, above 0s and at most 1h
    REQUEST_TIMEOUT: Duration = value("DURATION", |text| duration(text, WAIT)).default("10s");
    /// Whether clients may list the calls by gRPC reflection: true or false
    GRPC_REFLECTION: bool = value("BOOL", boolean)
        .when_unset("true if GRPC_ADDR is a loopback address, else false");
    /// Whether GetSigningKey and Watch are served without TLS at an address other than loopback:
    /// true or false
    ALLOW_PLAINTEXT_KEYS: bool = value("BOOL", boolean).default("false");
}

/// How long a call, or a part of it, may wait.
pub(super) const WAIT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(1);

pub(super) fn read_addresses(reader: &mut Reader<'_>) -> [SocketAddr; 2] {
    let (grpc, admin) = (reader.value(&GRPC_ADDR), reader.value(&ADMIN_ADDR));
    let what = "must not be where GRPC_ADDR is";
    reader.require(!overlap(grpc, admin), &ADMIN_ADDR, &GRPC_ADDR, what);
    [grpc, admin]
}

pub(super) fn read_exposure(reader: &mut Reader<'_>, grpc: SocketAddr) -> Exposure {
    let on_loopback = grpc.ip().to_canonical().is_loopback();
    Exposure {
        reflection: reader.optional(&GRPC_REFLECTION).unwrap_or(on_loopback),
        plaintext_keys: reader.value(&ALLOW_PLAINTEXT_KEYS),
    }
}

pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

/// The address of probes, for `healthcheck`. No other variable is read.
pub fn admin_addr(args: &Args) -> Result<SocketAddr, Vec<Problem>> {
    let mut reader = Reader::new(args, Path::new(""));
    let addr = reader.value(&ADMIN_ADDR);
    if addr.port() == 0 {
        reader.problem(ADMIN_ADDR.name(), "has port 0, so its address is not known");
    }
    reader.finish(Some(addr)).map(|(addr, _)| addr)
}
