//! `unstale demo`: a fleet, faults, and a judge.
//!
//! Instances in this process share a bus in this process (or a Redis), read and write rows of a
//! source of truth and are cut off from each other on the way. Every read is judged against the
//! source, and so are the same reads of a cache that has nothing but a TTL.

mod chronicle;
mod fleet;
mod judge;
mod meters;
mod proxy;
mod report;
mod screen;
mod source;
mod story;
mod text;
mod workload;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use self::chronicle::{Chronicle, Kind};
use self::fleet::{Fleet, Link, RedisUrl, TTL};
use self::meters::{Counters, Meters, Row};
use self::report::Totals;
use self::screen::{Key, Point, Screen, View};
use self::story::{ACT, Deed, Story};
use self::text::{count, percent, time};
use self::workload::Workload;
use crate::Failure;
use crate::colour::is_dumb;
use crate::output::Output;
use crate::text::wrap;

/// How often the story goes on and the screen is drawn.
const TICK: Duration = Duration::from_millis(100);

/// How often the instances are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How often a line is written where there is no screen.
const LINE: Duration = Duration::from_secs(1);

/// How long the flood may hold up the story, and then the fleet its end.
const FLOOD: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(8);

/// The bound that every read is held to, and that of a run too short for faults to outlast it.
const BOUND: Duration = Duration::from_secs(2);

/// Options of `unstale demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of instances in the fleet
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=9))]
    instances: u8,

    /// How long it runs; below 15, the staleness bound
    /// of 2 s shrinks in proportion
    #[arg(long, value_name = "SECONDS", default_value_t = 15, verbatim_doc_comment, value_parser = clap::value_parser!(u64).range(3..=3600))]
    seconds: u64,

    /// Use this Redis instead of a bus inside the process;
    /// a proxy in the program cuts the connections
    #[arg(long, value_name = "URL", verbatim_doc_comment)]
    redis: Option<RedisUrl>,

    /// Write lines instead of a live screen
    #[arg(long)]
    plain: bool,

    /// Serve Prometheus metrics of the first instance
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,

    /// Write the result as a JSON object in the last line
    #[arg(long)]
    json: bool,
}

/// Runs the demo; exit status 1 if any read was stale.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(play(args))
}

async fn play(args: &Args) -> Result<ExitCode, Failure> {
    let instances = usize::from(args.instances);
    let run = Duration::from_secs(args.seconds);
    let bound = BOUND.min(BOUND.mul_f64(run.div_duration_f64(ACT)));
    let fleet = Fleet::start(instances, bound, args.redis.as_ref(), args.metrics).await?;
    let mut output = Output::new();
    let mut show = Show::new(fleet, run, args.redis.is_some());
    if !args.plain && io::stdout().is_terminal() && !is_dumb() {
        let mut screen = Screen::open()?;
        show.on_screen(&mut screen).await?;
    } else {
        show.in_lines(&mut output).await?;
    }
    let (totals, chronicle, elapsed) = show.end().await;
    for line in totals.summary(&chronicle) {
        output.line(line)?;
    }
    if args.json {
        output.line(totals.json(elapsed))?;
    }
    Ok(ExitCode::from(u8::from(totals.fleet.stale > 0)))
}

/// The demo while it runs.
struct Show {
    fleet: Fleet,
    workload: Workload,
    story: Story,
    flood: Option<(Instant, JoinHandle<()>)>,
    bus: &'static str,
    began: Instant,
    run: Duration,
    meters: Meters,
    looked: Option<Duration>,
    rows: Vec<Row>,
    history: Vec<Point>,
    chronicle: Chronicle,
}

impl Show {
    fn new(fleet: Fleet, run: Duration, redis: bool) -> Self {
        let mut show = Self {
            workload: Workload::start(&fleet),
            story: Story::new(run, fleet.members.len(), !redis),
            flood: None,
            bus: if redis {
                "Redis"
            } else {
                "a bus in this process"
            },
            began: Instant::now(),
            run,
            meters: Meters::default(),
            looked: None,
            rows: Vec::new(),
            history: Vec::new(),
            chronicle: Chronicle::default(),
            fleet,
        };
        show.look();
        show
    }

    /// One tick of the story; false at its end. No instance is cut off by then, and all have
    /// time to learn what was missed.
    fn tick(&mut self) -> bool {
        while !self.flooding()
            && let Some(deed) = self.story.due(self.began.elapsed())
        {
            self.perform(deed);
        }
        let elapsed = self.began.elapsed();
        let over = elapsed >= self.run && !self.flooding();
        if over {
            self.heal();
        }
        // Whether all have settled is asked first: the look has to see how.
        let settled = self.fleet.settled();
        if settled || self.looked.is_none_or(|looked| elapsed >= looked + LOOK) {
            self.look();
        }
        !(over && settled) && elapsed < self.run + SETTLE
    }

    /// The story waits for the flood to end: an instance that is silent is to miss all of it.
    fn flooding(&self) -> bool {
        let flood = self.flood.as_ref();
        flood.is_some_and(|(began, task)| !task.is_finished() && began.elapsed() < FLOOD)
    }

    fn heal(&mut self) {
        for number in 0..self.fleet.members.len() {
            self.perform(Deed::Heal(number));
        }
    }

    fn perform(&mut self, deed: Deed) {
        let done = match deed {
            Deed::Lose(number) => self.fleet.lose(number),
            Deed::Cut(number) => self.fleet.cut(number),
            Deed::Silence(number) => self.fleet.silence(number),
            Deed::Flood => {
                self.flood = Some((Instant::now(), self.workload.flood(&self.fleet)));
                true
            }
            Deed::Heal(number) => self.fleet.heal(number),
        };
        if done {
            self.chronicle.note(self.began.elapsed(), deed);
        }
    }

    /// Looks at the instances, and at the reads since it looked last.
    fn look(&mut self) {
        let at = self.began.elapsed();
        self.looked = Some(at);
        self.rows = self.meters.look(&self.fleet, at);
        self.chronicle.observe(at, &self.rows);
        let tally = &self.workload.tally;
        self.history.push(Point {
            at: at.as_secs_f64(),
            fleet: tally.fleet.lately().as_secs_f64(),
            alone: tally.alone.lately().as_secs_f64(),
        });
    }

    fn totals(&self) -> Totals {
        let counters: Vec<Counters> = self.rows.iter().map(|row| row.counters.clone()).collect();
        Totals::of(&self.fleet, &self.workload.tally, &counters)
    }

    async fn on_screen(&mut self, screen: &mut Screen) -> io::Result<()> {
        let mut ticks = ticks();
        while self.tick() {
            while let Some(key) = screen.key() {
                match key {
                    Key::Quit => return Ok(()),
                    Key::Toggle(number) => self.toggle(number),
                }
            }
            screen.show(&View {
                bus: self.bus,
                elapsed: self.began.elapsed(),
                run: self.run,
                rows: &self.rows,
                totals: &self.totals(),
                history: &self.history,
                entries: &self.chronicle.entries,
            })?;
            ticks.tick().await;
        }
        Ok(())
    }

    fn toggle(&mut self, number: usize) {
        let Some(member) = self.fleet.members.get(number) else {
            return;
        };
        let deed = match member.link {
            Link::Up => Deed::Cut(number),
            Link::Silent | Link::Cut => Deed::Heal(number),
        };
        self.perform(deed);
    }

    async fn in_lines(&mut self, output: &mut Output) -> io::Result<()> {
        let intro = format!(
            "{} instances on {} run for {}. Each read is checked: it is stale if its value was \
             replaced more than {} before. A cache that has only a TTL of {} answers the same reads.",
            self.fleet.members.len(),
            self.bus,
            time(self.run),
            time(self.fleet.bound),
            time(TTL)
        );
        for line in wrap("", "", &intro) {
            output.line(line)?;
        }
        output.line(format_args!("{:52}{}", "", "with only the TTL"))?;
        output.line(row([
            "time", "reads", "hits", "stale", "worst", "stale", "worst",
        ]))?;
        let (mut ticks, mut next, mut written) = (ticks(), LINE, 0);
        loop {
            let more = self.tick();
            for entry in &self.chronicle.entries[written..] {
                let mark = if entry.kind == Kind::Fault { '!' } else { '-' };
                output.line(format_args!(
                    "{:5.1} s  {mark} {}",
                    entry.at.as_secs_f64(),
                    entry.text
                ))?;
            }
            written = self.chronicle.entries.len();
            if self.began.elapsed() >= next {
                next = self.began.elapsed() + LINE;
                output.line(self.line())?;
            }
            if !more || output.closed() {
                return Ok(());
            }
            ticks.tick().await;
        }
    }

    fn line(&self) -> String {
        let totals = self.totals();
        let counters = &totals.counters;
        row([
            &format!("{:.1} s", self.began.elapsed().as_secs_f64()),
            &count(totals.fleet.reads),
            &percent(counters.hits, counters.reads()),
            &count(totals.fleet.stale),
            &time(totals.fleet.worst),
            &count(totals.alone.stale),
            &time(totals.alone.worst),
        ])
    }

    /// Lets all instances finish, and counts for the last time.
    async fn end(mut self) -> (Totals, Chronicle, Duration) {
        self.heal();
        let tally = self.workload.tally.clone();
        self.workload.stop().await;
        let elapsed = self.began.elapsed();
        let counters: Vec<Counters> = self.fleet.members.iter().map(Counters::of).collect();
        let totals = Totals::of(&self.fleet, &tally, &counters);
        self.fleet.shutdown().await;
        (totals, self.chronicle, elapsed)
    }
}

/// A row of the table that stands in for the screen.
fn row(cells: [&str; 7]) -> String {
    let [at, reads, hits, stale, worst, alone, worst_alone] = cells;
    format!(
        "{at:>7}  {reads:>11}  {hits:>7}  {stale:>7}  {worst:>7}  |  {alone:>9}  {worst_alone:>7}"
    )
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
