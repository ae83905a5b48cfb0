//! A strict reader of Prometheus' text format, written from its specification.

use std::collections::{BTreeMap, BTreeSet};

/// A family: what one `# TYPE` line speaks of.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

pub(super) type Families = BTreeMap<String, Family>;

/// Fails on the first line that breaks a rule.
pub(super) fn parse(text: &str) -> Result<Families, String> {
    let mut families = Families::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    if !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    for line in text.lines().filter(|line| !line.is_empty()) {
        let done = match line.strip_prefix("# ") {
            Some(comment) => header(comment, &mut families, &mut current),
            None => sample(line).and_then(|sample| {
                let identity = format!("{} {:?}", sample.name, sample.labels);
                if !seen.insert(identity) {
                    return Err("the series comes twice".to_owned());
                }
                let family = families.get_mut(&current).ok_or("no TYPE yet")?;
                if family.kind.is_empty() || !belongs(&sample, &current, &family.kind) {
                    return Err(format!("does not belong to {current:?}"));
                }
                family.samples.push(sample);
                Ok(())
            }),
        };
        done.map_err(|why| format!("{line}: {why}"))?;
    }
    families
        .iter()
        .try_for_each(|(name, family)| check(name, family))?;
    Ok(families)
}

/// `HELP` comes first, then `TYPE`, once each, before the samples.
fn header(comment: &str, families: &mut Families, current: &mut String) -> Result<(), String> {
    let mut words = comment.splitn(3, ' ');
    let (Some(keyword), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else {
        return Err("three words were expected".to_owned());
    };
    identifier(name, true)?;
    match keyword {
        "HELP" if families.contains_key(name) => Err("a second HELP".to_owned()),
        "HELP" => {
            let family = Family {
                help: rest.to_owned(),
                ..Family::default()
            };
            families.insert(name.to_owned(), family);
            name.clone_into(current);
            Ok(())
        }
        "TYPE" if !matches!(rest, "counter" | "gauge" | "histogram") => {
            Err("an unknown type".to_owned())
        }
        "TYPE" => match families.get_mut(name) {
            Some(family) if name == current && family.kind.is_empty() => {
                rest.clone_into(&mut family.kind);
                Ok(())
            }
            _ => Err("a TYPE without HELP, or a second one".to_owned()),
        },
        _ => Err("an unknown comment".to_owned()),
    }
}

fn belongs(sample: &Sample, family: &str, kind: &str) -> bool {
    match (kind, sample.name.strip_prefix(family)) {
        ("histogram", Some("_bucket")) => sample.labels.contains_key("le"),
        ("histogram", Some("_sum" | "_count")) => !sample.labels.contains_key("le"),
        ("counter" | "gauge", Some("")) => true,
        _ => false,
    }
}

/// `name{label="value",...} value`, without a timestamp.
fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    identifier(name, true)?;
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inside.split_once("=\"").ok_or("no label")?;
            identifier(label, false)?;
            let (value, after) = quoted(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("label {label} comes twice"));
            }
            match after.strip_prefix(',') {
                Some(more) => inside = more,
                None => {
                    rest = after.strip_prefix('}').ok_or("no closing brace")?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let value = value
        .parse()
        .map_err(|_| format!("{value:?} is no number"))?;
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Reads up to the closing quote; what follows it is the second part.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, char @ ('\\' | '"'))) => value.push(char),
                _ => return Err("an unknown escape".to_owned()),
            },
            char => value.push(char),
        }
    }
    Err("no closing quote".to_owned())
}

fn identifier(name: &str, colons: bool) -> Result<(), String> {
    let ok = |(at, char): (usize, char)| {
        char == '_'
            || char.is_ascii_alphabetic()
            || (at > 0 && char.is_ascii_digit())
            || (colons && char == ':')
    };
    if name.is_empty() || !name.char_indices().all(ok) {
        return Err(format!("{name:?} is no identifier"));
    }
    Ok(())
}

/// What holds for a family as a whole.
fn check(name: &str, family: &Family) -> Result<(), String> {
    if family.help.is_empty() || family.kind.is_empty() || family.samples.is_empty() {
        return Err(format!("{name} has no help, type or sample"));
    }
    for sample in &family.samples {
        if family.kind == "counter" && (sample.value < 0.0 || sample.value.is_nan()) {
            return Err(format!("{sample:?} is no count"));
        }
        if sample.name.ends_with("_count") && family.kind == "histogram" {
            buckets(family, sample)?;
        }
    }
    Ok(())
}

/// Bounds ascend, counts never fall, and `+Inf` holds all.
fn buckets(family: &Family, count: &Sample) -> Result<(), String> {
    let mut last = (f64::NEG_INFINITY, 0.0);
    for sample in family
        .samples
        .iter()
        .filter(|sample| sample.name.ends_with("_bucket"))
    {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le").unwrap_or_default();
        if labels == count.labels {
            let bound = bound
                .parse()
                .map_err(|_| format!("{bound:?} is no bound"))?;
            if bound <= last.0 || sample.value < last.1 {
                return Err(format!("{sample:?} is out of order"));
            }
            last = (bound, sample.value);
        }
    }
    if last != (f64::INFINITY, count.value) {
        return Err(format!("{count:?} is not what +Inf says"));
    }
    Ok(())
}

#[test]
fn the_reader_is_strict() {
    let good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"\\\"\"} 1\n\n";
    assert_eq!(parse(good).unwrap()["a_total"].samples[0].labels["b"], "\"");
    for bad in [
        "a_total 1\n",
        "# TYPE a_total counter\na_total 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total 1",
        "# HELP a_total x\n# TYPE a_total counter\na_total -1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total one\n",
        "# HELP a_total x\n# TYPE a_total counter\nb_total 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total 1\na_total 2\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total 1\n# HELP a_total x\n",
        "# HELP a_total x\n# TYPE a_total summary\na_total 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"1} 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"1\",b=\"2\"} 1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
