//! Text for a terminal of 80 columns.

/// Columns of a line.
pub(crate) const WIDTH: usize = 80;

/// Lines of [`WIDTH`] columns at most, where no word is longer.
#[derive(Default)]
pub(crate) struct Text(Vec<String>);

impl Text {
    /// Adds a paragraph.
    pub(crate) fn say(&mut self, text: impl AsRef<str>) {
        self.0.extend(wrap("", "", text.as_ref()));
    }

    /// Adds an item of a list.
    pub(crate) fn item(&mut self, text: impl AsRef<str>) {
        self.0.extend(wrap("- ", "  ", text.as_ref()));
    }

    pub(crate) fn blank(&mut self) {
        self.0.push(String::new());
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0
    }
}

/// Breaks a text between words. The first line begins with `first`, the others with `then`.
pub(crate) fn wrap(first: &str, then: &str, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut begins = true;
    for word in text.split_whitespace() {
        if !begins && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, then.to_owned()));
            begins = true;
        }
        if !begins {
            line.push(' ');
        }
        line.push_str(word);
        begins = false;
    }
    if !begins {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words_and_items_are_indented() {
        let mut text = Text::default();
        text.say("a".repeat(50) + " " + &"b".repeat(29) + " c");
        text.say("");
        text.item("x ".repeat(40));
        text.item("y".repeat(90));
        let expected = [
            "a".repeat(50) + " " + &"b".repeat(29),
            "c".to_owned(),
            "- ".to_owned() + &["x"; 39].join(" "),
            "  x".to_owned(),
            "- ".to_owned() + &"y".repeat(90),
        ];
        assert_eq!(text.into_lines(), expected);
    }
}
