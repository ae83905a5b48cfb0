//! A read that begins after an invalidation has been applied is not answered with what was loaded
//! before, in whatever order the threads run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::{AtomicBool, Ordering::SeqCst};
use shuttle::sync::{Arc, mpsc};
use shuttle::{Config, Runner, thread};
use unstale_shuttle::drive::{Answer, Instance, Token, Wait, What};

/// Schedules of each kind and test.
const SCHEDULES: usize = 20_000;

/// How many times the order of priorities changes in a schedule by PCT.
const DEPTH: usize = 3;

/// So that a failure comes again. Its schedule is printed, and `shuttle::replay` takes it.
const SEED: u64 = 7;

/// Runs a test under random schedules with two loads at once, and under PCT's with one.
///
/// PCT may let a thread that waits for another run without end, and quick_cache's `entry` waits so: it
/// asks again and again while another insert of the key is between its value and its place.
fn in_every_order(test: fn(loads: usize)) {
    let random = RandomScheduler::new_from_seed(SEED, SCHEDULES);
    Runner::new(random, Config::default()).run(move || test(2));
    let pct = PctScheduler::new_from_seed(SEED, DEPTH, SCHEDULES);
    Runner::new(pct, Config::default()).run(move || test(1));
}

/// The same of a mistake: one schedule at least shows it.
fn shows_in_some_order(test: fn(loads: usize)) {
    let found = catch_unwind(AssertUnwindSafe(|| in_every_order(test)));
    let panic = found.expect_err("no schedule shows the mistake");
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    let said = said.unwrap_or_default();
    assert!(said.contains("stale"), "another failure: {said}");
}

fn assert_not_stale(answer: Answer) {
    assert!(
        matches!(answer, Answer::Version(1) | Answer::Nothing),
        "stale: {answer:?}"
    );
}

/// Loads race with a write.
fn loads_against(loads: usize, write: fn(&Instance), load: fn(&Instance) -> bool) {
    let instance = Instance::new(false);
    let loads: Vec<_> = (0..loads)
        .map(|_| {
            let instance = instance.clone();
            thread::spawn(move || load(&instance))
        })
        .collect();
    write(&instance);
    assert_not_stale(instance.read());
    for load in loads {
        load.join().expect("it does not panic");
        assert_not_stale(instance.read());
    }
    instance.load(Token::BeforeTheLoad);
    assert_eq!(
        instance.read(),
        Answer::Version(1),
        "it is usable as before"
    );
}

fn load(instance: &Instance) -> bool {
    instance.load(Token::BeforeTheLoad)
}

#[test]
fn an_insert_against_the_invalidation_of_its_key_leaves_nothing_old() {
    in_every_order(|loads| loads_against(loads, |instance| instance.write(What::Key), load));
}

#[test]
fn an_insert_against_the_invalidation_of_its_tag_leaves_nothing_old() {
    in_every_order(|loads| loads_against(loads, |instance| instance.write(What::Tag), load));
}

#[test]
fn an_insert_against_the_invalidation_of_its_cache_leaves_nothing_old() {
    in_every_order(|loads| loads_against(loads, |instance| instance.write(What::Cache), load));
}

#[test]
fn an_insert_against_a_fence_leaves_nothing_old() {
    in_every_order(|loads| loads_against(loads, |instance| instance.write(What::Lane), load));
}

#[test]
fn an_absence_inserted_against_the_invalidation_of_its_key_leaves_nothing_old() {
    in_every_order(|loads| {
        loads_against(
            loads,
            |instance| instance.write(What::Key),
            Instance::load_absence,
        );
    });
}

#[test]
fn an_insert_and_the_reaper_against_an_invalidation_leave_nothing_old() {
    in_every_order(|_| {
        let instance = Instance::new(false);
        instance.load(Token::BeforeTheLoad);
        let (loads, sweeps) = (instance.clone(), instance.clone());
        let loads = thread::spawn(move || loads.load(Token::BeforeTheLoad));
        let sweeps = thread::spawn(move || sweeps.sweep());
        instance.write(What::Key);
        assert_not_stale(instance.read());
        loads.join().expect("it does not panic");
        sweeps.join().expect("it does not panic");
        assert_not_stale(instance.read());
    });
}

/// A reader that sees that the invalidation has been applied, and then reads.
fn hits_against(what: What) {
    let instance = Instance::new(false);
    assert!(instance.load(Token::BeforeTheLoad));
    let applied = Arc::new(AtomicBool::new(false));
    let reader = {
        let (instance, applied) = (instance.clone(), applied.clone());
        thread::spawn(move || {
            for _ in 0..3 {
                let begun_after = applied.load(SeqCst);
                let answer = instance.read();
                assert!(
                    !begun_after || answer != Answer::Version(0),
                    "stale: {answer:?}"
                );
            }
        })
    };
    instance.write(what);
    applied.store(true, SeqCst);
    reader.join().expect("it does not panic");
    assert_not_stale(instance.read());
}

#[test]
fn a_hit_against_a_fence_serves_nothing_old() {
    in_every_order(|_| hits_against(What::Lane));
}

#[test]
fn a_hit_against_the_invalidation_of_its_key_serves_nothing_old() {
    in_every_order(|_| hits_against(What::Key));
}

#[test]
fn a_hit_against_the_invalidation_of_its_tag_serves_nothing_old() {
    in_every_order(|_| hits_against(What::Tag));
}

#[test]
fn a_hit_against_the_invalidation_of_its_cache_serves_nothing_old() {
    in_every_order(|_| hits_against(What::Cache));
}

/// The old entry may be served only once it has been verified, and before that it is dropped.
fn a_verification_against_a_hit(what: What) {
    let instance = Instance::new(true);
    assert!(instance.load_long_ago());
    instance.commit();
    let reader = {
        let instance = instance.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                let answer = instance.read();
                assert_eq!(answer, Answer::Nothing, "stale: {answer:?}");
            }
        })
    };
    instance.invalidate(what);
    instance.verify();
    reader.join().expect("it does not panic");
}

#[test]
fn a_verification_proves_no_hit_that_began_before_it() {
    in_every_order(|_| a_verification_against_a_hit(What::Key));
    in_every_order(|_| a_verification_against_a_hit(What::Lane));
}

#[test]
fn a_verification_proves_what_is_left() {
    let served = || {
        let instance = Instance::new(true);
        instance.load_long_ago();
        assert_eq!(instance.read(), Answer::Nothing);
        instance.verify();
        assert_eq!(instance.read(), Answer::Version(0));
    };
    shuttle::check_random(served, 1);
}

#[test]
fn a_token_taken_after_the_load_is_found() {
    shows_in_some_order(|loads| {
        loads_against(
            loads,
            |instance| instance.write(What::Key),
            |instance| instance.load(Token::AfterTheLoad),
        );
    });
    shows_in_some_order(|loads| {
        loads_against(
            loads,
            |instance| instance.write(What::Lane),
            |instance| instance.load(Token::AfterTheLoad),
        );
    });
}

#[test]
fn a_stamp_without_a_removal_is_found() {
    shows_in_some_order(|loads| {
        let stamp = |instance: &Instance| {
            instance.commit();
            instance.stamp_key_only();
        };
        loads_against(loads, stamp, load);
    });
}

#[test]
fn an_invalidation_before_the_commit_is_found() {
    shows_in_some_order(|loads| {
        let early = |instance: &Instance| {
            instance.invalidate(What::Key);
            instance.commit();
        };
        loads_against(loads, early, load);
    });
}

/// A read waits; another thread verifies the lane, once: when it is asked to, or at any time.
fn a_wait_against_a_verification(wait: Wait, asked: bool) {
    let instance = Instance::new(true);
    let (ask, requests) = mpsc::channel();
    let reader = {
        let instance = instance.clone();
        thread::spawn(move || {
            instance.wait(wait, || {
                let _ = ask.send(());
                thread::yield_now();
            });
        })
    };
    if asked {
        let _ = requests.recv();
    }
    instance.verify();
    reader.join().expect("it does not panic");
}

#[test]
fn a_read_that_waits_is_woken_by_the_verification_it_asked_for() {
    in_every_order(|_| a_wait_against_a_verification(Wait::BeforeTheTest, true));
}

#[test]
fn a_read_that_waits_is_woken_by_a_verification_that_comes_by_itself() {
    in_every_order(|_| a_wait_against_a_verification(Wait::BeforeTheTest, false));
}

#[test]
fn a_wait_that_begins_after_the_test_is_found() {
    for asked in [true, false] {
        let mistaken: fn(usize) = if asked {
            |_| a_wait_against_a_verification(Wait::AfterTheTest, true)
        } else {
            |_| a_wait_against_a_verification(Wait::AfterTheTest, false)
        };
        let found = catch_unwind(AssertUnwindSafe(|| in_every_order(mistaken)));
        let panic = found.expect_err("no schedule shows the mistake");
        let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(said.contains("deadlock"), "another failure: {said}");
    }
}
