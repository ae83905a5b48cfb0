//! Texts are in plain English: a short list of words stays out of documents, comments, messages and names
//! of tests.

use std::collections::BTreeSet;
use std::fs;

use testkit::built::root;

use crate::documents::sources;
use crate::pages::pages;

/// Each word, and what says it plainly.
const WORDS: &[(&str, &str)] = &[
    ("anew", "again"),
    ("dear", "expensive"),
    ("dearer", "more expensive"),
    ("everybody", "every instance, every reader"),
    ("for ever", "forever, or without end"),
    ("lapse", "expire"),
    ("lapsed", "expired"),
    ("lapses", "expires"),
    ("lest", "so that ... not"),
    ("mend", "fix, repair"),
    ("mended", "fixed, repaired"),
    ("mends", "fixes, repairs"),
    ("nobody", "no reader, no instance; or the passive voice"),
    ("nudge", "wake, ask"),
    ("nudged", "woken, asked"),
    ("somebody", "a reader, an instance"),
    ("thrice", "three times"),
    ("told", "notified; `tell apart` is `distinguish`"),
    ("torment", "inject faults into"),
    ("upon", "on"),
    ("vouch", "prove"),
    ("vouched", "proven"),
    ("whence", "from which"),
    ("whoever", "a reader who, an instance that"),
];

/// Documents that a user or a contributor reads.
fn documents() -> Vec<String> {
    let mut documents = pages();
    for folder in ["", "dashboards", "deploy"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let read = [".md", ".yml", ".yaml", ".conf"];
            if read.iter().any(|end| name.ends_with(end)) {
                documents.push(
                    format!("{folder}/{name}")
                        .trim_start_matches('/')
                        .to_owned(),
                );
            }
        }
    }
    documents.extend(["dashboards/overview.json", "dashboards/incident.json"].map(str::to_owned));
    documents
}

/// The comments and the texts of Rust code, and the names of its functions as words; line breaks are kept.
fn prose(code: &str) -> String {
    let mut prose = String::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let (text, length) = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            (rest[..end].to_owned(), end)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            let end = raw.find("\"#").map_or(rest.len(), |end| end + 5);
            (rest[..end].to_owned(), end)
        } else if first == '"' {
            let end = end_of_text(rest);
            (rest[..end].to_owned(), end)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            (String::new(), rest[1..].find('\'').map_or(1, |end| end + 2))
        } else if let Some(name) = rest.strip_prefix("fn ") {
            let end = name.find(|c: char| c != '_' && !c.is_alphanumeric());
            let end = end.unwrap_or(name.len());
            (name[..end].replace('_', " "), end + 3)
        } else {
            let kept = if first == '\n' { "\n" } else { "" };
            (kept.to_owned(), first.len_utf8())
        };
        prose += &text;
        prose.push(' ');
        rest = &rest[length..];
    }
    prose
}

/// Where a text in quotation marks ends that is at the beginning of the code.
fn end_of_text(code: &str) -> usize {
    let mut escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The lines with one of the words, each with its plain word.
fn found(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // What stands in backquotes is a name.
        let line: String = line.split('`').step_by(2).collect();
        let line = line.to_lowercase();
        let words = line.split(|c: char| !c.is_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        for (word, plain) in WORDS {
            let parts: Vec<_> = word.split(' ').collect();
            if words.windows(parts.len()).any(|window| window == parts) {
                found.push(format!("{}: `{word}`: {plain}", number + 1));
            }
        }
    }
    found
}

#[test]
fn documents_comments_messages_and_names_of_tests_are_in_plain_english() {
    let mut wrong = BTreeSet::new();
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        wrong.extend(
            found(&text)
                .into_iter()
                .map(|it| format!("{document}:{it}")),
        );
    }
    for folder in [
        "src", "derive", "examples", "tests", "testkit", "benches", "fuzz",
    ] {
        for (file, code) in sources(folder) {
            // The list itself.
            if !file.contains("/target/") && !file.ends_with("artifacts/plain.rs") {
                let said = found(&prose(&code));
                wrong.extend(said.into_iter().map(|it| format!("{file}:{it}")));
            }
        }
    }
    let list: Vec<_> = wrong.iter().map(String::as_str).collect();
    assert!(
        wrong.is_empty(),
        "{} lines:\n{}",
        wrong.len(),
        list.join("\n")
    );
}

#[test]
fn words_are_found_in_prose_and_not_in_code() {
    let code = "let told = 1; // nobody, `told`\nlet text = \"for \\\" ever, \
                for ever\";\n/// dearly\nfn whoever_reads() {} r#\"upon\"#";
    let found = found(&prose(code));
    let words: Vec<_> = found
        .iter()
        .map(|it| it.split('`').nth(1).unwrap())
        .collect();
    assert_eq!(words, ["nobody", "for ever", "upon", "whoever"]);
}
