//! Which directory entries are durable, and what may become of the rest when the power fails.
//!
//! Every change of a name is one transaction: a rename survives whole or not at all. Unsynced changes survive in any
//! combination, except that a change needs the earlier ones of the same name: of `create a.tmp` and `rename a.tmp a`
//! the second never survives without the first.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use crate::random::Random;

/// A file or directory, apart from its names.
pub(super) type Node = usize;

/// The log directory itself.
pub(super) const ROOT: Node = 0;

type Entries = BTreeMap<(Node, OsString), Node>;

/// One change: what each of these names in these directories stands for from now on.
#[derive(Debug, Clone)]
struct Change(Vec<(Node, OsString, Option<Node>)>);

impl Change {
    fn touches(&self, dir: Node) -> bool {
        self.0.iter().any(|part| part.0 == dir)
    }

    fn needs(&self, earlier: &Change) -> bool {
        let same_name =
            self.0.iter().any(|(dir, name, _)| earlier.0.iter().any(|part| part.0 == *dir && part.1 == *name));
        let across = self.0.iter().any(|part| part.0 != self.0[0].0);
        let into_new = across && earlier.0.iter().any(|(_, _, node)| node.is_some_and(|node| self.touches(node)));
        same_name || into_new
    }

    fn apply(&self, entries: &mut Entries) {
        for (dir, name, node) in &self.0 {
            match node {
                Some(node) => entries.insert((*dir, name.clone()), *node),
                None => entries.remove(&(*dir, name.clone())),
            };
        }
    }
}

/// Which unsynced changes of names outlive a power failure.
#[derive(Debug)]
pub(super) enum Survivors<'r> {
    None,
    All,
    Random(&'r mut Random),
}

/// All directories: their entries now, the durable ones, and the changes between.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    now: Entries,
    durable: Entries,
    unsynced: Vec<Change>,
}

impl Names {
    pub(super) fn get(&self, dir: Node, name: &OsStr) -> Option<Node> {
        self.now.get(&(dir, name.to_os_string())).copied()
    }

    /// The entries of a directory, sorted by name.
    pub(super) fn list(&self, dir: Node) -> impl Iterator<Item = (&OsString, Node)> {
        let from = (dir, OsString::new())..(dir + 1, OsString::new());
        self.now.range(from).map(|((_, name), node)| (name, *node))
    }

    pub(super) fn set(&mut self, dir: Node, name: &OsStr, node: Option<Node>) {
        self.change(Change(vec![(dir, name.to_os_string(), node)]));
    }

    pub(super) fn rename(&mut self, from: (Node, &OsStr), to: (Node, &OsStr), node: Node) {
        self.change(Change(vec![(from.0, from.1.to_os_string(), None), (to.0, to.1.to_os_string(), Some(node))]));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Makes the changes in a directory durable, and those that they need.
    pub(super) fn sync(&mut self, dir: Node) {
        let mut chosen = vec![false; self.unsynced.len()];
        for i in (0..chosen.len()).rev() {
            let needed = || (i + 1..chosen.len()).any(|j| chosen[j] && self.unsynced[j].needs(&self.unsynced[i]));
            chosen[i] = self.unsynced[i].touches(dir) || needed();
        }
        let mut chosen = chosen.into_iter();
        let durable = &mut self.durable;
        self.unsynced.retain(|change| {
            let chosen = chosen.next().unwrap_or(false);
            if chosen {
                change.apply(durable);
            }
            !chosen
        });
    }

    /// Makes every change durable.
    pub(super) fn sync_all(&mut self) {
        self.durable = self.now.clone();
        self.unsynced.clear();
    }

    /// The names found after a power failure. Those in a lost directory are there, but nothing leads to them.
    pub(super) fn image(&self, survivors: Survivors<'_>) -> Self {
        let mut entries = self.durable.clone();
        for (change, kept) in self.unsynced.iter().zip(self.choose(survivors)) {
            if kept {
                change.apply(&mut entries);
            }
        }
        Self { now: entries.clone(), durable: entries, unsynced: Vec::new() }
    }

    fn choose(&self, survivors: Survivors<'_>) -> Vec<bool> {
        let all = self.unsynced.len();
        let rng = match survivors {
            Survivors::None => return vec![false; all],
            Survivors::All => return vec![true; all],
            Survivors::Random(rng) => rng,
        };
        match rng.below(4) {
            0 => vec![true; all],
            1 => {
                let prefix = rng.below(all + 1);
                (0..all).map(|i| i < prefix).collect()
            }
            _ => {
                let mut kept: Vec<bool> = Vec::with_capacity(all);
                for i in 0..all {
                    let possible = (0..i).all(|j| kept[j] || !self.unsynced[i].needs(&self.unsynced[j]));
                    kept.push(rng.coin() && possible);
                }
                kept
            }
        }
    }
}
