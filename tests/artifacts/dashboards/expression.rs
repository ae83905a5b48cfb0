//! As much of PromQL as it takes to see which series an expression uses, and how.

use std::collections::BTreeSet;

use unstale::metrics::{Series, SeriesKind, describe};

/// Labels that Prometheus adds to everything it scrapes.
const TARGET: [&str; 2] = ["job", "instance"];

/// What an expression uses of this crate.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) selectors: Vec<Selector>,
    /// Series that a rule has recorded: their names have colons.
    pub(super) recorded: Vec<String>,
    /// The labels of all its `by` clauses.
    pub(super) grouped: BTreeSet<String>,
}

/// One `name{matchers}[range]`.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) series: &'static Series,
    /// The suffix of a histogram's series: `_bucket`, `_sum` or `_count`.
    suffix: String,
    /// Label, operator, value.
    matchers: Vec<(String, String, String)>,
    pub(super) range: Option<String>,
    /// The calls and aggregations around it, the outermost first.
    frames: Vec<Frame>,
}

/// An open parenthesis.
#[derive(Clone, Debug, Default)]
struct Frame {
    function: String,
    by: Vec<String>,
}

impl Expression {
    /// Reads an expression and checks what can be checked of any.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let expression = Reader(text).expression()?;
        if expression.selectors.is_empty() && expression.recorded.is_empty() {
            return Err("it uses no metric of this crate".to_owned());
        }
        expression.selectors.iter().try_for_each(Selector::check)?;
        Ok(expression)
    }
}

impl Selector {
    pub(super) fn has(&self, label: &str, operator: &str, value: &str) -> bool {
        self.matchers
            .iter()
            .any(|(l, o, v)| (l.as_str(), o.as_str(), v.as_str()) == (label, operator, value))
    }

    fn check(&self) -> Result<(), String> {
        let name = self.series.name();
        let grouped = self.frames.iter().flat_map(|frame| &frame.by);
        let matched = self.matchers.iter().map(|(label, _, _)| label);
        for label in grouped.chain(matched) {
            if !self.allows(label) {
                return Err(format!("{name} has no label {label}"));
            }
        }
        for (label, operator, value) in &self.matchers {
            self.check_values(label, operator, value)?;
        }
        self.check_use()
    }

    fn allows(&self, label: &str) -> bool {
        TARGET.contains(&label)
            || (label == "le" && self.suffix == "_bucket")
            || self.series.labels().any(|known| known.name == label)
    }

    /// A value that the label never has never selects anything.
    fn check_values(&self, label: &str, operator: &str, value: &str) -> Result<(), String> {
        if label == "le" && operator == "=" {
            return self.check_bound(value);
        }
        let known = self.series.labels().find(|known| known.name == label);
        let values = known.map_or(&[][..], |known| known.values);
        let alternatives: Vec<&str> = match operator {
            "=~" | "!~" => value.split('|').collect(),
            _ => vec![value],
        };
        let unknown = alternatives.iter().find(|value| !values.contains(value));
        match unknown {
            Some(unknown) if !values.is_empty() => Err(format!(
                "{label} is never {unknown:?}, but one of {values:?}"
            )),
            _ => Ok(()),
        }
    }

    /// So does a bucket that the histogram does not have.
    fn check_bound(&self, value: &str) -> Result<(), String> {
        let mut bounds = self.series.buckets().into_iter().map(|b| b.to_string());
        if value == "+Inf" || bounds.any(|bound| bound == value) {
            return Ok(());
        }
        Err(format!("{} has no bucket {value}", self.series.name()))
    }

    /// Counters and histograms only grow: what says something is how fast.
    fn check_use(&self) -> Result<(), String> {
        let name = self.series.name();
        let inside = self.frames.last().map_or("", |frame| &frame.function);
        let grows = self.series.kind() != SeriesKind::Gauge;
        let ranged = match inside {
            "rate" | "increase" => grows,
            "last_over_time" | "max_over_time" | "min_over_time" => !grows,
            _ => false,
        };
        if self.range.is_some() != ranged || grows && !ranged {
            return Err(format!(
                "{name} is a {:?} in {inside}()",
                self.series.kind()
            ));
        }
        let quantile = |frame: &Frame| frame.function == "histogram_quantile";
        if self.frames.iter().any(quantile) {
            let by_le = |frame: &Frame| frame.by.iter().any(|label| label == "le");
            if self.suffix != "_bucket" || !self.frames.iter().any(by_le) {
                return Err(format!("a quantile of {name} needs its buckets, by le"));
            }
        }
        Ok(())
    }
}

/// What is still to be read.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn expression(&mut self) -> Result<Expression, String> {
        let mut expression = Expression::default();
        let mut frames: Vec<Frame> = Vec::new();
        // What the next parenthesis belongs to.
        let mut next = Frame::default();
        while let Some(first) = self.skip_spaces().chars().next() {
            if first == '(' {
                self.0 = &self.0[1..];
                frames.push(std::mem::take(&mut next));
            } else if first == ')' {
                self.0 = &self.0[1..];
                frames.pop().ok_or("a ) too many")?;
            } else if first.is_ascii_alphabetic() {
                let word = self.word();
                match word {
                    "by" | "on" | "group_left" | "without" | "ignoring" => {
                        let labels = self.list()?;
                        if word == "by" {
                            expression.grouped.extend(labels.clone());
                            next.by = labels;
                        }
                    }
                    _ if word.contains(':') => {
                        expression.recorded.push(word.to_owned());
                    }
                    _ if word.starts_with("unstale_") => {
                        let selector = self.selector(word, &frames)?;
                        expression.selectors.push(selector);
                    }
                    _ => next.function = word.to_owned(),
                }
            } else {
                self.0 = &self.0[first.len_utf8()..];
                next = Frame::default();
            }
        }
        if frames.is_empty() {
            Ok(expression)
        } else {
            Err("a ( too many".to_owned())
        }
    }

    fn selector(&mut self, name: &str, frames: &[Frame]) -> Result<Selector, String> {
        let (series, suffix) = resolve(name)?;
        let mut matchers = Vec::new();
        if self.takes('{') {
            while !self.takes('}') {
                matchers.push(self.matcher()?);
                self.takes(',');
            }
        }
        let range = if self.takes('[') {
            Some(self.until(']')?.to_owned())
        } else {
            None
        };
        Ok(Selector {
            series,
            suffix: suffix.to_owned(),
            matchers,
            range,
            frames: frames.to_vec(),
        })
    }

    fn matcher(&mut self) -> Result<(String, String, String), String> {
        self.skip_spaces();
        let label = self.word().to_owned();
        let operator = self.until('"')?.trim().to_owned();
        if label.is_empty() || !["=", "!=", "=~", "!~"].contains(&operator.as_str()) {
            return Err(format!("no matcher: {label}{operator}"));
        }
        Ok((label, operator, self.until('"')?.to_owned()))
    }

    /// `(a, b)`.
    fn list(&mut self) -> Result<Vec<String>, String> {
        if !self.takes('(') {
            return Err("a list of labels was expected".to_owned());
        }
        let labels = self.until(')')?.split(',').map(str::trim);
        let labels = labels.filter(|label| !label.is_empty());
        Ok(labels.map(str::to_owned).collect())
    }

    fn skip_spaces(&mut self) -> &'a str {
        self.0 = self.0.trim_start();
        self.0
    }

    fn takes(&mut self, wanted: char) -> bool {
        let rest = self.skip_spaces().strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn until(&mut self, end: char) -> Result<&'a str, String> {
        let (before, after) = self.0.split_once(end).ok_or(format!("no {end}"))?;
        self.0 = after;
        Ok(before)
    }

    fn word(&mut self) -> &'a str {
        let end = self
            .0
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
            .unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }
}

/// The series behind a name, and what a histogram's name ends in.
fn resolve(name: &str) -> Result<(&'static Series, &'static str), String> {
    let known = |name: &str| describe().iter().find(|series| series.name() == name);
    if let Some(series) = known(name) {
        return match series.kind() {
            SeriesKind::Histogram => Err(format!("{name} is a histogram")),
            _ => Ok((series, "")),
        };
    }
    for suffix in ["_bucket", "_sum", "_count"] {
        let base = name.strip_suffix(suffix).and_then(known);
        if let Some(series) = base.filter(|series| series.kind() == SeriesKind::Histogram) {
            return Ok((series, suffix));
        }
    }
    Err(format!("there is no metric {name}"))
}

#[test]
fn wrong_expressions_are_seen() {
    for (text, why) in [
        ("1 + 1", "no metric"),
        ("unstale_conected", "no metric unstale_conected"),
        ("rate(unstale_hits[5m])", "no metric unstale_hits"),
        ("rate(unstale_hits_total_count[5m])", "no metric"),
        ("rate(unstale_publish_seconds[5m])", "is a histogram"),
        ("unstale_hits_total", "is a Counter"),
        ("sum(unstale_hits_total)", "is a Counter"),
        ("max_over_time(unstale_hits_total[5m])", "is a Counter"),
        ("rate(unstale_connected[5m])", "is a Gauge"),
        ("unstale_connected{cache=\"a\"}", "no label cache"),
        ("sum by (lane) (unstale_connected)", "no label lane"),
        (
            "sum by (cause) (rate(unstale_gaps_total[5m])) / sum by (cause) (rate(unstale_hits_total[5m]))",
            "unstale_hits_total has no label cause",
        ),
        (
            "rate(unstale_gaps_total{cause=\"lost\"}[5m])",
            "never \"lost\"",
        ),
        (
            "rate(unstale_gaps_total{cause!~\"silent|lost\"}[5m])",
            "never \"lost\"",
        ),
        (
            "histogram_quantile(0.9, sum(rate(unstale_publish_seconds_bucket[5m])))",
            "by le",
        ),
        (
            "histogram_quantile(0.9, sum by (le) (rate(unstale_publish_seconds_count[5m])))",
            "no label le",
        ),
        ("sum(unstale_connected", "a ( too many"),
        ("unstale_connected)", "a ) too many"),
        ("unstale_connected{job}", "no \""),
        ("unstale_connected[5m]", "is a Gauge"),
        (
            "rate(unstale_publish_seconds_bucket{le=\"0.3\"}[5m])",
            "no bucket 0.3",
        ),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
    let right = "histogram_quantile(0.9, sum by (le, cache) (rate(unstale_load_duration_seconds_bucket{job=~\"$job\"}[5m]))) \
                 and on (job) unstale_connected > 0";
    let recorded = Expression::parse("job:unstale_bus_bytes:rate5m > 5").unwrap();
    assert_eq!(recorded.recorded, ["job:unstale_bus_bytes:rate5m"]);
    Expression::parse("last_over_time(unstale_connected[1h])").unwrap();
    Expression::parse("rate(unstale_publish_seconds_bucket{le=\"0.1\"}[5m])").unwrap();
    let right = Expression::parse(right).unwrap();
    assert_eq!(right.selectors.len(), 2);
    assert!(right.selectors[0].has("job", "=~", "$job"));
    assert_eq!(right.selectors[0].range.as_deref(), Some("5m"));
    assert!(right.grouped.contains("cache"));
}
