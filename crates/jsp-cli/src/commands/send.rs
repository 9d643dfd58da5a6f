//! `jsp send`: files and folders to a receiver.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use jsp::{Connection, Endpoint};
use serde::Serialize;

use crate::cli::Global;
use crate::code::{About, Codes, Met, Role};
use crate::exit::{Exit, Failure, TABLE};
use crate::output::{self, Output};
use crate::session;
use crate::target::Target;
use crate::transfer::Summary;
use crate::transfer::resume::Namer;
use crate::transfer::send::send;
use crate::transfer::source::Plan;

const EXAMPLES: &str = "\
Examples:
  jsp send report.pdf example.org              one file
  jsp send photos notes.txt example.org:9000   a folder with all that is in it, and a file
  jsp send a.iso jsp://jsp1...@192.0.2.7:4433  sure of who receives
  jsp send a.iso --code                        print a code; the receiver types it: `jsp recv --code CODE`
  jsp send a.iso --code CODE                   type the code that `jsp recv --code` has printed

It ends once the receiver has confirmed that every file is whole and on its disk. A file that cannot
be read or stored is told of, the others go on, and the exit code is 5. So it is with a symbolic link
inside a folder: it is named and left out, never followed. A link named here is sent as its target.

When the receiver vanishes it is tried again for as long as --retry says, but not when its user has ended
it. A transfer goes on where it was, also when the same command is given again after Ctrl-C, a crash or
a week.

With a code neither side needs an address: `jsp help recv` tells more.";

/// Send files and folders, and wait until they are stored
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
#[command(
    override_usage = "jsp send [OPTIONS] FILE... HOST\n       jsp send [OPTIONS] FILE... --code [CODE]"
)]
pub(crate) struct Send {
    /// Files and folders, and last who receives them: HOST, unless it is found by a code
    #[arg(required = true, value_name = "FILE")]
    names: Vec<PathBuf>,
    #[command(flatten)]
    codes: Codes,
    /// How long to try again when the receiver vanishes in the middle
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = parse_retry)]
    retry: Duration,
}

/// The longest pause between two attempts to reach a receiver that has vanished.
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(super) fn parse_retry(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=604_800.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("0 to 604800 seconds, which is a week".into()),
    }
}

#[derive(Serialize)]
struct SentEvent {
    event: &'static str,
    stored: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
    megabits_per_second: f64,
}

impl Send {
    pub(crate) async fn run(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        if self.codes.are_wanted() {
            return self.run_by_code(global, output).await;
        }
        let Self { names: mut files, retry, .. } = self;
        let host = files.pop().unwrap_or_default();
        if files.is_empty() {
            let sentence = "name files and, last, who receives them; or say --code";
            return Err(Failure::usage(sentence));
        }
        let host: Target = host.to_string_lossy().parse().map_err(Failure::usage)?;
        let receiver = host.fingerprint.map(|fingerprint| fingerprint.to_string());
        let namer = Namer::open(&receiver.unwrap_or_else(|| host.authority.clone()))?;
        let mut plan = survey(files).await?.named(namer);
        let (mut endpoint, mut connection) = session::connect(&host, global, output).await?;
        let begun = Instant::now();
        let mut summary = Summary::default();
        loop {
            let work = send(&connection, &mut plan, &mut summary, output);
            match session::until_interrupted(&endpoint, work).await {
                Ok(()) => break,
                Err(failure) if is_vanished(&failure) && !retry.is_zero() => {
                    output.remark(format!("jsp: the receiver vanished; trying again: {failure}"));
                    (endpoint, connection) = again(&host, global, output, retry, failure).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(report(summary, begun.elapsed(), output))
    }

    async fn run_by_code(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        let Self { names, codes, retry } = self;
        let surveyed = survey(names).await?;
        let about = About { role: Role::Sends, name: Default::default() };
        let (mut plan, mut summary) = (surveyed.clone(), Summary::default());
        let (mut known, mut begun) = (None, Instant::now());
        let work = async |met: &Met| {
            let receiver = met.about.name;
            // Whoever comes next with the code need not be who came first.
            if known != Some(receiver) {
                plan = surveyed.clone().named(Namer::open(&format!("code {receiver:02x?}"))?);
                (summary, known, begun) = (Summary::default(), Some(receiver), Instant::now());
            }
            send(&met.connection, &mut plan, &mut summary, output).await
        };
        codes.run(about, retry, (global, output), work).await?;
        Ok(report(summary, begun.elapsed(), output))
    }
}

async fn survey(files: Vec<PathBuf>) -> Result<Plan, Failure> {
    let survey = tokio::task::spawn_blocking(move || Plan::survey(&files));
    survey.await.map_err(|_| Failure::file("the files could not be counted"))?
}

/// What was sent, in words and as an object; how the command ends.
fn report(summary: Summary, time: Duration, output: Output) -> Exit {
    let Summary { stored, failed, bytes } = summary;
    output.object(&SentEvent {
        event: "sent",
        stored,
        failed,
        bytes,
        seconds: time.as_secs_f64(),
        megabits_per_second: output::megabits(bytes, time),
    });
    output.line(format!(
        "{stored} files and folders ({}) sent, checked and stored in {:.1} s, {}",
        output::bytes(bytes),
        time.as_secs_f64(),
        output::bits_per_second(bytes, time)
    ));
    if failed > 0 {
        output.remark(format!("jsp: {failed} could not be sent; the reasons are above"));
        return Exit::File;
    }
    Exit::Success
}

/// The receiver may come back by itself.
fn is_vanished(failure: &Failure) -> bool {
    failure.exit == Exit::PeerVanished && !failure.by_user
}

/// Reaches the receiver again, within `retry`; `failure` is why it has to.
async fn again(
    host: &Target,
    global: &Global,
    output: Output,
    retry: Duration,
    failure: Failure,
) -> Result<(Endpoint, Connection), Failure> {
    let until = Instant::now() + retry;
    let mut pause = Duration::from_millis(250);
    loop {
        match session::connect(host, global, output).await {
            Err(error) if error.exit == Exit::Unreachable || error.exit == Exit::PeerVanished => {}
            ended => return ended,
        }
        if Instant::now() >= until {
            return Err(failure);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = session::interrupt() => return Err(Failure::interrupted()),
        }
        pause = PAUSE_MAX.min(pause * 2);
    }
}
