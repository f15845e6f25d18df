//! Overwrites what functions leave on the stack when they return.
//!
//! Nothing wipes the memory of a local variable: pieces of a password or token stay on the
//! stack until other calls overwrite them. A thread that waits keeps them for as long as it
//! waits. No type can prevent that, because compilers and libraries spill the values they
//! work on. The caller of code that handles secrets therefore calls [`wipe`] afterwards. The
//! code that handles secrets is never inlined, so that its frame lies below the caller's.

/// Deeper than the calls go.
const DEPTH: usize = 128 * 1024;

/// Overwrites the stack below its caller.
#[inline]
pub fn wipe() {
    zeroize::zeroize_stack::<DEPTH>();
}
