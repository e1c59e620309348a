//! Any graph, any calls in any order: each node is handed out once, and never a panic.
#![no_main]

use std::collections::HashSet;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use noob_cloud_core::scheduler::{Graph, NO_SCOPE, Scheduler};

fuzz_target!(|data: &[u8]| {
    let [nodes, edges, maps, rest @ ..] = data else {
        return;
    };
    let nodes = u32::from(*nodes % 12);
    let (pairs, rest) = rest.split_at((usize::from(*edges) * 2).min(rest.len() / 2 * 2));
    let pairs: Vec<(u32, u32)> = pairs
        .chunks_exact(2)
        .map(|pair| (pair[0].into(), pair[1].into()))
        .collect();
    let Ok(graph) = Graph::new(nodes, &pairs) else {
        return;
    };
    assert_eq!(
        graph.topological_sort().is_ok(),
        graph.levels_on_one().is_ok()
    );
    let (around, calls) = rest.split_at(usize::from(*maps % 13).min(rest.len()));
    let around = around
        .iter()
        .map(|&map| if map > 12 { NO_SCOPE } else { map.into() })
        .collect();
    let Ok(mut scheduler) = Scheduler::new(Arc::new(graph), around, 50) else {
        return;
    };
    let mut handed = HashSet::new();
    let mut known = vec![0];
    for call in calls.chunks_exact(3) {
        let epoch = known[usize::from(call[1]) % known.len()];
        let node = u32::from(call[2]);
        let mut found = Vec::new();
        match call[0] % 6 {
            0 => {
                let begun = scheduler.add_epoch(epoch);
                assert!(begun.is_err() || handed.iter().all(|&(other, _)| other != epoch));
            }
            1 => {
                if scheduler
                    .ready_within(epoch, call[2].into(), &mut found)
                    .is_ok()
                {
                    assert!(found.len() <= call[2].into());
                }
            }
            2 => drop(scheduler.done(epoch, &[node])),
            3 => drop(scheduler.expire(epoch, &[node])),
            4 => {
                if let Ok(first) = scheduler.expand(epoch, node, u32::from(call[1] % 5)) {
                    known.extend(first..first + u64::from(call[1] % 5));
                }
            }
            _ => {
                if scheduler.end_epoch(epoch) {
                    handed.retain(|&(other, _)| other != epoch);
                }
            }
        }
        for item in found {
            assert!(handed.insert(item), "{item:?} was handed out twice");
        }
        assert!(scheduler.in_flight() <= 50);
    }
});
