"""As much of Grafana's dashboard model as the boards use, for Grafana 10 and newer."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24

# Narrow every selector by the variables of the board: {I} for series of instances, {C} of caches.
INSTANCE = 'job=~"$job",instance=~"$instance"'
CACHE = INSTANCE + ',cache=~"$cache"'


def query(expr):
    """Fills in the short forms: {I}, {C}, {PEERS}, [R] for the window of one point, [RANGE] for the time shown."""
    for short, long in (
        ("{I}", "{" + INSTANCE + "}"),
        ("{I,", "{" + INSTANCE + ","),
        ("{C}", "{" + CACHE + "}"),
        ("{C,", "{" + CACHE + ","),
        ("{PEERS}", "{" + CACHE.replace("instance=~", "instance!~") + "}"),
        ("[R]", "[$__rate_interval]"),
        ("[RANGE]", "[$__range]"),
    ):
        expr = expr.replace(short, long)
    return " ".join(expr.split())


def steps(*pairs):
    """Thresholds: pairs of a value and the colour from that value on. That of None is also for no data."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in pairs]}


def panel(kind, title, description, unit, targets, *, w, h, instant=False, **rest):
    """One panel; its targets are pairs of an expression and a legend."""
    made = []
    for number, (expr, legend) in enumerate(targets):
        target = {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": query(expr),
            "legendFormat": legend,
            "editorMode": "code",
        }
        target |= {"instant": True, "range": False} if instant else {"range": True}
        made.append(target)
    defaults = {"unit": unit, "mappings": rest.pop("mappings", [])}
    for name in ("min", "max", "decimals", "noValue"):
        if name in rest:
            defaults[name] = rest.pop(name)
    defaults["color"] = {"mode": rest.pop("color", "thresholds")}
    defaults["thresholds"] = rest.pop("thresholds", steps((None, "green")))
    if "custom" in rest:
        defaults["custom"] = rest.pop("custom")
    if "links" in rest:
        defaults["links"] = rest.pop("links")
    overrides = rest.pop("overrides", [])
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": w, "h": h},
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "targets": made,
        **rest,
    }


REDUCE = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(title, description, unit, expr, *thresholds, w=6, h=3, legend="", **rest):
    """One tile with the present value: an instant query, because the last value of a range may be an hour old."""
    return panel(
        "stat", title, description, unit, [(expr, legend)], w=w, h=h, instant=True, thresholds=steps(*thresholds),
        options={
            "colorMode": rest.pop("colorMode", "background"),
            "graphMode": rest.pop("graphMode", "none"),
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": rest.pop("textMode", "value"),
            "reduceOptions": REDUCE,
        },
        **rest,
    )


def series(title, description, unit, *targets, w=8, h=8, stack=False, colors=None, **rest):
    """Lines over time; `colors` has the colour of each line that has a meaning."""
    soft_max = rest.pop("soft_max", 1 if unit == "none" or unit.startswith("count:") else None)
    override = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for name, color in (colors or {}).items()
    ]
    return panel(
        "timeseries", title, description, unit, targets, w=w, h=h, color="palette-classic",
        overrides=override + rest.pop("overrides", []),
        custom={
            "drawStyle": rest.pop("draw", "line"),
            "lineInterpolation": "linear",
            # The line of a layer without height would lie on the one below it.
            "lineWidth": 0 if stack else 1,
            "fillOpacity": 60 if stack else 10,
            "showPoints": "never",
            "spanNulls": False,
            # An axis for nothing but 0 ends here, not at 100.
            **({"axisSoftMax": soft_max} if soft_max else {}),
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        },
        options={
            "legend": {
                "displayMode": "list", "placement": rest.pop("legend", "bottom"), "showLegend": True, "calcs": [],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **rest,
    )


def coloured(name, color):
    """Lines whose names match a regular expression."""
    fixed = {"mode": "fixed", "fixedColor": color}
    return {"matcher": {"id": "byRegexp", "options": name}, "properties": [{"id": "color", "value": fixed}]}


def dashed(name, axis=None):
    """A line that is a bound or has an axis of its own."""
    properties = [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}}]
    if axis:
        properties += [{"id": "unit", "value": axis}, {"id": "custom.axisPlacement", "value": "right"}]
    return {"matcher": {"id": "byRegexp", "options": name}, "properties": properties}


def bars(title, description, unit, targets, *thresholds, w=12, h=9, **rest):
    """One bar for each target, in their order, over the time shown."""
    return panel(
        "bargauge", title, description, unit, targets, w=w, h=h, instant=True, thresholds=steps(*thresholds),
        options={
            "displayMode": "gradient",
            "orientation": "horizontal",
            "showUnfilled": True,
            "valueMode": "text",
            "minVizWidth": 8,
            "minVizHeight": 10,
            "reduceOptions": REDUCE,
        },
        **rest,
    )


def heatmap(title, description, unit, expr, w=12, h=8):
    made = panel(
        "heatmap", title, description, unit, [(expr, "{{le}}")], w=w, h=h,
        options={
            "calculate": False,
            "cellGap": 1,
            "color": {
                "mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5,
                "fill": "dark-orange", "scale": "exponential", "reverse": False,
            },
            "yAxis": {"axisPlacement": "left", "unit": unit, "reverse": False},
            "rowsFrame": {"layout": "auto"},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
            "filterValues": {"le": 1e-9},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "showValue": "never",
        },
    )
    made["targets"][0]["format"] = "heatmap"
    made["fieldConfig"]["defaults"]["custom"] = {"scaleDistribution": {"type": "linear"}}
    return made


def timeline(title, description, expr, states, w=12, h=8, legend="{{instance}}", **rest):
    """A band of colours for each series; `states` has the text and colour of each value."""
    options = {
        str(value): {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(states.items())
    }
    return panel(
        "state-timeline", title, description, "none", [(expr, legend)], w=w, h=h,
        mappings=[{"type": "value", "options": options}],
        thresholds=steps((None, "red"), (1, "green")),
        custom={"fillOpacity": 70, "lineWidth": 0},
        options={
            "mergeValues": True,
            "showValue": "never",
            "alignValue": "left",
            "rowHeight": 0.9,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        **rest,
    )


def variable(name, label, values, every=True):
    """A variable that Prometheus fills. With `every` the reader may choose several values, or all."""
    made = {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": values,
        "query": {"query": values, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": every,
        "includeAll": every,
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
        "options": [],
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]} if every else {},
    }
    if every:
        made["allValue"] = ".*"
    return made


def source():
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }


def mark(name, color, expr, title, text="{{instance}}"):
    """Vertical lines in every panel where the expression is not empty."""
    return {
        "datasource": SOURCE,
        "enable": True,
        "iconColor": color,
        "name": name,
        "expr": query(expr),
        "titleFormat": title,
        "textFormat": text,
    }


def rows(*rows):
    """Places panels from left to right below the title of their row, and numbers them."""
    placed, y, number = [], 0, 0
    for title, panels in rows:
        number += 1
        grid = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        placed.append({"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": grid, "panels": []})
        x, y, height = 0, y + 1, 0
        for made in panels:
            size = made["gridPos"]
            if x + size["w"] > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            placed.append({"id": number} | made | {"gridPos": {"x": x, "y": y, **size}})
            x, height = x + size["w"], max(height, size["h"])
        y += height
    return placed


def board(name, title, description, variables, marks, panels, refresh="30s", since="now-1h"):
    link = {
        "type": "dashboards", "title": "unstale", "tags": ["unstale"], "asDropdown": False, "icon": "external link",
        "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": "",
    }
    grafana = {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }
    return {
        "id": None,
        "uid": f"unstale-{name}",
        "title": title,
        "description": description,
        "tags": ["cache", "unstale"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "refresh": refresh,
        "time": {"from": since, "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "weekStart": "",
        "links": [link],
        "annotations": {"list": [grafana, *marks]},
        "templating": {"list": [source(), *variables]},
        "panels": panels,
    }
