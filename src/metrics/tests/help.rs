//! What is said of each metric.

use crate::metrics::describe;

#[test]
fn help_of_each_metric_is_a_short_sentence() {
    const LONGEST: usize = 180;
    for series in describe() {
        let (name, help) = (series.name(), series.help());
        assert!(help.len() <= LONGEST, "{name}: {} characters", help.len());
        assert!(help.ends_with('.'), "{name} ends in a fragment: {help}");
        let begins = |c: char| c.is_uppercase() || c.is_ascii_digit();
        assert!(help.starts_with(begins), "{name}: {help}");
        // A row of a table in Markdown.
        assert!(!help.contains(['|', '\n']), "{name}: {help}");
    }
}
