//! The threads that check new passwords.
//!
//! A password takes milliseconds of a core. There is one thread per core, with the low priority
//! of the hashing threads: a flood of new passwords uses all cores and slows down no cheap call.

use std::{
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tokio::sync::oneshot;

use super::{engine::lower_priority, stack};

type Job = Box<dyn FnOnce() + Send>;

/// The threads end when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Checkers(mpsc::Sender<Job>);

impl Checkers {
    pub(super) fn start(threads: NonZeroUsize) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for n in 0..threads.get() {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new()
                .name(format!("policy-{n}"))
                .spawn(move || work(&jobs))?;
        }
        Ok(Self(sender))
    }

    /// Runs `check` on one of the threads, in turn. It is skipped if the receiver is dropped
    /// before. After a panic the receiver gets an error, and the thread goes on.
    pub(super) fn run<T: Send + 'static>(
        &self,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, result) = oneshot::channel();
        let job = move || {
            if !sender.is_closed() {
                // Fails if the caller stopped waiting in the meantime.
                sender.send(check()).ok();
            }
        };
        let sent = self.0.send(Box::new(job));
        sent.expect("the threads live as long as this sender");
        result
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    lower_priority();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        catch_unwind(AssertUnwindSafe(job)).ok();
        stack::wipe();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn checkers(threads: usize) -> Checkers {
        Checkers::start(NonZeroUsize::new(threads).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn all_threads_check_at_the_same_time() {
        let checkers = checkers(3);
        let together = Arc::new(Barrier::new(3));
        let results = [(); 3].map(|()| {
            let together = Arc::clone(&together);
            checkers.run(move || together.wait().is_leader())
        });
        let results = futures::future::join_all(results).await;
        let leaders = results.into_iter().filter(|result| *result == Ok(true));
        assert_eq!(leaders.count(), 1);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_skipped_and_a_panic_costs_one_result() {
        let checkers = checkers(1);
        let busy = Arc::new(Barrier::new(2));
        let until = Arc::clone(&busy);
        let first = checkers.run(move || {
            until.wait();
        });
        drop(checkers.run(|| unreachable!("nobody waits")));
        let panicking = checkers.run(|| panic!("as a test"));
        let last = checkers.run(|| 7);
        busy.wait();
        assert_eq!(first.await, Ok(()));
        assert!(panicking.await.is_err());
        assert_eq!(last.await, Ok(7));
    }
}
