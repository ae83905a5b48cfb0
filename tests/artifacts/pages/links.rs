//! Links of README.md and of the pages lead somewhere, in the repository and in the guide of rustdoc.

use std::collections::BTreeMap;

use testkit::built::root;

use super::pages;
use crate::documents::read;

/// The headings of a document, as they stand in links to them.
fn anchors(document: &str) -> Vec<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
        text.chars()
            .filter(kept)
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// A file of the repository, and a heading in it where the link names one.
fn leads_somewhere(page: &str, link: &str) {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = root().join(page);
    let path = if file.is_empty() {
        folder
    } else {
        folder.parent().unwrap().join(file)
    };
    assert!(path.exists(), "{page}: {link} does not exist");
    if !heading.is_empty() {
        let text = std::fs::read_to_string(&path).unwrap();
        let named = anchors(&text).iter().any(|anchor| anchor == heading);
        assert!(named, "{page}: {link} has no such heading");
    }
}

/// The links in the text itself.
fn inline(text: &str) -> Vec<&str> {
    let links = text.split("](").skip(1);
    links.map(|rest| rest.split_once(')').unwrap().0).collect()
}

/// `[label]: target`, at the end of a page.
fn definitions(text: &str) -> BTreeMap<String, &str> {
    let lines = text.lines().filter(|line| line.starts_with('['));
    let pairs = lines.filter_map(|line| line[1..].split_once("]: "));
    pairs
        .map(|(label, target)| (label.to_lowercase(), target.trim()))
        .collect()
}

/// Every `[text][label]` and `[label]` outside of code.
fn uses(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let prose: String = prose.split('`').step_by(2).collect();
    let lines = prose.lines().filter(|line| !line.starts_with('['));
    let mut found = Vec::new();
    for line in lines {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once('[') {
            let Some((label, end)) = after.split_once(']') else {
                break;
            };
            // `[text](link)` and `[text][label]` name no label by their text.
            if !end.starts_with('(') && !end.starts_with('[') {
                found.push(label.to_lowercase());
            }
            rest = end;
        }
    }
    found
}

#[test]
fn every_link_of_a_page_leads_to_a_file_and_a_heading() {
    for page in pages() {
        let text = read(&page);
        let definitions = definitions(&text);
        for label in uses(&text) {
            assert!(
                definitions.contains_key(&label),
                "{page}: no link for [{label}]"
            );
        }
        let targets = definitions.values().copied().chain(inline(&text));
        for target in targets.filter(|target| !target.contains("://")) {
            leads_somewhere(&page, target);
        }
    }
    let readme = read("README.md");
    let links = inline(&readme);
    for page in pages().iter().filter(|page| page.starts_with("docs/")) {
        let named = links
            .iter()
            .any(|link| link.split('#').next() == Some(page));
        assert!(named, "README.md has no link to {page}");
    }
    let makefile = read("Makefile");
    for page in pages() {
        let text = read(&page);
        let targets = text.split("`make ").skip(1);
        for target in targets.map(|rest| rest.split(['`', ' ']).next().unwrap()) {
            assert!(
                makefile.contains(&format!("\n{target}:")),
                "{page}: make {target}"
            );
        }
    }
}

/// rustdoc shows the pages without the repository around them. `src/guide/links.md` stands before each
/// page there, and the first definition of a label counts.
#[test]
fn links_between_pages_work_in_the_guide_too() {
    let guide = read("src/guide.rs");
    let links = read("src/guide/links.md");
    let instead = definitions(&links);
    for page in pages().iter().filter(|page| page.starts_with("docs/")) {
        let text = read(page);
        let module = format!(
            "#[doc = include_str!(\"guide/links.md\")]\n#[doc = include_str!(\"../{page}\")]\npub mod "
        );
        assert!(guide.contains(&module), "src/guide.rs lacks {page}");
        for link in inline(&text) {
            assert!(
                link.contains("://") || link.starts_with('#'),
                "{page}: write [text][label] for {link}"
            );
        }
        for (label, target) in definitions(&text) {
            if !target.contains("://") {
                assert!(
                    instead.contains_key(&label),
                    "links.md lacks [{label}]: {target}"
                );
            }
        }
    }
}
