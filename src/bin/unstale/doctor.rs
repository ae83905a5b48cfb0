//! `unstale doctor`: is this Redis fit for a fleet, and may this user work there?

mod checks;
mod fleet;
#[cfg(feature = "relay")]
mod relay;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tokio::time::sleep;
use unstale::operate::{self, Server};
use unstale::{Error, ErrorKind, Settings};

use self::checks::{Finding, Level};
use crate::Failure;
use crate::colour::Paint;
use crate::common::{self, time};
use crate::output::Output;

/// Messages sent over pub/sub to see how long they take.
const ECHOES: usize = 20;

/// Lanes whose servers are asked what the user may do there.
const LANES: u32 = 16;

/// How long the server's clock is watched for a step.
const CLOCK_WATCH: Duration = Duration::from_millis(500);

const HELP: &str = "\
The doctor looks, and then does once what an instance does, in a namespace of
its own, which it removes. It joins no fleet, and no other program sees its
messages. Run it with the service's environment, where the service runs.

With --metrics for each instance, it also checks whether all of them are in one
fleet: the same namespace, database, lanes, settings and version.

If UNSTALE_RELAY_DATABASE_URL is set, it also checks the database as
`unstale relay --check` does.

Examples:
  unstale doctor
  unstale doctor --metrics http://10.0.0.7:9100/metrics \\
                 --metrics http://10.0.0.8:9100/metrics
  unstale doctor --json | jq '.findings[] | select(.level != \"ok\")'
  unstale doctor || exit 1       in a deployment, before the first instance

Exit status: 0 no check failed (there may be warnings), 1 a check failed,
2 wrong usage or settings.";

/// Options of `unstale doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Write a JSON object
    #[arg(long)]
    json: bool,
    /// Metrics of an instance, http://HOST:PORT/metrics or a
    /// file; give it once for each instance
    #[arg(long, value_name = "URL", verbatim_doc_comment)]
    metrics: Vec<String>,
}

/// Examines; exit status 1 if anything is wrong.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let settings = common::settings()?;
    common::block_on(async move {
        let findings = examine(&settings, &args.metrics).await;
        #[cfg(feature = "relay")]
        let findings: Vec<_> = findings
            .into_iter()
            .chain(relay::examine(&settings).await)
            .collect();
        let healthy = findings.iter().all(|finding| finding.level != Level::Fail);
        let mut output = Output::new();
        if args.json {
            let findings: Vec<_> = findings.iter().map(Finding::json).collect();
            output.line(json!({ "healthy": healthy, "findings": findings }))?;
        } else {
            let paint = Paint::for_stdout();
            for finding in &findings {
                for line in finding.lines(paint) {
                    output.line(line)?;
                }
            }
            output.line(checks::verdict(&findings, paint))?;
        }
        Ok(ExitCode::from(u8::from(!healthy)))
    })
}

/// Everything that is found; ends early only where nothing more can be seen.
async fn examine(settings: &Settings, metrics: &[String]) -> Vec<Finding> {
    let url = common::shown(settings, "UNSTALE_REDIS_URL");
    let server = match operate::connect(settings).await {
        Ok(server) => server,
        Err(error) => return vec![checks::unreachable(&url, &error)],
    };
    let mut findings = Vec::new();
    findings.push(match server.ping().await {
        Ok(round_trip) => Finding::ok(
            "connection",
            format!(
                "{url} as user {}, round trip {}",
                server.user(),
                time(round_trip)
            ),
        ),
        Err(error) => checks::refused("connection", &error),
    });
    findings.extend(checks::exposed_files(operate::exposed_files(settings)));
    let result = look(settings, &server, &mut findings).await;
    if let Err(error) = result {
        findings.push(checks::refused("connection", &error));
        return findings;
    }
    // Without these nothing of the fleet can be seen.
    let needed = ["connection", "rights"];
    let lacks = |finding: &Finding| finding.level == Level::Fail && needed.contains(&finding.check);
    if findings.iter().any(lacks) {
        return findings;
    }
    match fleet::examine(settings, &server, metrics).await {
        Ok(found) => findings.extend(found),
        // What cannot be seen for lack of a right was reported as that.
        Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Settings) => {}
        Err(error) => findings.push(checks::refused("members", &error)),
    }
    findings
}

/// The checks that need a server; an error only where it no longer answers.
async fn look(
    settings: &Settings,
    server: &Server,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let lacks = server.lacks(settings.lanes.min(LANES)).await?;
    findings.push(checks::rights(lacks.rights.as_ref()));
    if lacks.rights.is_none() && lacks.unfit.is_none() {
        findings.push(checks::rehearsal(&operate::rehearse(settings).await));
    }
    // What cannot be seen for lack of a right was reported as that.
    let lack = |error: &Error| matches!(error.kind(), ErrorKind::Auth | ErrorKind::Settings);
    match server.info().await {
        Ok(info) => {
            findings.push(checks::server(&info, server.is_cluster()));
            findings.push(checks::eviction(&info));
            let limit = server.config("client-output-buffer-limit").await?;
            findings.push(checks::output_buffer(limit.as_deref()));
            let needed = server.config("min-replicas-to-write").await?;
            let lag = server.config("min-replicas-max-lag").await?;
            findings.push(checks::replicas(&info, needed.as_deref(), lag.as_deref()));
        }
        Err(error) if lack(&error) => {}
        Err(error) => return Err(error),
    }
    match server.lanes().await {
        Ok(lanes) => findings.push(checks::lanes(lanes, settings.lanes)),
        Err(error) if lack(&error) => {}
        Err(error) => return Err(error),
    }
    match clock(server).await {
        Ok(finding) => findings.push(finding),
        Err(error) if lack(&error) => {}
        Err(error) => return Err(error),
    }
    match server.echo(ECHOES).await {
        Ok(delays) => findings.push(checks::echo(&delays, ECHOES, settings.verify_interval)),
        Err(error) if lack(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Reads the server's clock twice and compares it with this machine's two.
async fn clock(server: &Server) -> Result<Finding, Error> {
    let read = async || {
        let began = Instant::now();
        let theirs = server.time().await?;
        // The server read its clock about half a round trip ago.
        let half = began.elapsed() / 2;
        Ok::<_, Error>((theirs + half, Instant::now()))
    };
    let (first, first_at) = read().await?;
    sleep(CLOCK_WATCH).await;
    let (second, second_at) = read().await?;
    let ours = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let beats = server.lane(0).await?.members;
    let ahead = beats.values().max().copied().unwrap_or_default();
    Ok(checks::clock(&checks::Clocks {
        offset: second.abs_diff(ours),
        went: second.checked_sub(first),
        elapsed: second_at.duration_since(first_at),
        beats_ahead: ahead.saturating_sub(second),
    }))
}
