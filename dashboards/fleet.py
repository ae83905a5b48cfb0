"""Rows of the overview that show trouble, and features that a fleet may or may not use."""

from grafana import coloured, dashed, series, timeline
from queries import (
    BLUE, FENCE_CAUSES, GAPS, GREEN, GREY, ORANGE, PER_MINUTE, PER_SECOND, RED, RELAY, RELAY_STATE, SHARED_READS,
    SHARED_STORES, SHARED_WAITS, TO_INCIDENT, YELLOW,
)

# What a panel says when no instance has its metrics.
NO_AUDIT = "UNSTALE_AUDIT is off"
NO_SOURCE = "No cache names a source"
NO_RELAY = "Prometheus knows no relay"


def losses():
    """Losses of events, and whether the instances are one fleet."""
    row = [
        series("Gaps by cause: none is good",
               "How often per minute events may have been missed. sequence, lagged, garbled, silent: the "
               "subscription lost some. disconnected, epoch: a connection or a server went away.", PER_MINUTE,
               ("60 * sum by (cause) (rate(unstale_gaps_total{I}[R]))", "{{cause}}"), stack=True, min=0, draw="bars",
               colors=GAPS),
        series("Fences by cause: none is good",
               "How often per minute an instance dropped everything of a lane. adopted: the instance started. epoch: "
               "Redis restarted, was flushed or failed over.", PER_MINUTE,
               ("60 * sum by (cause) (rate(unstale_fences_total{I}[R]))", "{{cause}}"), stack=True, min=0,
               draw="bars", colors=FENCE_CAUSES),
        series("Gaps by instance", "How often per minute each instance may have missed events.",
               PER_MINUTE, ("60 * sum by (instance) (rate(unstale_gaps_total{I}[R]))", "{{instance}}"), stack=True,
               min=0, draw="bars", links=TO_INCIDENT),
        series("Versions: one is right", "Instances by version of the crate. A rollout has two for a while.", "none",
               ("count by (version) (unstale_build_info{I})", "{{version}}"), stack=True, min=0, decimals=0),
        series("Fleets: one is right",
               "Instances by namespace and by what carries their events. local: they have no Redis, and each instance "
               "is a fleet of its own.", "none",
               ("count by (fleet, bus) (unstale_settings_info{I})", "{{fleet}} ({{bus}})"), stack=True, min=0,
               decimals=0),
        series("Who is who", "The id by which the log and the program unstale name each instance.", "none",
               ("count by (instance, id) (unstale_settings_info{I})", "{{instance}} is {{id}}"), stack=True, min=0,
               decimals=0, legend="right", links=TO_INCIDENT),
    ]
    for made, width in zip(row, (8, 8, 8, 6, 6, 12)):
        made["gridPos"] = {"w": width, "h": 7}
    return row


def audit():
    return [
        series("Stale values found: none is good",
               "Audited hits per minute that were still served, and still not what the source has, so long after the "
               "staleness bound. Each is a writer that does not invalidate, or a fault. Empty while UNSTALE_AUDIT is "
               "off.", PER_MINUTE,
               ("60 * sum by (cache, age) (rate(unstale_audit_stale_total{C}[R]))", "{{cache}} for {{age}}"), w=12,
               h=7, min=0, stack=True, draw="bars", noValue=NO_AUDIT,
               overrides=[coloured(f".* for {age}", color)
                          for age, color in (("1s", YELLOW), ("10s", ORANGE), ("60s", RED))]),
        series("Audits: green is fresh",
               "Hits that were compared with the source. differs: the source had another value at first, which may "
               "have been written a moment before. failed: the source did not answer. skipped: too many audits ran. "
               "Empty while UNSTALE_AUDIT is off.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_audits_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0, stack=True,
               colors={"same": GREEN, "differs": YELLOW, "failed": RED, "skipped": GREY}, noValue=NO_AUDIT),
    ]


def shared():
    return [
        series("Reads of the shared tier: found saves a load",
               "What Redis had for reads that found nothing in memory. found: no load was necessary. skipped, busy, "
               "failed: Redis is slow or away, and the loader ran.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_shared_reads_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0,
               stack=True, colors=SHARED_READS),
        series("Values for the shared tier", "What became of loaded values. unchanged: Redis had the same bytes, and "
               "only their times were renewed. oversized, broken: they stay in memory only.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_shared_stores_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0,
               stack=True, colors=SHARED_STORES),
        series("Waits for other instances", "Loads that waited until another instance had loaded the same key, by how "
               "the wait ended. Many gave_up: the loader takes longer than the wait of fleet_single_flight.",
               PER_SECOND,
               ("sum by (outcome) (rate(unstale_shared_waits_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0,
               stack=True, colors=SHARED_WAITS),
        series("Breaker of the shared tier: open is bad",
               "Instances whose breaker is open now, and how often per minute one opens. While it is open, entries are "
               "loaded from the source instead of fetched from Redis.", "none",
               ("sum(unstale_shared_broken{I})", "open now"),
               ("60 * sum(rate(unstale_shared_trips_total{I}[R]))", "opened per minute"), w=12, h=7, min=0,
               colors={"open now": RED, "opened per minute": ORANGE}),
    ]


def relay():
    return [
        timeline("Relay: one leads, the others wait",
                 "What each relay does. opens the log: it starts, or it has lost the log. Empty where Prometheus asks "
                 "no relay.", RELAY_STATE, RELAY, w=12, h=7, legend="{{source}}: {{instance}}", noValue=NO_RELAY),
        series("Proof of the sources: above the dashed line reads load",
               "How long ago everything committed in a source was last known to be applied: on the instance where that "
               "is longest ago, on the one where it is not, and the smallest max_staleness of any cache. If all are "
               "old, no relay works; if one is old, it is that instance.", "s",
               ("max by (source) (unstale_source_verified_age_seconds{I})", "{{source}}, oldest"),
               ("min by (source) (unstale_source_verified_age_seconds{I})", "{{source}}, newest"),
               ("min(unstale_max_staleness_seconds{C} > 0)", "max_staleness"),
               w=12, h=7, min=0, colors={"max_staleness": RED}, overrides=[dashed("max_staleness")],
               noValue=NO_SOURCE),
        series("Lag of the relay",
               "How long ago all that instances wait for was proven. It stays small while nothing is written.", "s",
               ("max by (instance, source) (unstale_relay_lag_seconds{I})", "{{source}}: {{instance}}"), min=0, h=7,
               noValue=NO_RELAY),
        series("Log behind the relay", "Bytes of the database's log that are not published yet. They grow while Redis "
               "is away or slow, and while the relay reads a very large transaction.", "bytes",
               ("max by (instance, source) (unstale_relay_lag_bytes{I})", "{{source}}: {{instance}}"), min=0, h=7,
               noValue=NO_RELAY),
        series("Read from the log", "Transactions and changed rows per second. Rows that no rule maps are read for "
               "nothing: take their tables out of the publication.", PER_SECOND,
               ("sum by (source) (rate(unstale_relay_commits_total{I}[R]))", "{{source}}: commits"),
               ("sum by (source) (rate(unstale_relay_rows_total{I}[R]))", "{{source}}: rows"),
               ("sum by (source) (rate(unstale_relay_unmapped_rows_total{I}[R]))", "{{source}}: rows without a rule"),
               min=0, h=7, noValue=NO_RELAY),
        series("Published and marked", "Events of the relay that Redis acknowledged, and marks, each of which proves "
               "how far the relay is.", PER_SECOND,
               ("sum by (source) (rate(unstale_relay_events_total{I}[R]))", "{{source}}: events"),
               ("sum by (source) (rate(unstale_relay_marks_total{I}[R]))", "{{source}}: marks"), min=0, w=12, h=7,
               noValue=NO_RELAY),
        series("Whole caches, and restarts: each costs loads",
               "How often per minute the relay dropped whole caches, because it could not decide which keys to drop, "
               "and how often it lost the log, after which it drops all caches of its rules. names: a transaction "
               "changed very much. missing: a large value or an old key was not in the log; REPLICA IDENTITY FULL puts "
               "it there.", PER_MINUTE,
               ("60 * sum by (source, cause) (rate(unstale_relay_collapses_total{I}[R]))", "{{source}}: {{cause}}"),
               ("60 * sum by (source) (rate(unstale_relay_restarts_total{I}[R]))", "{{source}}: restarted"),
               w=12, h=7, min=0, stack=True, draw="bars", noValue=NO_RELAY),
    ]
