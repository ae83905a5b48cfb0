use std::io;

use super::write::WriteError;
use super::*;

/// Every kind, as the compiler holds it: a kind that is added must be added here.
fn kinds() -> Vec<ErrorKind> {
    use ErrorKind::*;
    let mut kinds = vec![Settings];
    loop {
        let next = match kinds[kinds.len() - 1] {
            Settings => Key,
            Key => Load,
            Load => LoadTimeout,
            LoadTimeout => LoadPanic,
            LoadPanic => NoLoader,
            NoLoader => Recursion,
            Recursion => Limited,
            Limited => Overloaded,
            Overloaded => Bus,
            Bus => Auth,
            Auth => Lanes,
            Lanes => Closed,
            Closed => return kinds,
        };
        kinds.push(next);
    }
}

#[test]
fn every_kind_has_one_http_status_in_the_documentation() {
    let rows = include_str!("../error.rs").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("/// | `"));
    let rows: Vec<(&str, &str)> = rows.map(|row| row.split_once("` | ").unwrap()).collect();
    let documented: Vec<&str> = rows.iter().map(|(kind, _)| *kind).collect();
    let kinds: Vec<String> = kinds().iter().map(|kind| format!("{kind:?}")).collect();
    assert_eq!(documented, kinds);
    for (kind, status) in rows {
        let status: u16 = status[..3].parse().expect("a status");
        assert!((400..600).contains(&status), "{kind}: {status}");
    }
}

#[test]
fn debug_of_an_error_prints_its_message_with_real_newlines() {
    let error = Error::new(ErrorKind::Settings, "2 settings are not valid:\n  A\n  B");
    assert_eq!(
        format!("{error:?}"),
        "2 settings are not valid:\n  A\n  B",
        "as `main` prints it"
    );
    let boxed: Box<dyn StdError> = error.into();
    assert_eq!(format!("{boxed:?}").lines().count(), 3);
}

#[test]
fn debug_of_an_error_prints_each_source_once() {
    let query = io::Error::other("no such table: p");
    let error = Error::with_source(ErrorKind::Load, "the loader failed", query);
    assert_eq!(error.to_string(), "the loader failed");
    assert_eq!(format!("{error:#}"), "the loader failed: no such table: p");
    assert_eq!(format!("{error:?}"), "the loader failed: no such table: p");

    let refused = io::Error::other("refused");
    let error = Error::with_source(ErrorKind::Bus, "no connection: refused", refused);
    assert_eq!(format!("{error:?}"), "no connection: refused");

    let outer = Error::with_source(ErrorKind::Load, "outer", error);
    assert_eq!(format!("{outer:?}"), "outer: no connection: refused");
}

#[test]
fn debug_of_a_failed_write_prints_what_display_does_and_its_source() {
    type Failed = WriteError<(), io::Error>;
    let failed = Failed::Commit(io::Error::other("no such table: p"));
    assert_eq!(format!("{failed:?}"), "the commit failed: no such table: p");
    assert_eq!(format!("{failed:?}"), failed.to_string());

    let hung = io::Error::other("hung");
    let error = Error::with_source(ErrorKind::Bus, "Redis did not answer", hung);
    let refused = format!("{:?}", Failed::Refused(error.clone()));
    assert_eq!(
        refused,
        "refused before the commit: Redis did not answer: hung"
    );
    let value = ();
    let unconfirmed = format!("{:?}", Failed::Unconfirmed { value, error });
    assert!(
        unconfirmed.ends_with("not acknowledged yet: Redis did not answer: hung"),
        "{unconfirmed}"
    );
}

#[test]
fn a_committed_write_gives_its_value_back_and_no_other_does() {
    type Failed = WriteError<u64, io::Error>;
    let why = || Error::new(ErrorKind::Bus, "Redis did not answer");
    let unconfirmed = Failed::Unconfirmed {
        value: 7,
        error: why(),
    };
    assert!(unconfirmed.is_committed());
    assert_eq!(unconfirmed.committed().ok(), Some(7));
    let others = [
        Failed::Refused(why()),
        Failed::Abandoned(why()),
        Failed::Commit(io::Error::other("no")),
    ];
    for other in others {
        assert!(!other.is_committed(), "{other:?}");
        let before = format!("{other:?}");
        let after = other.committed().expect_err("it is not committed");
        assert_eq!(format!("{after:?}"), before, "nothing of it is lost");
    }
}

#[test]
fn transient_errors_are_those_that_may_end_with_time_alone() {
    let transient = |kind: &ErrorKind| Error::new(*kind, "").is_transient();
    let transient: Vec<ErrorKind> = kinds().into_iter().filter(transient).collect();
    use ErrorKind::{Bus, Limited, LoadTimeout, Overloaded};
    assert_eq!(transient, [LoadTimeout, Limited, Overloaded, Bus]);
}
