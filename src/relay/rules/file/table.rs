//! The name of a table, as SQL writes it.

use crate::relay::rules::TableName;

impl TableName {
    /// Reads `accounts`, `public.accounts` or `"my.schema"."accounts"`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, rest) = identifier(text)?;
        if rest.is_empty() {
            return Some(Self::new("public", &first));
        }
        let (second, rest) = identifier(rest.strip_prefix('.')?)?;
        rest.is_empty().then(|| Self::new(&first, &second))
    }
}

/// Returns the identifier with which a text begins, and what follows.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let plain = !name.is_empty() && !name.contains(['"', ' ']);
        return plain.then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            // A quote that is doubled belongs to the name.
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}
