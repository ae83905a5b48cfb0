//! Invalidating what you cannot list: tags, and several caches in one batch.
//!
//! ```sh
//! cargo run --example tags_and_batch
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use unstale::{BoxError, Cache, Instance, Loaded, Settings};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let instance = Instance::start(Settings::from_env()?).await?;

    // Even users belong to team 0, odd ones to team 1; each entry is tagged with its team, and
    // lives 30 s rather than the cache's TTL.
    let users = instance
        .cache::<u64, String>("users")
        .loader(|id: u64| async move {
            let user = Loaded::new(format!("user {id}"))
                .ttl(Duration::from_secs(30))
                .tag(format!("team-{}", id % 2));
            Ok(user)
        })
        .build()?;
    let teams = instance
        .cache::<u64, u64>("team_sizes")
        .loader(|_| async { Ok(2) })
        .build()?;

    users.get_many(&[1, 2, 3, 4]).await?;
    teams.get_many(&[0, 1]).await?;
    show("loaded", &users, &teams);

    // One tag: the members of team 1, without knowing who they are.
    users.invalidate_tag("team-1").await?;
    show("team 1 renamed", &users, &teams);

    // One transaction that changed a user, and the size of a team: one message.
    instance
        .batch()
        .key(&users, &2)
        .key(&teams, &0)
        .invalidate()
        .await?;
    show("user 2 left team 0", &users, &teams);

    instance.shutdown().await?;
    Ok(())
}

/// Which keys are still in memory.
fn show(what: &str, users: &Cache<u64, String>, teams: &Cache<u64, u64>) {
    let held = |cache: &dyn Fn(&u64) -> bool, keys: &[u64]| -> Vec<u64> {
        keys.iter().copied().filter(|key| cache(key)).collect()
    };
    let users = held(&|id| users.peek(id).is_some(), &[1, 2, 3, 4]);
    let teams = held(&|id| teams.peek(id).is_some(), &[0, 1]);
    println!("{what}: users {users:?}, teams {teams:?}");
}
