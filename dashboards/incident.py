"""The board for a bad day: one instance, one lane, one cache, beside its peers."""

from grafana import board, dashed, rows, series, stat, timeline, variable
from queries import (
    BLUE, CACHE, CONNECTION, FENCES, GAPS, GREEN, GREY, JOB, LOADS, MISSES, ORANGE, RATIO, RED, STARTS, YELLOW,
    quantiles, ratio,
)


def incident():
    now = [
        stat("Connected", "Whether this instance has its connections to Redis.", "none",
             "min(unstale_connected{I})", (None, RED), (1, GREEN), w=3,
             mappings=[{"type": "value", "options": {
                 "0": {"text": "no", "color": RED, "index": 0}, "1": {"text": "yes", "color": GREEN, "index": 1}}}]),
        stat("Verified ago", "How long ago this lane was last known to have applied all events. Reads load while it "
             "exceeds max_staleness.", "s", 'max(unstale_verified_age_seconds{I,lane=~"$lane"})',
             (None, GREEN), (2, ORANGE), (30, RED), decimals=1),
        stat("Gaps", "Times in the time shown that events may have been missed.", "none",
             "sum(increase(unstale_gaps_total{I}[RANGE]))", (None, GREEN), (1, ORANGE), decimals=0),
        stat("Fences", "Times in the time shown that everything of a lane was dropped.", "none",
             "sum(increase(unstale_fences_total{I}[RANGE]))", (None, GREEN), (1, ORANGE), decimals=0),
        stat("In the outbox", "Keys, tags, caches and lanes in the outbox.", "none",
             "sum(unstale_outbox_keys{I})", (None, GREEN), (1_000, ORANGE), (50_000, RED)),
        stat("Open writes now", "Writes whose intents are not cleared yet.", "none",
             "sum(unstale_open_writes{I})", (None, GREEN), (100, ORANGE)),
        stat("Hit ratio here", "Of the chosen cache on this instance.", "percentunit", ratio("[R]"), (None, BLUE),
             decimals=1, **RATIO),
        stat("Peers' hit ratio", "Of the chosen cache on all others of the job: a difference says that it is "
             "this instance, none that it is Redis, the database or the readers.", "percentunit",
             ratio("[R]").replace("{C}", "{PEERS}"), (None, BLUE), decimals=1, noValue="no peers", **RATIO),
    ]
    lane = [
        timeline("Is it connected?", "Whether the instance is connected to Redis.",
                 "min by (instance) (unstale_connected{I})", CONNECTION, w=8, h=6),
        series("Is the lane verified?", "How long ago each chosen lane was last known to have applied all events. "
               "Above max_staleness reads load.", "s",
               ('max by (lane) (unstale_verified_age_seconds{I,lane=~"$lane"})', "lane {{lane}}"),
               ("min(unstale_max_staleness_seconds{C} > 0)", "max_staleness"), h=6, min=0,
               colors={"max_staleness": RED}, overrides=[dashed("max_staleness")]),
        series("Verifications: red failed", "The beats that prove freshness, by outcome.", "ops",
               ("sum by (outcome) (rate(unstale_verifications_total{I}[R]))", "{{outcome}}"), h=6, min=0, stack=True,
               colors={"ok": GREEN, "failed": RED}),
        series("What went missing: none is good",
               "Gaps by cause, each minute. disconnected, epoch: a connection or a server went "
               "away. The others: the subscription lost events.", "opm",
               ("60 * sum by (cause) (rate(unstale_gaps_total{I}[R]))", "{{cause}}"), h=6, min=0, stack=True,
               draw="bars", colors=GAPS),
        series("Repairs by outcome: green is well",
               "repaired: the journal had every missing event. fenced: it did not, and "
               "everything of the lane was dropped. failed: it could not be read, and is tried again. Each minute.",
               "opm",
               ("60 * sum by (outcome) (rate(unstale_repairs_total{I}[R]))", "{{outcome}}"), h=6, min=0, stack=True,
               draw="bars", colors={"repaired": GREEN, "fenced": ORANGE, "failed": RED}),
        series("What was dropped: none is good",
               "Fences by cause, and jumps of a clock (a machine that was suspended, a clock that "
               "was set), each minute.", "opm",
               ("60 * sum by (cause) (rate(unstale_fences_total{I}[R]))", "{{cause}}"),
               ("60 * sum(rate(unstale_clock_jumps_total{I}[R]))", "clock jumps"), h=6, min=0, stack=True,
               draw="bars", colors={"adopted": BLUE, "epoch": RED, "gap": ORANGE}),
        series("Reads that waited: red gave up and loaded",
               "Reads that waited for their lane to be verified, at most 250 ms. One that times "
               "out loads.", "reqps",
               ("sum by (outcome) (rate(unstale_lane_waits_total{I}[R]))", "{{outcome}}"), h=6, min=0, stack=True,
               colors={"verified": GREEN, "timed_out": RED}),
        series("Subscriptions mended", "Subscriptions that did not deliver although their connection answered, each "
               "minute.", "opm",
               ("60 * sum by (how) (rate(unstale_subscription_mends_total{I}[R]))", "{{how}}"), h=6, min=0,
               stack=True, draw="bars"),
        series("Events not applied: grey is expected",
               "own is expected, duplicate, other_epoch and not_adopted are harmless. unknown_cache: another "
               "service's cache in the same namespace. overflow and undecodable cost a repair or a fence. refused and replayed: another program publishes.", "ops",
               ("sum by (reason) (rate(unstale_events_dropped_total{I}[R]))", "{{reason}}"), h=6, min=0, stack=True,
               colors={"undecodable": RED, "overflow": ORANGE, "own": GREY}),
    ]
    publishing = [
        series("Outbox: near 0 is good",
               "Keys, tags, caches and lanes that wait to be published. At UNSTALE_OUTBOX it collapses.",
               "none", ("sum(unstale_outbox_keys{I})", "waiting"), h=6, min=0),
        series("Publishing in trouble: none is good",
               "failures: attempts that are retried. republished: events that a failover may have lost. collapsed: "
               "the full outbox turned keys into whole caches, or everything into its lane. Each minute.", "opm",
               ("60 * sum(rate(unstale_publish_failures_total{I}[R]))", "failures"),
               ("60 * sum(rate(unstale_republished_total{I}[R]))", "republished"),
               ("60 * sum by (to) (rate(unstale_outbox_collapses_total{I}[R]))", "collapsed to {{to}}"), h=6, min=0,
               draw="bars", colors={"failures": RED, "republished": BLUE}),
        series("Deliveries: how far apart",
               "Pause after a message to a hundred subscribers or more, in which events wait to be delivered together.",
               "s", ('max by (lane) (unstale_delivery_pause_seconds{I,lane=~"$lane"})', "lane {{lane}}"), h=6, min=0),
        series("Publish time", "From enqueueing an invalidation to its acknowledgement by Redis.", "s",
               *quantiles("publish_seconds", "{I}"), h=6, min=0),
        series("Crash-safe writes: green is well",
               "refused: not committed. failed, abandoned: the outcome is unknown, and the keys "
               "were invalidated. unconfirmed, unannounced: committed while Redis did not answer.", "ops",
               ("sum by (outcome) (rate(unstale_writes_total{I}[R]))", "{{outcome}}"), h=6, min=0, stack=True,
               colors={"ok": GREEN, "refused": ORANGE, "abandoned": RED, "unconfirmed": YELLOW}),
        series("Open writes", "Writes whose intents are not cleared yet. Those of unknown outcome stay until "
               "write_timeout.", "none", ("sum(unstale_open_writes{I})", "open"), h=6, min=0),
        series("Recovered writes: peers that died",
               "Writes that a dead instance left behind and this one finished invalidating, each "
               "minute.", "opm",
               ("60 * sum(rate(unstale_recovered_writes_total{I}[R]))", "recovered"), h=6, min=0, draw="bars"),
    ]
    cache = [
        series("Reads of the cache: green is from memory",
               "Reads by what answered them. Coalesced reads shared the load of another.",
               "reqps",
               ("sum(rate(unstale_hits_total{C}[R]))", "hit"),
               ("sum(rate(unstale_negative_hits_total{C}[R]))", "hit: does not exist"),
               ("sum(rate(unstale_coalesced_total{C}[R]))", "coalesced"),
               ("sum(rate(unstale_misses_total{C}[R]))", "miss"), h=7, stack=True, min=0,
               colors={"hit": GREEN, "hit: does not exist": "dark-green", "coalesced": YELLOW, "miss": ORANGE}),
        series("Why it missed", "expired, evicted, negative: settings. invalidated: writes. fenced, unverified: the "
               "bus; the rows above say why. cold: never seen.", "reqps",
               ("sum by (cause) (rate(unstale_misses_total{C}[R]))", "{{cause}}"), h=7, stack=True, min=0,
               colors=MISSES),
        series("Hit ratio against its peers: a difference is this instance",
               "This instance, and all others of the job together.", "percentunit",
               (ratio("[R]"), "this instance"), (ratio("[R]").replace("{C}", "{PEERS}"), "its peers"), h=7, **RATIO),
        series("Loads: red and orange failed",
               "How they ended, and how many run now. Each cache of each instance runs max_loads at most.",
               "ops",
               ("sum by (outcome) (rate(unstale_loads_total{C}[R]))", "{{outcome}}"),
               ("sum(unstale_loads_in_flight{C})", "under way"), h=7, min=0,
               overrides=[dashed("under way", "none")],
               colors=LOADS),
        series("Load time", "How long loads took, without the wait for their turn.", "s",
               *quantiles("load_duration_seconds", "{C}"), h=7, min=0),
        series("Work beside loads",
               "discarded: values not stored because an invalidation came meanwhile. refreshed: loads ahead of the "
               "TTL. stale if error: expired entries served because the loader failed. oversized: values too heavy "
               "to store.", "ops",
               ("sum(rate(unstale_loads_discarded_total{C}[R]))", "discarded"),
               ("sum(rate(unstale_refreshes_total{C}[R]))", "refreshed"),
               ("sum(rate(unstale_stale_if_error_total{C}[R]))", "stale if error"),
               ("sum(rate(unstale_stale_if_slow_total{C}[R]))", "stale if slow"),
               ("sum(rate(unstale_oversized_total{C}[R]))", "oversized"), h=7, min=0),
        series("Invalidations applied", "What was dropped, by what the invalidation named and where it came from.",
               "ops", ("sum by (kind, from) (rate(unstale_invalidations_total{C}[R]))", "{{kind}}, {{from}}"), h=7,
               stack=True, min=0),
        series("Entries, evictions, weight", "Entries held and evicted, and what they weigh (where the cache has a "
               "weigher).", "none",
               ("sum by (cache) (unstale_entries{C})", "entries {{cache}}"),
               ("sum by (cache) (rate(unstale_evictions_total{C}[R]))", "evicted/s {{cache}}"),
               ("sum by (cache) (unstale_weight_bytes{C})", "weight {{cache}}"), h=7, min=0,
               overrides=[dashed("weight.*", "bytes")]),
        series("Times in force", "The settings of the cache on this instance; max_staleness 0 is off.", "s",
               ("max by (cache) (unstale_ttl_seconds{C})", "TTL {{cache}}"),
               ("max by (cache) (unstale_negative_ttl_seconds{C})", "negative TTL {{cache}}"),
               ("max by (cache) (unstale_max_staleness_seconds{C})", "max_staleness {{cache}}"), h=7, min=0),
    ]
    return board(
        "incident", "unstale: incident",
        "One instance, one lane, one cache: what went wrong, since when, and whether its peers have it too. "
        "RUNBOOK.md says what to do.",
        [
            JOB,
            variable("instance", "Instance", 'label_values(unstale_connected{job=~"$job"}, instance)', every=False),
            variable("lane", "Lane", 'label_values(unstale_verified_age_seconds{job=~"$job",instance=~"$instance"}, lane)'),
            CACHE,
        ],
        [FENCES, STARTS],
        rows(("Now", now), ("The lane: what was lost, and what was done about it", lane),
             ("Publishing and writes", publishing), ("The cache", cache)),
        refresh="10s", since="now-30m",
    )
