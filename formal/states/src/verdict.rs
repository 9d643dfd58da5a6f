//! What is expected of a model, and what the checker found.

use std::hash::Hash;
use std::time::Instant;

use serde::Serialize;
use stateright::{Checker, HasDiscoveries, Model};

/// Steps after which a variant is given up: a model that grows beyond is cut too coarsely.
const STEPS_MAX: usize = 20_000_000;

/// One line of the output.
#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    /// The rule that is taken away; empty for the design as it is.
    mutant: &'a str,
    expected: &'a str,
    found: String,
    states: usize,
    seconds: f64,
}

/// A variant of a model, ready to be checked.
struct Variant {
    mutant: &'static str,
    /// The property that this mutant must break; nothing for the design itself.
    broken: Option<&'static str>,
    check: Box<dyn Fn() -> Outcome>,
}

struct Outcome {
    /// Properties with a counterexample, each with the steps that lead to it.
    broken: Vec<(&'static str, Vec<String>)>,
    states: usize,
    /// Not all states were looked at.
    is_cut: bool,
}

/// A design and its mutants.
pub(crate) struct Family {
    name: &'static str,
    variants: Vec<Variant>,
}

impl Family {
    /// The design: every property must hold.
    pub(crate) fn of<M>(name: &'static str, design: impl Fn() -> M + 'static) -> Self
    where
        M: Model + Send + Sync + 'static,
        M::State: Hash + Clone + std::fmt::Debug + PartialEq + Send + Sync,
        M::Action: Clone + std::fmt::Debug + PartialEq,
    {
        Self { name, variants: Vec::new() }.variant("", None, design)
    }

    /// The design in another world, in which every property must hold too.
    pub(crate) fn design<M>(self, world: &'static str, model: impl Fn() -> M + 'static) -> Self
    where
        M: Model + Send + Sync + 'static,
        M::State: Hash + Clone + std::fmt::Debug + PartialEq + Send + Sync,
        M::Action: Clone + std::fmt::Debug + PartialEq,
    {
        self.variant(world, None, model)
    }

    /// The design without one rule: `broken` must have a counterexample.
    pub(crate) fn mutant<M>(
        self,
        mutant: &'static str,
        broken: &'static str,
        model: impl Fn() -> M + 'static,
    ) -> Self
    where
        M: Model + Send + Sync + 'static,
        M::State: Hash + Clone + std::fmt::Debug + PartialEq + Send + Sync,
        M::Action: Clone + std::fmt::Debug + PartialEq,
    {
        self.variant(mutant, Some(broken), model)
    }

    fn variant<M>(
        mut self,
        mutant: &'static str,
        broken: Option<&'static str>,
        model: impl Fn() -> M + 'static,
    ) -> Self
    where
        M: Model + Send + Sync + 'static,
        M::State: Hash + Clone + std::fmt::Debug + PartialEq + Send + Sync,
        M::Action: Clone + std::fmt::Debug + PartialEq,
    {
        let check = Box::new(move || check(model(), broken));
        self.variants.push(Variant { mutant, broken, check });
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Checks all variants; true when each is as expected.
    pub(crate) fn run(&self) -> bool {
        let mut good = true;
        for variant in &self.variants {
            let start = Instant::now();
            let outcome = (variant.check)();
            let names: Vec<&str> = outcome.broken.iter().map(|(name, _)| *name).collect();
            let as_expected = match variant.broken {
                None => names.is_empty() && !outcome.is_cut,
                Some(broken) => names.contains(&broken),
            };
            good &= as_expected;
            let found = if names.is_empty() {
                if outcome.is_cut { "too many states" } else { "holds" }.to_owned()
            } else {
                format!("breaks: {}", names.join(", "))
            };
            let line = Line {
                model: self.name,
                mutant: variant.mutant,
                expected: &variant
                    .broken
                    .map_or("holds".to_owned(), |name| format!("breaks: {name}")),
                found,
                states: outcome.states,
                seconds: start.elapsed().as_secs_f64(),
            };
            println!("{}", serde_json::to_string(&line).expect("a line holds strings and numbers"));
            let wanted = std::env::var_os("JSP_TRACE").is_some();
            for (name, steps) in outcome.broken.iter().filter(|_| wanted || !as_expected) {
                eprintln!("{} [{}] breaks \"{name}\":", self.name, variant.mutant);
                for step in steps {
                    eprintln!("    {step}");
                }
            }
        }
        good
    }
}

/// Looks at all states, or until `broken` has a counterexample.
fn check<M>(model: M, broken: Option<&'static str>) -> Outcome
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Clone + std::fmt::Debug + PartialEq + Send + Sync,
    M::Action: Clone + std::fmt::Debug + PartialEq,
{
    let checker = model.checker().threads(2).target_state_count(STEPS_MAX);
    let checker = match broken {
        Some(name) => checker.finish_when(HasDiscoveries::AllOf([name].into())),
        None => checker,
    };
    let checker = checker.spawn_bfs().join();
    let mut broken: Vec<(&'static str, Vec<String>)> = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| {
            (name, path.into_actions().iter().map(|action| format!("{action:?}")).collect())
        })
        .collect();
    broken.sort();
    let is_cut = checker.state_count() >= STEPS_MAX;
    Outcome { broken, states: checker.unique_state_count(), is_cut }
}
