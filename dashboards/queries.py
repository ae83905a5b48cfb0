"""What both boards ask for, and in which colours it is drawn."""

from grafana import mark, variable

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
LOADS = {
    "ok": GREEN, "absent": BLUE, "error": RED, "timeout": ORANGE, "overloaded": "dark-red", "limited": PURPLE,
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


# The highest value of the series below: a relay has one of these states.
RELAY = {0: ("begins", GREY), 1: ("waits", BLUE), 2: ("opens the log", ORANGE), 3: ("leads", GREEN)}
RELAY_STATE = (
    'max by (instance, source) (3 * unstale_relay_state{I,state="leading"} or 2 * unstale_relay_state{I,state="opening"}'
    ' or unstale_relay_state{I,state="waiting"})'
)

CONNECTION = {0: ("disconnected", RED), 1: ("connected", GREEN)}
