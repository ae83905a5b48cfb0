//! What one connection to a server asks of the other, which carries the subscription.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

use crate::bus::SubscriptionRepair;

/// What is to be done about the subscription; the greater includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// See whether the connection still answers.
    Check = 1,
    Resubscribe = 2,
    Reconnect = 3,
}

impl From<SubscriptionRepair> for Action {
    fn from(how: SubscriptionRepair) -> Self {
        match how {
            SubscriptionRepair::Resubscribe => Self::Resubscribe,
            SubscriptionRepair::Reconnect => Self::Reconnect,
        }
    }
}

/// The greatest action that was asked for and not begun.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// An [`Action`], or 0.
    greatest: AtomicU8,
    asked: Notify,
}

impl Pending {
    pub(super) fn ask(&self, action: Action) {
        self.greatest.fetch_max(action as u8, Ordering::AcqRel);
        self.asked.notify_one();
    }

    /// Waits until an action is asked for and takes it; `None` if it was taken meanwhile. Cancel safe.
    pub(super) async fn next(&self) -> Option<Action> {
        self.asked.notified().await;
        self.take()
    }

    pub(super) fn take(&self) -> Option<Action> {
        match self.greatest.swap(0, Ordering::AcqRel) {
            0 => None,
            1 => Some(Action::Check),
            2 => Some(Action::Resubscribe),
            _ => Some(Action::Reconnect),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_several_actions_the_greatest_is_taken_once() {
        let pending = Pending::default();
        assert_eq!(pending.take(), None);
        for action in [Action::Check, Action::Reconnect, Action::Resubscribe] {
            pending.ask(action);
        }
        assert_eq!(pending.next().await, Some(Action::Reconnect));
        assert_eq!(pending.take(), None);
    }
}
