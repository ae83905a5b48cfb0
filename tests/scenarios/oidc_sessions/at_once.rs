//! Many values at once: tasks are bounded, and what is dropped is counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;

use super::Fleet;

/// Runs all of them in the present task, and says how many tasks were alive meanwhile, at most.
async fn tasks_for<F: Future>(futures: impl Iterator<Item = F>) -> (Vec<F::Output>, usize) {
    let (done, most) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let watch = {
        let (done, most, runtime) = (done.clone(), most.clone(), Handle::current());
        std::thread::spawn(move || {
            while !done.load(SeqCst) {
                most.fetch_max(runtime.metrics().num_alive_tasks(), SeqCst);
                std::thread::sleep(Duration::from_micros(50));
            }
        })
    };
    let mut running: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut outputs = Vec::new();
    std::future::poll_fn(|cx| {
        running.retain_mut(|future| match future.as_mut().poll(cx) {
            Poll::Ready(output) => {
                outputs.push(output);
                false
            }
            Poll::Pending => true,
        });
        // The first look falls into the time when all of them have begun.
        most.fetch_max(Handle::current().metrics().num_alive_tasks(), SeqCst);
        if running.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    done.store(true, SeqCst);
    watch.join().unwrap();
    (outputs, most.load(SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_a_thousand_values_found_at_once_take_a_bounded_number_of_tasks() {
    let fleet = Fleet::with(Duration::ZERO, &[]).await;
    fleet.recorded().await;
    // A question that goes unanswered for 100 ms is a load instead; where that happens to most of
    // them, the next thousand are tried.
    for thousand in 0..20 {
        if find_a_thousand(&fleet, thousand).await >= 300 {
            return;
        }
    }
    unreachable!("most questions went unanswered each time");
}

/// A loads them, and B asks for all at once. Returns how many B has found.
async fn find_a_thousand(fleet: &Fleet, thousand: u64) -> u64 {
    let tokens: Vec<String> = (0..1_000)
        .map(|n| format!("access-{thousand}-{n}"))
        .collect();
    let stored = || fleet.a.shared("stores", "introspections", "stored");
    let (stored_before, found_before) = (stored(), fleet.b.reads("introspections", "found"));
    for hundred in tokens.chunks(100) {
        let asked = hundred
            .iter()
            .map(|token| fleet.a.sessions.introspect(token));
        let (found, _) = tasks_for(asked).await;
        assert!(found.iter().all(|found| found.as_ref().unwrap().is_some()));
    }
    let mut looks = 0..1_000;
    while stored() < stored_before + 500 && looks.next().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let calls = fleet.provider.calls("introspect");
    let before = Handle::current().metrics().num_alive_tasks();
    let (found, most) = tasks_for(
        tokens
            .iter()
            .map(|token| fleet.b.sessions.introspect(token)),
    )
    .await;
    assert!(found.iter().all(|found| found.as_ref().unwrap().is_some()));
    let hits = fleet.b.reads("introspections", "found") - found_before;
    println!("{hits} found in Redis at once: {before} tasks before, {most} at most meanwhile");
    assert_eq!(fleet.provider.calls("introspect") - calls, 1_000 - hits);
    // 32 that ask; what could not be asked in time on a slow machine is loaded, in a task each.
    let loads = (1_000 - hits) as usize;
    assert!(most <= before + 40 + loads, "{before}, then {most}");
    hits
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenario_what_a_full_queue_drops_is_counted_and_answered_all_the_same() {
    const MANY: u64 = 12_000;
    let fleet = Fleet::with(Duration::ZERO, &[]).await;
    fleet.recorded().await;
    let reads = |outcome| fleet.b.reads("introspections", outcome);
    // It holds 8,192. How many leave it while others come depends on the machine.
    for round in 1..=20 {
        let tokens: Vec<String> = (0..MANY).map(|n| format!("access-{round}-{n}")).collect();
        let (found, most) = tasks_for(
            tokens
                .iter()
                .map(|token| fleet.b.sessions.introspect(token)),
        )
        .await;
        assert!(found.iter().all(|found| found.as_ref().unwrap().is_some()));
        let dropped = reads("busy");
        println!("{MANY} at once: {dropped} dropped from the queue; {most} tasks at most");
        let others = ["missing", "failed", "skipped", "unverified"].map(reads);
        let all = dropped + others.iter().sum::<u64>();
        assert_eq!(all, round * MANY, "{others:?}");
        assert_eq!(fleet.provider.calls("introspect"), round * MANY);
        if dropped > 0 {
            return;
        }
    }
    unreachable!("the queue was never full");
}
