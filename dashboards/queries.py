"""What both boards ask Prometheus for, and in which colours they draw it."""

from grafana import mark, variable

GREEN, YELLOW, ORANGE, RED, BLUE, GREY, PURPLE = (
    "green", "yellow", "orange", "red", "blue", "#808080", "purple",
)
RATIO = {"min": 0, "max": 1}

# A click on an instance opens the other board.
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

# Units that say what a number is: so many in each second, or in each minute.
PER_SECOND, PER_MINUTE = "count:/s", "count:/min"

# The colours of what has a meaning: green is well, blue and grey are neutral, the others cost something.
MISSES = {
    "cold": BLUE, "expired": YELLOW, "invalidated": PURPLE, "evicted": ORANGE, "fenced": RED,
    "unverified": "dark-red", "negative": GREY,
}
LOADS = {
    "ok": GREEN, "absent": BLUE, "error": RED, "timeout": ORANGE, "panic": "semi-dark-red", "overloaded": "dark-red",
    "limited": "dark-orange",
}
GAPS = {
    "sequence": ORANGE, "silent": YELLOW, "lagged": PURPLE, "garbled": "dark-red", "disconnected": RED, "epoch": BLUE,
}

FENCE_CAUSES = {
    "adopted": BLUE, "epoch": RED, "gap": ORANGE, "clock": YELLOW, "requested": PURPLE, "undecodable": "dark-red",
    "lanes": "dark-orange", "clock jumps": "light-yellow",
}
# What an invalidation names, and where it comes from: a whole cache costs the most.
NAMED = {
    "key, local": "light-blue", "key, remote": BLUE, "tag, local": "light-purple", "tag, remote": PURPLE,
    "cache, local": "light-orange", "cache, remote": ORANGE,
}
WRITES = {
    "ok": GREEN, "refused": ORANGE, "failed": "light-red", "abandoned": RED, "unconfirmed": YELLOW,
    "unannounced": "dark-orange",
}
DROPPED = {
    "own": GREY, "duplicate": "light-blue", "other_epoch": BLUE, "not_adopted": "dark-blue", "unknown_cache": PURPLE,
    "stranger": YELLOW, "overflow": ORANGE, "undecodable": RED, "refused": "dark-red", "replayed": "dark-orange",
}
SHARED_READS = {
    "found": GREEN, "missing": BLUE, "foreign": "light-blue", "refused": "dark-blue", "unverified": PURPLE,
    "skipped": YELLOW, "busy": ORANGE, "failed": RED,
}
SHARED_STORES = {
    "stored": GREEN, "unchanged": "dark-green", "refused": BLUE, "oversized": YELLOW, "broken": ORANGE, "failed": RED,
}
SHARED_WAITS = {"found": GREEN, "led": BLUE, "gave_up": ORANGE}

# Instances whose reads load at this moment, or soon will. An instance without reads verifies rarely, so an old
# verification alone is no fault: one must have failed since.
DEGRADED = (
    "count((unstale_connected{I} == 0) or on (job, instance) ("
    'sum by (job, instance) (rate(unstale_verifications_total{I,outcome="failed"}[R])) > 0'
    " and on (job, instance) max by (job, instance) (unstale_verified_age_seconds{I})"
    " > on (job, instance) min by (job, instance) (unstale_max_staleness_seconds{C} > 0)"
    ")) or vector(0)"
)

# Bounds of the histograms' buckets that make sensible TTLs, in seconds, and their names on the board.
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
    """The hit ratio with a TTL of `le` seconds, at least: hits on entries this young stay hits.

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
    """The hit ratio with a TTL that is longer by `le` seconds, at most.

    Reads of entries that expired no longer ago become hits at best, and so do the reads that shared their loads.
    """
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


# What each relay does: the value of RELAY_STATE.
RELAY = {0: ("starts", GREY), 1: ("waits", BLUE), 2: ("opens the log", ORANGE), 3: ("leads", GREEN)}
RELAY_STATE = (
    'max by (instance, source) (3 * unstale_relay_state{I,state="leading"} or 2 * unstale_relay_state{I,state="opening"}'
    ' or unstale_relay_state{I,state="waiting"})'
)

CONNECTION = {0: ("disconnected", RED), 1: ("connected", GREEN)}
