//! A client's connection: it ends at its preface time-out, or at the end of its lifetime and of its
//! long streams.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{connection_info::ConnectionInfo, limit::Slot, transport::Transport};

/// Includes the TLS handshake. Clients send their preface at once.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// For the end of a long stream on its way to the client. Then hyper closes the connection, because
/// the client was asked to go.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The preface of HTTP/2 and the header of the SETTINGS frame that follows it (RFC 9113,
/// 3.4). After these bytes hyper can send pings and GOAWAY.
const PREFACE_BYTES: usize = 24 + 9;

pub(super) struct Connection {
    transport: Transport,
    info: ConnectionInfo,
    missing_preface_bytes: usize,
    /// Completes when the connection must be closed.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Counts from the preface.
    lifetime: Duration,
    /// Completes when the connection is closed for a new one: see `limit`.
    must_close: Pin<Box<dyn Future<Output = ()> + Send>>,
    _slot: Slot,
    /// Tells the server by its drop that the connection is closed.
    _open: oneshot::Sender<()>,
}

impl Connection {
    /// `stop` closes a connection without a preface, which would hold up the drain.
    pub(super) fn new(
        transport: Transport,
        is_private: bool,
        lifetime: Duration,
        stop: CancellationToken,
        slot: Slot,
    ) -> (Self, oneshot::Receiver<()>) {
        let info = ConnectionInfo::new(
            transport.peer.clone(),
            is_private,
            slot.calls(),
            stop.clone(),
        );
        let preface_end = async move {
            stop.run_until_cancelled(sleep(PREFACE_TIMEOUT)).await;
        };
        let (open, closed) = oneshot::channel();
        let connection = Self {
            info,
            transport,
            missing_preface_bytes: PREFACE_BYTES,
            end: Box::pin(preface_end.fuse()),
            lifetime,
            must_close: Box::pin(slot.must_close().fuse()),
            _slot: slot,
            _open: open,
        };
        (connection, closed)
    }

    /// That the encryption may keep.
    pub(super) fn transport_bytes(&self) -> usize {
        self.transport.bytes()
    }

    fn count_preface(&mut self, received: usize) {
        if self.missing_preface_bytes > 0 {
            self.missing_preface_bytes = self.missing_preface_bytes.saturating_sub(received);
            if self.missing_preface_bytes == 0 {
                let (info, lifetime) = (self.info.clone(), self.lifetime);
                let end = async move {
                    sleep(lifetime).await;
                    if info.long_streams_end().await {
                        sleep(LAST_ANSWER_TIMEOUT).await;
                    }
                };
                self.end = Box::pin(end.fuse());
            }
        }
    }

    /// Fails a pending read or write when the connection must be closed.
    fn until_end<T>(
        &mut self,
        context: &mut Context<'_>,
        step: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if step.is_pending() {
            ready!(self.end.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        step
    }

    /// After the preface, the end applies to reads only.
    fn until_preface_end<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.missing_preface_bytes > 0 {
            return self.until_end(context, written);
        }
        written
    }

    /// Fails once the connection must be closed for a new one. Each read and each write asks,
    /// because a connection may do only one of them for long.
    pub(super) fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.must_close.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let transport = &mut self.transport;
        let read = transport.poll(context, |stream, context| stream.poll_read(context, buffer));
        self.count_preface(buffer.filled().len() - before);
        self.until_end(context, read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let transport = &mut self.transport;
        let written = transport.poll(context, |stream, context| stream.poll_write(context, bytes));
        self.until_preface_end(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport.poll(context, |stream, context| {
            stream.poll_write_vectored(context, slices)
        });
        self.until_preface_end(context, written)
    }

    /// Both kinds of stream support it.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = &mut self.transport;
        let flushed = transport.poll(context, AsyncWrite::poll_flush);
        self.until_preface_end(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(context)
    }
}
