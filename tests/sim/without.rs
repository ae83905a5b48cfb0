//! Every mechanism of the protocol is taken out in turn, and the judge must see it.

use unstale::testing::Mechanism;

/// A mechanism by its name.
pub(crate) fn named(name: &str) -> Mechanism {
    use Mechanism::*;
    let all = [
        TokenAtInsert,
        FenceOfLoadsInFlight,
        SequenceCheck,
        Verification,
        Epochs,
        FenceAfterAdoption,
        OrderOfResubscription,
        PublishAfterCommit,
        IntentRecovery,
        WritersGate,
        PublishAtDeadline,
        Republishing,
        Collapse,
        StillThePrimary,
    ];
    let found = all.into_iter().find(|one| format!("{one:?}") == name);
    found.expect("a mechanism")
}
