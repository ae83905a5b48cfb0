//! Reads of the shared tier wait for their turn in a queue, and a few tasks empty it: however many
//! keys are missed at once, the number of tasks that ask Redis is the same.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::cache::tier::{Job, Turn};
use crate::contain::guarded;
use crate::lock::{Guard, Lock};

/// Reads that wait at most, a few hundred bytes each. 32 workers with answers in 1 ms take half of
/// [`PATIENCE`] for so many; those behind them would miss their turn as soon as Redis is slower.
const WAITING: usize = 8_192;

/// How long a read may wait for its turn before it does without the tier.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub(crate) struct Queue {
    workers: usize,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Instant, Job)>,
    /// Workers that run or are about to.
    running: usize,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            state: Lock::default(),
        }
    }

    fn state(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Takes a job, and starts a worker for it unless enough of them run. A job that finds the queue
    /// full has missed its turn.
    pub(crate) fn push(self: &Arc<Self>, runtime: &Handle, job: Job) {
        let mut state = self.state();
        if state.waiting.len() >= WAITING {
            drop(state);
            drop(runtime.spawn(job(Turn::Missed)));
            return;
        }
        state.waiting.push_back((Instant::now(), job));
        let start = state.running < self.workers;
        state.running += usize::from(start);
        // A runtime that is shut down drops the worker at once, and that locks again.
        drop(state);
        if start {
            let worker = Worker {
                queue: self.clone(),
                done: false,
            };
            drop(runtime.spawn(worker.run()));
        }
    }

    /// The next job. If there is none, the caller has ended: under the same lock as `push` decides, so
    /// that no job is left without a worker.
    fn next(&self) -> Option<(Instant, Job)> {
        let mut state = self.state();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.running -= 1;
        }
        next
    }
}

/// A task that empties the queue.
struct Worker {
    queue: Arc<Queue>,
    done: bool,
}

impl Worker {
    async fn run(mut self) {
        while let Some((since, job)) = self.queue.next() {
            let turn = if since.elapsed() <= PATIENCE {
                Turn::Came
            } else {
                Turn::Missed
            };
            // Those who wait for a job that panics are told by what the panic drops.
            guarded(job(turn)).await;
            // What the others have learnt in the same moment, that Redis is silent say, comes first.
            yield_now().await;
        }
        self.done = true;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // The runtime is gone, and with it whoever would do them: their callers are told by what is
        // dropped here, outside the lock.
        let waiting = {
            let mut state = self.queue.state();
            state.running -= 1;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::sync::{Semaphore, mpsc};
    use tokio::time::sleep;

    use super::*;

    /// Jobs that say what came of their turn, and end once they may.
    struct Jobs {
        queue: Arc<Queue>,
        gate: Arc<Semaphore>,
        running: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        turns: mpsc::UnboundedReceiver<(usize, Turn)>,
        done: mpsc::UnboundedSender<(usize, Turn)>,
    }

    impl Jobs {
        fn new(workers: usize) -> Self {
            let (done, turns) = mpsc::unbounded_channel();
            Self {
                queue: Arc::new(Queue::new(workers)),
                gate: Arc::new(Semaphore::new(0)),
                running: Arc::default(),
                most: Arc::default(),
                turns,
                done,
            }
        }

        fn push(&self, number: usize) {
            let (gate, done) = (self.gate.clone(), self.done.clone());
            let (running, most) = (self.running.clone(), self.most.clone());
            let job = Box::new(move |turn| {
                let job = async move {
                    done.send((number, turn)).unwrap();
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    if turn == Turn::Came {
                        gate.acquire().await.unwrap().forget();
                        yield_now().await;
                    }
                    running.fetch_sub(1, SeqCst);
                };
                Box::pin(job) as _
            });
            self.queue.push(&Handle::current(), job);
        }

        async fn next(&mut self) -> (usize, Turn) {
            self.turns.recv().await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_run_as_there_are_workers_and_all_get_their_turn_in_order() {
        let mut jobs = Jobs::new(4);
        for number in 0..1_000 {
            jobs.push(number);
        }
        jobs.gate.add_permits(1_000);
        let mut order = Vec::new();
        for _ in 0..1_000 {
            order.push(jobs.next().await);
        }
        assert!(order.iter().all(|(_, turn)| *turn == Turn::Came));
        assert!(order.iter().map(|(number, _)| *number).eq(0..1_000));
        assert_eq!(jobs.most.load(SeqCst), 4);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(jobs.queue.state().running, 0);
        // Workers that have ended are started again.
        jobs.push(1_000);
        jobs.gate.add_permits(1);
        assert_eq!(jobs.next().await, (1_000, Turn::Came));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_and_a_long_wait_are_turns_missed() {
        let mut jobs = Jobs::new(1);
        // One runs, and the queue is full behind it.
        jobs.push(0);
        assert_eq!(jobs.next().await, (0, Turn::Came));
        for number in 1..=WAITING {
            jobs.push(number);
        }
        jobs.push(WAITING + 1);
        assert_eq!(jobs.next().await, (WAITING + 1, Turn::Missed));
        sleep(PATIENCE + Duration::from_millis(1)).await;
        jobs.gate.add_permits(1);
        assert_eq!(jobs.next().await, (1, Turn::Missed));
    }

    fn bug() {
        unreachable!("by anything but this test")
    }

    #[tokio::test]
    async fn a_job_that_panics_costs_the_others_nothing() {
        let mut jobs = Jobs::new(1);
        jobs.gate.add_permits(2);
        let panics = Box::new(|_| {
            let job = async { bug() };
            Box::pin(job) as _
        });
        jobs.push(1);
        jobs.queue.push(&Handle::current(), panics);
        jobs.push(2);
        assert_eq!(jobs.next().await.0, 1);
        assert_eq!(jobs.next().await.0, 2);
    }

    #[test]
    fn what_a_dead_runtime_leaves_is_dropped() {
        leave_to_a_dead_runtime(drop);
        // A thread that panics may take the runtime with it.
        leave_to_a_dead_runtime(|runtime| {
            let panics = std::thread::spawn(move || {
                let _dropped_by_it = runtime;
                bug();
            });
            let _: Result<(), _> = panics.join();
        });
    }

    fn leave_to_a_dead_runtime(end: impl FnOnce(tokio::runtime::Runtime)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let queue = Arc::new(Queue::new(1));
        let held = Arc::new(());
        for _ in 0..10 {
            let held = held.clone();
            let job = Box::new(move |_| {
                let job = async move {
                    std::future::pending::<()>().await;
                    drop(held);
                };
                Box::pin(job) as _
            });
            queue.push(runtime.handle(), job);
        }
        let handle = runtime.handle().clone();
        end(runtime);
        assert_eq!(Arc::strong_count(&held), 1);
        // And what comes later does not stay either.
        let late = held.clone();
        let job = Box::new(move |_| Box::pin(async move { drop(late) }) as _);
        queue.push(&handle, job);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
