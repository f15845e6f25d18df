//! The hashing threads and the door before them.
//!
//! One thread per core, never the async runtime's, at a lower priority: a flood of logins
//! slows logins down and nothing else. The queue is bounded by time, because only time
//! means something to a caller: who would wait too long is refused at the door, and who
//! goes away gives up the place at once. A hash that runs cannot be stopped.
//!
//! A thread that panics closes the door for all and says so ([`Engine::failed`]).

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    hash::Digest,
    kernel::Work,
    queue::{Job, Queue},
};

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// No thread would be free in time.
    #[error("no room to hash a password in time")]
    Overloaded {
        /// When those who are waiting now will have been served.
        retry_after: Duration,
    },
    /// A hashing thread died: see `Hasher::failed`.
    #[error("the password hasher has stopped")]
    Stopped,
}

pub(super) struct Engine {
    shared: Arc<Shared>,
    max_wait: Duration,
}

impl Engine {
    /// Starts the threads. `round` is a first guess of the time of one bcrypt round.
    pub(super) fn start(
        threads: NonZeroUsize,
        max_wait: Duration,
        round: Duration,
        kernel: impl Fn(&Work) -> Digest + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            door: Mutex::new(Door {
                queue: Queue::new(threads, round),
                open: true,
            }),
            changed: Condvar::new(),
            failed: CancellationToken::new(),
        });
        let engine = Self { shared, max_wait };
        for n in 0..threads.get() {
            let (shared, kernel) = (Arc::clone(&engine.shared), kernel.clone());
            thread::Builder::new()
                .name(format!("password-{n}"))
                .spawn(move || shared.work(n, kernel))?;
        }
        Ok(engine)
    }

    /// A place in the queue, or the refusal, without waiting.
    pub(super) fn admit(
        &self,
        work: Work,
        deadline: tokio::time::Instant,
    ) -> Result<Ticket<'_>, HashError> {
        let (reply, answer) = oneshot::channel();
        let mut door = self.shared.door();
        self.check(&door, deadline)?;
        let id = door.queue.join(work, reply);
        drop(door);
        self.shared.changed.notify_one();
        Ok(Ticket {
            shared: &self.shared,
            id,
            answer,
        })
    }

    /// The refusal, if there is no place now.
    pub(super) fn check_room(&self, deadline: tokio::time::Instant) -> Result<(), HashError> {
        self.check(&self.shared.door(), deadline)
    }

    fn check(&self, door: &Door, deadline: tokio::time::Instant) -> Result<(), HashError> {
        if !door.open {
            return Err(HashError::Stopped);
        }
        let time_left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let wait = door.queue.expected_wait(Instant::now());
        if wait > self.max_wait.min(time_left) {
            return Err(HashError::Overloaded { retry_after: wait });
        }
        Ok(())
    }

    /// Resolves when a thread died.
    pub(super) async fn failed(&self) {
        self.shared.failed.cancelled().await;
    }
}

impl Drop for Engine {
    /// Ends the threads, each after the hash it is at.
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A place in the queue, given up when dropped.
pub(super) struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
    answer: oneshot::Receiver<Digest>,
}

impl Ticket<'_> {
    pub(super) async fn digest(mut self) -> Result<Digest, HashError> {
        (&mut self.answer).await.map_err(|_| HashError::Stopped)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.shared.door().queue.leave(self.id);
    }
}

struct Shared {
    door: Mutex<Door>,
    changed: Condvar,
    failed: CancellationToken,
}

struct Door {
    queue: Queue,
    open: bool,
}

impl Shared {
    /// A poisoned lock still opens: the queue is consistent between any two statements,
    /// and the alarm of a thread that panicked must be able to close it.
    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut door = self.door();
        door.open = false;
        door.queue.clear();
        drop(door);
        self.changed.notify_all();
    }

    fn work(&self, thread: usize, kernel: impl Fn(&Work) -> Digest) {
        let _alarm = Alarm(self);
        lower_priority();
        while let Some(Job { work, reply, .. }) = self.next(thread) {
            let digest = kernel(&work);
            self.door().queue.finish(thread, Instant::now());
            // The caller may have gone away.
            reply.send(digest).ok();
        }
    }

    fn next(&self, thread: usize) -> Option<Job> {
        let mut door = self.door();
        while door.open {
            if let Some(job) = door.queue.start(thread, Instant::now()) {
                return Some(job);
            }
            door = self
                .changed
                .wait(door)
                .unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

/// Tells everybody when the thread that holds it panics.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
            self.0.failed.cancel();
        }
    }
}

/// Half the way to the lowest priority there is: about a tenth of the runtime's share of a
/// contended core. A kernel that forbids it costs some latency and nothing else.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    rustix::process::nice(10).ok();
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        mpsc::{self, Receiver, Sender},
    };

    use super::*;
    use crate::password::kernel::Key;

    const COST: u32 = 4;
    /// So long that the time that a test takes does not matter.
    const HASH: Duration = Duration::from_hours(16);

    /// An engine whose hashes begin when it says so and end when told to. A job is known
    /// by its salt.
    struct Stage {
        engine: Engine,
        began: Receiver<u8>,
        end: Sender<()>,
    }

    fn stage(threads: usize, max_wait: Duration) -> Stage {
        let (say, began) = mpsc::channel();
        let (end, told) = mpsc::channel();
        let told = Arc::new(Mutex::new(told));
        let kernel = move |work: &Work| {
            say.send(work.salt[0]).unwrap();
            told.lock().unwrap().recv().unwrap();
            [work.salt[0]; 23]
        };
        let threads = NonZeroUsize::new(threads).unwrap();
        let engine = Engine::start(threads, max_wait, HASH / (1 << COST), kernel).unwrap();
        Stage { engine, began, end }
    }

    impl Stage {
        fn admit(&self, name: u8) -> Result<Ticket<'_>, HashError> {
            self.admit_until(name, Duration::from_hours(1000))
        }

        fn admit_until(&self, name: u8, time_left: Duration) -> Result<Ticket<'_>, HashError> {
            let work = Work {
                key: Key::new(b"x"),
                cost: COST,
                salt: [name; 16],
            };
            self.engine
                .admit(work, tokio::time::Instant::now() + time_left)
        }

        fn expected_wait(&self) -> Duration {
            self.engine
                .shared
                .door()
                .queue
                .expected_wait(Instant::now())
        }
    }

    fn retry_after(refused: Result<Ticket<'_>, HashError>) -> Duration {
        match refused.err() {
            Some(HashError::Overloaded { retry_after }) => retry_after,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_refused_at_once() {
        let stage = stage(1, HASH * 3 / 2);
        let running = stage.admit(1).unwrap();
        assert_eq!(stage.began.recv(), Ok(1));
        let waiting = stage.admit(2).unwrap();
        assert!(retry_after(stage.admit(3)) > HASH * 3 / 2);
        stage.end.send(()).unwrap();
        stage.end.send(()).unwrap();
        assert_eq!(running.digest().await, Ok([1; 23]));
        assert_eq!(waiting.digest().await, Ok([2; 23]));
    }

    #[test]
    fn who_could_not_be_served_before_the_deadline_is_refused_at_once() {
        let stage = stage(1, HASH * 100);
        let _running = stage.admit(1).unwrap();
        assert_eq!(stage.began.recv(), Ok(1));
        assert!(retry_after(stage.admit_until(2, HASH / 2)) > HASH / 2);
        assert!(stage.admit_until(3, HASH * 2).is_ok());
        stage.end.send(()).unwrap();
    }

    #[test]
    fn an_idle_engine_admits_any_deadline() {
        let stage = stage(1, Duration::ZERO);
        let _running = stage.admit_until(1, Duration::ZERO).unwrap();
        assert_eq!(stage.began.recv(), Ok(1));
        stage.end.send(()).unwrap();
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_gives_up_its_place() {
        let stage = stage(1, HASH * 5 / 2);
        let running = stage.admit(1).unwrap();
        assert_eq!(stage.began.recv(), Ok(1));
        let gone = stage.admit(2).unwrap();
        let stays = stage.admit(3).unwrap();
        retry_after(stage.admit(4));

        let before = stage.expected_wait();
        drop(gone.digest());
        assert!(stage.expected_wait() + HASH <= before);
        let joins = stage.admit(5).unwrap();

        for _ in 0..3 {
            stage.end.send(()).unwrap();
        }
        for ticket in [running, stays, joins] {
            ticket.digest().await.unwrap();
        }
        assert_eq!(stage.began.try_iter().collect::<Vec<_>>(), [3, 5]);
    }

    #[tokio::test]
    async fn every_thread_hashes() {
        let meet = Arc::new(Barrier::new(2));
        let kernel = move |_: &Work| {
            meet.wait();
            [0; 23]
        };
        let threads = NonZeroUsize::new(2).unwrap();
        let engine = Engine::start(threads, HASH, Duration::ZERO, kernel).unwrap();
        let work = || Work {
            key: Key::new(b"x"),
            cost: COST,
            salt: [0; 16],
        };
        let deadline = tokio::time::Instant::now() + HASH;
        let one = engine.admit(work(), deadline).unwrap();
        let other = engine.admit(work(), deadline).unwrap();
        assert_eq!(
            (one.digest().await, other.digest().await),
            (Ok([0; 23]), Ok([0; 23]))
        );
    }

    #[tokio::test]
    async fn a_thread_that_dies_fails_every_caller_and_says_so() {
        let (die, death) = mpsc::channel::<()>();
        let death = Arc::new(Mutex::new(death));
        let kernel = move |_: &Work| {
            death
                .lock()
                .unwrap()
                .recv()
                .expect("nobody sends: this is the panic");
            [0; 23]
        };
        let engine = Engine::start(NonZeroUsize::MIN, HASH, Duration::ZERO, kernel).unwrap();
        let work = || Work {
            key: Key::new(b"x"),
            cost: COST,
            salt: [0; 16],
        };
        let deadline = tokio::time::Instant::now() + HASH;
        let running = engine.admit(work(), deadline).unwrap();
        let waiting = engine.admit(work(), deadline).unwrap();

        drop(die);
        engine.failed().await;
        assert_eq!(running.digest().await, Err(HashError::Stopped));
        assert_eq!(waiting.digest().await, Err(HashError::Stopped));
        assert_eq!(
            engine.admit(work(), deadline).err(),
            Some(HashError::Stopped)
        );
    }

    #[test]
    fn dropping_the_engine_ends_its_threads() {
        let Stage {
            engine,
            began,
            end: _end,
        } = stage(2, HASH);
        drop(engine);
        // The threads held the other ends of the channel.
        assert!(began.recv().is_err());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_have_a_lower_priority_than_their_starter() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let (tell, told) = mpsc::channel();
        let kernel = move |_: &Work| {
            tell.send(nice()).unwrap();
            [0; 23]
        };
        let engine = Engine::start(NonZeroUsize::MIN, HASH, Duration::ZERO, kernel).unwrap();
        let work = Work {
            key: Key::new(b"x"),
            cost: COST,
            salt: [0; 16],
        };
        let ticket = engine
            .admit(work, tokio::time::Instant::now() + HASH)
            .unwrap();
        ticket.digest().await.unwrap();
        assert_eq!(told.recv(), Ok((nice() + 10).min(19)));
    }
}
