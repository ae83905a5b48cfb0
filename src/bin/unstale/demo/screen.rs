//! The live screen.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Axis, Block, Borders, Chart, Dataset, Gauge, GraphType, Paragraph, Row as TableRow, Table,
};
use tokio::sync::mpsc;
use unstale::InstanceState;

use super::chronicle::{Entry, Kind};
use super::fleet::{Link, TTL};
use super::meters::Row;
use super::report::Totals;
use super::text::{bytes, count, percent, time};

/// How soon the thread that waits for keys notices that it is to end.
const KEY_POLL: Duration = Duration::from_millis(50);

/// Lines below which there is no room for the chart.
const CHART_FROM: u16 = 30;

const FLEET: Color = Color::Green;
const ALONE: Color = Color::Red;
const BOUND: Color = Color::Yellow;
const DIM: Color = Color::DarkGray;

/// What the user pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Cut or heal the instance, counted from 0.
    Toggle(usize),
    Quit,
}

/// The worst staleness of a moment, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Point {
    pub(crate) at: f64,
    pub(crate) fleet: f64,
    pub(crate) alone: f64,
}

/// Everything that is shown.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) bus: &'a str,
    pub(crate) elapsed: Duration,
    pub(crate) run: Duration,
    pub(crate) rows: &'a [Row],
    pub(crate) totals: &'a Totals,
    pub(crate) history: &'a [Point],
    pub(crate) entries: &'a [Entry],
}

/// The terminal, which is as it was before when this is dropped.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    keys: mpsc::UnboundedReceiver<Key>,
    stop: Arc<AtomicBool>,
    waiting: Option<JoinHandle<()>>,
}

impl Screen {
    pub(crate) fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let (sender, keys) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let waiting = thread::spawn(move || wait_for_keys(&stopped, &sender));
        Ok(Self {
            terminal,
            keys,
            stop,
            waiting: Some(waiting),
        })
    }

    /// What was pressed since this was asked last.
    pub(crate) fn key(&mut self) -> Option<Key> {
        self.keys.try_recv().ok()
    }

    pub(crate) fn show(&mut self, view: &View<'_>) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, view)).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(waiting) = self.waiting.take() {
            // It panics no more than the terminal's library does; either way it has ended.
            let _ = waiting.join();
        }
        ratatui::restore();
    }
}

fn wait_for_keys(stop: &AtomicBool, keys: &mpsc::UnboundedSender<Key>) {
    while !stop.load(Relaxed) {
        let pressed = match event::poll(KEY_POLL) {
            Ok(true) => event::read().map(|event| key(&event)),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        match pressed {
            Ok(None) => {}
            Ok(Some(key)) => drop(keys.send(key)),
            // No keyboard: the demo ends by itself.
            Err(_) => return,
        }
    }
}

fn key(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char(digit) => digit
            .to_digit(10)
            .and_then(|digit| (digit as usize).checked_sub(1))
            .map(Key::Toggle),
        _ => None,
    }
}

fn draw(frame: &mut Frame<'_>, view: &View<'_>) {
    let area = frame.area();
    let chart = area.height >= CHART_FROM;
    let [title, instances, staleness, history, totals, log, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(view.rows.len() as u16 + 2),
        Constraint::Length(3),
        Constraint::Length(if chart { 10 } else { 0 }),
        Constraint::Length(4),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, title, view);
    draw_instances(frame, instances, view.rows);
    draw_staleness(frame, staleness, view);
    if chart {
        draw_history(frame, history, view);
    }
    draw_totals(frame, totals, view.totals);
    draw_log(frame, log, view.entries);
    let digits = format!(" 1-{}", view.rows.len());
    let help = Line::from(vec![
        digits.bold(),
        " cut or heal an instance   ".fg(DIM),
        "q".bold(),
        " quit".fg(DIM),
    ]);
    frame.render_widget(help, keys);
}

/// A section: a line with its name above it, and no more, for 24 lines are few.
fn section(name: &str) -> Block<'_> {
    Block::new()
        .borders(Borders::TOP)
        .border_style(Style::new().fg(DIM))
        .title(Line::from(format!(" {name} ")).bold().fg(Color::Cyan))
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let [name, gauge] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(28)]).areas(area);
    let what = format!("  {} instances on {}", view.rows.len(), view.bus);
    let line = Line::from(vec![" unstale demo".bold().fg(FLEET), what.into()]);
    frame.render_widget(line, name);
    let run = view.run.as_secs_f64();
    let elapsed = view.elapsed.as_secs_f64().min(run);
    let label = format!("{elapsed:.0} of {run:.0} s");
    let gauge_style = Style::new().fg(Color::Blue).bg(Color::Black);
    let widget = Gauge::default()
        .gauge_style(gauge_style)
        .ratio(elapsed / run)
        .label(Span::styled(label, Style::new().fg(Color::White)));
    frame.render_widget(widget, gauge);
}

fn draw_instances(frame: &mut Frame<'_>, area: Rect, rows: &[Row]) {
    let right = |text: String| Line::from(text).alignment(Alignment::Right);
    let header = [
        "",
        "state",
        "connection",
        "hits",
        "reads/s",
        "events/s",
        "verified",
    ];
    let header = header.iter().enumerate().map(|(column, name)| {
        let line = Line::from(*name).fg(DIM);
        if column < 3 {
            line
        } else {
            line.alignment(Alignment::Right)
        }
    });
    let lines = rows.iter().enumerate().map(|(number, row)| {
        let (state, color) = match row.state {
            InstanceState::Coherent => ("coherent", FLEET),
            InstanceState::Degraded => ("degraded", Color::Yellow),
            _ => ("closed", DIM),
        };
        let link = match row.link {
            Link::Up => "up".fg(FLEET),
            Link::Silent => "SILENT".bold().fg(Color::Red),
            Link::Cut => "CUT".bold().fg(Color::Red),
        };
        let verified = row
            .verified_age
            .map_or("never".to_owned(), |age| format!("{} ago", time(age)));
        TableRow::new([
            Line::from(format!(" {}", number + 1)).bold(),
            Line::from(format!("● {state}")).fg(color),
            Line::from(link),
            right(percent(row.hits, row.lookups)),
            right(count(row.reads_per_second as u64)),
            right(count(row.events_per_second as u64)),
            right(verified),
        ])
    });
    let widths = [
        Constraint::Length(3),
        Constraint::Length(12),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(15),
    ];
    let table = Table::new(lines, widths)
        .header(TableRow::new(header))
        .block(section("instances"));
    frame.render_widget(table, area);
}

fn draw_staleness(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let totals = view.totals;
    let now = view.history.last().copied().unwrap_or_default();
    let line = |name: &str, color: Color, now: f64, verdict: super::judge::Verdict| {
        let stale = if verdict.stale == 0 {
            "no stale reads".fg(FLEET)
        } else {
            format!("{} stale reads", count(verdict.stale))
                .bold()
                .fg(ALONE)
        };
        Line::from(vec![
            format!(" {name:<22}").fg(color),
            format!("now {:<9}", time(Duration::from_secs_f64(now))).into(),
            format!("worst {:<10}", time(verdict.worst)).into(),
            stale,
        ])
    };
    let ttl = format!("TTL of {} only", time(TTL));
    let lines = vec![
        line("unstale", FLEET, now.fleet, totals.fleet),
        line(&ttl, ALONE, now.alone, totals.alone),
    ];
    let name = format!("staleness of reads, bound {}", time(totals.bound));
    frame.render_widget(Paragraph::new(lines).block(section(&name)), area);
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let end = view.elapsed.min(view.run).as_secs_f64().max(1.0);
    let begin = (end - 60.0).max(0.0);
    let points = |of: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        let shown = view.history.iter().filter(|point| point.at >= begin);
        shown.map(|point| (point.at, of(point))).collect()
    };
    let (fleet, alone) = (points(|point| point.fleet), points(|point| point.alone));
    let bound = view.totals.bound.as_secs_f64();
    let top = alone
        .iter()
        .fold(bound * 1.5, |top, (_, age)| top.max(*age));
    let bounds = [(begin, bound), (end, bound)];
    let set = |points, color| {
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
            .data(points)
    };
    let sets = vec![
        set(&bounds[..], BOUND),
        set(&alone[..], ALONE),
        set(&fleet[..], FLEET),
    ];
    let label = |seconds: f64| Span::styled(format!("{seconds:.0} s"), Style::new().fg(DIM));
    let chart = Chart::new(sets)
        .x_axis(
            Axis::default()
                .bounds([begin, end])
                .labels([label(begin), label(end)]),
        )
        .y_axis(
            Axis::default()
                .bounds([0.0, top])
                .labels([label(0.0), label(top)]),
        )
        .block(section("worst staleness over time").title(Line::from(vec![
            " ━ unstale ".fg(FLEET),
            " ━ TTL only ".fg(ALONE),
            " ━ bound ".fg(BOUND),
        ])));
    frame.render_widget(chart, area);
}

fn draw_totals(frame: &mut Frame<'_>, area: Rect, totals: &Totals) {
    let counters = &totals.counters;
    let cell = |name: &str, value: String| {
        vec![
            Span::from(format!(" {name} ")).fg(DIM),
            Span::from(format!("{value:<11}")),
        ]
    };
    let line = |cells: [(&str, String); 4]| {
        let spans = cells
            .into_iter()
            .flat_map(|(name, value)| cell(name, value));
        Line::from(spans.collect::<Vec<_>>())
    };
    let lines = vec![
        line([
            ("reads    ", count(totals.fleet.reads)),
            ("hits   ", percent(counters.hits, counters.reads())),
            ("loads  ", count(totals.loads)),
            ("shared   ", count(counters.coalesced)),
        ]),
        line([
            ("published", count(counters.published)),
            ("applied", count(counters.applied)),
            ("writes ", count(totals.writes)),
            ("refused  ", count(totals.refused)),
        ]),
        line([
            ("gaps     ", count(counters.gaps)),
            ("reread ", count(counters.repaired)),
            ("dropped", count(counters.fences)),
            (
                "traffic  ",
                bytes(counters.sent_bytes + counters.received_bytes),
            ),
        ]),
    ];
    frame.render_widget(Paragraph::new(lines).block(section("totals")), area);
}

fn draw_log(frame: &mut Frame<'_>, area: Rect, entries: &[Entry]) {
    let room = area.height.saturating_sub(1) as usize;
    let shown = &entries[entries.len().saturating_sub(room)..];
    let lines = shown.iter().map(|entry| {
        let style = match entry.kind {
            Kind::Fault => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            Kind::Heal => Style::new().fg(Color::Blue),
            Kind::Noticed => Style::new().fg(Color::Yellow),
            Kind::Well => Style::new().fg(FLEET),
        };
        Line::from(vec![
            format!(" {:5.1} s  ", entry.at.as_secs_f64()).fg(DIM),
            Span::styled(entry.text.as_str(), style),
        ])
    });
    let lines: Vec<Line<'_>> = lines.collect();
    frame.render_widget(Paragraph::new(lines).block(section("events")), area);
}
