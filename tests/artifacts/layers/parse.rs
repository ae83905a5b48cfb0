//! Rust as text: just enough of it to find the paths in it.

/// Returns whether an item of this name is defined in the code.
pub(super) fn defines(code: &str, name: &str) -> bool {
    let kinds = ["struct", "enum", "trait", "type", "fn", "const", "static"];
    kinds
        .iter()
        .any(|kind| words(code).windows(2).any(|pair| pair == [*kind, name]))
}

fn words(code: &str) -> Vec<&str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .collect()
}

/// The code without comments, and with nothing in its strings and characters.
pub(super) fn without_comments(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, after)| after);
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            out.push_str("\"\"");
            rest = raw.split_once("\"#").map_or("", |(_, after)| after);
        } else if let Some(mut string) = rest.strip_prefix('"') {
            out.push_str("\"\"");
            loop {
                let end = string.find(['"', '\\']).unwrap_or(string.len());
                if string[end..].starts_with('\\') {
                    let escaped = string[end + 1..].chars().next().map_or(0, char::len_utf8);
                    string = &string[end + 1 + escaped..];
                } else {
                    rest = string.get(end + 1..).unwrap_or("");
                    break;
                }
            }
        } else if let Some(length) = character(rest) {
            out.push_str("' '");
            rest = &rest[length..];
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

/// The length of a character or byte literal, which is no lifetime.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let end = match inside.strip_prefix('\\') {
        Some(escaped) => 2 + escaped.char_indices().nth(1)?.0 + escaped[1..].find('\'')?,
        None => 1 + inside.char_indices().nth(1)?.0,
    };
    text[end..].starts_with('\'').then_some(end + 1)
}

/// The code without what only tests compile.
pub(super) fn without_tests(code: &str) -> String {
    const TESTS: &str = "#[cfg(test)]";
    let (mut out, mut rest) = (String::new(), code);
    while let Some((before, item)) = rest.split_once(TESTS) {
        out.push_str(before);
        let mut depth = 0;
        let end = item.char_indices().find(|(_, c)| {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            depth < 0 || (depth == 0 && matches!(c, '}' | ';' | ','))
        });
        rest = end.map_or("", |(at, c)| {
            &item[at + usize::from(depth >= 0) * c.len_utf8()..]
        });
    }
    out + rest
}

/// What a module's `use` declarations name, with the name that it gets there.
pub(super) fn uses(code: &str) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let begins = rest[..at].ends_with(|c: char| c.is_whitespace() || c == ')') || at == 0;
        rest = &rest[at + 4..];
        if !begins {
            continue;
        }
        let Some((tree, after)) = rest.split_once(';') else {
            break;
        };
        expand(&[], tree.trim(), &mut found);
        rest = after;
    }
    found
}

fn expand(prefix: &[String], tree: &str, found: &mut Vec<(Vec<String>, String)>) {
    let of = |path: &str| -> Vec<String> {
        let segments = path.split("::").map(str::trim).map(str::to_owned);
        let segments = segments.filter(|segment| !segment.is_empty());
        prefix.iter().cloned().chain(segments).collect()
    };
    if let Some((head, inner)) = tree.split_once('{') {
        let inner = inner.trim_end().trim_end_matches('}');
        let prefix = of(head);
        let (mut depth, mut from) = (0, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&prefix, inner[from..at].trim(), found);
                    from = at + 1;
                }
                _ => {}
            }
        }
        if !inner[from..].trim().is_empty() {
            let nested = inner[from..].trim();
            let closed = nested.matches('{').count() - nested.matches('}').count();
            expand(&prefix, &format!("{nested}{}", "}".repeat(closed)), found);
        }
        return;
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (of(path), Some(alias.trim().to_owned())),
        None => (of(tree), None),
    };
    let Some(last) = path.last().cloned() else {
        return;
    };
    match last.as_str() {
        "self" => {
            let path = path[..path.len() - 1].to_vec();
            let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
            found.push((path, name));
        }
        "*" => found.push((path[..path.len() - 1].to_vec(), "*".to_owned())),
        _ => found.push((path, alias.unwrap_or(last))),
    }
}
