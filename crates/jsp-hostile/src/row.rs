//! A row of the table: an attack, the figure that is wanted, and how it is measured.

use crate::peer::Random;

/// How much of a row is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// What fits into the tests: all rows together in less than a minute.
    Quick,
    /// What the table asks for, or the share of it that each row names.
    Full,
}

/// What a row runs with.
pub struct Run {
    /// How much.
    pub scale: Scale,
    /// Where its choices come from.
    pub random: Random,
}

impl Run {
    /// A run of this scale; the same choices each time.
    pub fn new(scale: Scale) -> Self {
        Self { scale, random: Random::new(0x5eed_0f0e) }
    }

    /// The count of a loop.
    pub fn count(&self, quick: u64, full: u64) -> u64 {
        match self.scale {
            Scale::Quick => quick,
            Scale::Full => full,
        }
    }
}

/// What a row measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figure {
    /// The figure, in words.
    pub measured: String,
    /// Whether it is as wanted.
    pub held: bool,
}

impl Figure {
    /// A figure with its verdict.
    pub fn new(held: bool, measured: impl Into<String>) -> Self {
        Self { measured: measured.into(), held }
    }
}

/// How a row is decided.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Measured here.
    Measured(fn(&mut Run) -> Figure),
    /// Held elsewhere in the workspace, where the attack cannot be made from outside: by this command.
    Elsewhere(&'static str),
    /// Not held, as is known: this command measures it.
    Missed(&'static str),
    /// The feature is not there yet.
    Pending(&'static str),
}

/// One attack.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its number in the plan of attacks.
    pub number: u8,
    /// What is done.
    pub attack: &'static str,
    /// The figure to hold.
    pub wanted: &'static str,
    /// How it is decided.
    pub kind: Kind,
}
