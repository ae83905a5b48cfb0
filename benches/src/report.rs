//! What a program found: tables to read, and goals met or not.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One program's result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub title: String,
    pub tables: Vec<Table>,
    pub goals: Vec<Goal>,
}

/// A Markdown table with a sentence above it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub about: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// What was to be reached, and what was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Goal {
    pub what: String,
    pub goal: String,
    pub measured: String,
    pub met: bool,
}

impl Report {
    pub fn new(title: &str) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    pub fn goal(&mut self, what: &str, goal: &str, measured: impl Into<String>, met: bool) {
        let (what, goal, measured) = (what.into(), goal.into(), measured.into());
        self.goals.push(Goal {
            what,
            goal,
            measured,
            met,
        });
    }

    pub fn table(&mut self, about: &str, head: &[&str], rows: Vec<Vec<String>>) {
        let head = head.iter().map(ToString::to_string).collect();
        let about = about.into();
        self.tables.push(Table { about, head, rows });
    }

    /// Prints the report: Markdown, or with `--json` one object.
    pub fn print(&self) {
        if std::env::args().any(|arg| arg == "--json") {
            println!("{}", serde_json::to_string(self).expect("plain data"));
        } else {
            println!("{self}\n{}", Goal::table(&self.goals));
        }
    }
}

impl Goal {
    pub fn table(goals: &[Self]) -> Table {
        let row = |goal: &Self| {
            let met = if goal.met { "met" } else { "**not met**" };
            vec![
                goal.what.clone(),
                goal.goal.clone(),
                goal.measured.clone(),
                met.into(),
            ]
        };
        Table {
            about: String::new(),
            head: ["what", "goal", "measured", ""].map(Into::into).into(),
            rows: goals.iter().map(row).collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}", self.title)?;
        for table in &self.tables {
            write!(f, "\n{table}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.about.is_empty() {
            writeln!(f, "{}\n", self.about)?;
        }
        writeln!(f, "| {} |", self.head.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.head.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}
