//! What an error says is missing.

use super::*;

#[test]
fn refusals_of_redis_name_the_right_that_is_missing() {
    for (details, missing) in [
        (
            "NOPERM this user has no permissions to run the 'script|load' command",
            Some(MissingRight::Command("script|load".into())),
        ),
        (
            "NOPERM User app has no permissions to run the 'subscribe' command",
            Some(MissingRight::Command("subscribe".into())),
        ),
        (
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            Some(MissingRight::Keys),
        ),
        (
            "NOPERM this user has no permissions to access one of the channels used as arguments",
            Some(MissingRight::Channels),
        ),
        (
            "NOPERM No permissions to access a key",
            Some(MissingRight::Keys),
        ),
        ("WRONGPASS invalid username-password pair", None),
    ] {
        let error = FredError::new(FredKind::Unknown, details);
        assert_eq!(denied(&error), missing, "{details}");
    }
}
