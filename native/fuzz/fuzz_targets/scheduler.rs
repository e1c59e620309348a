//! Any graph, any calls in any order: each node is handed out once and only if what it waits for has
//! ended with its signals, what is left comes to its end, and never a panic.
#![no_main]

use std::collections::HashSet;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use noob_cloud_core::scheduler::{FIRST_SUBEPOCH, Graph, NO_SCOPE, Scheduler};

/// Epochs that are no subepochs.
const ROOTS: u64 = 3;

/// What is known of a scheduler from outside.
struct Run {
    scheduler: Scheduler,
    pairs: Vec<(u32, u32)>,
    around: Vec<u32>,
    /// All that was handed out, and of it what has not ended.
    handed: HashSet<(u64, u32)>,
    running: HashSet<(u64, u32)>,
    lapsed: HashSet<(u64, u32)>,
}

impl Run {
    fn hand_out(&mut self, found: Vec<(u64, u32)>) {
        for (epoch, node) in found {
            assert!(self.handed.insert((epoch, node)), "{epoch}, {node}: twice");
            self.running.insert((epoch, node));
            for &(from, to) in &self.pairs {
                if to == node && self.around[from as usize] == self.around[to as usize] {
                    assert!(self.handed.contains(&(epoch, from)), "{node} before {from}");
                    assert!(
                        !self.running.contains(&(epoch, from)),
                        "{node} beside {from}"
                    );
                    assert!(
                        !self.lapsed.contains(&(epoch, from)),
                        "{node} without {from}"
                    );
                }
            }
        }
    }

    /// End a node that runs, or try it with one that does not; return subepochs that were opened.
    fn end(&mut self, epoch: u64, node: u32, items: u32) -> std::ops::Range<u64> {
        let mut opened = 0..0;
        let ended = if self.around.contains(&node) {
            assert!(self.scheduler.done(epoch, &[node]).is_err(), "a map ended");
            let first = self.scheduler.expand(epoch, node, items);
            if let Ok(first) = first {
                opened = first..first + u64::from(items);
            }
            first.is_ok()
        } else {
            let ended = self.scheduler.done(epoch, &[node]);
            let running = self.running.contains(&(epoch, node));
            assert!(ended.is_err() || running, "{node} ended");
            ended.is_ok()
        };
        if ended {
            self.running.remove(&(epoch, node));
        }
        opened
    }

    fn begin_anew(&mut self, epoch: u64) {
        for set in [&mut self.handed, &mut self.running, &mut self.lapsed] {
            set.retain(|&(other, _)| other != epoch);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [nodes, edges, maps, rest @ ..] = data else {
        return;
    };
    let nodes = u32::from(*nodes % 12);
    let (pairs, rest) = rest.split_at((usize::from(*edges) * 2).min(rest.len() / 2 * 2));
    let pairs: Vec<(u32, u32)> = pairs
        .chunks_exact(2)
        .map(|pair| (u32::from(pair[0] % 16), u32::from(pair[1] % 16)))
        .collect();
    let Ok(graph) = Graph::new(nodes, &pairs) else {
        return;
    };
    assert_eq!(
        graph.topological_sort().is_ok(),
        graph.levels_on_one().is_ok()
    );
    let (around, calls) = rest.split_at(usize::from(*maps % 13).min(rest.len()));
    let mut around: Vec<u32> = around
        .iter()
        .map(|&map| if map > 12 { NO_SCOPE } else { map.into() })
        .collect();
    let Ok(scheduler) = Scheduler::new(Arc::new(graph), around.clone(), 50) else {
        return;
    };
    around.resize(nodes as usize, NO_SCOPE);
    let mut run = Run {
        scheduler,
        pairs,
        around,
        handed: HashSet::new(),
        running: HashSet::new(),
        lapsed: HashSet::new(),
    };
    let mut known: Vec<u64> = (0..ROOTS).collect();
    for call in calls.chunks_exact(3) {
        let epoch = known[usize::from(call[1]) % known.len()];
        let node = u32::from(call[2] % 16);
        let mut found = Vec::new();
        match call[0] % 8 {
            0 => {
                if run.scheduler.add_epoch(epoch).is_ok() {
                    run.begin_anew(epoch);
                }
            }
            1 => {
                let limit = usize::from(call[2]);
                let told = run.scheduler.ready_within(epoch, limit, &mut found);
                assert!(told.is_ok() && found.len() <= limit || found.is_empty());
            }
            2 | 3 => known.extend(run.end(epoch, node, u32::from(call[1] % 5))),
            4 => {
                if run.scheduler.expire(epoch, &[node]).is_ok() {
                    run.running.remove(&(epoch, node));
                    run.lapsed.insert((epoch, node));
                }
            }
            5 => {
                let mut nodes = Vec::new();
                let _ = run.scheduler.ready(epoch, 2, &mut nodes);
                found.extend(nodes.into_iter().map(|node| (epoch, node)));
            }
            6 => {
                if run.scheduler.reset(epoch).is_ok() {
                    run.begin_anew(epoch);
                }
            }
            _ => drop(run.scheduler.end_epoch(epoch)),
        }
        run.hand_out(found);
        assert!(run.scheduler.in_flight() <= 50);
    }
    // whatever happened: who goes on gets to the end of all that is in flight
    loop {
        let mut found = Vec::new();
        for epoch in 0..ROOTS {
            let _ = run.scheduler.ready_within(epoch, 1000, &mut found);
        }
        run.hand_out(found);
        let left: Vec<(u64, u32)> = run.running.iter().copied().collect();
        if left.is_empty() {
            break;
        }
        for (epoch, node) in left {
            run.end(epoch, node, 0);
            run.running.remove(&(epoch, node)); // or its epoch has been forgotten, or it lapsed
        }
    }
    for epoch in 0..ROOTS {
        assert!(!run.scheduler.is_active(epoch), "epoch {epoch} never ends");
    }
    let roots = run.scheduler.in_flight() as u64;
    assert!(
        roots <= ROOTS
            && known
                .iter()
                .all(|&epoch| { epoch < FIRST_SUBEPOCH || !run.scheduler.end_epoch(epoch) })
    );
});
