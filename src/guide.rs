//! The guide: the pages of `docs/`, one for each concept.
//!
//! | to | read |
//! |---|---|
//! | begin | [`getting_started`], [`concepts`], [`promise`], [`comparison`], [`coming_from`] |
//! | write code | [`invalidation`], [`crash_safe_writes`], [`unknown_keys`], [`refresh_and_stale`], [`shared_tier`], [`testing_your_service`] |
//! | run it | [`production`], [`redis`], [`relay`], [`cli`], [`observability`] |
//! | look up | [`settings`], [`metrics`], [`benchmarks`] |
//!
//! # In the repository
//!
//! The pages also refer to files that are no part of this documentation:
//!
//! | file | what is there |
//! |---|---|
//! | `ARCHITECTURE.md` | the map of the code, the invariants, and the tests that hold them |
//! | `PROTOCOL.md` | what travels over Redis, for programs in other languages |
//! | `SECURITY.md` | what the secrets, the rights in Redis and TLS protect from |
//! | `examples/` | programs to copy from, `examples/accounts` among them: the reference service |
//! | `deploy/` | Kubernetes, systemd, Compose, and a configuration of Redis |
//! | `dashboards/` | boards, alerts, and `RUNBOOK.md`: a section for each alert |
//! | `docs/*.png` | pictures of the boards |

// Each page begins with `links.md`: the first definition of a link counts, so the links of the page
// lead to other pages here, and to other files in the repository.

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/getting-started.md")]
pub mod getting_started {}

/// <style>img[src="#picture"] { display: none }</style>
#[doc = include_str!("../docs/concepts.svg")]
///
#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/concepts.md")]
pub mod concepts {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/promise.md")]
pub mod promise {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/comparison.md")]
pub mod comparison {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/coming-from.md")]
pub mod coming_from {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/invalidation.md")]
pub mod invalidation {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/crash-safe-writes.md")]
pub mod crash_safe_writes {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/unknown-keys.md")]
pub mod unknown_keys {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/refresh-and-stale.md")]
pub mod refresh_and_stale {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/shared-tier.md")]
pub mod shared_tier {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/testing-your-service.md")]
pub mod testing_your_service {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/production.md")]
pub mod production {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/redis.md")]
pub mod redis {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/relay.md")]
pub mod relay {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/cli.md")]
pub mod cli {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/observability.md")]
pub mod observability {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/settings.md")]
pub mod settings {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/metrics.md")]
pub mod metrics {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/benchmarks.md")]
pub mod benchmarks {}
