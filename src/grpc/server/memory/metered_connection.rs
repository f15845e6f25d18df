//! A connection that reads only what there is memory for, and whose peer has to read.

use std::{
    io::{self, ErrorKind, IoSlice},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Extensions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use zeroize::Zeroizing;

use super::{
    Budget, Held, PeerMemory,
    lasting::A_WHILE,
    timer::Timer,
    traffic::{Received, Traffic},
};
use crate::grpc::server::{connection::Connection, connection_info::ConnectionInfo};

/// Few streams can begin in one piece, and a connection that waits keeps one piece.
const PIECE_BYTES: usize = 2 * 1024;

/// A peer is gone or hostile if it reads no part of its answers for this long, or does not end
/// its headers. A connection may also wait this long for memory: its calls have met their
/// deadlines then.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

pub struct MeteredConnection {
    connection: Connection,
    memory: Arc<PeerMemory>,
    traffic: Traffic,
    /// What the budget knows.
    reported: Held,
    /// Received, but not passed on yet.
    waiting: Bytes,
    /// The bytes of `waiting` that are in `traffic`. They wait for memory.
    followed: usize,
    /// Lets new streams and other connections run before more is read.
    pause: bool,
    blocked: bool,
    /// Runs while the peer does not read, or the connection waits for memory.
    progress: Timer,
    /// Runs while a header block is not complete.
    headers: Timer,
    /// Runs while the connection waits for memory: others may have stalled for a while then.
    again: Timer,
}

/// The connection of a call, in the extensions of its request.
#[derive(Clone)]
pub struct ConnectInfo {
    pub connection: ConnectionInfo,
    pub memory: Arc<PeerMemory>,
}

impl ConnectInfo {
    /// Of a request that the server received.
    pub fn of(extensions: &Extensions) -> &Self {
        extensions.get().expect("tonic adds it to each request")
    }
}

impl MeteredConnection {
    pub fn new(connection: Connection, budget: &Arc<Budget>) -> Self {
        Self {
            memory: budget.open(connection.transport_bytes()),
            connection,
            traffic: Traffic::new(),
            reported: Held::default(),
            waiting: Bytes::new(),
            followed: 0,
            pause: false,
            blocked: false,
            progress: Timer::new(PEER_TIMEOUT),
            headers: Timer::new(PEER_TIMEOUT),
            again: Timer::new(A_WHILE),
        }
    }

    fn held(&self) -> Held {
        let held = self.traffic.held();
        if self.blocked {
            let stalled = held.all;
            return Held { stalled, ..held };
        }
        self.memory.allow_server_streams(held)
    }

    /// Fails when the connection was closed for others, or its peer did not read in time.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.connection.check(context)?;
        self.memory.listen(context);
        if self.memory.is_closed() {
            return Err(ErrorKind::OutOfMemory.into());
        }
        let waits = self.followed > 0;
        if self.again.is_over(waits, context) {
            // This poll asks for memory. If it is refused, a later one asks too.
            self.again.restart();
            self.again.is_over(waits, context);
        }
        let stands = self.blocked || waits || self.memory.has_unread();
        if self.progress.is_over(stands, context)
            || self.headers.is_over(self.traffic.block_is_open(), context)
        {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn follow(&mut self, bytes: &[u8]) -> Received {
        let received = self.traffic.receive(bytes);
        if received.ends_block {
            self.headers.restart();
        }
        received
    }

    fn poll_hold(&mut self, context: &Context<'_>) -> Poll<()> {
        let held = self.held();
        if held != self.reported {
            ready!(self.memory.poll_hold(context, held));
            self.reported = held;
        }
        Poll::Ready(())
    }

    /// Reads a piece, and passes it on if there is memory for what it begins.
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = Zeroizing::new([0; PIECE_BYTES]);
        let most = buffer.remaining().min(PIECE_BYTES);
        let mut piece = ReadBuf::new(&mut bytes[..most]);
        ready!(Pin::new(&mut self.connection).poll_read(context, &mut piece))?;
        let bytes = piece.filled();
        let received = self.follow(bytes);
        self.pause = received.streams > 0 || bytes.len() == most;
        if self.poll_hold(context).is_pending() {
            self.waiting = Bytes::copy_from_slice(bytes);
            self.followed = received.bytes;
            self.check(context)?;
            return Poll::Pending;
        }
        let (now, later) = bytes.split_at(received.bytes);
        buffer.put_slice(now);
        self.waiting = Bytes::copy_from_slice(later);
        Poll::Ready(Ok(()))
    }

    /// Passes on what waits, a few streams at a time.
    fn poll_waiting(
        &mut self,
        context: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.followed == 0 {
            let waiting = self.waiting.clone();
            self.followed = self.follow(&waiting).bytes;
        }
        ready!(self.poll_hold(context));
        let bytes = self.followed.min(buffer.remaining());
        buffer.put_slice(&self.waiting.split_to(bytes));
        self.followed -= bytes;
        self.pause = true;
        Poll::Ready(Ok(()))
    }

    /// After each step of a write: notes whether the peer reads.
    fn wrote<T>(
        &mut self,
        context: &mut Context<'_>,
        step: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if mem::replace(&mut self.blocked, step.is_pending()) && !self.blocked {
            // It may be read again.
            context.waker().wake_by_ref();
        }
        // More is not reported here: it waits until there is memory for it.
        let Held { all, stalled } = self.held();
        let all = all.min(self.reported.all);
        let stalled = stalled.min(all);
        let held = Held { all, stalled };
        if held != self.reported {
            self.memory.hold(held);
            self.reported = held;
        }
        self.check(context)?;
        step
    }

    fn count_sent<'a>(&mut self, slices: impl IntoIterator<Item = &'a [u8]>, mut sent: usize) {
        let mut data = 0;
        for slice in slices {
            let bytes = sent.min(slice.len());
            data += self.traffic.send(&slice[..bytes]);
            sent -= bytes;
        }
        if data > 0 {
            self.progress.restart();
        }
    }
}

impl Drop for MeteredConnection {
    fn drop(&mut self) {
        // Calls of the connection that still run hold it, but nothing can be closed for it.
        self.memory.close();
        let stalled = 0;
        self.memory.hold(Held {
            stalled,
            ..self.reported
        });
    }
}

impl Connected for MeteredConnection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        ConnectInfo {
            connection: self.connection.connect_info(),
            memory: Arc::clone(&self.memory),
        }
    }
}

impl AsyncRead for MeteredConnection {
    /// Nothing is read while the peer does not read: answers to pings and resets would pile up.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        if self.blocked {
            return Poll::Pending;
        }
        if mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.traffic.forget_reset();
        if self.waiting.is_empty() {
            return self.poll_piece(context, buffer);
        }
        self.poll_waiting(context, buffer)
    }
}

impl AsyncWrite for MeteredConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(context, bytes);
        if let Poll::Ready(Ok(sent)) = written {
            self.count_sent([bytes], sent);
        }
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(sent)) = written {
            self.count_sent(slices.iter().map(|slice| &**slice), sent);
        }
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.connection).poll_flush(context);
        self.wrote(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.connection).poll_shutdown(context);
        self.wrote(context, closed)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use prometheus_client::registry::Registry;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        task::yield_now,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::grpc::{
        Metrics,
        server::{limit::ConnectionLimit, transport::Transport},
    };

    /// A connection with this budget, and its client.
    async fn connection(budget: &Arc<Budget>, metrics: Metrics) -> (MeteredConnection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let client = TcpStream::connect(addr).await.expect("it accepts");
        let (stream, _) = listener.accept().await.expect("a client");
        let limit = ConnectionLimit::new(1, Arc::clone(budget), metrics);
        let slot = limit.admit().await.expect("below the limit");
        let (lifetime, stop) = (PEER_TIMEOUT * 100, CancellationToken::new());
        let (connection, _) = Connection::new(Transport::plain(stream), true, lifetime, stop, slot);
        (MeteredConnection::new(connection, budget), client)
    }

    /// Whether there is something to read now.
    fn is_read(connection: &mut MeteredConnection) -> bool {
        let read = connection.read(&mut [0; 1024]).now_or_never();
        read.map(|read| read.expect("it is open")).is_some()
    }

    fn is_written(connection: &mut MeteredConnection, bytes: &[u8]) -> bool {
        let written = connection.write(bytes).now_or_never();
        written
            .map(|written| written.expect("it is open"))
            .is_some()
    }

    /// Its writes block meanwhile, and then no more.
    #[tokio::test]
    async fn a_connection_that_waits_for_memory_is_not_admitted_by_its_writes() {
        let metrics = Metrics::register(&mut Registry::default());
        let budget = Arc::new(Budget::new(metrics.clone()));
        let other = budget.open(0);
        let all = 1024 * 1024 * 1024;
        other.hold(Held { all, stalled: 0 });
        let (mut connection, mut client) = connection(&budget, metrics).await;
        let headers = [0, 0, 0, 1, 0, 0, 0, 0, 1];
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let request = [&preface[..], &headers].concat();
        client.write_all(&request).await.expect("it is open");
        while connection.followed == 0 {
            assert!(!is_read(&mut connection));
            yield_now().await;
        }
        let mut bytes = vec![0; 64 * 1024];
        while is_written(&mut connection, &bytes) {}
        assert!(connection.blocked);
        while connection.blocked {
            // Nothing may be there yet.
            client.try_read(&mut bytes).ok();
            yield_now().await;
            is_written(&mut connection, &[0]);
        }
        for _ in 0..3 {
            assert!(!is_read(&mut connection));
        }
        drop(other);
        while !is_read(&mut connection) {
            yield_now().await;
        }
        assert_eq!(connection.followed, 0);
    }
}
