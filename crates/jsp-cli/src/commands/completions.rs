//! `jsp completions` and `jsp man`: what a shell and `man` want to know.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output::Output;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  jsp completions bash > ~/.local/share/bash-completion/completions/jsp
  jsp completions zsh > ~/.zfunc/_jsp
  jsp completions fish > ~/.config/fish/completions/jsp.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  jsp man > jsp.1                  the page of jsp itself
  jsp man --dir man/man1           one page for each command";

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Print the manual page
#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct Man {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(crate) fn run(self) -> Exit {
        let mut out = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "jsp", &mut out);
        // A reader that has gone away wants no more.
        let _ = io::stdout().lock().write_all(&out);
        Exit::Success
    }
}

impl Man {
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let command = Cli::command();
        let Some(dir) = self.dir else {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(command).render(&mut page);
            rendered.map_err(|error| Failure::file(format!("no page could be made: {error}")))?;
            let _ = io::stdout().lock().write_all(&page);
            return Ok(Exit::Success);
        };
        let explain = |error: io::Error| {
            Failure::file(format!("{}: {error}; choose another --dir", dir.display()))
        };
        fs::create_dir_all(&dir).map_err(explain)?;
        clap_mangen::generate_to(command, &dir).map_err(explain)?;
        output.line(format!("written to {}", dir.display()));
        Ok(Exit::Success)
    }
}
