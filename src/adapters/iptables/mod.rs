//! The packet filter: rules as values become rules in the kernel.
//!
//! Like a printer with a shredder: what is wanted comes in whole, what differs is written in one
//! `iptables-restore --noflush`, and only sheets with our mark (`WDL-`) are ever shredded. Two
//! machines stand side by side in Linux, nft and legacy; rules in one do not see those in the
//! other, so ours must go where Docker's are. Runs in the network namespace of the process.

mod generation;
mod saved;
mod tools;

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::Mutex;

use self::saved::Saved;
use self::tools::Tools;
pub use self::tools::{Backend, Choice};
use super::conntrack;
use crate::kinds::rules::{CHAIN_PREFIX, RuleSet, Table};
use crate::net::restore;
use crate::ports::Fault;
use crate::ports::filter::{Answer, Call};

/// The packet filter of this network namespace.
#[derive(Debug)]
pub struct Iptables {
    choice: Choice,
    /// Also keeps calls from overlapping: each is written against what the one before left.
    state: Mutex<State>,
}

/// What is remembered between calls. Losing it costs a look, nothing else.
#[derive(Debug, Default)]
struct State {
    /// Which of the two machines is in use; none until something was looked at.
    tools: Option<Tools>,
    /// Rules whose text was not what was wanted, at the last check. Where they read the same after
    /// they were written again, this iptables only prints them in words of its own.
    odd: Option<RuleSet>,
    /// The generation of the kernel's rules (nft only) that was last seen to be as wanted. While it
    /// stands, nobody has touched any rule, and there is nothing to look at.
    intact_at: Option<(u32, Arc<RuleSet>)>,
}

impl Iptables {
    /// Touches nothing yet.
    pub fn new(choice: Choice) -> Self {
        Self { choice, state: Mutex::default() }
    }

    /// Does what is asked.
    pub async fn call(&self, call: Call) -> Result<Answer, Fault> {
        match call {
            Call::Apply { wanted, known } => self.apply(&wanted, known.as_ref()).await,
            Call::Check { wanted } => self.check(&wanted).await.map(Answer::Intact),
            Call::ForgetFlows { flows } => conntrack::forget(flows).await.map(|()| Answer::Done),
            Call::Clear => self.clear().await.map(|()| Answer::Done),
        }
    }

    /// Which of the two machines is in use, once something was applied or checked.
    pub async fn backend(&self) -> Option<Backend> {
        self.state.lock().await.tools.map(|tools| tools.backend())
    }

    /// The rules of ours that are in the kernel now.
    pub async fn seen(&self) -> Result<RuleSet, Fault> {
        let mut state = self.state.lock().await;
        let tools = self.tools(&mut state).await?;
        Ok(look(tools).await?.rules)
    }

    async fn apply(
        &self,
        wanted: &Arc<RuleSet>,
        known: Option<&Arc<RuleSet>>,
    ) -> Result<Answer, Fault> {
        let mut state = self.state.lock().await;
        if let (Some(known), Some(tools)) = (known, state.tools)
            && known.jumps == wanted.jumps
        {
            let Some(text) = restore(known, wanted) else {
                return Ok(Answer::Done);
            };
            match state.change(tools, known, wanted, text).await {
                Ok(()) => return Ok(Answer::Done),
                // Somebody took an unchanged chain away. What is there must be looked at.
                Err(fault) => tracing::info!(%fault, "rules are not as believed, looking"),
            }
        }
        state.tools = None;
        let tools = self.tools(&mut state).await?;
        let saved = look(tools).await?;
        let mut text = restore(&saved.rules, wanted).unwrap_or_default();
        text.push_str(&jumps(&saved, wanted));
        if !text.is_empty() {
            tools.restore(text).await?;
        }
        Ok(Answer::Done)
    }

    async fn check(&self, wanted: &Arc<RuleSet>) -> Result<bool, Fault> {
        let mut state = self.state.lock().await;
        let tools = self.tools(&mut state).await?;
        let now = tools.generation().await;
        if now.is_some() && state.was_intact_at(now, wanted) {
            return Ok(true);
        }
        let intact = state.compare(look(tools).await?, wanted);
        state.intact_at = now.filter(|_| intact).map(|now| (now, wanted.clone()));
        Ok(intact)
    }

    /// Takes everything of ours away, wherever it is.
    async fn clear(&self) -> Result<(), Fault> {
        let mut state = self.state.lock().await;
        let mut faults = Vec::new();
        for tools in tools::installed().await? {
            faults.extend(clear(tools).await.err());
        }
        *state = State::default();
        Fault::all(faults)
    }

    /// The machine in use. Where it is chosen anew, ours are taken out of the other.
    async fn tools(&self, state: &mut State) -> Result<Tools, Fault> {
        if let Some(tools) = state.tools {
            return Ok(tools);
        }
        let tools = tools::choose(self.choice).await?;
        for other in tools::installed().await? {
            if other.backend() != tools.backend() {
                clear(other).await?;
            }
        }
        tracing::debug!(backend = ?tools.backend(), "packet filter chosen");
        state.tools = Some(tools);
        Ok(tools)
    }
}

impl State {
    /// Writes a change. If what was there was seen to be right, and the kernel has since counted our
    /// own transactions only, what is there now is right too.
    async fn change(
        &mut self,
        tools: Tools,
        known: &Arc<RuleSet>,
        wanted: &Arc<RuleSet>,
        text: String,
    ) -> Result<(), Fault> {
        let before = tools.generation().await;
        let was_intact = self.was_intact_at(before, known);
        self.intact_at = None;
        let ours = text.matches("\nCOMMIT\n").count();
        tools.restore(text).await?;
        if let (true, Some(before), Some(after)) = (was_intact, before, tools.generation().await)
            && usize::try_from(after.wrapping_sub(before)) == Ok(ours)
        {
            self.intact_at = Some((after, wanted.clone()));
        }
        Ok(())
    }

    fn was_intact_at(&self, generation: Option<u32>, rules: &Arc<RuleSet>) -> bool {
        self.intact_at.as_ref().is_some_and(|(then, intact)| {
            generation == Some(*then) && (Arc::ptr_eq(intact, rules) || intact == rules)
        })
    }

    fn compare(&mut self, saved: Saved, wanted: &RuleSet) -> bool {
        if !jumps(&saved, wanted).is_empty() || !saved::same_shape(&saved.rules, wanted) {
            return false;
        }
        if saved::same_text(&saved.rules, wanted) {
            self.odd = None;
            return true;
        }
        let only_printed_so = self.odd.as_ref() == Some(&saved.rules);
        self.odd = Some(saved.rules);
        only_printed_so
    }
}

async fn look(tools: Tools) -> Result<Saved, Fault> {
    let mut text = String::new();
    for table in Table::ALL {
        text.push_str(&tools.save(table).await?);
    }
    Ok(saved::read(&text))
}

/// Jumps first, then chains, so that no packet meets half.
async fn clear(tools: Tools) -> Result<(), Fault> {
    if !tools.in_use() {
        return Ok(());
    }
    let saved = look(tools).await?;
    let nothing = RuleSet::default();
    let mut text = jumps(&saved, &nothing);
    text.push_str(&restore(&saved.rules, &nothing).unwrap_or_default());
    if text.is_empty() {
        return Ok(());
    }
    tools.restore(text).await
}

/// The text that puts our jumps first in their built-in chains, each once, and takes away those
/// that are not wanted; empty where they stand right. Taking out and putting in are one
/// transaction: at no time is there none.
fn jumps(saved: &Saved, wanted: &RuleSet) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let mut lines = String::new();
        let empty = Vec::new();
        let built_in = saved.built_in.iter().filter(|((t, _), _)| *t == table);
        let mut chains: Vec<&str> = built_in.map(|((_, chain), _)| chain.as_str()).collect();
        let ours = |chain: &str| -> Vec<&String> {
            let jumps = wanted.jumps.iter().filter(|jump| jump.table == table);
            jumps.filter(|jump| jump.chain == chain).map(|jump| &jump.rule).collect()
        };
        for jump in wanted.jumps.iter().filter(|jump| jump.table == table) {
            if !chains.contains(&jump.chain) {
                chains.push(jump.chain);
            }
        }
        for chain in chains {
            let there = saved.built_in.get(&(table, chain.to_owned())).unwrap_or(&empty);
            let marked: Vec<&String> = there.iter().filter(|rule| is_ours(rule)).collect();
            let wanted_here = ours(chain);
            let first: Vec<&String> = there.iter().take(wanted_here.len()).collect();
            if marked == wanted_here && first == wanted_here {
                continue;
            }
            // Writing to a String cannot fail.
            for rule in marked {
                let _ = writeln!(lines, "-D {chain} {rule}");
            }
            for (at, rule) in wanted_here.iter().enumerate() {
                let _ = writeln!(lines, "-I {chain} {} {rule}", at + 1);
            }
        }
        if !lines.is_empty() {
            let _ = write!(text, "*{table}\n{lines}COMMIT\n");
        }
    }
    text
}

fn is_ours(rule: &str) -> bool {
    rule.split(" -j ")
        .nth(1)
        .or_else(|| rule.strip_prefix("-j "))
        .is_some_and(|target| target.starts_with(CHAIN_PREFIX))
}
