use super::*;

fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

fn sent(at: u64) -> Sent {
    Sent { at, token: at + 1 }
}

fn reached(number: u64) -> Reached {
    let place = 100 * number;
    Reached { number, place }
}

/// What the verification that was sent at `at` proves, by the mark of this number.
fn proof(at: u64, mark: u64) -> Proof {
    let token = at + 1;
    Proof {
        at,
        token,
        place: 100 * mark,
    }
}

fn counted(number: u64, mark: Option<u64>) -> Counted {
    Counted {
        number,
        marks: mark
            .map(|number| (0, reached(number)))
            .into_iter()
            .collect(),
    }
}

#[test]
fn a_mark_proves_up_to_the_last_own_verification_that_it_reaches() {
    let mut marks = Marks::default();
    marks.learn(sent(10), at(1, 5), &counted(3, None));
    marks.learn(sent(20), at(1, 5), &counted(7, None));
    marks.learn(sent(30), at(1, 5), &counted(9, Some(8)));
    assert_eq!(marks.proven(Some(at(1, 5))), [(0, proof(20, 8))]);
    // One below all that are remembered proves nothing.
    marks.learn(sent(40), at(1, 5), &counted(11, Some(2)));
    assert_eq!(marks.proven(Some(at(1, 5))), []);
}

#[test]
fn a_mark_proves_nothing_before_the_head_is_applied() {
    let mut marks = Marks::default();
    marks.learn(sent(10), at(1, 5), &counted(1, None));
    marks.learn(sent(20), at(1, 6), &counted(2, Some(1)));
    assert_eq!(marks.proven(Some(at(1, 5))), []);
    assert_eq!(marks.proven(Some(at(2, 9))), []);
    assert_eq!(marks.proven(Some(at(1, 6))), [(0, proof(10, 1))]);
    assert_eq!(marks.proven(Some(at(1, 6))), []);
}

#[test]
fn another_epoch_begins_without_marks() {
    let mut marks = Marks::default();
    marks.learn(sent(10), at(1, 5), &counted(1, None));
    marks.learn(sent(20), at(2, 5), &counted(2, Some(1)));
    assert_eq!(marks.proven(Some(at(2, 5))), []);
    marks.learn(sent(30), at(2, 5), &counted(3, Some(2)));
    assert_eq!(marks.proven(Some(at(2, 5))), [(0, proof(20, 2))]);
}

#[test]
fn a_lost_connection_discards_the_marks_that_wait() {
    let mut marks = Marks::default();
    marks.learn(sent(10), at(1, 5), &counted(1, None));
    marks.learn(sent(20), at(1, 6), &counted(2, Some(1)));
    marks.disconnected();
    assert_eq!(marks.proven(Some(at(1, 6))), []);
}

#[test]
fn answers_in_any_order_are_remembered_by_number_and_in_bounds() {
    let mut marks = Marks::default();
    for number in (1..=200).rev() {
        marks.learn(sent(number * 10), at(1, 5), &counted(number, None));
    }
    assert_eq!(marks.sent.len(), REMEMBERED);
    assert!(marks.sent.iter().map(|(number, _)| number).is_sorted());
}
