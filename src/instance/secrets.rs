//! Secrets in files of their own, which are changed there while the program runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::coherence::member::{Member, Phase};
use crate::log::LogLimit;
use crate::settings::Settings;

/// How often the files are looked at, as those of the login are.
const LOOK: Duration = Duration::from_secs(1);

/// Takes what the files of secrets hold, until the instance is closed. If a secret would be refused at a
/// start, the previous ones stay in use.
pub(super) async fn keep(member: Arc<Member>) {
    let mut phase = member.phase.subscribe();
    let (mut settings, refused) = (member.settings.clone(), LogLimit::default());
    loop {
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Closed) => return,
            () = sleep(LOOK) => {}
        }
        let before = settings.clone();
        // Off the threads of async tasks: a disk may take its time.
        let read = tokio::task::spawn_blocking(move || before.with_secrets_read_again()).await;
        match read {
            Ok(Ok(Some(again))) => {
                settings = again;
                take(&member, &settings);
            }
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(why)) => {
                if let Some(suppressed) = refused.allow(member.clock.now()) {
                    tracing::warn!(
                        instance = %member.name(), why, suppressed,
                        "a secret that was changed in its file cannot be used; the previous one stays in use"
                    );
                }
            }
        }
    }
}

fn take(member: &Member, settings: &Settings) {
    member.seal.renew(settings);
    #[cfg(feature = "shared")]
    member.tier.renew(settings);
    // So that an operator can compare the keys of a fleet.
    member.bus.set_keys(member.seal.prints());
    member.verify_all_now();
    tracing::info!(instance = %member.name(), "the secrets that were changed in their files are now in use");
}
