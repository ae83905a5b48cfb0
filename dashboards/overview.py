"""The board to look at first. generate.py writes it out; grafana.py knows Grafana's model."""

from fleet import audit, losses, relay, shared
from grafana import bars, board, dashed, heatmap, rows, series, stat, timeline, variable
from queries import (
    BLUE, CACHE, CONNECTION, DEGRADED, FENCES, GREEN, GREY, JOB, LOADS, LONGER, MISSES, ORANGE, PER_SECOND, PURPLE,
    RATIO, RED, SHORTER, TO_INCIDENT, WRITES, YELLOW, longer, quantile, quantiles, ratio, reads, shorter,
)


def glance():
    """The first row: every tile shows the present, and its colour says whether to act."""
    return [
        stat("Instances now", "Instances that report metrics. If you run more than that, see UnstaleMetricsMissing.",
             "none", "count(unstale_connected{I}) or vector(0)", (None, RED), (1, BLUE)),
        stat("Disconnected now",
             "Instances that have no connection to Redis at this moment. They serve what they hold for max_staleness, "
             "then load every entry again once in that time.", "none",
             "count(unstale_connected{I} == 0) or vector(0)", (None, GREEN), (1, RED)),
        stat("Degraded now",
             "Instances that are disconnected at this moment, or connected and unable to prove that a lane is fresh: "
             "verifications fail, and the last one that did not is older than max_staleness. Their reads load.",
             "none", DEGRADED, (None, GREEN), (1, ORANGE)),
        stat("Oldest verification",
             "The lane and instance that was verified longest ago, and how long ago that is. An instance without reads "
             "verifies only every half member_timeout.", "s",
             "max(unstale_verified_age_seconds{I})", (None, GREY), (0, GREEN), (5, ORANGE), (30, RED), decimals=1,
             noValue="no data"),
        stat("Hit ratio now", "Reads answered from memory, as a part of all reads.", "percentunit",
             ratio("[R]"), (None, BLUE), decimals=1, noValue="no reads", **RATIO),
        stat("Reads now", "Reads per second, all instances and caches together.", PER_SECOND,
             reads("[R]"), (None, BLUE), decimals=0, noValue="no reads"),
        stat("Propagation now, p99",
             "99 of 100 events come back to their publisher within this time. Its peers get them as late.",
             "s", quantile(0.99, "propagation_seconds", "{I}"),
             (None, GREY), (0, GREEN), (0.1, ORANGE), (1, RED), noValue="no events"),
        stat("Settings now",
             "Whether the instances of each fleet have the same lanes, journal, intervals and timeouts. They differ "
             "during a rollout; see UnstaleSettingsDiffer.", "none",
             "max(count by (fleet) (count by (fleet, lanes, journal, verify_interval, member_timeout, signed) "
             "(unstale_settings_info{I})))", (None, GREY), (1, GREEN), (2, ORANGE), noValue="no data",
             mappings=[{"type": "value", "options": {"1": {"text": "alike", "color": GREEN, "index": 0}}}]),
        timeline("Connection: red is cut off from Redis", "Whether each instance is connected to Redis.",
                 "min by (instance) (unstale_connected{I})", CONNECTION, h=7, links=TO_INCIDENT),
        series("Verified age: above the dashed line reads load",
               "For each instance the age of its oldest verification of a lane, and the smallest max_staleness of any "
               "cache. Above that line reads load. An instance without reads verifies only every half member_timeout.",
               "s", ("max by (instance) (unstale_verified_age_seconds{I})", "{{instance}}"),
               ("min(unstale_max_staleness_seconds{C} > 0)", "max_staleness"),
               w=12, h=7, min=0, colors={"max_staleness": RED}, overrides=[dashed("max_staleness")],
               links=TO_INCIDENT),
    ]


def efficiency():
    """What the caches save."""
    return [
        series("Hit ratio by cache: higher is better",
               "Reads answered from memory, as a part of all reads. A new instance starts with an empty cache.",
               "percentunit", (ratio("[R]", " by (cache)"), "{{cache}}"), **RATIO),
        series("Reads: green is from memory",
               "What answered the reads. A coalesced read shared the load of another read.", PER_SECOND,
               ("sum(rate(unstale_hits_total{C}[R]))", "hit"),
               ("sum(rate(unstale_negative_hits_total{C}[R]))", "hit: does not exist"),
               ("sum(rate(unstale_coalesced_total{C}[R]))", "coalesced"),
               ("sum(rate(unstale_misses_total{C}[R]))", "miss"), stack=True, min=0,
               colors={"hit": GREEN, "hit: does not exist": "dark-green", "coalesced": YELLOW, "miss": ORANGE}),
        series("Misses by cause: what would help",
               "expired: a longer TTL helps. invalidated: something wrote. evicted: more capacity helps. fenced: "
               "events were lost. unverified: Redis is away or slow. negative: a longer negative TTL helps. "
               "cold: the key was never held.", PER_SECOND,
               ("sum by (cause) (rate(unstale_misses_total{C}[R]))", "{{cause}}"), stack=True, min=0, colors=MISSES),
        series("Loads by outcome: green is well",
               "What the loaders answered. absent: the source has no such key. overloaded: too many loads ran for too "
               "long. limited: loads of unknown keys that UNSTALE_UNKNOWN_LOADS refused.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_loads_total{C}[R]))", "{{outcome}}"), stack=True, min=0,
               colors=LOADS),
        series("Load duration: what a miss costs", "How long loads take, without the wait for their turn.", "s",
               (quantile(0.5, "load_duration_seconds", "{C}", "le, cache"), "p50 {{cache}}"),
               (quantile(0.99, "load_duration_seconds", "{C}", "le, cache"), "p99 {{cache}}"), min=0),
        series("Fill: at 100 % entries are evicted",
               "Entries of each cache as a part of its capacity, all instances together. Near 100 % and with "
               "evictions, raise UNSTALE_CAPACITY.", "percentunit",
               ("sum by (cache) (unstale_entries{C}) / sum by (cache) (unstale_capacity_entries{C})", "{{cache}}"),
               **RATIO),
    ]


def tuning():
    """What another TTL would do to the hit ratio."""
    return [
        bars("With a shorter TTL, at least",
             "The hit ratio that a TTL this short would have given in the time shown, at least. Every hit on an older "
             "entry counts as lost, although the load in its place makes the next hits young again. Only TTLs that are "
             "shorter than the present one are shown. Choose one cache above.", "percentunit",
             [(ratio("[RANGE]"), "now"), *((shorter(le), name) for le, name in SHORTER)],
             (None, BLUE), w=9, **RATIO, decimals=1),
        bars("With a longer TTL, at most",
             "The hit ratio that a TTL longer by this much would have given in the time shown, at most. Every read "
             "that found an entry expired for no longer counts as won, and so do the reads that shared its load. Where "
             "the bars hardly grow, a longer TTL gains nothing. Choose one cache above.", "percentunit",
             [(ratio("[RANGE]"), "now"), *((longer(le), name) for le, name in LONGER)],
             (None, PURPLE), w=9, **RATIO, decimals=1),
        stat("TTL in force", "The TTL of each cache; where instances differ, the longest. RUNBOOK.md, Changing a TTL, "
             "says how to change it.", "s", "max by (cache) (unstale_ttl_seconds{C})", (None, BLUE), w=6, h=9,
             legend="{{cache}}", textMode="value_and_name", colorMode="value"),
        heatmap("Age at hit: crowding at the TTL asks for a longer one",
                "How old entries are when they are served. Where hits crowd just below the TTL, a longer one pays. "
                "Where they are far below it, a shorter one costs little.", "s",
                "sum by (le) (increase(unstale_hit_age_seconds_bucket{C}[R]))"),
        series("Ends of entries: by the TTL, by writes, or for room",
               "reaped: the entry expired and was removed before a read found it. The others ended in a miss. Where "
               "most are invalidated, the TTL hardly matters.", PER_SECOND,
               ("sum(rate(unstale_reaped_total{C}[R]))", "reaped"),
               ('sum by (cause) (rate(unstale_misses_total{C,cause=~"expired|invalidated|evicted|fenced"}[R]))',
                "{{cause}}"), w=12, stack=True, min=0, colors={"reaped": GREY, **MISSES}),
    ]


def bus():
    """What coherence costs, and how fast it is."""
    return [
        series("Events", "Events that Redis acknowledged, that instances received, and that they applied. While no "
               "event is lost, each instance receives what all of them publish.", PER_SECOND,
               ("sum(rate(unstale_events_published_total{I}[R]))", "published"),
               ("sum(rate(unstale_events_received_total{I}[R]))", "received"),
               ("sum(rate(unstale_events_applied_total{I}[R]))", "applied"), min=0),
        series("Bytes received", "Bytes from Redis, by what they are for, with the protocol and without TLS and TCP.",
               "Bps", ("sum by (kind) (rate(unstale_bus_received_bytes_total{I}[R]))", "{{kind}}"), stack=True, min=0),
        series("Bytes sent", "Bytes to Redis, by what they are for, with the protocol and without TLS and TCP.", "Bps",
               ("sum by (kind) (rate(unstale_bus_sent_bytes_total{I}[R]))", "{{kind}}"), stack=True, min=0),
        series("Propagation: how late peers get an event",
               "The time from sending an event to its delivery back to the instance that published it. One clock "
               "measures both ends.", "s", *quantiles("propagation_seconds", "{I}"), min=0),
        series("Publish: how long an invalidation waits for Redis",
               "The time from queueing an invalidation to its acknowledgement by Redis.", "s",
               *quantiles("publish_seconds", "{I}"), min=0),
        series("Writes by outcome: green is well",
               "Crash-safe writes. refused: not committed. failed, abandoned: the outcome is unknown, and the keys "
               "are invalidated. unconfirmed, unannounced: committed while Redis did not answer.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_writes_total{I}[R]))", "{{outcome}}"), stack=True, min=0,
               colors=WRITES),
    ]


def overview():
    return board(
        "overview", "unstale: overview",
        "Coherence and efficiency of a fleet's in-memory caches. RUNBOOK.md says what to do about what it shows.",
        [JOB, variable("instance", "Instance", 'label_values(unstale_connected{job=~"$job"}, instance)'), CACHE],
        [FENCES],
        rows(("At a glance", glance()), ("Efficiency", efficiency()), ("What would another TTL do?", tuning()),
             ("Bus and bandwidth", bus()), ("Gaps and fences", losses()), ("Audit", audit()),
             ("Shared tier", shared()), ("Relay", relay())),
    )
