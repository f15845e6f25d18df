use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body};

use super::RunningCall;

/// A stream of answers, which belongs to the spans of its call. The call is counted with the code
/// at its end, or as cancelled.
pub struct Answer {
    body: Body,
    call: RunningCall,
}

impl Answer {
    pub const fn new(body: Body, call: RunningCall) -> Self {
        Self { body, call }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let polled = this
            .call
            .spans
            .in_scope(|| Pin::new(&mut this.body).poll_frame(context));
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
            && let Some(status) = Status::from_header_map(trailers)
        {
            this.call.answered(status.code());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// A handler may write to the log when its stream is dropped.
impl Drop for Answer {
    fn drop(&mut self) {
        let body = mem::take(&mut self.body);
        self.call.spans.in_scope(|| drop(body));
    }
}
