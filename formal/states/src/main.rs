//! State models of JetStreamProto: every state that a small world can reach is looked at.
//!
//! Each model has a correct variant, whose properties must hold in all states, and mutants that take
//! one rule of the design away: a mutant whose property still holds shows that the model does not
//! test the rule. One line of JSON is printed for each variant.
#![forbid(unsafe_code)]

mod early_data;
mod exchange;
mod hello;
mod ids;
mod keys;
mod migration;
mod transcript;
mod verdict;

use std::process::ExitCode;

use verdict::Family;

fn families() -> Vec<Family> {
    vec![
        early_data::family(),
        hello::family(),
        ids::family(),
        migration::family(),
        keys::family(),
        exchange::family(),
        transcript::family(),
    ]
}

/// `[NAME]`: all models, or the one of this name; `list`: the names.
fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    if wanted.as_deref() == Some("list") {
        for family in families() {
            println!("{}", family.name());
        }
        return ExitCode::SUCCESS;
    }
    let (mut found_one, mut all_as_expected) = (false, true);
    for family in families() {
        if wanted.as_deref().is_none_or(|wanted| wanted == family.name()) {
            found_one = true;
            all_as_expected &= family.run();
        }
    }
    if found_one && all_as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
