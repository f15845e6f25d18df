//! Wipes the stack after every step of a call: handlers work on passwords and tokens there
//! (`password::stack`).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tower::{Layer, Service};

use crate::password::stack;

#[derive(Clone, Copy)]
pub struct WipeStackLayer;

impl<S> Layer<S> for WipeStackLayer {
    type Service = WipeStack<S>;

    fn layer(&self, inner: S) -> WipeStack<S> {
        WipeStack(inner)
    }
}

#[derive(Clone)]
pub struct WipeStack<S>(S);

impl<S: Service<R>, R> Service<R> for WipeStack<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Wiping<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Wiping<S::Future> {
        Wiping(Box::pin(self.0.call(request)))
    }
}

/// A future that wipes the stack after every poll, on the thread that polled it.
pub struct Wiping<F>(Pin<Box<F>>);

impl<F: Future> Future for Wiping<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let step = poll_in_own_frame(self.0.as_mut(), context);
        stack::wipe();
        step
    }
}

/// Not inlined, so that the whole poll runs below this frame, where `wipe` overwrites.
#[inline(never)]
fn poll_in_own_frame<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(context)
}
