//! The table that comes out.

use std::fmt;

use crate::stats::Cell;

/// The figures of shared goals are upper bounds.
#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    goal: Option<f64>,
    cells: Vec<Cell>,
}

#[derive(Debug)]
enum Line {
    Section(String),
    Row(Row),
}

/// Rows in sections, a column for each runtime.
#[derive(Debug)]
pub struct Table {
    titles: [String; 2],
    missing_peer: Option<String>,
    lines: Vec<Line>,
    notes: Vec<String>,
}

impl Table {
    /// With the titles of both columns, or the reason why there is no second.
    pub fn new(ours: &str, peer: Result<String, String>) -> Self {
        let (title, missing_peer) = match peer {
            Ok(title) => (title, None),
            Err(reason) => ("containerd + runc".to_owned(), Some(reason)),
        };
        let mut table = Self { titles: [ours.to_owned(), title], missing_peer, lines: Vec::new(), notes: Vec::new() };
        if let Some(reason) = &table.missing_peer {
            table.notes.push(format!("{} could not be had here: {reason}", table.titles.last().map_or("", String::as_str)));
        }
        table
    }

    /// Begins a section.
    pub fn section(&mut self, title: impl Into<String>) {
        self.lines.push(Line::Section(title.into()));
    }

    /// Adds a row: a cell for each runtime, and the goal for ours.
    pub fn row(&mut self, name: impl Into<String>, unit: &'static str, goal: Option<f64>, cells: Vec<Cell>) {
        self.lines.push(Line::Row(Row { name: name.into(), unit, goal, cells }));
    }

    /// Adds a line below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

const NAME: usize = 48;

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, peer] = &self.titles;
        writeln!(out, "\n{:NAME$}      {ours:<32}  {peer:<28}", "")?;
        let columns = format!("{:>9}{:>9}{:>9}", "p50", "p10", "p90");
        writeln!(out, "{:NAME$}      {columns}{:>5}  {columns}{:>9}  {:>8}", "", "n", "ratio", "goal")?;
        for line in &self.lines {
            match line {
                Line::Section(title) => writeln!(out, "\n{title}")?,
                Line::Row(row) => self.write_row(out, row)?,
            }
        }
        writeln!(out)?;
        self.notes.iter().try_for_each(|note| writeln!(out, "{note}"))
    }
}

impl Table {
    fn write_row(&self, out: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
        let ours = row.cells.first();
        let peer = row.cells.get(1);
        write!(out, "  {:<width$}{:>6}", row.name, row.unit, width = NAME - 2)?;
        write!(out, "{}", figures(ours))?;
        match ours {
            Some(Cell::Spread { count, .. }) => write!(out, "{count:>5}")?,
            _ => write!(out, "{:>5}", "")?,
        }
        write!(out, "  {}", if self.missing_peer.is_some() { format!("{:>9}{:18}", "-", "") } else { figures(peer) })?;
        let (our_middle, peer_middle) = (ours.and_then(Cell::middle), peer.and_then(Cell::middle));
        match (our_middle, peer_middle) {
            // Below that ours is noise, and so would be the ratio.
            (Some(ours), Some(peer)) if ours > 0.01 && peer > 0.0 => write!(out, "{:>8}x", number(peer / ours))?,
            _ => write!(out, "{:9}", "")?,
        }
        if let Some(goal) = row.goal {
            let reached = match our_middle {
                Some(ours) if ours <= goal => "reached",
                Some(_) => "not reached",
                None => "",
            };
            write!(out, "  {:>8}  {reached}", format!("≤ {}", number(goal)))?;
        }
        writeln!(out)
    }
}

fn figures(cell: Option<&Cell>) -> String {
    match cell {
        Some(Cell::Spread { p50, p10, p90, .. }) => format!("{:>9}{:>9}{:>9}", number(*p50), number(*p10), number(*p90)),
        Some(Cell::Single(value)) => format!("{:>9}{:18}", number(*value), ""),
        Some(Cell::Missing(reason)) => format!("  {reason:<25}"),
        None => format!("{:>9}{:18}", "-", ""),
    }
}

/// Three significant digits, as far as they mean anything.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 10.0 => {
            let text = format!("{value:.2}");
            if text.ends_with('0') && text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            } else {
                text
            }
        }
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
