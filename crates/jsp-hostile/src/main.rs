//! Prints the table of attacks: `cargo xtask hostile`.

use std::process::ExitCode;

use clap::Parser;
use jsp_hostile::report::{self, Verdict};
use jsp_hostile::row::{Kind, Row, Run, Scale};
use jsp_hostile::rows::{self, ROWS};

/// Attacks JetStreamProto's machine, and says what each attack achieved.
#[derive(Debug, Parser)]
#[command(name = "hostile", max_term_width = 100)]
struct Arguments {
    /// One object of JSON a row
    #[arg(long)]
    json: bool,
    /// Only this row
    #[arg(long)]
    row: Option<u8>,
    /// Scaled counts, as in the tests
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scale = if arguments.quick { Scale::Quick } else { Scale::Full };
    let wanted = |row: &&Row| arguments.row.is_none_or(|number| number == row.number);
    let mut missed = 0;
    let mut counts = [0u32; 4];
    for row in ROWS.iter().filter(wanted) {
        let verdict = decide(row, scale);
        counts[match verdict {
            Verdict::Held(_) => 0,
            Verdict::Missed(_) => 1,
            Verdict::Elsewhere(_) => 2,
            Verdict::Pending(_) => 3,
        }] += 1;
        // What is known not to hold is told, and not news.
        let is_news = matches!(row.kind, Kind::Measured(_));
        missed += u32::from(is_news && matches!(verdict, Verdict::Missed(_)));
        if arguments.json {
            println!("{}", report::object(row, &verdict));
        } else {
            println!("{}", report::line(row, &verdict));
        }
    }
    let [held, all_missed, elsewhere, pending] = counts;
    let known = all_missed - missed;
    eprintln!(
        "{held} held, {missed} missed, {known} known not to hold, {elsewhere} held by other tests, {pending} pending"
    );
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn decide(row: &Row, scale: Scale) -> Verdict {
    match row.kind {
        Kind::Pending(feature) => Verdict::Pending(feature.to_owned()),
        Kind::Missed(command) => Verdict::Missed(command.to_owned()),
        Kind::Elsewhere(command) => Verdict::Elsewhere(command.to_owned()),
        Kind::Measured(measure) => match rows::guarded(measure, &mut Run::new(scale)) {
            Ok(figure) if figure.held => Verdict::Held(figure.measured),
            Ok(figure) => Verdict::Missed(figure.measured),
            Err(panic) => Verdict::Missed(format!("panic: {panic}")),
        },
    }
}
