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
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;
use zeroize::Zeroizing;

use super::{Budget, Held, PeerMemory, traffic::Traffic};
use crate::grpc::server::{connection::Connection, connection_info::ConnectionInfo};

/// Few streams can begin in one piece, and a connection that waits keeps one piece.
const PIECE_BYTES: usize = 2 * 1024;

/// A peer whose answers make no progress for this long is gone, or means harm. As long may a
/// connection wait for memory: its calls have met their deadlines then.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// Runs while the peer does not read, or waits for memory.
    timeout: Option<Pin<Box<Sleep>>>,
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
            connection,
            memory: budget.open(),
            traffic: Traffic::new(),
            reported: Held::default(),
            waiting: Bytes::new(),
            followed: 0,
            pause: false,
            blocked: false,
            timeout: None,
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
        if !self.blocked && self.followed == 0 && !self.memory.has_unread() {
            self.timeout = None;
            return Ok(());
        }
        let timeout = self
            .timeout
            .get_or_insert_with(|| Box::pin(sleep(READ_TIMEOUT)));
        match timeout.as_mut().poll(context) {
            Poll::Ready(()) => Err(ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
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
        let room = buffer.remaining().min(PIECE_BYTES);
        let mut piece = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.connection).poll_read(context, &mut piece))?;
        let bytes = piece.filled();
        let received = self.traffic.receive(bytes);
        self.pause = received.streams > 0 || bytes.len() == room;
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
            self.followed = self.traffic.receive(&self.waiting).bytes;
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
        let held = self.held();
        if held != self.reported && (self.blocked || held.all <= self.reported.all) {
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
            self.memory.sent(data);
            self.timeout = None;
        }
        if !self.traffic.has_streams() {
            self.memory.nothing_unread();
        }
    }
}

impl Drop for MeteredConnection {
    fn drop(&mut self) {
        // Calls of the connection that still run hold it, but nothing can be closed for it.
        self.memory.close();
        self.memory.nothing_unread();
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
