//! The tasks without which an instance is not coherent, and whether they run.
//!
//! A task that ends while its instance runs, by a panic or with its runtime, is noticed by what its
//! end drops: `health()` no longer says `Coherent`, and the log says which task it was. The
//! bound on staleness needs none of them: entries whose lane is not verified are not served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::runtime::Handle;
#[cfg(any(test, feature = "test-util"))]
use tokio::task::AbortHandle;
use tokio::task::{JoinHandle, JoinSet};

use crate::identity::InstanceId;
use crate::lock::Lock;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    instance: Option<InstanceId>,
    /// The instance is closed, and its tasks end as they should.
    closing: AtomicBool,
    /// Set with the first name in `ended`.
    incomplete: AtomicBool,
    ended: Lock<Vec<&'static str>>,
    #[cfg(any(test, feature = "test-util"))]
    handles: Lock<Vec<(&'static str, AbortHandle)>>,
}

/// Names kept: a lane's task has the name of every lane's, and more say nothing new.
const NAMES: usize = 32;

impl Tasks {
    pub(crate) fn of(instance: InstanceId) -> Self {
        Self {
            instance: Some(instance),
            ..Self::default()
        }
    }

    /// Spawns a task that ends with its instance and not before.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let running = self.running(name);
        let spawned = runtime.spawn(async move {
            let _running = running;
            task.await;
        });
        self.note(name, &spawned.abort_handle());
    }

    /// As [`spawn`](Self::spawn), of a task that may end by itself: only a panic, or the end of its
    /// runtime, is an end too soon.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "used only over Redis")
    )]
    pub(crate) fn spawn_into(
        self: &Arc<Self>,
        set: &mut JoinSet<()>,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let spawned = set.spawn(self.watched(name, task));
        self.note(name, &spawned);
    }

    /// As [`spawn_into`](Self::spawn_into), on its own.
    pub(crate) fn spawn_alone(
        self: &Arc<Self>,
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let spawned = runtime.spawn(self.watched(name, task));
        self.note(name, &spawned.abort_handle());
        spawned
    }

    fn watched(
        self: &Arc<Self>,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let running = self.running(name);
        async move {
            let mut running = running;
            task.await;
            running.done = true;
        }
    }

    fn running(self: &Arc<Self>, name: &'static str) -> Running {
        Running {
            tasks: self.clone(),
            name,
            done: false,
        }
    }

    #[cfg(any(test, feature = "test-util"))]
    fn note(&self, name: &'static str, handle: &tokio::task::AbortHandle) {
        let mut handles = self.handles.lock();
        handles.retain(|(_, handle)| !handle.is_finished());
        handles.push((name, handle.clone()));
    }

    #[cfg(not(any(test, feature = "test-util")))]
    fn note(&self, _: &'static str, _: &tokio::task::AbortHandle) {}

    /// From now on tasks end as they should.
    pub(crate) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Returns whether none has ended too soon.
    pub(crate) fn all_run(&self) -> bool {
        !self.incomplete.load(Relaxed)
    }

    /// Returns whether one of this name has ended too soon.
    pub(crate) fn has_ended(&self, name: &str) -> bool {
        !self.all_run() && self.ended.lock().contains(&name)
    }

    /// Those that have ended too soon.
    pub(crate) fn ended(&self) -> Vec<&'static str> {
        self.ended.lock().clone()
    }

    /// Returns the names of all that were spawned.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.handles.lock().iter().map(|(name, _)| *name).collect()
    }

    /// Ends every task of this name, as a panic would.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn end(&self, name: &str) {
        let handles = self.handles.lock().clone();
        for (_, handle) in handles.iter().filter(|(of, _)| *of == name) {
            handle.abort();
        }
    }
}

/// A task's own notice of its end.
struct Running {
    tasks: Arc<Tasks>,
    name: &'static str,
    done: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let tasks = &self.tasks;
        if self.done || tasks.closing.load(Relaxed) {
            return;
        }
        {
            let mut ended = tasks.ended.lock();
            if ended.len() < NAMES && !ended.contains(&self.name) {
                ended.push(self.name);
            }
        }
        tasks.incomplete.store(true, Relaxed);
        if std::thread::panicking() {
            tracing::error!(
                instance = tasks.instance.map(tracing::field::display),
                task = self.name,
                "a task of the instance has panicked: the instance is degraded until the process is \
                 started again. Please report this"
            );
        } else {
            tracing::warn!(
                instance = tasks.instance.map(tracing::field::display),
                task = self.name,
                "a task of the instance has ended although the instance was not shut down: is the \
                 runtime gone that it was started on?"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_too_soon_is_named() {
        let tasks = Arc::new(Tasks::default());
        let runtime = Handle::current();
        tasks.spawn(&runtime, "endless", std::future::pending());
        tasks.spawn(&runtime, "short", async {});
        let mut set = JoinSet::new();
        tasks.spawn_into(&mut set, "may end", async {});
        set.join_next().await.unwrap().unwrap();
        tokio::task::yield_now().await;
        assert_eq!(tasks.ended(), ["short"]);
        assert!(!tasks.all_run());
        tasks.end("endless");
        while tasks.ended().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks.ended(), ["short", "endless"]);
    }

    #[tokio::test]
    async fn at_the_end_of_the_instance_none_ends_too_soon() {
        let tasks = Arc::new(Tasks::default());
        tasks.spawn(&Handle::current(), "endless", std::future::pending());
        tasks.close();
        tasks.end("endless");
        tokio::task::yield_now().await;
        assert!(tasks.all_run());
    }

    #[test]
    fn the_end_of_a_runtime_is_the_end_of_its_tasks() {
        let tasks = Arc::new(Tasks::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        tasks.spawn(runtime.handle(), "endless", std::future::pending());
        drop(runtime);
        assert_eq!(tasks.ended(), ["endless"]);
        // And one that is spawned there later ends at once.
        let gone = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let handle = gone.handle().clone();
        drop(gone);
        tasks.spawn(&handle, "late", std::future::pending());
        assert!(tasks.ended().contains(&"late"));
    }
}
