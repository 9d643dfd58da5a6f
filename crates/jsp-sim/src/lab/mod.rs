//! The laboratory: named networks with a load, what our transport and its peers make of them, and
//! the bars that ours must hold.
//!
//! A [`Case`] is a path, a load and perhaps rivals; [`table`] lists them all. A [`Sample`] is what
//! one seed gave, [`figures`] are taken from all samples of a case, [`bars`] are laid on them.
//! [`experiments`] compare a mechanism switched on with the same worlds without it.

pub mod bars;
mod case;
pub mod experiments;
pub mod figures;
pub mod links;
pub mod plot;
mod run;
mod sample;
mod script;
pub mod statistics;
pub mod table;

pub use case::{Case, Edit, Ends, Load, Rival, Subject, Twin, Ways};
pub use run::{HEADING, Measured, Options, run};
pub use sample::{Sample, sample};
