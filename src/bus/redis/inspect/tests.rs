//! What an error says is missing.

use super::*;

#[test]
fn refusals_of_redis_name_the_right_that_is_missing() {
    for (details, missing) in [
        (
            "NOPERM this user has no permissions to run the 'script|load' command",
            Some(Missing::Command("script|load".into())),
        ),
        (
            "NOPERM User app has no permissions to run the 'subscribe' command",
            Some(Missing::Command("subscribe".into())),
        ),
        (
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            Some(Missing::Keys),
        ),
        (
            "NOPERM this user has no permissions to access one of the channels used as arguments",
            Some(Missing::Channels),
        ),
        ("NOPERM No permissions to access a key", Some(Missing::Keys)),
        ("WRONGPASS invalid username-password pair", None),
    ] {
        let error = FredError::new(FredKind::Unknown, details);
        assert_eq!(denied(&error), missing, "{details}");
    }
}
