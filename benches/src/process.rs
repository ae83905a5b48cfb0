//! What a process or a thread uses: CPU time, memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    time(ClockId::ThreadCPUTime)
}

/// CPU time of this process, all threads together.
pub fn own_cpu() -> Duration {
    time(ClockId::ProcessCPUTime)
}

fn time(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("CPU time is never negative")
}

/// CPU time of another process, from the kernel's scheduler (nanoseconds) of all its threads.
///
/// # Panics
///
/// If there is no such process.
pub fn cpu_of(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// CPU time of one thread of this process.
pub fn cpu_of_thread(thread: i32) -> Duration {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
    let text = text.expect("the thread runs");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

/// The calling thread, for [`cpu_of_thread`].
pub fn this_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// An allocator that counts. A program that wants the numbers installs it:
/// `#[global_allocator] static ALLOCATOR: Counting = Counting;`.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static BLOCKS: Cell<u64> = const { Cell::new(0) };
}
static GAINED: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

// SAFETY: `System` does the work; what is added only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BLOCKS.set(BLOCKS.get() + 1);
        GAINED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LOST.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What [`Counting`] has seen so far.
#[derive(Clone, Copy, Debug)]
pub struct Allocations {
    /// Allocations that the calling thread made.
    pub blocks: u64,
    /// Bytes that the process holds, as asked for: what the allocator adds is not counted.
    pub bytes: u64,
}

impl Allocations {
    pub fn now() -> Self {
        Self {
            blocks: BLOCKS.get(),
            bytes: GAINED.load(Relaxed) - LOST.load(Relaxed),
        }
    }
}
