//! Wipes the stack after every step of a call: handlers work on passwords and tokens there
//! (`password::stack`).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use crate::password::stack;

pub struct Wiping<F>(Pin<Box<F>>);

impl<F> Wiping<F> {
    pub fn new(future: F) -> Self {
        Self(Box::pin(future))
    }
}

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
