"""What the two boards show. generate.py writes them out; grafana.py knows Grafana's model."""

from grafana import bars, board, dashed, heatmap, mark, rows, series, stat, timeline, variable

GREEN, YELLOW, ORANGE, RED, BLUE, GREY, PURPLE = (
    "green", "yellow", "orange", "red", "blue", "#808080", "purple",
)
RATIO = {"min": 0, "max": 1}

# A click on an instance leads to the other board.
TO_INCIDENT = [{
    "title": "Look into ${__field.labels.instance}",
    "url": "/d/unstale-incident?${datasource:queryparam}&${job:queryparam}&${cache:queryparam}"
           "&var-instance=${__field.labels.instance}&${__url_time_range}",
}]

JOB = variable("job", "Job", "label_values(unstale_connected, job)")
CACHE = variable("cache", "Cache", 'label_values(unstale_ttl_seconds{job=~"$job",instance=~"$instance"}, cache)')

FENCES = mark(
    "Fences", RED,
    'sum by (instance, cause) (increase(unstale_fences_total{I,cause!="adopted"}[R])) > 0', "fenced: {{cause}}",
)
# A counter that appears with 1 has increased by nothing, so a start is an instance that was not there before.
STARTS = mark(
    "Starts", BLUE, "count by (instance) (unstale_connected{I} unless unstale_connected{I} offset 1m)", "started",
)

MISSES = {
    "cold": BLUE, "expired": YELLOW, "invalidated": PURPLE, "evicted": ORANGE, "fenced": RED,
    "unverified": "dark-red", "negative": GREY,
}
GAPS = {
    "sequence": ORANGE, "silent": YELLOW, "lagged": PURPLE, "garbled": "dark-red", "disconnected": RED, "epoch": BLUE,
}

# The bounds of the histograms' buckets that make sensible TTLs, in seconds, and how to call them.
SHORTER = (
    ("0.512", "0.5 s"), ("1.024", "1 s"), ("2.048", "2 s"), ("4.096", "4 s"), ("8.192", "8 s"), ("16.384", "16 s"),
    ("32.768", "33 s"), ("65.536", "1.1 min"), ("131.072", "2.2 min"), ("524.288", "8.7 min"),
    ("2097.152", "35 min"),
)
LONGER = (
    ("0.64", "+0.6 s"), ("2.56", "+2.6 s"), ("10.24", "+10 s"), ("40.96", "+41 s"), ("163.84", "+2.7 min"),
    ("655.36", "+11 min"), ("2621.44", "+44 min"), ("10485.76", "+2.9 h"), ("+Inf", "no TTL"),
)


def hits(range, by=""):
    return f"(sum{by} (rate(unstale_hits_total{{C}}{range})) + sum{by} (rate(unstale_negative_hits_total{{C}}{range})))"


def reads(range, by=""):
    rest = f"sum{by} (rate(unstale_misses_total{{C}}{range})) + sum{by} (rate(unstale_coalesced_total{{C}}{range}))"
    return f"({hits(range, by)} + {rest})"


def ratio(range, by=""):
    return f"{hits(range, by)} / {reads(range, by)}"


def shorter(le):
    """Hits this young stay hits: of reads of one key, each loss of a hit costs at most one older hit.

    Each histogram is a sample, so its parts are applied to the exact counter, one instance and cache at a time.
    """
    kept = (
        f'sum(rate(unstale_hit_age_seconds_bucket{{C,le="{le}"}}[RANGE])'
        " / ignoring (le) (rate(unstale_hit_age_seconds_count{C}[RANGE]) > 0)"
        " * ignoring (le) rate(unstale_hits_total{C}[RANGE]))"
    )
    negative = "sum(rate(unstale_negative_hits_total{C}[RANGE]))"
    return f"({kept} + {negative}) / {reads('[RANGE]')} and on () max(unstale_ttl_seconds{{C}}) > {le}"


def longer(le):
    """Reads of entries that had expired so lately become hits at best, and so do those that shared their loads."""
    gained = (
        f'sum(rate(unstale_expiry_overage_seconds_bucket{{C,le="{le}"}}[RANGE])'
        " / ignoring (le) (rate(unstale_expiry_overage_seconds_count{C}[RANGE]) > 0)"
        ' * ignoring (le, cause) rate(unstale_misses_total{C,cause="expired"}[RANGE]))'
    )
    shared = "sum(rate(unstale_coalesced_total{C}[RANGE])) / sum(rate(unstale_misses_total{C}[RANGE]))"
    return f"({hits('[RANGE]')} + ({gained} or vector(0)) * (1 + ({shared}))) / {reads('[RANGE]')}"


def quantile(q, metric, scope, by="le"):
    return f"histogram_quantile({q}, sum by ({by}) (rate(unstale_{metric}_bucket{scope}[R])))"


def quantiles(metric, scope):
    return [(quantile(q, metric, scope), name) for q, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))]


CONNECTION = {0: ("disconnected", RED), 1: ("connected", GREEN)}


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
             "count(count by (namespace, lanes, journal, verify_interval, member_timeout) (unstale_settings_info{I}))",
             (None, GREEN), (2, ORANGE)),
        timeline("Connection", "Whether each instance is connected to Redis.",
                 "min by (instance) (unstale_connected{I})", CONNECTION, h=7, links=TO_INCIDENT),
        series("Verified age",
               "For each instance the lane that was verified longest ago, and the tightest max_staleness of any cache. "
               "An age above that line means that reads load. Idle instances verify every half member_timeout only.",
               "s", ("max by (instance) (unstale_verified_age_seconds{I})", "{{instance}}"),
               ("min(unstale_max_staleness_seconds{C} > 0)", "max_staleness"),
               w=12, h=7, min=0, colors={"max_staleness": RED}, overrides=[dashed("max_staleness")],
               links=TO_INCIDENT),
    ]
    efficiency = [
        series("Hit ratio by cache", "Reads answered from memory, of all reads. A new instance starts at none.",
               "percentunit", (ratio("[R]", " by (cache)"), "{{cache}}"), **RATIO),
        series("Reads by answer", "What answered them. Coalesced reads shared the load of another.", "reqps",
               ("sum(rate(unstale_hits_total{C}[R]))", "hit"),
               ("sum(rate(unstale_negative_hits_total{C}[R]))", "hit: does not exist"),
               ("sum(rate(unstale_coalesced_total{C}[R]))", "coalesced"),
               ("sum(rate(unstale_misses_total{C}[R]))", "miss"), stack=True, min=0,
               colors={"hit": GREEN, "hit: does not exist": "dark-green", "coalesced": YELLOW, "miss": ORANGE}),
        series("Misses by cause",
               "expired: a longer TTL would help. invalidated: writes. evicted: more capacity would help. fenced: "
               "events were lost. unverified: Redis is away or slow. negative: a longer negative TTL would help. "
               "cold: never seen.", "reqps",
               ("sum by (cause) (rate(unstale_misses_total{C}[R]))", "{{cause}}"), stack=True, min=0, colors=MISSES),
        series("Loads by outcome", "What loaders answered. overloaded: too many were under way for too long.", "ops",
               ("sum by (outcome) (rate(unstale_loads_total{C}[R]))", "{{outcome}}"), stack=True, min=0,
               colors={"ok": GREEN, "absent": BLUE, "error": RED, "timeout": ORANGE, "overloaded": "dark-red"}),
        series("Load duration", "How long loads took, without the wait for their turn.", "s",
               (quantile(0.5, "load_duration_seconds", "{C}", "le, cache"), "p50 {{cache}}"),
               (quantile(0.99, "load_duration_seconds", "{C}", "le, cache"), "p99 {{cache}}"), min=0),
        series("Fill", "Entries of each cache as a part of its capacity, all instances together. Near 100 % with "
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
        heatmap("Age at hit",
                "How old entries are when they are served. Hits crowding below the TTL: a longer one would pay. Hits "
                "far below: a shorter one costs little.", "s",
                "sum by (le) (increase(unstale_hit_age_seconds_bucket{C}[R]))"),
        series("Ends of entries",
               "reaped: expired, and removed before anyone read them. The others were missed by a read. Where most "
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
        series("Propagation",
               "From sending an event to its delivery back to the instance that published it. One clock measures it, "
               "so no clocks need to agree.", "s", *quantiles("propagation_seconds", "{I}"), min=0),
        series("Publish", "From enqueueing an invalidation to its acknowledgement by Redis.", "s",
               *quantiles("publish_seconds", "{I}"), min=0),
        series("Writes by outcome",
               "Crash-safe writes. refused: not committed. failed, abandoned: the outcome is unknown, and the keys "
               "were invalidated. unconfirmed, unannounced: committed while Redis did not answer.", "ops",
               ("sum by (outcome) (rate(unstale_writes_total{I}[R]))", "{{outcome}}"), stack=True, min=0,
               colors={"ok": GREEN, "refused": ORANGE, "abandoned": RED, "unconfirmed": YELLOW}),
    ]
    losses = [
        series("Gaps by cause",
               "Times that events may have been missed, each minute. sequence, lagged, garbled, silent: the "
               "subscription lost some. disconnected, epoch: a connection or a server went away.", "opm",
               ("60 * sum by (cause) (rate(unstale_gaps_total{I}[R]))", "{{cause}}"), stack=True, min=0, draw="bars",
               colors=GAPS),
        series("Fences by cause",
               "Times that everything of a lane was dropped, each minute. adopted: an instance started. epoch: Redis "
               "restarted, was flushed or failed over.", "opm",
               ("60 * sum by (cause) (rate(unstale_fences_total{I}[R]))", "{{cause}}"), stack=True, min=0,
               draw="bars", colors={"adopted": BLUE, "epoch": RED, "gap": ORANGE}),
        series("Gaps by instance", "Which instance it is that loses events, each minute.", "opm",
               ("60 * sum by (instance) (rate(unstale_gaps_total{I}[R]))", "{{instance}}"), stack=True, min=0,
               draw="bars", links=TO_INCIDENT),
        series("Versions", "Instances by version of the crate.", "none",
               ("count by (version) (unstale_build_info{I})", "{{version}}"), stack=True, min=0),
    ]
    for made in losses:
        made["gridPos"] = {"w": 6, "h": 7}
    audit = [
        series("Stale values found", "Values of audited hits that were still served, and still not what the source "
               "has, so long after the staleness bound, each minute. Anything here is a writer that tells nobody, or "
               "a fault. Nothing to see while UNSTALE_AUDIT is off.", "opm",
               ("60 * sum by (cache, age) (rate(unstale_audit_stale_total{C}[R]))", "{{cache}} for {{age}}"), w=12,
               h=7, min=0, stack=True, draw="bars"),
        series("Audits", "Hits compared with the source. differs: it had another value at first, which may be newer "
               "by a moment. failed: it could not be asked. skipped: too many were under way. Nothing to see while "
               "UNSTALE_AUDIT is off.", "ops",
               ("sum by (outcome) (rate(unstale_audits_total{C}[R]))", "{{outcome}}"), w=12, h=7, min=0, stack=True,
               colors={"same": GREEN, "differs": YELLOW, "failed": RED, "skipped": GREY}),
    ]
    shared = [
        series("Reads of the shared tier", "What Redis had for reads that found nothing in memory. found: a load was "
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
        series("Breaker of the shared tier", "Instances whose breaker is open, and how often one opens, each minute. "
               "While it is open entries are loaded instead of fetched.", "none",
               ("sum(unstale_shared_broken{I})", "open"),
               ("60 * sum(rate(unstale_shared_trips_total{I}[R]))", "opened"), w=12, h=7, min=0),
    ]
    return board(
        "overview", "unstale: overview",
        "Coherence and efficiency of a fleet's in-memory caches. RUNBOOK.md says what to do about what it shows.",
        [JOB, variable("instance", "Instance", 'label_values(unstale_connected{job=~"$job"}, instance)'), CACHE],
        [FENCES],
        rows(("At a glance", glance), ("Efficiency", efficiency), ("What would another TTL do?", tuning),
             ("Bus and bandwidth", bus), ("Gaps and fences", losses), ("Audit", audit), ("Shared tier", shared)),
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
        series("Verifications", "The beats that prove freshness, by outcome.", "ops",
               ("sum by (outcome) (rate(unstale_verifications_total{I}[R]))", "{{outcome}}"), h=6, min=0, stack=True,
               colors={"ok": GREEN, "failed": RED}),
        series("What went missing", "Gaps by cause, each minute. disconnected, epoch: a connection or a server went "
               "away. The others: the subscription lost events.", "opm",
               ("60 * sum by (cause) (rate(unstale_gaps_total{I}[R]))", "{{cause}}"), h=6, min=0, stack=True,
               draw="bars", colors=GAPS),
        series("Repairs by outcome", "repaired: the journal had every missing event. fenced: it did not, and "
               "everything of the lane was dropped. failed: it could not be read, and is tried again. Each minute.",
               "opm",
               ("60 * sum by (outcome) (rate(unstale_repairs_total{I}[R]))", "{{outcome}}"), h=6, min=0, stack=True,
               draw="bars", colors={"repaired": GREEN, "fenced": ORANGE, "failed": RED}),
        series("What was dropped", "Fences by cause, and jumps of a clock (a machine that was suspended, a clock that "
               "was set), each minute.", "opm",
               ("60 * sum by (cause) (rate(unstale_fences_total{I}[R]))", "{{cause}}"),
               ("60 * sum(rate(unstale_clock_jumps_total{I}[R]))", "clock jumps"), h=6, min=0, stack=True,
               draw="bars", colors={"adopted": BLUE, "epoch": RED, "gap": ORANGE}),
        series("Reads that waited", "Reads that waited for their lane to be verified, at most 250 ms. One that times "
               "out loads.", "reqps",
               ("sum by (outcome) (rate(unstale_lane_waits_total{I}[R]))", "{{outcome}}"), h=6, min=0, stack=True,
               colors={"verified": GREEN, "timed_out": RED}),
        series("Subscriptions mended", "Subscriptions that did not deliver although their connection answered, each "
               "minute.", "opm",
               ("60 * sum by (how) (rate(unstale_subscription_mends_total{I}[R]))", "{{how}}"), h=6, min=0,
               stack=True, draw="bars"),
        series("Events not applied",
               "own is expected, duplicate, other_epoch and not_adopted are harmless. unknown_cache: another "
               "service's cache in the same namespace. overflow and undecodable cost a repair or a fence.", "ops",
               ("sum by (reason) (rate(unstale_events_dropped_total{I}[R]))", "{{reason}}"), h=6, min=0, stack=True,
               colors={"undecodable": RED, "overflow": ORANGE, "own": GREY}),
    ]
    publishing = [
        series("Outbox", "Keys, tags, caches and lanes that wait to be published. At UNSTALE_OUTBOX it collapses.",
               "none", ("sum(unstale_outbox_keys{I})", "waiting"), h=6, min=0),
        series("Publishing in trouble",
               "failures: attempts that are retried. republished: events that a failover may have lost. collapsed: "
               "the full outbox turned keys into whole caches, or everything into its lane. Each minute.", "opm",
               ("60 * sum(rate(unstale_publish_failures_total{I}[R]))", "failures"),
               ("60 * sum(rate(unstale_republished_total{I}[R]))", "republished"),
               ("60 * sum by (to) (rate(unstale_outbox_collapses_total{I}[R]))", "collapsed to {{to}}"), h=6, min=0,
               draw="bars", colors={"failures": RED, "republished": BLUE}),
        series("Publish time", "From enqueueing an invalidation to its acknowledgement by Redis.", "s",
               *quantiles("publish_seconds", "{I}"), h=6, min=0),
        series("Crash-safe writes", "refused: not committed. failed, abandoned: the outcome is unknown, and the keys "
               "were invalidated. unconfirmed, unannounced: committed while Redis did not answer.", "ops",
               ("sum by (outcome) (rate(unstale_writes_total{I}[R]))", "{{outcome}}"), h=6, min=0, stack=True,
               colors={"ok": GREEN, "refused": ORANGE, "abandoned": RED, "unconfirmed": YELLOW}),
        series("Open writes", "Writes whose intents are not cleared yet. Those of unknown outcome stay until "
               "write_timeout.", "none", ("sum(unstale_open_writes{I})", "open"), h=6, min=0),
        series("Recovered writes", "Writes that a dead instance left behind and this one finished invalidating, each "
               "minute.", "opm",
               ("60 * sum(rate(unstale_recovered_writes_total{I}[R]))", "recovered"), h=6, min=0, draw="bars"),
    ]
    cache = [
        series("Reads of the cache", "Reads by what answered them. Coalesced reads shared the load of another.",
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
        series("Hit ratio against its peers", "This instance, and all others of the job together.", "percentunit",
               (ratio("[R]"), "this instance"), (ratio("[R]").replace("{C}", "{PEERS}"), "its peers"), h=7, **RATIO),
        series("Loads", "How they ended, and how many run now. Each cache of each instance runs max_loads at most.",
               "ops",
               ("sum by (outcome) (rate(unstale_loads_total{C}[R]))", "{{outcome}}"),
               ("sum(unstale_loads_in_flight{C})", "under way"), h=7, min=0,
               overrides=[dashed("under way", "none")],
               colors={"ok": GREEN, "absent": BLUE, "error": RED, "timeout": ORANGE, "overloaded": "dark-red"}),
        series("Load time", "How long loads took, without the wait for their turn.", "s",
               *quantiles("load_duration_seconds", "{C}"), h=7, min=0),
        series("Work beside loads",
               "discarded: values not stored because an invalidation came meanwhile. refreshed: loads ahead of the "
               "TTL. stale if error: expired entries served because the loader failed. oversized: values too heavy "
               "to store.", "ops",
               ("sum(rate(unstale_loads_discarded_total{C}[R]))", "discarded"),
               ("sum(rate(unstale_refreshes_total{C}[R]))", "refreshed"),
               ("sum(rate(unstale_stale_if_error_total{C}[R]))", "stale if error"),
               ("sum(rate(unstale_oversized_total{C}[R]))", "oversized"), h=7, min=0),
        series("Invalidations applied", "What was dropped, by what the invalidation named and who asked for it.",
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
