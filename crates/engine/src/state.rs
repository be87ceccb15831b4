//! Decides what a run does next. Pure: no clock, no I/O, no threads.
//!
//! ```text
//! waiting ──start──> running ──finished──> done
//!    │                  └─────failed─────> failed
//!    └── a step before it failed, or the run was interrupted ──> skipped
//! ```
//!
//! After a failure or an interruption nothing new starts; what runs is asked to
//! stop, and the run ends when the last running step has answered.

use serde::{Deserialize, Serialize};

/// What a step takes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Cores; a need above the limit means all of them.
    pub cores: usize,
    /// Bytes of memory; a need above the limit means the machine for itself.
    pub memory_bytes: u64,
}

/// What all running steps together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Cores.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// A step as the state machine sees it.
#[derive(Debug, Clone)]
pub struct Node {
    /// Indices of the steps that must be done before.
    pub after: Vec<usize>,
    /// What it takes.
    pub need: Need,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not started yet.
    Waiting,
    /// Running now.
    Running,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
    /// Will never start in this run.
    Skipped,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start this step.
    Start(usize),
    /// Ask every running step to stop.
    StopRunning,
    /// The run is over.
    End(Ending),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every step is done.
    Done,
    /// A step failed.
    Failed,
    /// Somebody asked the run to stop.
    Interrupted,
}

/// What the driver reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A running step ended well.
    Finished(usize),
    /// A running step ended badly, or stopped because it was asked to.
    Failed(usize),
    /// Somebody asked the run to stop.
    Interrupt,
}

/// A run in progress.
#[derive(Debug, Clone)]
pub struct RunState {
    nodes: Vec<Node>,
    states: Vec<StepState>,
    limits: Limits,
    interrupted: bool,
}

impl RunState {
    /// A run of which nothing has started. `nodes` must be in a topological order.
    pub fn new(nodes: Vec<Node>, limits: Limits) -> Self {
        let states = vec![StepState::Waiting; nodes.len()];
        Self {
            nodes,
            states,
            limits,
            interrupted: false,
        }
    }

    /// Where each step stands.
    pub fn states(&self) -> &[StepState] {
        &self.states
    }

    /// Takes a message in; [`RunState::next_actions`] says what follows from it.
    pub fn take(&mut self, message: Message) -> Vec<Action> {
        let was_stopping = self.is_stopping();
        match message {
            Message::Finished(step) => self.states[step] = StepState::Done,
            Message::Failed(step) => self.states[step] = StepState::Failed,
            Message::Interrupt => self.interrupted = true,
        }
        if self.is_stopping() && !was_stopping {
            self.skip_waiting();
            let mut actions = vec![Action::StopRunning];
            actions.extend(self.next_actions());
            return actions;
        }
        self.next_actions()
    }

    /// Starts whatever may start now, or ends the run.
    pub fn next_actions(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for step in 0..self.nodes.len() {
            if self.may_start(step) {
                self.states[step] = StepState::Running;
                actions.push(Action::Start(step));
            }
        }
        if !self.states.contains(&StepState::Running) {
            self.skip_waiting();
            actions.push(Action::End(self.ending()));
        }
        actions
    }

    fn may_start(&self, step: usize) -> bool {
        self.states[step] == StepState::Waiting
            && !self.is_stopping()
            && self.nodes[step]
                .after
                .iter()
                .all(|&before| self.states[before] == StepState::Done)
            && self.fits(self.nodes[step].need)
    }

    /// Whether `need` fits beside what runs now. Alone, everything fits.
    fn fits(&self, need: Need) -> bool {
        let running = || {
            self.nodes
                .iter()
                .zip(&self.states)
                .filter(|(_, state)| **state == StepState::Running)
                .map(|(node, _)| node.need)
        };
        if running().next().is_none() {
            return true;
        }
        let cores: usize = running()
            .map(|need| need.cores.min(self.limits.cores))
            .sum();
        let memory = running().fold(0_u64, |sum, need| sum.saturating_add(need.memory_bytes));
        cores + need.cores.min(self.limits.cores) <= self.limits.cores
            && memory.saturating_add(need.memory_bytes) <= self.limits.memory_bytes
    }

    fn is_stopping(&self) -> bool {
        self.interrupted || self.states.contains(&StepState::Failed)
    }

    fn skip_waiting(&mut self) {
        for state in &mut self.states {
            if *state == StepState::Waiting {
                *state = StepState::Skipped;
            }
        }
    }

    fn ending(&self) -> Ending {
        if self.states.iter().all(|state| *state == StepState::Done) {
            Ending::Done
        } else if self.interrupted {
            Ending::Interrupted
        } else {
            Ending::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIGHT: Need = Need {
        cores: 1,
        memory_bytes: 1,
    };
    const LIMITS: Limits = Limits {
        cores: 2,
        memory_bytes: 100,
    };

    fn node(after: &[usize], need: Need) -> Node {
        Node {
            after: after.to_vec(),
            need,
        }
    }

    #[test]
    fn independent_light_steps_start_together() {
        let mut run = RunState::new(vec![node(&[], LIGHT), node(&[], LIGHT)], LIMITS);
        assert_eq!(run.next_actions(), [Action::Start(0), Action::Start(1)]);
    }

    #[test]
    fn a_core_heavy_step_waits_until_the_cores_are_free() {
        let heavy = Need {
            cores: usize::MAX,
            memory_bytes: 1,
        };
        let mut run = RunState::new(vec![node(&[], LIGHT), node(&[], heavy)], LIMITS);
        assert_eq!(run.next_actions(), [Action::Start(0)]);
        assert_eq!(run.take(Message::Finished(0)), [Action::Start(1)]);
    }

    #[test]
    fn a_memory_heavy_step_waits_but_is_never_starved_when_alone() {
        let heavy = Need {
            cores: 1,
            memory_bytes: 1000,
        };
        let mut run = RunState::new(vec![node(&[], LIGHT), node(&[], heavy)], LIMITS);
        assert_eq!(run.next_actions(), [Action::Start(0)]);
        assert_eq!(run.take(Message::Finished(0)), [Action::Start(1)]);
    }

    #[test]
    fn a_failure_stops_what_runs_and_skips_what_waits() {
        let mut run = RunState::new(
            vec![node(&[], LIGHT), node(&[], LIGHT), node(&[0], LIGHT)],
            LIMITS,
        );
        run.next_actions();
        assert_eq!(run.take(Message::Failed(0)), [Action::StopRunning]);
        assert_eq!(run.take(Message::Failed(1)), [Action::End(Ending::Failed)]);
        assert_eq!(run.states()[2], StepState::Skipped);
    }

    #[test]
    fn an_interruption_waits_for_the_last_running_step() {
        let mut run = RunState::new(vec![node(&[], LIGHT), node(&[0], LIGHT)], LIMITS);
        run.next_actions();
        assert_eq!(run.take(Message::Interrupt), [Action::StopRunning]);
        assert_eq!(run.take(Message::Interrupt), []);
        assert_eq!(
            run.take(Message::Finished(0)),
            [Action::End(Ending::Interrupted)]
        );
    }

    proptest! {
        /// Whatever the graph, the order of endings and the failures: limits hold, no
        /// step starts before its inputs are done, and every run ends.
        #[test]
        fn every_run_ends_within_its_limits(
            shapes in prop::collection::vec((any::<u64>(), 1..4_usize, 1..150_u64), 1..12),
            choices in prop::collection::vec((any::<usize>(), any::<u8>()), 64),
        ) {
            let nodes: Vec<Node> = shapes.iter().enumerate().map(|(at, &(bits, cores, memory_bytes))| Node {
                after: (0..at).filter(|before| bits >> before & 1 == 1).collect(),
                need: Need { cores, memory_bytes },
            }).collect();
            let mut run = RunState::new(nodes.clone(), LIMITS);
            let mut running: Vec<usize> = Vec::new();
            let mut actions = run.next_actions();
            for (pick, fate) in choices {
                for action in &actions {
                    match action {
                        Action::Start(step) => {
                            for before in &nodes[*step].after {
                                prop_assert_eq!(run.states()[*before], StepState::Done);
                            }
                            running.push(*step);
                        }
                        Action::StopRunning => {}
                        Action::End(_) => {
                            prop_assert!(running.is_empty());
                            prop_assert!(!run.states().contains(&StepState::Waiting));
                            return Ok(());
                        }
                    }
                }
                let cores: usize = running.iter().map(|&step| nodes[step].need.cores.min(2)).sum();
                prop_assert!(cores <= 2 || running.len() == 1);
                prop_assert!(!running.is_empty());
                let step = running.swap_remove(pick % running.len());
                actions = run.take(if fate < 10 { Message::Failed(step) } else { Message::Finished(step) });
            }
            prop_assert!(false, "the run did not end");
        }
    }
}
