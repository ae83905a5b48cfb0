"""The board to look at first. generate.py writes it out; grafana.py knows Grafana's model."""

from grafana import bars, board, dashed, heatmap, rows, series, stat, timeline, variable
from queries import (
    BLUE, CACHE, CONNECTION, FENCES, GAPS, GREEN, GREY, JOB, LOADS, LONGER, MISSES, ORANGE, PURPLE, RATIO, RED, RELAY,
    RELAY_STATE, SHORTER, TO_INCIDENT, YELLOW, longer, quantile, quantiles, ratio, reads, shorter,
)


def overview():
    glance = [
        stat("Instances", "Instances that report. Fewer than you run: see UnstaleMetricsMissing.", "none",
             "count(unstale_connected{I})", (None, BLUE)),
        stat("Disconnected",
             "Instances without a connection to Redis. They serve what they hold for max_staleness, then load every "
             "entry again once in that time.", "none",
             "count(unstale_connected{I} == 0) or vector(0)", (None, GREEN), (1, RED)),
        stat("Degraded", "Instances that are disconnected, or where a verification of a lane failed lately.", "none",
             "count((unstale_connected{I} == 0) or on (job, instance) (sum by (job, instance) "
             '(rate(unstale_verifications_total{I,outcome="failed"}[R])) > 0)) or vector(0)',
             (None, GREEN), (1, ORANGE)),
        stat("Verified ago",
             "The longest time that any lane of any instance has not been known to have applied all events. "
             "Idle instances verify every half member_timeout only.", "s",
             "max(unstale_verified_age_seconds{I})", (None, GREEN), (5, ORANGE), (30, RED), decimals=1),
        stat("Hit ratio", "Reads answered from memory, of all reads.", "percentunit",
             ratio("[R]"), (None, BLUE), decimals=1, graphMode="area", **RATIO),
        stat("Reads", "Reads each second, all instances and caches together.", "reqps",
             reads("[R]"), (None, BLUE), graphMode="area"),
        stat("Propagation p99",
             "99 of 100 events were delivered to their publisher again within this time, which is how far behind its "
             "peers are.", "s", quantile(0.99, "propagation_seconds", "{I}"),
             (None, GREEN), (0.1, ORANGE), (1, RED)),
        stat("Settings in use",
             "More than one: instances disagree on lanes, journal, intervals or timeouts. Expected during a rollout "
             "only.", "none",
             "count(count by (fleet, lanes, journal, verify_interval, member_timeout, signed) (unstale_settings_info{I}))",
             (None, GREEN), (2, ORANGE)),
        timeline("Connection: red is cut off from Redis", "Whether each instance is connected to Redis.",
                 "min by (instance) (unstale_connected{I})", CONNECTION, h=7, links=TO_INCIDENT),
        series("Verified age: above the dashed line reads load",
               "For each instance the lane that was verified longest ago, and the tightest max_staleness of any cache. "
               "An age above that line means that reads load. Idle instances verify every half member_timeout only.",
               "s", ("max by (instance) (unstale_verified_age_seconds{I})", "{{instance}}"),
               ("min(unstale_max_staleness_seconds{C} > 0)", "max_staleness"),
               w=12, h=7, min=0, colors={"max_staleness": RED}, overrides=[dashed("max_staleness")],
               links=TO_INCIDENT),
    ]
    efficiency = [
        series("Hit ratio by cache: higher is better",
               "Reads answered from memory, of all reads. A new instance starts at none.",
               "percentunit", (ratio("[R]", " by (cache)"), "{{cache}}"), **RATIO),
        series("Reads by answer: green is from memory",
               "What answered them. Coalesced reads shared the load of another.", "reqps",
               ("sum(rate(unstale_hits_total{C}[R]))", "hit"),
               ("sum(rate(unstale_negative_hits_total{C}[R]))", "hit: does not exist"),
               ("sum(rate(unstale_coalesced_total{C}[R]))", "coalesced"),
               ("sum(rate(unstale_misses_total{C}[R]))", "miss"), stack=True, min=0,
               colors={"hit": GREEN, "hit: does not exist": "dark-green", "coalesced": YELLOW, "miss": ORANGE}),
        series("Misses by cause: what would help",
               "expired: a longer TTL would help. invalidated: writes. evicted: more capacity would help. fenced: "
               "events were lost. unverified: Redis is away or slow. negative: a longer negative TTL would help. "
               "cold: never seen.", "reqps",
               ("sum by (cause) (rate(unstale_misses_total{C}[R]))", "{{cause}}"), stack=True, min=0, colors=MISSES),
        series("Loads by outcome: red and orange failed",
               "What loaders answered. overloaded: too many were under way for too long. limited: unknown keys, "
               "refused by UNSTALE_UNKNOWN_LOADS.", "ops",
               ("sum by (outcome) (rate(unstale_loads_total{C}[R]))", "{{outcome}}"), stack=True, min=0,
               colors=LOADS),
        series("Load duration: what a miss costs", "How long loads took, without the wait for their turn.", "s",
               (quantile(0.5, "load_duration_seconds", "{C}", "le, cache"), "p50 {{cache}}"),
               (quantile(0.99, "load_duration_seconds", "{C}", "le, cache"), "p99 {{cache}}"), min=0),
        series("Fill: at 100 % entries are evicted",
               "Entries of each cache as a part of its capacity, all instances together. Near 100 % with "
               "evictions: raise UNSTALE_CAPACITY.", "percentunit",
               ("sum by (cache) (unstale_entries{C}) / sum by (cache) (unstale_capacity_entries{C})", "{{cache}}"),
               **RATIO),
    ]
    tuning = [
        bars("With a shorter TTL, at least",
             "The hit ratio that a TTL this short would have given in the time shown, at least: every hit on an older "
             "entry is counted as lost, although the load in its place makes later hits young again. Only what is "
             "shorter than the present TTL is shown. Choose one cache above.", "percentunit",
             [(ratio("[RANGE]"), "now"), *((shorter(le), name) for le, name in SHORTER)],
             (None, BLUE), w=9, **RATIO, decimals=1),
        bars("With a longer TTL, at most",
             "The hit ratio that a TTL longer by this much would have given in the time shown, at most: every read "
             "that found an entry expired for no longer is counted as won, with those that shared its load. Little to "
             "gain: leave it. Choose one cache above.", "percentunit",
             [(ratio("[RANGE]"), "now"), *((longer(le), name) for le, name in LONGER)],
             (None, PURPLE), w=9, **RATIO, decimals=1),
        stat("TTL in force", "The longest TTL of each cache among its instances. RUNBOOK.md, Changing a TTL, says how "
             "to change it.", "s", "max by (cache) (unstale_ttl_seconds{C})", (None, BLUE), w=6, h=9,
             legend="{{cache}}", textMode="value_and_name", colorMode="value"),
        heatmap("Age at hit: crowding at the TTL asks for a longer one",
                "How old entries are when they are served. Hits crowding below the TTL: a longer one would pay. Hits "
                "far below: a shorter one costs little.", "s",
                "sum by (le) (increase(unstale_hit_age_seconds_bucket{C}[R]))"),
        series("Ends of entries: by the TTL, by writes, or for room",
               "reaped: expired, and removed before a read found them. The others were missed by a read. Where most "
               "are invalidated, the TTL hardly matters.", "ops",
               ("sum(rate(unstale_reaped_total{C}[R]))", "reaped"),
               ('sum by (cause) (rate(unstale_misses_total{C,cause=~"expired|invalidated|evicted|fenced"}[R]))',
                "{{cause}}"), w=12, stack=True, min=0, colors={"reaped": GREY, **MISSES}),
    ]
    bus = [
        series("Events", "Acknowledged, received and applied. While nothing is lost, each instance receives what all "
               "publish.", "ops",
               ("sum(rate(unstale_events_published_total{I}[R]))", "published"),
               ("sum(rate(unstale_events_received_total{I}[R]))", "received"),
               ("sum(rate(unstale_events_applied_total{I}[R]))", "applied"), min=0),
        series("Bytes received", "From Redis, by what they are for. Protocol included, TLS and TCP excluded.", "Bps",
               ("sum by (kind) (rate(unstale_bus_received_bytes_total{I}[R]))", "{{kind}}"), stack=True, min=0),
        series("Bytes sent", "To Redis, by what they are for. Protocol included, TLS and TCP excluded.", "Bps",
               ("sum by (kind) (rate(unstale_bus_sent_bytes_total{I}[R]))", "{{kind}}"), stack=True, min=0),
        series("Propagation: how late peers hear of a write",
               "From sending an event to its delivery back to the instance that published it. One clock measures it, "
               "so no clocks need to agree.", "s", *quantiles("propagation_seconds", "{I}"), min=0),
        series("Publish: how long an invalidation waits for Redis",
               "From enqueueing an invalidation to its acknowledgement by Redis.", "s",
               *quantiles("publish_seconds", "{I}"), min=0),
        series("Writes by outcome: green is well",
               "Crash-safe writes. refused: not committed. failed, abandoned: the outcome is unknown, and the keys "
               "were invalidated. unconfirmed, unannounced: committed while Redis did not answer.", "ops",
               ("sum by (outcome) (rate(unstale_writes_total{I}[R]))", "{{outcome}}"), stack=True, min=0,
               colors={"ok": GREEN, "refused": ORANGE, "abandoned": RED, "unconfirmed": YELLOW}),
    ]
    losses = [
        series("Gaps by cause: none is good",
               "Times that events may have been missed, each minute. sequence, lagged, garbled, silent: the "
               "subscription lost some. disconnected, epoch: a connection or a server went away.", "opm",
               ("60 * sum by (cause) (rate(unstale_gaps_total{I}[R]))", "{{cause}}"), stack=True, min=0, draw="bars",
               colors=GAPS),
        series("Fences by cause: none is good",
               "Times that everything of a lane was dropped, each minute. adopted: an instance started. epoch: Redis "
               "restarted, was flushed or failed over.", "opm",
               ("60 * sum by (cause) (rate(unstale_fences_total{I}[R]))", "{{cause}}"), stack=True, min=0,
               draw="bars", colors={"adopted": BLUE, "epoch": RED, "gap": ORANGE}),
        series("Gaps by instance: who loses events", "Which instance it is that loses events, each minute.", "opm",
               ("60 * sum by (instance) (rate(unstale_gaps_total{I}[R]))", "{{instance}}"), stack=True, min=0,
               draw="bars", links=TO_INCIDENT),
        series("Versions: one, but in a rollout", "Instances by version of the crate.", "none",
               ("count by (version) (unstale_build_info{I})", "{{version}}"), stack=True, min=0),
        series("Fleets: one is right",
               "Instances by namespace and by what carries their events. local: they have no Redis, and each is a fleet "
               "of its own.", "none",
               ("count by (fleet, bus) (unstale_settings_info{I})", "{{fleet}} ({{bus}})"), stack=True, min=0),
        series("Who is who", "By which id the log and the program unstale name each instance.", "none",
               ("count by (instance, id) (unstale_settings_info{I})", "{{instance}} is {{id}}"), stack=True, min=0,
               links=TO_INCIDENT),
    ]
    for made in losses:
        made["gridPos"] = {"w": 6, "h": 7}
    audit = [
        series("Stale values found: none is good",
               "Values of audited hits that were still served, and still not what the source "
               "has, so long after the staleness bound, each minute. Anything here is a writer that does not invalidate, or "
               "a fault. Nothing to see while UNSTALE_AUDIT is off.", "opm",
               ("60 * sum by (cache, age) (rate(unstale_audit_stale_total{C}[R]))", "{{cache}} for {{age}}"), w=12,
               h=7, min=0, stack=True, draw="bars"),
        series("Audits: green is fresh",
               "Hits compared with the source. differs: it had another value at first, which may be newer "
               "by a moment. failed: it could not be asked. skipped: too many were under way. Nothing to see while "
               "UNSTALE_AUDIT is off.", "ops",
               ("sum by (outcome) (rate(unstale_audits_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0, stack=True,
               colors={"same": GREEN, "differs": YELLOW, "failed": RED, "skipped": GREY}),
    ]
    shared = [
        series("Reads of the shared tier: found saves a load",
               "What Redis had for reads that found nothing in memory. found: a load was "
               "saved. skipped, busy and failed: Redis is slow or away, and the loader was asked.", "ops",
               ("sum by (outcome) (rate(unstale_shared_reads_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0,
               stack=True),
        series("Values for the shared tier", "What became of loaded values. unchanged: the same bytes were there, and "
               "only their times were renewed. oversized and broken stay in memory.", "ops",
               ("sum by (outcome) (rate(unstale_shared_stores_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0,
               stack=True),
        series("Waits for other instances", "Loads that waited for another instance to load the same key, by how that "
               "ended. Many that gave up: the loader takes longer than the wait of fleet_single_flight.", "ops",
               ("sum by (outcome) (rate(unstale_shared_waits_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0,
               stack=True),
        series("Breaker of the shared tier: open is bad",
               "Instances whose breaker is open, and how often one opens, each minute. "
               "While it is open entries are loaded instead of fetched.", "none",
               ("sum(unstale_shared_broken{I})", "open"),
               ("60 * sum(rate(unstale_shared_trips_total{I}[R]))", "opened"), w=12, h=7, min=0),
    ]
    relay = [
        timeline("Relay: one leads, the others wait",
                 "What each relay does. opens the log: it has lost it, or begins. Nothing to see where no relay is asked "
                 "for its metrics.", RELAY_STATE, RELAY, w=12, h=7, legend="{{source}}: {{instance}}"),
        series("Proof of the sources: above the dashed line reads load",
               "Since when everything committed in a source is known to be applied: in the instance where that is "
               "longest ago, and in the one where it is not, with the tightest max_staleness of any cache. All are old: no "
               "relay works. One is old: it is that instance.", "s",
               ("max by (source) (unstale_source_verified_age_seconds{I})", "{{source}}, oldest"),
               ("min by (source) (unstale_source_verified_age_seconds{I})", "{{source}}, newest"),
               ("min(unstale_max_staleness_seconds{C} > 0)", "max_staleness"),
               w=12, h=7, min=0, colors={"max_staleness": RED}, overrides=[dashed("max_staleness")]),
        series("Lag of the relay: seconds are not proven",
               "Time since all that instances wait for was proven. It is small while nothing is written, too.", "s",
               ("max by (instance, source) (unstale_relay_lag_seconds{I})", "{{source}}: {{instance}}"), min=0, h=7),
        series("Log behind the relay", "What of the database's log is not published yet. It grows while Redis is away "
               "or slow, and while a very large transaction is read.", "bytes",
               ("max by (instance, source) (unstale_relay_lag_bytes{I})", "{{source}}: {{instance}}"), min=0, h=7),
        series("Read from the log", "Transactions and changed rows. Rows that no rule maps cost their way here: take their "
               "tables out of the publication.", "ops",
               ("sum by (source) (rate(unstale_relay_commits_total{I}[R]))", "{{source}}: commits"),
               ("sum by (source) (rate(unstale_relay_rows_total{I}[R]))", "{{source}}: rows"),
               ("sum by (source) (rate(unstale_relay_unmapped_rows_total{I}[R]))", "{{source}}: rows without a rule"),
               min=0, h=7),
        series("Published and marked", "Events of the relay that Redis acknowledged, and marks, which prove how far it is.",
               "ops", ("sum by (source) (rate(unstale_relay_events_total{I}[R]))", "{{source}}: events"),
               ("sum by (source) (rate(unstale_relay_marks_total{I}[R]))", "{{source}}: marks"), min=0, w=12, h=7),
        series("Whole caches, and restarts: each costs loads",
               "Times, each minute, that the relay dropped whole caches because what to drop of them could not be decided, "
               "and that it lost the log: then it drops all caches of its rules. names: a transaction changed very much. "
               "missing: a large value or an old key was not in the log, which REPLICA IDENTITY FULL mends.", "opm",
               ("60 * sum by (source, cause) (rate(unstale_relay_collapses_total{I}[R]))", "{{source}}: {{cause}}"),
               ("60 * sum by (source) (rate(unstale_relay_restarts_total{I}[R]))", "{{source}}: restarted"),
               w=12, h=7, min=0, stack=True, draw="bars"),
    ]
    return board(
        "overview", "unstale: overview",
        "Coherence and efficiency of a fleet's in-memory caches. RUNBOOK.md says what to do about what it shows.",
        [JOB, variable("instance", "Instance", 'label_values(unstale_connected{job=~"$job"}, instance)'), CACHE],
        [FENCES],
        rows(("At a glance", glance), ("Efficiency", efficiency), ("What would another TTL do?", tuning),
             ("Bus and bandwidth", bus), ("Gaps and fences", losses), ("Audit", audit), ("Shared tier", shared),
             ("Relay", relay)),
    )
