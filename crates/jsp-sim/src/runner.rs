//! Many seeds on all cores: worlds are independent of each other.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::random_world::random_world;
use crate::trial::{self, Outcome};

/// How long nothing may be heard of a world before its seed is told, in real time.
const SILENCE: Duration = Duration::from_secs(30);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What came of a seed.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The world was lived through; its checkers may have objected.
    Lived(Outcome),
    /// Something panicked, with these words.
    Panicked(String),
}

impl Verdict {
    /// What was wrong, a sentence each.
    pub fn complaints(&self) -> Vec<String> {
        match self {
            Self::Lived(outcome) => outcome.violations.iter().map(ToString::to_string).collect(),
            Self::Panicked(words) => vec![format!("panic: {words}")],
        }
    }
}

/// What came of a run over many seeds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Worlds that were lived through or failed.
    pub worlds: u64,
    /// Seeds that failed, with their complaints.
    pub failures: BTreeMap<u64, Vec<String>>,
    /// Virtual time of all worlds.
    pub virtual_time: Duration,
    /// Real time of the run.
    pub real_time: Duration,
    /// Datagrams that were sent.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections that were tried.
    pub connections: u64,
    /// Connections that came about.
    pub established: u64,
}

impl Summary {
    /// Virtual time over real time.
    pub fn speed(&self) -> f64 {
        self.virtual_time.as_secs_f64() / self.real_time.as_secs_f64().max(1e-9)
    }

    fn add(&mut self, seed: u64, verdict: &Verdict) {
        self.worlds += 1;
        if let Verdict::Lived(outcome) = verdict {
            self.virtual_time += outcome.lasted;
            self.packets += outcome.packets;
            self.bytes += outcome.bytes;
            self.connections += outcome.connections;
            self.established += outcome.established;
        }
        let complaints = verdict.complaints();
        if !complaints.is_empty() {
            self.failures.insert(seed, complaints);
        }
    }
}

/// Which seeds are run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first seed.
    pub start: u64,
    /// How many.
    pub count: u64,
    /// The run stops after so many seeds that failed.
    pub failures_max: usize,
    /// Tell on standard error how it goes.
    pub is_told: bool,
}

/// The random world of one seed; a panic is caught and becomes a complaint.
pub fn run_seed(seed: u64) -> Verdict {
    match panic::catch_unwind(AssertUnwindSafe(|| trial::run(random_world(seed)))) {
        Ok(outcome) => Verdict::Lived(outcome),
        Err(words) => {
            let words = words
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| words.downcast_ref::<&str>().copied());
            Verdict::Panicked(words.unwrap_or("without words").to_owned())
        }
    }
}

/// Runs random worlds on all cores.
pub fn run(plan: Plan) -> Summary {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let at_work: Vec<_> = (0..threads).map(|_| Mutex::new(None)).collect();
    let (sender, receiver) = mpsc::channel();
    let mut summary = Summary::default();
    thread::scope(|scope| {
        for slot in &at_work {
            let (sender, next, is_over) = (sender.clone(), &next, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= plan.count {
                        break;
                    }
                    let seed = plan.start + index;
                    set(slot, Some((seed, Instant::now())));
                    if sender.send((seed, run_seed(seed))).is_err() {
                        break;
                    }
                }
                set(slot, None);
            });
        }
        drop(sender);
        summary = collect(plan, began, &receiver, &is_over, &at_work);
    });
    summary.real_time = began.elapsed();
    summary
}

/// Does the same for each of `count` seeds, on all cores; the answers stand in the order of seeds.
pub fn each_seed<T: Send>(start: u64, count: u64, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let done = Mutex::new(BTreeMap::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let answer = one(start + index);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(index, answer);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// A worker's seed, and since when.
type AtWork = Mutex<Option<(u64, Instant)>>;

fn set(slot: &AtWork, value: Option<(u64, Instant)>) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

fn collect(
    plan: Plan,
    began: Instant,
    receiver: &mpsc::Receiver<(u64, Verdict)>,
    is_over: &AtomicBool,
    at_work: &[AtWork],
) -> Summary {
    let mut summary = Summary::default();
    let mut told_at = began;
    loop {
        match receiver.recv_timeout(PROGRESS_EVERY) {
            Ok((seed, verdict)) => {
                summary.add(seed, &verdict);
                if plan.is_told {
                    tell_failure(seed, &verdict);
                }
                if summary.failures.len() >= plan.failures_max {
                    is_over.store(true, Ordering::Relaxed);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return summary,
        }
        if plan.is_told && told_at.elapsed() >= PROGRESS_EVERY {
            told_at = Instant::now();
            tell_progress(&summary, plan, began, at_work);
        }
    }
}

fn tell_failure(seed: u64, verdict: &Verdict) {
    let complaints = verdict.complaints();
    for complaint in complaints.iter().take(3) {
        eprintln!("seed {seed}: {complaint}");
    }
    if !complaints.is_empty() {
        eprintln!("reproduce: cargo xtask sim --seed {seed}");
    }
}

fn tell_progress(summary: &Summary, plan: Plan, began: Instant, at_work: &[AtWork]) {
    eprintln!(
        "{} of {} worlds, {} failed, {:.0} virtual s in {:.0} s",
        summary.worlds,
        plan.count,
        summary.failures.len(),
        summary.virtual_time.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    for slot in at_work {
        let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seed, since)) = *slot
            && since.elapsed() > SILENCE
        {
            eprintln!("seed {seed} has been running for {:.0} s", since.elapsed().as_secs_f64());
        }
    }
}
