//! What functions leave on the stack when they return.
//!
//! The memory of a local variable is not wiped: pieces of a password or token stay there
//! until other calls overwrite them, and a thread that then waits keeps them for as long.
//! No type can prevent that, since compilers and libraries spill what they work on. So
//! whoever called what handles secrets overwrites the stack below afterwards.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use zeroize::Zeroize as _;

/// Deeper than the calls go.
const DEPTH: usize = 128 * 1024;

/// Overwrites the stack below its caller, in words: by the byte it takes seven times as long,
/// and was a third of all that Refresh costs.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what it is about")]
pub fn wipe() {
    let mut stack = [0_u64; DEPTH / 8];
    stack.zeroize();
}

/// A future that wipes the stack after every step, on whichever thread it took that.
pub struct Wiping<F>(pub Pin<Box<F>>);

impl<F: Future> Future for Wiping<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let step = poll_apart(self.0.as_mut(), context);
        wipe();
        step
    }
}

/// In a frame of its own, below which all of the step happens.
#[inline(never)]
fn poll_apart<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(context)
}
