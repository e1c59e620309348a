use proptest::prelude::*;

use super::*;

fn flat(nodes: u32, edges: &[(u32, u32)]) -> Scheduler {
    Scheduler::new(
        Arc::new(Graph::new(nodes, edges).unwrap()),
        Vec::new(),
        1000,
    )
    .unwrap()
}

fn ready(scheduler: &mut Scheduler, epoch: u64) -> Vec<u32> {
    let mut found = Vec::new();
    scheduler.ready(epoch, usize::MAX, &mut found).unwrap();
    found
}

#[test]
fn a_diamond_runs_level_by_level() {
    let mut scheduler = flat(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
    scheduler.add_epoch(7).unwrap();
    assert_eq!(ready(&mut scheduler, 7), [0]);
    assert!(ready(&mut scheduler, 7).is_empty());
    scheduler.done(7, &[0]).unwrap();
    assert_eq!(ready(&mut scheduler, 7), [1, 2]);
    scheduler.done(7, &[2]).unwrap();
    assert!(ready(&mut scheduler, 7).is_empty());
    scheduler.done(7, &[1]).unwrap();
    assert_eq!(ready(&mut scheduler, 7), [3]);
    assert!(scheduler.is_active(7));
    scheduler.done(7, &[3]).unwrap();
    assert!(!scheduler.is_active(7));
    assert!(scheduler.end_epoch(7));
    assert!(!scheduler.end_epoch(7));
}

#[test]
fn epochs_do_not_touch_each_other() {
    let mut scheduler = flat(2, &[(0, 1)]);
    scheduler.add_epoch(0).unwrap();
    scheduler.add_epoch(1).unwrap();
    assert_eq!(scheduler.add_epoch(1), Err(SchedulerError::EpochThere(1)));
    let reserved = Err(SchedulerError::Reserved(FIRST_SUBEPOCH));
    assert_eq!(scheduler.add_epoch(FIRST_SUBEPOCH), reserved);
    let reserved = Err(SchedulerError::Reserved(FIRST_SUBEPOCH));
    assert_eq!(scheduler.add_epoch(FIRST_SUBEPOCH), reserved);
    assert_eq!(ready(&mut scheduler, 1), [0]);
    scheduler.done(1, &[0]).unwrap();
    assert_eq!(ready(&mut scheduler, 1), [1]);
    assert_eq!(ready(&mut scheduler, 0), [0]);
}

#[test]
fn what_was_not_handed_out_cannot_end() {
    let mut scheduler = flat(2, &[(0, 1)]);
    scheduler.add_epoch(0).unwrap();
    let refused = |node| Err(SchedulerError::NotRunning { epoch: 0, node });
    assert_eq!(scheduler.done(0, &[0]), refused(0));
    assert_eq!(ready(&mut scheduler, 0), [0]);
    assert_eq!(scheduler.done(0, &[1]), refused(1));
    assert_eq!(scheduler.done(0, &[9]), refused(9));
    scheduler.done(0, &[0]).unwrap();
    assert_eq!(scheduler.done(0, &[0]), refused(0));
    assert_eq!(scheduler.done(5, &[0]), Err(SchedulerError::NoEpoch(5)));
}

#[test]
fn what_waits_for_a_node_without_a_signal_never_runs() {
    let mut scheduler = flat(5, &[(0, 1), (1, 2), (0, 3), (3, 4), (2, 4)]);
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[0]).unwrap();
    assert_eq!(ready(&mut scheduler, 0), [1, 3]);
    scheduler.expire(0, &[1]).unwrap();
    scheduler.done(0, &[3]).unwrap();
    assert!(ready(&mut scheduler, 0).is_empty());
    assert!(!scheduler.is_active(0));
    assert!(scheduler.expire(0, &[2]).is_err());
}

proptest! {
    /// Against a model: a node is ready when all before it are done, and is handed out once.
    #[test]
    fn every_node_is_handed_out_once_after_all_that_it_waits_for(
        nodes in 1_u32..30,
        seeds in prop::collection::vec((0_u32..30, 0_u32..30), 0..80),
        steps in prop::collection::vec((0_usize..5, any::<bool>()), 1..200),
    ) {
        let edges: Vec<(u32, u32)> = seeds
            .iter()
            .map(|&(a, b)| (a % nodes, b % nodes))
            .filter(|(a, b)| a != b)
            .map(|(a, b)| (a.min(b), a.max(b)))
            .collect();
        let mut scheduler = flat(nodes, &edges);
        scheduler.add_epoch(0).unwrap();
        let (mut running, mut done, mut lapsed) = (Vec::new(), Vec::new(), Vec::new());
        for (limit, fails) in steps.into_iter().chain([(100, false); 100]) {
            let mut found = Vec::new();
            scheduler.ready(0, limit, &mut found).unwrap();
            prop_assert!(found.len() <= limit);
            for &node in &found {
                prop_assert!(edges.iter().filter(|e| e.1 == node).all(|e| done.contains(&e.0)));
                prop_assert!(!running.contains(&node) && !done.contains(&node));
            }
            running.extend(found);
            if let Some(node) = running.pop() {
                if fails {
                    scheduler.expire(0, &[node]).unwrap();
                    lapsed.push(node);
                } else {
                    scheduler.done(0, &[node]).unwrap();
                    done.push(node);
                }
            }
        }
        prop_assert!(!scheduler.is_active(0));
        for node in 0..nodes {
            let waits_for_none = !edges.iter().any(|e| e.1 == node && !done.contains(&e.0));
            prop_assert_eq!(done.contains(&node) || lapsed.contains(&node), waits_for_none);
        }
    }
}
