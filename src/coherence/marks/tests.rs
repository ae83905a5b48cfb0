use super::*;

fn at(epoch: u64, sequence: u64) -> Position {
    Position { epoch, sequence }
}

fn counted(number: u64, mark: Option<u64>) -> Counted {
    Counted {
        number,
        marks: mark.map(|mark| (0, mark)).into_iter().collect(),
    }
}

#[test]
fn a_mark_proves_up_to_the_last_own_verification_that_it_reaches() {
    let mut marks = Marks::default();
    marks.learn(10, at(1, 5), &counted(3, None));
    marks.learn(20, at(1, 5), &counted(7, None));
    marks.learn(30, at(1, 5), &counted(9, Some(8)));
    assert_eq!(marks.proven(Some(at(1, 5))), [(0, 20)]);
    // One below all that are remembered proves nothing.
    marks.learn(40, at(1, 5), &counted(11, Some(2)));
    assert_eq!(marks.proven(Some(at(1, 5))), []);
}

#[test]
fn it_proves_nothing_before_the_head_is_applied() {
    let mut marks = Marks::default();
    marks.learn(10, at(1, 5), &counted(1, None));
    marks.learn(20, at(1, 6), &counted(2, Some(1)));
    assert_eq!(marks.proven(Some(at(1, 5))), []);
    assert_eq!(marks.proven(Some(at(2, 9))), []);
    assert_eq!(marks.proven(Some(at(1, 6))), [(0, 10)]);
    assert_eq!(marks.proven(Some(at(1, 6))), []);
}

#[test]
fn another_epoch_begins_with_nothing() {
    let mut marks = Marks::default();
    marks.learn(10, at(1, 5), &counted(1, None));
    marks.learn(20, at(2, 5), &counted(2, Some(1)));
    assert_eq!(marks.proven(Some(at(2, 5))), []);
    marks.learn(30, at(2, 5), &counted(3, Some(2)));
    assert_eq!(marks.proven(Some(at(2, 5))), [(0, 20)]);
}

#[test]
fn a_connection_that_is_lost_takes_what_waits_with_it() {
    let mut marks = Marks::default();
    marks.learn(10, at(1, 5), &counted(1, None));
    marks.learn(20, at(1, 6), &counted(2, Some(1)));
    marks.disconnected();
    assert_eq!(marks.proven(Some(at(1, 6))), []);
}

#[test]
fn answers_in_any_order_are_remembered_by_number_and_in_bounds() {
    let mut marks = Marks::default();
    for number in (1..=200).rev() {
        marks.learn(number * 10, at(1, 5), &counted(number, None));
    }
    assert_eq!(marks.sent.len(), REMEMBERED);
    assert!(marks.sent.iter().map(|(number, _)| number).is_sorted());
}
