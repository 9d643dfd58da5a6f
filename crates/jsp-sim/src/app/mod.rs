//! What the applications of a world do: a plan made beforehand, and the actor that follows it.

mod actor;
pub mod pattern;
pub mod plan;
mod reader;
mod sender;

pub use actor::{Actor, PlanTable};
pub use pattern::Pattern;
pub use plan::{Ending, MessagePlan, ReadPlan, Script, SendPlan, StreamPlan, Traffic};
