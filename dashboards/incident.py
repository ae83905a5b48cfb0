"""The board for a bad day: one instance, one lane, one cache, beside its peers."""

from grafana import board, dashed, rows, series, stat, timeline, variable
from queries import (
    BLUE, CACHE, CONNECTION, DROPPED, FENCE_CAUSES, FENCES, GAPS, GREEN, GREY, JOB, LOADS, MISSES, NAMED, ORANGE,
    PER_MINUTE, PER_SECOND, RATIO, RED, STARTS, WRITES, YELLOW, quantiles, ratio,
)


def now():
    """The first row: the present, and two counts that say of which time they are."""
    return [
        stat("Connected now", "Whether this instance has its connections to Redis. No metrics: Prometheus gets no "
             "answer from it.", "none", "min(unstale_connected{I})", (None, RED), (1, GREEN), noValue="no metrics",
             mappings=[{"type": "value", "options": {
                 "0": {"text": "no", "color": RED, "index": 0}, "1": {"text": "yes", "color": GREEN, "index": 1}}}]),
        stat("Oldest verification", "How long ago the chosen lanes were last known to have applied all events. Reads "
             "load while it exceeds max_staleness. An instance without reads verifies only every half "
             "member_timeout.", "s",
             'max(unstale_verified_age_seconds{I,lane=~"$lane"})',
             (None, GREY), (0, GREEN), (5, ORANGE), (30, RED), decimals=1, noValue="no data"),
        stat("Outbox now", "Keys, tags, caches and lanes that wait to be published.", "none",
             "sum(unstale_outbox_keys{I})", (None, GREY), (0, GREEN), (1_000, ORANGE), (50_000, RED),
             noValue="no data"),
        stat("Open writes now", "Writes whose intents are not cleared yet.", "none",
             "sum(unstale_open_writes{I})", (None, GREY), (0, GREEN), (100, ORANGE), noValue="no data"),
        stat("Hit ratio now, here", "The hit ratio of the chosen cache on this instance.", "percentunit", ratio("[R]"),
             (None, BLUE), decimals=1, noValue="no reads", **RATIO),
        stat("Hit ratio now, peers", "The hit ratio of the chosen cache on all other instances of the job. If it "
             "differs, this instance is the cause; if not, it is Redis, the database or the readers.", "percentunit",
             ratio("[R]").replace("{C}", "{PEERS}"), (None, BLUE), decimals=1, noValue="no peers", **RATIO),
        stat("Gaps, time shown", "How often this instance may have missed events, in all of the time that the "
             "board shows. The panels below say when.", "none",
             "sum(increase(unstale_gaps_total{I}[RANGE]))", (None, BLUE), decimals=0, noValue="no data"),
        stat("Fences, time shown", "How often this instance dropped everything of a lane, in all of the time "
             "that the board shows. The panels below say when.", "none",
             "sum(increase(unstale_fences_total{I}[RANGE]))", (None, BLUE), decimals=0, noValue="no data"),
    ]


def lane():
    """What was lost, and what was done about it."""
    return [
        timeline("Is it connected? Red is not", "Whether the instance is connected to Redis.",
                 "min by (instance) (unstale_connected{I})", CONNECTION, w=8, h=7),
        series("Is the lane verified?", "How long ago each chosen lane was last known to have applied all events. "
               "Above max_staleness reads load.", "s",
               ('max by (lane) (unstale_verified_age_seconds{I,lane=~"$lane"})', "lane {{lane}}"),
               ("min(unstale_max_staleness_seconds{C} > 0)", "max_staleness"), h=7, min=0,
               colors={"max_staleness": RED}, overrides=[dashed("max_staleness")]),
        series("Verifications: red failed", "Verifications per second, each of which proves that a lane is fresh, by "
               "outcome.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_verifications_total{I}[R]))", "{{outcome}}"), h=7, min=0, stack=True,
               colors={"ok": GREEN, "failed": RED}),
        series("What went missing: none is good",
               "Gaps per minute, by cause. disconnected, epoch: a connection or a server went away. The others: the "
               "subscription lost events.", PER_MINUTE,
               ("60 * sum by (cause) (rate(unstale_gaps_total{I}[R]))", "{{cause}}"), h=7, min=0, stack=True,
               draw="bars", colors=GAPS),
        series("Repairs by outcome: green is well",
               "Repairs per minute. repaired: the journal had every missing event. fenced: it did not, and everything "
               "of the lane was dropped. failed: the journal could not be read; the repair is tried again.",
               PER_MINUTE,
               ("60 * sum by (outcome) (rate(unstale_repairs_total{I}[R]))", "{{outcome}}"), h=7, min=0, stack=True,
               draw="bars", colors={"repaired": GREEN, "fenced": ORANGE, "failed": RED}),
        series("What was dropped: none is good",
               "Fences per minute, by cause, and jumps of a clock: the machine was suspended, or its clock was set.",
               PER_MINUTE,
               ("60 * sum by (cause) (rate(unstale_fences_total{I}[R]))", "{{cause}}"),
               ("60 * sum(rate(unstale_clock_jumps_total{I}[R]))", "clock jumps"), h=7, min=0, stack=True,
               draw="bars", colors=FENCE_CAUSES),
        series("Reads that waited: red gave up",
               "Reads that waited until their lane was verified, at most UNSTALE_VERIFICATION_WAIT. A read that times "
               "out loads.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_lane_waits_total{I}[R]))", "{{outcome}}"), h=7, min=0, stack=True,
               colors={"verified": GREEN, "timed_out": RED}),
        series("Subscriptions repaired", "Subscriptions per minute that did not deliver although their "
               "connection answered. None is good.", PER_MINUTE,
               ("60 * sum by (how) (rate(unstale_subscription_repairs_total{I}[R]))", "{{how}}"), h=7, min=0,
               stack=True, draw="bars", colors={"resubscribe": YELLOW, "reconnect": ORANGE}),
        series("Events not applied: grey is fine",
               "own (grey) is expected; duplicate, other_epoch and not_adopted (blue) are harmless. unknown_cache: "
               "another service uses the same namespace. stranger: a copy of this process runs. overflow, undecodable: "
               "they cost a repair or a fence. refused, replayed: another program publishes.", PER_SECOND,
               ("sum by (reason) (rate(unstale_events_dropped_total{I}[R]))", "{{reason}}"), h=7, min=0, stack=True,
               colors=DROPPED),
    ]


def publishing():
    row = [
        series("Outbox: near 0 is good",
               "Keys, tags, caches and lanes that wait to be published. Above UNSTALE_OUTBOX they collapse to whole "
               "caches.", "none", ("sum(unstale_outbox_keys{I})", "waiting"), h=7, min=0, decimals=0),
        series("Publishing in trouble",
               "How often per minute; none is good. failures: attempts that are retried. republished: events that a "
               "failover may have lost. collapsed: the full outbox turned keys into whole caches, or everything into its lane.",
               PER_MINUTE,
               ("60 * sum(rate(unstale_publish_failures_total{I}[R]))", "failures"),
               ("60 * sum(rate(unstale_republished_total{I}[R]))", "republished"),
               ("60 * sum by (to) (rate(unstale_outbox_collapses_total{I}[R]))", "collapsed to {{to}}"), h=7, min=0,
               draw="bars", colors={"failures": RED, "republished": BLUE, "collapsed to cache": ORANGE,
                                    "collapsed to lane": "dark-red"}),
        series("Deliveries: how far apart",
               "The pause after a message to a hundred subscribers or more. Events that come in it are delivered "
               "together.", "s",
               ('max by (lane) (unstale_delivery_pause_seconds{I,lane=~"$lane"})', "lane {{lane}}"), h=7, min=0,
               soft_max=0.1),
        series("Publish time", "The time from queueing an invalidation to its acknowledgement by Redis.", "s",
               *quantiles("publish_seconds", "{I}"), h=7, min=0),
        series("Crash-safe writes: green is well",
               "refused: not committed. failed, abandoned: the outcome is unknown, and the keys are invalidated. "
               "unconfirmed, unannounced: committed while Redis did not answer.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_writes_total{I}[R]))", "{{outcome}}"), h=7, min=0, stack=True,
               colors=WRITES),
        series("Open writes", "Writes whose intents are not cleared yet. A write of unknown outcome stays until "
               "write_timeout.", "none", ("sum(unstale_open_writes{I})", "open"), h=7, min=0, decimals=0),
        series("Recovered writes: peers that died",
               "Writes per minute that a dead instance left behind and this one finished.", PER_MINUTE,
               ("60 * sum(rate(unstale_recovered_writes_total{I}[R]))", "recovered"), h=7, min=0, draw="bars",
               colors={"recovered": ORANGE}),
    ]
    for made, width in zip(row, (6, 6, 6, 6, 8, 8, 8)):
        made["gridPos"]["w"] = width
    return row


def cache():
    return [
        series("Reads: green is from memory",
               "What answered the reads. A coalesced read shared the load of another read.", PER_SECOND,
               ("sum(rate(unstale_hits_total{C}[R]))", "hit"),
               ("sum(rate(unstale_negative_hits_total{C}[R]))", "hit: does not exist"),
               ("sum(rate(unstale_coalesced_total{C}[R]))", "coalesced"),
               ("sum(rate(unstale_misses_total{C}[R]))", "miss"), h=7, stack=True, min=0,
               colors={"hit": GREEN, "hit: does not exist": "dark-green", "coalesced": YELLOW, "miss": ORANGE}),
        series("Why it missed", "expired, evicted, negative: settings. invalidated: something wrote. fenced, "
               "unverified: Redis or the way to it; the rows above say why. cold: the key was never held. For one key, "
               "ask the program (unstale why CACHE KEY) and the instance (Cache::explain).", PER_SECOND,
               ("sum by (cause) (rate(unstale_misses_total{C}[R]))", "{{cause}}"), h=7, stack=True, min=0,
               colors=MISSES),
        series("Hit ratio against its peers",
               "The hit ratio of this instance, and of all others of the job together. A difference is this instance.",
               "percentunit",
               (ratio("[R]"), "this instance"), (ratio("[R]").replace("{C}", "{PEERS}"), "its peers"), h=7, **RATIO),
        series("Loads: green is well",
               "How loads ended, and on the right axis how many run now. Each cache of each instance runs at most "
               "max_loads at once.", PER_SECOND,
               ("sum by (outcome) (rate(unstale_loads_total{C}[R]))", "{{outcome}}"),
               ("sum(unstale_loads_in_flight{C})", "run now"), h=7, min=0,
               overrides=[dashed("run now", "none")],
               colors={**LOADS, "run now": GREY}),
        series("Load time", "How long loads take, without the wait for their turn.", "s",
               *quantiles("load_duration_seconds", "{C}"), h=7, min=0),
        series("Work beside loads",
               "discarded: values that were not stored, because an invalidation came during the load. refreshed: "
               "loads ahead of the TTL. stale if error, stale if slow: expired entries that were served because the "
               "loader failed or was slow. oversized: values too heavy to store.", PER_SECOND,
               ("sum(rate(unstale_loads_discarded_total{C}[R]))", "discarded"),
               ("sum(rate(unstale_refreshes_total{C}[R]))", "refreshed"),
               ("sum(rate(unstale_stale_if_error_total{C}[R]))", "stale if error"),
               ("sum(rate(unstale_stale_if_slow_total{C}[R]))", "stale if slow"),
               ("sum(rate(unstale_oversized_total{C}[R]))", "oversized"), h=7, min=0),
        series("Invalidations applied", "Invalidations per second, by what they name (a key, a tag, the whole cache) "
               "and by where they come from. unstale why CACHE KEY says which events drop a key, and which instance "
               "published them.", PER_SECOND,
               ("sum by (kind, from) (rate(unstale_invalidations_total{C}[R]))", "{{kind}}, {{from}}"), h=7,
               stack=True, min=0, colors=NAMED),
        series("Entries, evictions, weight", "Entries held, entries evicted per second, and on the right axis what "
               "they weigh, where the cache has a weigher.", "none",
               ("sum by (cache) (unstale_entries{C})", "entries {{cache}}"),
               ("sum by (cache) (rate(unstale_evictions_total{C}[R]))", "evicted/s {{cache}}"),
               ("sum by (cache) (unstale_weight_bytes{C})", "weight {{cache}}"), h=7, min=0,
               overrides=[dashed("weight.*", "bytes")]),
        series("Times in force", "The settings of the cache on this instance. max_staleness 0: it is off.", "s",
               ("max by (cache) (unstale_ttl_seconds{C})", "TTL {{cache}}"),
               ("max by (cache) (unstale_negative_ttl_seconds{C})", "negative TTL {{cache}}"),
               ("max by (cache) (unstale_max_staleness_seconds{C})", "max_staleness {{cache}}"), h=7, min=0),
    ]


def incident():
    return board(
        "incident", "unstale: incident",
        "One instance, one lane, one cache: what went wrong, since when, and whether its peers have it too. "
        "RUNBOOK.md says what to do.",
        [
            JOB,
            variable("instance", "Instance", 'label_values(unstale_connected{job=~"$job"}, instance)', every=False),
            variable("lane", "Lane",
                     'label_values(unstale_verified_age_seconds{job=~"$job",instance=~"$instance"}, lane)'),
            CACHE,
        ],
        [FENCES, STARTS],
        rows(("Now", now()), ("The lane: what was lost, and what was done about it", lane()),
             ("Publishing and writes", publishing()), ("The cache", cache())),
        refresh="10s", since="now-30m",
    )
