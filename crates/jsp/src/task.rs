//! Tasks beside the driver.

use std::future::Future;
use std::pin::Pin;

/// What the runtime is given for each of them: one type, as it has code of its own for every type that it runs.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes it one of these.
pub(crate) fn task(work: impl Future<Output = ()> + Send + 'static) -> Task {
    Box::pin(work)
}
