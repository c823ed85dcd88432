//! Whether what a pod reserves is left on the node, and how well it would sit there.

use crate::kinds::pod::{PodSpec, ResourceList};
use crate::kinds::quantity::Quantity;

use super::{Machine, Why};

/// A resource is its place in the list of names: these two are scored, and stand first.
pub(super) const SCORED: usize = 2;

/// What a container is taken to use, for scores alone, where it asks for nothing:
/// `DefaultMilliCPURequest` and `DefaultMemoryRequest`.
const TAKEN_TO_USE: [i64; SCORED] = [100, 200 << 20];

/// Names of resources, each a number from then on.
#[derive(Clone, Debug)]
pub(super) struct Resources(Vec<String>);

impl Default for Resources {
    fn default() -> Self {
        Self(vec!["cpu".to_owned(), "memory".to_owned()])
    }
}

impl Resources {
    fn number(&mut self, name: &str) -> usize {
        let known = self.0.iter().position(|known| known == name);
        known.unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        })
    }

    pub(super) fn name(&self, number: usize) -> &str {
        self.0.get(number).map_or("", String::as_str)
    }

    /// The amounts of a list, CPU in thousandths and the others in whole units, as kube-scheduler
    /// counts them.
    pub(super) fn amounts(&mut self, list: &ResourceList) -> Vec<(usize, i64)> {
        let mut amounts: Vec<(usize, i64)> = list
            .iter()
            .map(|(name, quantity)| (self.number(name), amount(name, quantity)))
            .collect();
        amounts.sort_unstable();
        amounts
    }
}

fn amount(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" { quantity.as_millis() } else { quantity.as_units() }
}

/// What a pod reserves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// By resource; nothing that is zero.
    pub(super) requests: Vec<(usize, i64)>,
    /// CPU and memory, where containers that ask for none are taken to use a little.
    pub(super) counted: [i64; SCORED],
}

impl Demand {
    pub(super) fn of(spec: &PodSpec, resources: &mut Resources) -> Self {
        let mut requests = resources.amounts(&spec.requests());
        requests.retain(|(_, amount)| *amount > 0);
        let mut demand = Self { requests, counted: [0; SCORED] };
        for (number, name) in ["cpu", "memory"].into_iter().enumerate() {
            let silent = spec.containers.iter().filter(|container| {
                container.resources.requests.get(name).is_none_or(Quantity::is_zero)
            });
            let silent = i64::try_from(silent.count()).unwrap_or(i64::MAX);
            demand.counted[number] =
                demand.request(number).saturating_add(silent.saturating_mul(TAKEN_TO_USE[number]));
        }
        demand
    }

    fn request(&self, number: usize) -> i64 {
        self.requests.iter().find(|(of, _)| *of == number).map_or(0, |(_, amount)| *amount)
    }
}

pub(super) fn fits(demand: &Demand, machine: &Machine) -> bool {
    machine.pods < machine.pods_max
        && demand.requests.iter().all(|(of, asked)| machine.free(*of) >= *asked)
}

pub(super) fn refuses(demand: &Demand, machine: &Machine, resources: &Resources) -> Vec<Why> {
    let too_many = (machine.pods >= machine.pods_max).then_some(Why::TooManyPods);
    let lacking = demand.requests.iter().filter(|(of, asked)| machine.free(*of) < *asked);
    let lacking = lacking.map(|(of, _)| Why::Resource(resources.name(*of).to_owned()));
    too_many.into_iter().chain(lacking).collect()
}

/// `LeastAllocated`: the mean share of CPU and memory left, 0 to 100.
pub(super) fn least_allocated(demand: &Demand, machine: &Machine) -> i64 {
    let (mut sum, mut count) = (0, 0);
    for number in 0..SCORED {
        let has = machine.has(number);
        if has > 0 {
            let used = machine.counted[number].saturating_add(demand.counted[number]);
            sum += has.saturating_sub(used).max(0).saturating_mul(100) / has;
            count += 1;
        }
    }
    if count == 0 { 0 } else { sum / count }
}

/// `BalancedAllocation`: 100 where CPU and memory are used to the same degree, the less the further
/// apart. A pod that asks for nothing doesn't care.
pub(super) fn balanced(demand: &Demand, machine: &Machine) -> i64 {
    /// Shares are counted in ten-thousandths.
    const WHOLE: i64 = 10_000;
    if demand.requests.is_empty() {
        return 0;
    }
    let share = |number: usize| {
        let has = machine.has(number);
        let used = machine.reserved(number).saturating_add(demand.request(number));
        (has > 0).then(|| (used.saturating_mul(WHOLE) / has).min(WHOLE))
    };
    match (share(0), share(1)) {
        // The standard deviation of two numbers is half their distance.
        (Some(cpu), Some(memory)) => (WHOLE - (cpu - memory).abs() / 2) * 100 / WHOLE,
        _ => 100,
    }
}
