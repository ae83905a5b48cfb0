//! Tests of the queries' text and of rows that no query has.

use super::*;
use crate::relay::rules::catalog::Catalog;

#[test]
fn names_are_quoted_in_the_queries() {
    let text = "source = \"a\"\npublication = \"it's\"\n[[rule]]\ntable = \"\\\"o'o\\\".t\"\n\
                cache = \"a\"\nall = true";
    let queries = queries(&Rules::parse(text).unwrap());
    assert!(
        queries.publication.contains("'it''s'"),
        "{}",
        queries.publication
    );
    assert!(
        queries.columns.contains("(('o''o', 't'), ('', ''))"),
        "{}",
        queries.columns
    );
    for query in [&queries.tables, &queries.columns, &queries.indexes] {
        assert!(!query.contains("/*"), "{query}");
    }
}

#[test]
fn rows_that_no_query_has_are_an_error() {
    let row = |text: &str| -> Row { text.split(' ').map(|cell| Some(cell.to_owned())).collect() };
    let good = Each {
        server: vec![row("150004 logical f relay shop t 5 5 1024")],
        ..Each::default()
    };
    let catalog = Catalog::read(&good).unwrap();
    assert_eq!(
        (catalog.server.version, catalog.publication),
        (150_004, None)
    );
    for (bad, name) in [
        (
            Each {
                server: Vec::new(),
                ..good.clone()
            },
            "server",
        ),
        (
            Each {
                server: vec![row("15 logical maybe relay shop t 5 5 1024")],
                ..good.clone()
            },
            "server",
        ),
        (
            Each {
                publication: vec![row("t t")],
                ..good.clone()
            },
            "publication",
        ),
        (
            Each {
                tables: vec![row("1 public t z p 0 d t f f")],
                ..good.clone()
            },
            "tables",
        ),
        (
            Each {
                columns: vec![row("1 id")],
                ..good.clone()
            },
            "columns",
        ),
        (
            Each {
                indexes: vec![row("1 pk id")],
                ..good.clone()
            },
            "indexes",
        ),
    ] {
        let error = Catalog::read(&bad).unwrap_err().to_string();
        assert!(error.contains(&format!("of its {name} ")), "{error}");
    }
}
