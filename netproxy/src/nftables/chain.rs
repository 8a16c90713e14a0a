//! Chains and their rules as data.

use knarr_netproxy_plan::Family;

use super::{expression::Expression, statement::Statement};

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel enters it; nowhere, for a regular chain.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where the kernel enters a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `nat` or `filter`.
    pub kind: &'static str,
    /// The hook.
    pub point: HookPoint,
    /// Lower comes first.
    pub priority: i32,
}

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Packets that arrive.
    Prerouting,
    /// Packets of the host's own.
    Output,
    /// Packets that leave.
    Postrouting,
}

/// A rule; two are equal when their expressions are.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it says; empty when it was read from the kernel.
    pub statements: Vec<Statement>,
    /// What the kernel runs.
    pub expressions: Vec<Expression>,
}

impl Rule {
    /// Compiles a rule.
    #[must_use]
    pub fn new(statements: Vec<Statement>, family: Family) -> Self {
        let mut expressions = Vec::new();
        for statement in &statements {
            statement.compile(family, &mut expressions);
        }
        Self {
            statements,
            expressions,
        }
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.expressions == other.expressions
    }
}

impl Eq for Rule {}
