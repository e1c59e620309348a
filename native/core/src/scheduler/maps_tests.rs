use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Graph, GraphError, NO_SCOPE};
use super::*;

const NONE: u32 = NO_SCOPE;

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
fn a_map_ends_by_saying_how_many_items_it_has() {
    let mut scheduler = mapped();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[0]).unwrap();
    assert_eq!(ready(&mut scheduler, 0), [1, 5]);
    let refused = Err(SchedulerError::IsMap(1));
    assert_eq!(scheduler.done(0, &[5, 1]), refused);
    scheduler.expand(0, 1, 0).unwrap();
    scheduler.done(0, &[5]).unwrap();
    assert_eq!(ready(&mut scheduler, 0), [3]);
}

#[test]
fn a_map_that_waits_for_its_own_items_is_refused() {
    // 1 runs for each item of 0; 0 waits for it, through 2
    let graph = Arc::new(Graph::new(3, &[(1, 2), (2, 0)]).unwrap());
    let made = Scheduler::new(graph, vec![NONE, 0, NONE], 10);
    let Err(SchedulerError::Graph(GraphError::Cycle(mut nodes))) = made else {
        panic!("{made:?}");
    };
    nodes.sort_unstable();
    assert_eq!(nodes, [0, 1, 2]);
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
fn an_item_never_runs_what_waits_for_a_node_that_lapsed_before_it_began() {
    let mut scheduler = mapped();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[0]).unwrap();
    assert_eq!(ready(&mut scheduler, 0), [1, 5]);
    scheduler.expire(0, &[5]).unwrap();
    scheduler.expand(0, 1, 3).unwrap();
    assert_eq!(within(&mut scheduler, 0), [(0, 3)]);
    assert_eq!(scheduler.in_flight(), 1);
}

#[test]
fn the_end_of_an_item_costs_the_same_however_many_there_are() {
    let items = if cfg!(miri) { 50 } else { 100_000 };
    let graph = Arc::new(Graph::new(3, &[(0, 1), (1, 2)]).unwrap());
    let mut scheduler = Scheduler::new(graph, vec![NONE, 0, NONE], 1 << 20).unwrap();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    let first = scheduler.expand(0, 0, items).unwrap();
    let last = first + u64::from(items) - 1;
    assert_eq!(scheduler.in_flight() as u64, u64::from(items) + 1);
    let mut seen = 0;
    loop {
        let mut found = Vec::new();
        scheduler.ready_within(0, 7, &mut found).unwrap();
        assert!(found.len() <= 7);
        for &(epoch, node) in &found {
            if node == 2 {
                assert_eq!((seen, scheduler.in_flight()), (items, 1));
                return;
            }
            assert_eq!(epoch, first + u64::from(seen));
            scheduler.done(epoch, &[node]).unwrap();
            seen += 1;
        }
        assert!(scheduler.is_active(last) || seen == items);
    }
}

#[test]
fn items_may_end_in_any_order() {
    let mut scheduler = mapped();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[0]).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[5]).unwrap();
    let first = scheduler.expand(0, 1, 4).unwrap();
    assert_eq!(within(&mut scheduler, 0).len(), 4);
    for item in [1, 3, 0, 2] {
        assert!(within(&mut scheduler, 0).is_empty());
        scheduler.done(first + item, &[2]).unwrap();
    }
    assert_eq!(within(&mut scheduler, 0), [(0, 3)]);
}

#[test]
fn an_item_that_is_forgotten_is_not_waited_for() {
    let mut scheduler = mapped();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[0]).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[5]).unwrap();
    let first = scheduler.expand(0, 1, 2).unwrap();
    assert!(scheduler.end_epoch(first));
    assert!(!scheduler.end_epoch(first));
    assert_eq!(within(&mut scheduler, 0), [(first + 1, 2)]);
    scheduler.done(first + 1, &[2]).unwrap();
    assert_eq!(within(&mut scheduler, 0), [(0, 3)]);
}

#[test]
fn an_epoch_begins_again() {
    let mut scheduler = mapped();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    scheduler.done(0, &[0]).unwrap();
    ready(&mut scheduler, 0);
    let first = scheduler.expand(0, 1, 2).unwrap();
    assert_eq!(scheduler.reset(first), Err(SchedulerError::Reserved(first)));
    scheduler.reset(0).unwrap();
    assert_eq!(
        (scheduler.in_flight(), ready(&mut scheduler, 0)),
        (1, vec![0])
    );
    assert_eq!(scheduler.reset(4), Err(SchedulerError::NoEpoch(4)));
}

#[test]
fn more_items_than_a_gather_can_count_are_refused() {
    let mut edges = vec![(0, 1)];
    edges.resize(301, (1, 2));
    let graph = Arc::new(Graph::new(3, &edges).unwrap());
    let mut scheduler = Scheduler::new(graph, vec![NONE, 0, NONE], usize::MAX).unwrap();
    scheduler.add_epoch(0).unwrap();
    ready(&mut scheduler, 0);
    let refused = Err(SchedulerError::TooManyItems(MAX_ITEMS));
    assert_eq!(scheduler.expand(0, 0, MAX_ITEMS), refused);
    assert_eq!(scheduler.in_flight(), 1);
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
    let around_itself = SchedulerError::Graph(GraphError::AroundItself(0));
    assert_eq!(made(vec![0, 0, 0]), Err(around_itself));
    assert_eq!(made(vec![NONE, 0, NONE]), Ok(()));
    let sideways = Arc::new(Graph::new(4, &[(2, 3)]).unwrap());
    let refused = Scheduler::new(sideways, vec![NONE, NONE, 0, 1], 10).map(|_| ());
    let sideways = GraphError::Sideways { from: 2, to: 3 };
    assert_eq!(refused, Err(SchedulerError::Graph(sideways)));
}

/// source 0; outer map 1 around work 2, inner map 3 and gather 5; work 4 in the inner map;
/// outside 6 feeds 4, outside 7 feeds 2; gather 8 waits for 5, end 9 for 8.
const NESTED: [(u32, u32); 11] = [
    (0, 1),
    (1, 2),
    (2, 3),
    (3, 4),
    (4, 5),
    (5, 8),
    (8, 9),
    (0, 6),
    (6, 4),
    (0, 7),
    (7, 2),
];

proptest! {
    /// Whatever ends, lapses, opens or is forgotten, in whatever order: nothing is handed out twice or
    /// before what it waits for has ended, all comes to an end, and no subepoch stays behind.
    #[test]
    fn nested_maps_come_to_an_end(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), 0_u32..4), 1..120)
    ) {
        let graph = Arc::new(Graph::new(10, &NESTED).unwrap());
        let around = vec![NONE, NONE, 1, 1, 3, 1, NONE, NONE, NONE, NONE];
        let mut scheduler = Scheduler::new(graph, around, 10_000).unwrap();
        scheduler.add_epoch(0).unwrap();
        let mut running: Vec<(u64, u32)> = Vec::new();
        let mut seen = HashSet::new();
        let mut lapsed = HashSet::new();
        for (pick, action, items) in steps.into_iter().chain([(0, 255, 2); 400]) {
            let mut found = Vec::new();
            scheduler.ready_within(0, usize::from(action % 5) + 1, &mut found).unwrap();
            for &(epoch, node) in &found {
                prop_assert!(seen.insert((epoch, node)));
                prop_assert!(node != 4 || !lapsed.contains(&6), "4 needs 6");
                prop_assert!(node != 2 || !lapsed.contains(&7), "2 needs 7");
            }
            running.extend(found);
            running.retain(|&(epoch, _)| epoch == 0 || scheduler.is_active(epoch));
            if running.is_empty() {
                continue;
            }
            let (epoch, node) = running.swap_remove(usize::from(pick) % running.len());
            if action < 40 {
                scheduler.expire(epoch, &[node]).unwrap();
                if epoch == 0 {
                    lapsed.insert(node);
                }
            } else if action < 50 && epoch != 0 {
                scheduler.end_epoch(epoch);
            } else if node == 1 || node == 3 {
                scheduler.expand(epoch, node, items).unwrap();
            } else {
                scheduler.done(epoch, &[node]).unwrap();
            }
        }
        prop_assert!(!scheduler.is_active(0));
        prop_assert_eq!(scheduler.in_flight(), 1);
    }
}
