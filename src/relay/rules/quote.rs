//! Names and texts as SQL has them.

use super::TableName;

/// Returns a name in double quotes: it may be a word of SQL's, or have capitals.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn table(name: &TableName) -> String {
    format!("{}.{}", identifier(&name.schema), identifier(&name.name))
}

/// Returns a text in single quotes, whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        return format!(" E'{}'", doubled.replace('\\', "\\\\"));
    }
    format!("'{doubled}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_and_no_text_ends_its_quotes() {
        assert_eq!(identifier("user"), "\"user\"");
        assert_eq!(identifier("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(table(&TableName::new("S", "t.x")), "\"S\".\"t.x\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }
}
