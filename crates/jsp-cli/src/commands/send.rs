//! `jsp send`: files and folders to a receiver.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::cli::Global;
use crate::exit::{Exit, Failure, TABLE};
use crate::output::{self, Output};
use crate::session;
use crate::target::Target;
use crate::transfer::Summary;
use crate::transfer::send::send;
use crate::transfer::source::Plan;

const EXAMPLES: &str = "\
Examples:
  jsp send report.pdf example.org              one file
  jsp send photos notes.txt example.org:9000   a folder with all that is in it, and a file
  jsp send a.iso jsp://jsp1...@192.0.2.7:4433  sure of who receives

It ends once the receiver has confirmed that every file is whole and on its disk. A file that cannot
be read or stored is told of, the others go on, and the exit code is 5. So it is with a symbolic link
inside a folder: it is named and left out, never followed. A link named here is sent as its target.";

/// Send files and folders, and wait until they are stored
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Send {
    /// Files and folders
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Who receives
    #[arg(value_name = "HOST")]
    host: Target,
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
        let Self { files, host } = self;
        let survey = tokio::task::spawn_blocking(move || Plan::survey(&files));
        let plan = survey.await.map_err(|_| Failure::file("the files could not be counted"))??;
        let (endpoint, connection) = session::connect(&host, global, output).await?;
        let begun = Instant::now();
        let work = send(&connection, plan, output);
        let summary = session::until_interrupted(&endpoint, work).await?;
        let Summary { stored, failed, bytes } = summary;
        let time = begun.elapsed();
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
            return Ok(Exit::File);
        }
        Ok(Exit::Success)
    }
}
