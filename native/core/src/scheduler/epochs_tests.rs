use proptest::prelude::*;

use super::*;

const NONE: u32 = NO_SCOPE;

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

fn within(scheduler: &mut Scheduler, epoch: u64) -> Vec<(u64, u32)> {
    let mut found = Vec::new();
    scheduler
        .ready_within(epoch, usize::MAX, &mut found)
        .unwrap();
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

/// source 0, map 1, work 2 (for each item), gather 3, end 4; 5 comes from outside into the map
fn mapped() -> Scheduler {
    let edges = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 2)];
    let around = vec![NONE, NONE, 1, NONE, NONE, NONE];
    Scheduler::new(Arc::new(Graph::new(6, &edges).unwrap()), around, 100).unwrap()
}

#[test]
fn a_map_opens_subepochs_and_a_gather_waits_for_all() {
    let mut scheduler = mapped();
    scheduler.add_epoch(0).unwrap();
    assert_eq!(ready(&mut scheduler, 0), [0]);
    scheduler.done(0, &[0]).unwrap();
    assert_eq!(ready(&mut scheduler, 0), [1, 5]);
    let first = scheduler.expand(0, 1, 3).unwrap();
    assert!(within(&mut scheduler, 0).is_empty());
    scheduler.done(0, &[5]).unwrap();
    let items = [(first, 2), (first + 1, 2), (first + 2, 2)];
    assert_eq!(within(&mut scheduler, 0), items);
    scheduler.done(first, &[2]).unwrap();
    scheduler.expire(first + 1, &[2]).unwrap();
    assert!(within(&mut scheduler, 0).is_empty());
    assert_eq!(scheduler.in_flight(), 2);
    scheduler.done(first + 2, &[2]).unwrap();
    assert_eq!(scheduler.in_flight(), 1);
    assert_eq!(within(&mut scheduler, 0), [(0, 3)]);
    scheduler.done(0, &[3]).unwrap();
    assert_eq!(within(&mut scheduler, 0), [(0, 4)]);
}

#[test]
fn a_map_of_nothing_is_gathered_at_once() {
    let mut scheduler = mapped();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[0]).unwrap();
    ready(&mut scheduler, 0);
    scheduler.expand(0, 1, 0).unwrap();
    assert_eq!(ready(&mut scheduler, 0), [3]);
}

#[test]
fn a_map_without_a_signal_is_never_gathered() {
    let mut scheduler = mapped();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[0]).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[5]).unwrap();
    scheduler.expire(0, &[1]).unwrap();
    assert!(!scheduler.is_active(0));
}

#[test]
fn maps_nest() {
    // 0 map, 1 map inside, 2 work, 3 gathers 2 (in 0's scope), 4 gathers 3
    let edges = [(0, 1), (1, 2), (2, 3), (3, 4)];
    let graph = Arc::new(Graph::new(5, &edges).unwrap());
    let mut scheduler = Scheduler::new(graph, vec![NONE, 0, 1, 0, NONE], 100).unwrap();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    let first = scheduler.expand(0, 0, 2).unwrap();
    assert_eq!(within(&mut scheduler, 0), [(first, 1), (first + 1, 1)]);
    let left = scheduler.expand(first, 1, 2).unwrap();
    let right = scheduler.expand(first + 1, 1, 1).unwrap();
    let items = [(left, 2), (left + 1, 2), (right, 2)];
    assert_eq!(within(&mut scheduler, 0), items);
    for (epoch, node) in items {
        scheduler.done(epoch, &[node]).unwrap();
    }
    assert_eq!(within(&mut scheduler, 0), [(first, 3), (first + 1, 3)]);
    scheduler.done(first, &[3]).unwrap();
    assert!(within(&mut scheduler, 0).is_empty());
    scheduler.done(first + 1, &[3]).unwrap();
    assert_eq!(within(&mut scheduler, 0), [(0, 4)]);
    assert_eq!(scheduler.in_flight(), 1);
}

#[test]
fn bounds_are_kept() {
    let mut scheduler = mapped();
    for epoch in 0..100 {
        scheduler.add_epoch(epoch).unwrap();
    }
    assert_eq!(
        scheduler.add_epoch(100),
        Err(SchedulerError::TooManyEpochs(100))
    );
    assert_eq!(scheduler.expand(0, 2, 1), Err(SchedulerError::NoMap(2)));
    let too_many = SchedulerError::TooManyItems(MAX_ITEMS + 1);
    assert_eq!(scheduler.expand(0, 1, MAX_ITEMS + 1), Err(too_many));
    let waiting = SchedulerError::NotRunning { epoch: 0, node: 1 };
    assert_eq!(scheduler.expand(0, 1, 1), Err(waiting));
}

#[test]
fn scopes_that_do_not_fit_are_refused() {
    let graph = Arc::new(Graph::new(3, &[(0, 1), (1, 2)]).unwrap());
    let made = |around| Scheduler::new(graph.clone(), around, 10).map(|_| ());
    assert!(made(vec![NONE]).is_err());
    assert!(made(vec![NONE, 9, NONE]).is_err());
    assert!(made(vec![0, 0, 0]).is_err());
    assert_eq!(made(vec![NONE, 0, NONE]), Ok(()));
    let sideways = Arc::new(Graph::new(4, &[(2, 3)]).unwrap());
    assert!(Scheduler::new(sideways, vec![NONE, NONE, 0, 1], 10).is_err());
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
