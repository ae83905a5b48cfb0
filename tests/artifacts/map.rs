//! ARCHITECTURE.md's code map has one row a file, and its journeys cross the files that it says.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::documents::{read, section, sources};

/// The first sentence of a file's own documentation, without links.
fn says(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<_> = lines
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    let mut sentence = paragraph[..end].trim_end_matches('.').to_owned();
    while let Some(at) = sentence.find("](") {
        let end = sentence[at..]
            .find(')')
            .map_or(sentence.len(), |end| at + end + 1);
        sentence.replace_range(at..end, "]");
    }
    sentence
        .replace("[`", "`")
        .replace("`]", "`")
        .replace('|', "\\|")
}

#[test]
fn code_map_has_one_row_a_file_with_the_first_sentence_of_its_documentation() {
    let tests = |name: &str| name.ends_with("/tests.rs") || name.contains("/tests/");
    let mut files = sources("src");
    files.retain(|(name, _)| !tests(name));
    files.sort_by_key(|(name, _)| name.trim_end_matches(".rs").to_owned());
    let mut table = String::from("| file | what it is |\n|---|---|\n");
    for (name, text) in files {
        let says = says(&text);
        assert!(!says.is_empty(), "{name} does not say what it is");
        let name = name.trim_start_matches("src/");
        writeln!(table, "| `{name}` | {says} |").unwrap();
    }
    let architecture = read("ARCHITECTURE.md");
    assert_eq!(
        section(&architecture, "code map"),
        table,
        "replace the table in ARCHITECTURE.md:\n{table}"
    );
}

/// Each journey is a line with its name and the most files it may cross, and a list of files with
/// functions: `1. file: function, function`.
#[test]
fn journeys_cross_the_files_they_name_and_no_more_than_they_may() {
    let architecture = read("ARCHITECTURE.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut journeys = 0;
    for journey in section(&architecture, "journeys").split("\n**").skip(1) {
        let (title, list) = journey.split_once("\n\n").expect("a title and a list");
        let most = title
            .split("at most ")
            .nth(1)
            .expect("how many files it may cross");
        let most: usize = most.split_whitespace().next().unwrap().parse().unwrap();
        let steps: Vec<_> = list.lines().filter(|line| line.contains("`: ")).collect();
        assert!(steps.len() > 2, "{title} has no steps");
        assert!(steps.len() <= most, "{title} crosses {} files", steps.len());
        for step in steps {
            let quoted: Vec<_> = step.split('`').skip(1).step_by(2).collect();
            let (file, functions) = quoted.split_first().expect("a file");
            let text = fs::read_to_string(root.join("src").join(file)).unwrap_or_default();
            assert!(!text.is_empty(), "{title}: there is no {file}");
            assert!(!functions.is_empty(), "{title}: what is called in {file}?");
            for function in functions {
                let defined = [format!("fn {function}("), format!("fn {function}<")];
                assert!(
                    defined.iter().any(|it| text.contains(it)),
                    "{title}: {file} has no function {function}"
                );
            }
        }
        journeys += 1;
    }
    assert_eq!(journeys, 5);
}
