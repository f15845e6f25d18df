//! Opens the ports.

use std::{io, net::SocketAddr};

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};

/// The buffer in the kernel for each connection and direction. Our messages are far below one kilobyte.
const SOCKET_BUFFER_BYTES: u32 = 32 * 1024;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

pub(super) fn listen(variable: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(addr).with_context(|| format!("{variable}: cannot listen on {addr}"))
}

/// Like `TcpListener::bind`, with less memory of the kernel for each connection: by default up
/// to 10 MB for bytes that a client sends too fast or does not read.
fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted service needs the address of connections that the kernel still closes.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}
