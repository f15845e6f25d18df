//! `auth-service healthcheck`: asks `/readyz` on `ADMIN_ADDR`, so TLS on the gRPC port does not
//! matter. For containers without a shell, whose engine can only run a program.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::print;

/// A healthy service answers in a millisecond. Docker's own default is 30 s.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(admin_addr: SocketAddr) -> anyhow::Result<()> {
    let answer = ask(reachable(admin_addr))
        .with_context(|| format!("no answer from ADMIN_ADDR {admin_addr}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if head.split(' ').nth(1) != Some("200") {
        bail!("{}", body.trim());
    }
    print(body.trim())
}

fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    Ok(answer)
}

/// A client cannot connect to an unspecified address (`0.0.0.0`), so it uses loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
