//! What the applications of a world do: a plan made beforehand, and the actor that follows it.

mod actor;
mod media;
pub mod pattern;
pub mod plan;
mod reader;
mod sender;

pub use actor::{Actor, PlanTable};
pub use pattern::Pattern;
pub use plan::{Ending, MediaPlan, MessagePlan, ReadPlan, Script, SendPlan, StreamPlan, Traffic};
