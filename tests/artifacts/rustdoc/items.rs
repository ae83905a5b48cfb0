//! Rust as text: the items of a file with their documentation, as rustfmt writes them.

/// One documented item: a type, a trait, or a function.
pub(super) struct Item {
    pub(super) file: String,
    /// The type or the trait that a function is of.
    pub(super) of: Option<String>,
    pub(super) name: String,
    pub(super) docs: String,
    /// Of a function: everything from `fn` to its body.
    pub(super) signature: Option<String>,
}

impl Item {
    pub(super) fn label(&self) -> String {
        let of = self.of.iter().map(|of| format!("{of}::"));
        let path = of.chain([self.name.clone()]).collect::<String>();
        format!("{path} ({})", self.file)
    }

    /// The text between the parentheses of a function.
    pub(super) fn arguments(&self) -> &str {
        let signature = self.signature.as_deref().unwrap_or_default();
        let named = format!("fn {}", self.name);
        let after = signature.split_once(&named).map_or("", |(_, it)| it);
        let after = &after[enclosed(after, '<', '>')..];
        let end = enclosed(after, '(', ')');
        after
            .get(1..end.saturating_sub(1))
            .unwrap_or_default()
            .trim()
    }

    pub(super) fn returns(&self) -> &str {
        let signature = self.signature.as_deref().unwrap_or_default();
        let after = signature.split_once(self.arguments());
        let after = after.map_or("", |(_, after)| after);
        after.split(" where ").next().unwrap_or(after)
    }

    /// Whether it is declared by a trait.
    pub(super) fn is_method(&self) -> bool {
        let signature = self.signature.as_deref().unwrap_or_default();
        signature.starts_with("fn ")
    }

    pub(super) fn is_async(&self) -> bool {
        let signature = self.signature.as_deref().unwrap_or_default();
        signature.contains("async fn") || self.returns().contains("impl Future<")
    }
}

/// The length of what the brackets at the beginning of a text enclose, with them.
fn enclosed(text: &str, open: char, close: char) -> usize {
    if !text.starts_with(open) {
        return 0;
    }
    let (mut depth, mut before) = (0, ' ');
    for (at, c) in text.char_indices() {
        // The `>` of `->` closes nothing.
        if c == open {
            depth += 1;
        } else if c == close && before != '-' {
            depth -= 1;
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
        before = c;
    }
    text.len()
}

/// The code of the examples in a documentation: of ``` blocks that the compiler sees.
pub(super) fn examples(docs: &str) -> String {
    let (mut code, mut block) = (String::new(), None);
    for line in docs.lines() {
        match (line.trim().strip_prefix("```"), block) {
            (Some(language), None) => {
                let compiled = ["", "no_run", "should_panic", "compile_fail"];
                block = Some(compiled.contains(&language));
            }
            (Some(_), Some(_)) => block = None,
            (None, Some(true)) => code.extend([line, "\n"]),
            (None, _) => {}
        }
    }
    code
}

/// The type that an `impl` or a `trait` is of.
fn owner(line: &str) -> Option<String> {
    let rest = match line.strip_prefix("pub trait ") {
        Some(rest) => rest,
        None => {
            let rest = line.strip_prefix("impl")?;
            rest[enclosed(rest, '<', '>')..].trim_start()
        }
    };
    // `impl Display for Token` has no functions of its own.
    let of = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
    (!rest.contains(" for ")).then(|| of.take(1).collect())
}

/// The name of the item that a line declares, and whether that is a function.
fn declared(line: &str) -> Option<(String, bool)> {
    let trimmed = line.trim_start();
    let name = |rest: &str| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    for begin in ["pub fn ", "pub async fn ", "pub const fn ", "fn "] {
        if let Some(rest) = trimmed.strip_prefix(begin) {
            return Some((name(rest), true));
        }
    }
    for begin in [
        "pub struct ",
        "pub enum ",
        "pub trait ",
        "pub type ",
        "pub const ",
    ] {
        if let Some(rest) = trimmed.strip_prefix(begin) {
            return Some((name(rest), false));
        }
    }
    // The types that a macro defines: their documentation is before their name in its call.
    let named = trimmed
        .strip_prefix("pub ")
        .and_then(|rest| rest.split_once(", "));
    let named = named.map_or(trimmed, |(first, _)| first);
    let is_type = named.starts_with(char::is_uppercase) && named.chars().all(char::is_alphanumeric);
    is_type.then(|| (named.to_owned(), false))
}

/// Every item of a file with its documentation.
pub(super) fn items(file: &str, text: &str) -> Vec<Item> {
    let mut found = Vec::new();
    let (mut docs, mut hidden, mut of, mut in_trait) = (String::new(), false, None, false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "mod tests {" {
            break;
        }
        let trimmed = line.trim_start();
        if let Some(doc) = trimmed.strip_prefix("///") {
            docs.extend([doc.strip_prefix(' ').unwrap_or(doc), "\n"]);
            continue;
        }
        if trimmed.starts_with("#[") {
            hidden |= trimmed == "#[doc(hidden)]";
            let mut attribute = trimmed.to_owned();
            while attribute.matches('[').count() > attribute.matches(']').count() {
                attribute.push_str(lines.next().expect("the end of the attribute"));
            }
            continue;
        }
        if line.starts_with("impl") || line.starts_with("pub trait ") {
            of = owner(line);
            in_trait = line.starts_with("pub trait ");
        } else if line.starts_with(|c: char| c.is_alphanumeric()) && line != "where" {
            of = None;
        }
        if let Some((name, is_function)) = declared(line) {
            let signature = is_function.then(|| {
                let mut signature = trimmed.to_owned();
                while !signature.ends_with(['{', ';', '}']) {
                    let next = lines.next().expect("the body of the function");
                    signature.extend([" ", next.trim()]);
                }
                signature
            });
            let is_public = trimmed.starts_with("pub ") || in_trait || !is_function;
            let of = of.clone().filter(|_| is_function);
            if is_public && !hidden {
                let (file, docs) = (file.to_owned(), docs.clone());
                found.push(Item {
                    file,
                    of,
                    name,
                    docs,
                    signature,
                });
            }
        }
        (docs, hidden) = (String::new(), false);
    }
    found
}
