//! What the shared tier makes of types: another service's object, what cannot be shared, projections.

use serde::{Deserialize, Serialize};
use unstale::{Loaded, LocalBus, Outcome, Settings, SharedTier, testing};

use crate::support::logged::Logged;
use crate::support::nodes::{ms, pass};

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_shared_is_logged_once_with_cache_and_type() {
    let logged = Logged::at("error");
    let bus = LocalBus::default();
    let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
    let cache = instance
        .cache::<u64, Option<Option<u64>>>("options")
        .tier(SharedTier::new());
    let cache = cache
        .loader(|_: u64| async { Ok(Loaded::new(Some(Some(None)))) })
        .build()
        .unwrap();
    pass(ms(1)).await;
    for key in 0..10 {
        assert_eq!(cache.get(&key).await.unwrap(), Some(Some(None)));
        pass(ms(1)).await;
    }
    let lines = logged.with("is not stored in the shared tier");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("options") && lines[0].contains("Option<u64>>"),
        "{lines:?}"
    );
}

mod theirs {
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct User {
        pub(super) id: u64,
        pub(super) name: String,
    }
}

mod ours {
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct User {
        pub(super) id: u64,
        #[serde(default)]
        pub(super) admin: bool,
    }
}

#[tokio::test(start_paused = true)]
async fn another_services_object_of_the_same_name_is_a_miss() {
    let bus = LocalBus::default();
    let start = async || testing::start_on(&bus, Settings::default()).await.unwrap();
    let (one, other) = (start().await, start().await);
    let theirs = one
        .cache::<u64, theirs::User>("users")
        .tier(SharedTier::new());
    let load = |id: u64| async move {
        Ok(theirs::User {
            id,
            name: "root".to_owned(),
        })
    };
    let theirs = theirs.loader(load).build().unwrap();
    let ours = other
        .cache::<u64, ours::User>("users")
        .tier(SharedTier::new());
    let load = |id: u64| async move {
        Ok(ours::User {
            id: id + 1_000,
            admin: true,
        })
    };
    let ours = ours.loader(load).build().unwrap();
    pass(ms(1)).await;
    theirs.get(&1).await.unwrap();
    pass(ms(1)).await;
    let found = ours.lookup(&1).await.unwrap();
    assert_eq!(found.outcome, Outcome::Miss);
    assert_eq!(found.value.map(|user| user.id), Some(1_001));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    id: u64,
    history: Vec<u64>,
}

#[tokio::test(start_paused = true)]
async fn a_projection_gives_every_instance_the_same_also_where_it_was_loaded() {
    for whole in [false, true] {
        let bus = LocalBus::default();
        let mut lengths = Vec::new();
        for _ in 0..2 {
            let instance = testing::start_on(&bus, Settings::default()).await.unwrap();
            let to = |account: &Account| account.id;
            let from = |id| Account {
                id,
                history: Vec::new(),
            };
            let tier = SharedTier::projection(to, from);
            let tier = if whole {
                tier.whole_where_loaded()
            } else {
                tier
            };
            let load = |id: u64| async move {
                Ok(Account {
                    id,
                    history: vec![1, 2],
                })
            };
            let cache = instance
                .cache::<u64, Account>("accounts")
                .tier(tier)
                .loader(load);
            let cache = cache.build().unwrap();
            pass(ms(1)).await;
            for _ in 0..2 {
                lengths.push(cache.get(&1).await.unwrap().unwrap().history.len());
                pass(ms(1)).await;
            }
        }
        let expected = if whole { [2, 2, 0, 0] } else { [0; 4] };
        assert_eq!(lengths, expected);
    }
}
