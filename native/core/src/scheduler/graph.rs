//! A directed graph in compressed form: all edges in one vector, sorted by where they begin.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use crate::cores::on_all_cores;

/// From this many edges on, levels are found on all cores; below, one core is done sooner.
pub const PARALLEL_EDGES: usize = 4_000_000;

/// Most edges of a graph.
pub const MAX_EDGES: usize = 1 << 31;

/// Why there is no such graph, or no order of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphError {
    /// An edge names a node that the graph does not have.
    NoSuchNode {
        /// The node.
        node: u32,
        /// How many nodes there are.
        nodes: u32,
    },
    /// There are more edges than `MAX_EDGES`.
    TooManyEdges(usize),
    /// These nodes wait for each other: each for the one before it, the first for the last.
    Cycle(Vec<u32>),
    /// This node is in its own scope, or in more than `MAX_DEPTH`.
    AroundItself(u32),
    /// An edge leaves more than one scope at once, or goes from one into another beside it.
    Sideways {
        /// Where it begins.
        from: u32,
        /// Where it ends.
        to: u32,
    },
}

/// Edges in compressed form: those of node i go to `targets[starts[i]..starts[i + 1]]`.
#[derive(Clone, Debug)]
pub struct Graph {
    starts: Vec<u32>,
    targets: Vec<u32>,
    indegree: Vec<u32>,
}

impl Graph {
    /// Make a graph of `nodes` nodes from edges (from, to), in O(nodes + edges).
    ///
    /// Edges of one node keep their order. An edge that is given twice counts twice.
    ///
    /// # Errors
    /// An edge names a node that is not there, or there are more than `MAX_EDGES` edges.
    pub fn new(nodes: u32, edges: &[(u32, u32)]) -> Result<Self, GraphError> {
        if edges.len() > MAX_EDGES {
            return Err(GraphError::TooManyEdges(edges.len()));
        }
        let size = nodes as usize;
        let mut starts = vec![0_u32; size + 1];
        let mut indegree = vec![0_u32; size];
        for &(from, to) in edges {
            for node in [from, to] {
                if node >= nodes {
                    return Err(GraphError::NoSuchNode { node, nodes });
                }
            }
            starts[from as usize + 1] += 1;
            indegree[to as usize] += 1;
        }
        for index in 0..size {
            starts[index + 1] += starts[index];
        }
        let mut next = starts.clone();
        let mut targets = vec![0_u32; edges.len()];
        for &(from, to) in edges {
            let place = &mut next[from as usize];
            targets[*place as usize] = to;
            *place += 1;
        }
        Ok(Self {
            starts,
            targets,
            indegree,
        })
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        u32::try_from(self.indegree.len()).unwrap_or(u32::MAX)
    }

    /// How many edges there are.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.targets.len()
    }

    /// The nodes that wait for this one.
    #[must_use]
    pub fn successors(&self, node: u32) -> &[u32] {
        let node = node as usize;
        &self.targets[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// For how many edges each node waits.
    #[must_use]
    pub fn indegree(&self) -> &[u32] {
        &self.indegree
    }

    /// Every node after all that it waits for: first come, first served.
    ///
    /// # Errors
    /// There is a cycle.
    pub fn topological_sort(&self) -> Result<Vec<u32>, GraphError> {
        let mut left = self.indegree.clone();
        let mut order = Vec::with_capacity(left.len());
        order.extend((0..self.nodes()).filter(|&node| left[node as usize] == 0));
        let mut at = 0;
        while at < order.len() {
            for &to in self.successors(order[at]) {
                let waits = &mut left[to as usize];
                *waits -= 1;
                if *waits == 0 {
                    order.push(to);
                }
            }
            at += 1;
        }
        if order.len() == left.len() {
            Ok(order)
        } else {
            Err(self.cycle(&left))
        }
    }

    /// The nodes in levels: each waits only for nodes of levels before its own, and for at least
    /// one of the level just before. Within a level nodes go by their number.
    ///
    /// # Errors
    /// There is a cycle.
    pub fn levels(&self) -> Result<Vec<Vec<u32>>, GraphError> {
        if self.edges() >= PARALLEL_EDGES {
            self.levels_on_all_cores()
        } else {
            self.levels_on_one()
        }
    }

    /// `levels`, on one core.
    ///
    /// # Errors
    /// There is a cycle.
    pub fn levels_on_one(&self) -> Result<Vec<Vec<u32>>, GraphError> {
        let mut left = self.indegree.clone();
        let mut levels = Vec::new();
        let mut level: Vec<u32> = (0..self.nodes())
            .filter(|&n| left[n as usize] == 0)
            .collect();
        let mut seen = 0;
        while !level.is_empty() {
            seen += level.len();
            let mut after = Vec::new();
            for &node in &level {
                for &to in self.successors(node) {
                    let waits = &mut left[to as usize];
                    *waits -= 1;
                    if *waits == 0 {
                        after.push(to);
                    }
                }
            }
            after.sort_unstable();
            levels.push(std::mem::replace(&mut level, after));
        }
        if seen == left.len() {
            Ok(levels)
        } else {
            Err(self.cycle(&left))
        }
    }

    /// `levels`, on all cores.
    ///
    /// # Errors
    /// There is a cycle.
    pub fn levels_on_all_cores(&self) -> Result<Vec<Vec<u32>>, GraphError> {
        on_all_cores(|| self.levels_in_parallel())
    }

    fn levels_in_parallel(&self) -> Result<Vec<Vec<u32>>, GraphError> {
        let left: Vec<AtomicU32> = self.indegree.iter().map(|&n| AtomicU32::new(n)).collect();
        let mut levels = Vec::new();
        let mut level: Vec<u32> = (0..self.nodes())
            .into_par_iter()
            .filter(|&n| self.indegree[n as usize] == 0)
            .collect();
        let mut seen = 0;
        while !level.is_empty() {
            seen += level.len();
            let mut after: Vec<u32> = level
                .par_iter()
                .flat_map_iter(|&node| {
                    // whoever takes the last edge away hands the node on; the end of the level
                    // orders everything else
                    let last = |&to: &u32| left[to as usize].fetch_sub(1, Ordering::Relaxed) == 1;
                    self.successors(node).iter().copied().filter(last)
                })
                .collect();
            after.par_sort_unstable();
            levels.push(std::mem::replace(&mut level, after));
        }
        if seen == left.len() {
            return Ok(levels);
        }
        let left: Vec<u32> = left.into_iter().map(AtomicU32::into_inner).collect();
        Err(self.cycle(&left))
    }

    /// One cycle among the nodes that still wait.
    fn cycle(&self, left: &[u32]) -> GraphError {
        // each node that waits is waited for by one that waits: go back until one comes again
        let mut before = vec![u32::MAX; left.len()];
        let waits = |node: u32| left[node as usize] > 0;
        for node in (0..self.nodes()).filter(|&node| waits(node)) {
            for &to in self.successors(node).iter().filter(|&&to| waits(to)) {
                before[to as usize] = node;
            }
        }
        let mut at = (0..self.nodes())
            .find(|&node| waits(node))
            .unwrap_or_default();
        for _ in 0..left.len() {
            at = before[at as usize];
        }
        let (first, mut cycle) = (at, vec![at]);
        at = before[at as usize];
        while at != first {
            cycle.push(at);
            at = before[at as usize];
        }
        cycle.reverse();
        // begin with the smallest, so that the same cycle is always told in the same way
        let least = (0..cycle.len())
            .min_by_key(|&index| cycle[index])
            .unwrap_or(0);
        cycle.rotate_left(least);
        GraphError::Cycle(cycle)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_diamond_is_sorted() {
        let graph = Graph::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]).unwrap();
        assert_eq!(graph.topological_sort().unwrap(), [0, 1, 2, 3]);
        assert_eq!(graph.levels().unwrap(), [vec![0], vec![1, 2], vec![3]]);
    }

    #[test]
    fn nothing_is_sorted() {
        let graph = Graph::new(0, &[]).unwrap();
        assert!(graph.topological_sort().unwrap().is_empty());
        assert!(graph.levels_on_all_cores().unwrap().is_empty());
    }

    #[test]
    fn a_cycle_is_named_in_its_order() {
        let graph = Graph::new(6, &[(0, 3), (3, 2), (2, 4), (4, 3), (4, 5)]).unwrap();
        let cycle = Err(GraphError::Cycle(vec![2, 4, 3]));
        assert_eq!(graph.topological_sort(), cycle);
        assert_eq!(
            graph.levels_on_one(),
            cycle.clone().map(|_: Vec<u32>| vec![])
        );
        assert_eq!(graph.levels_on_all_cores(), cycle.map(|_: Vec<u32>| vec![]));
        let own = Graph::new(1, &[(0, 0)]).unwrap();
        assert_eq!(own.topological_sort(), Err(GraphError::Cycle(vec![0])));
    }

    #[test]
    fn an_edge_to_nowhere_is_refused() {
        let error = Graph::new(2, &[(0, 2)]).unwrap_err();
        assert_eq!(error, GraphError::NoSuchNode { node: 2, nodes: 2 });
    }

    fn graphs() -> impl Strategy<Value = (u32, Vec<(u32, u32)>)> {
        (1_u32..40).prop_flat_map(|nodes| {
            (
                Just(nodes),
                prop::collection::vec((0..nodes, 0..nodes), 0..120),
            )
        })
    }

    proptest! {
        #[test]
        fn an_order_puts_nothing_before_what_it_waits_for((nodes, edges) in graphs()) {
            let graph = Graph::new(nodes, &edges).unwrap();
            match graph.topological_sort() {
                Ok(order) => {
                    let mut place = vec![usize::MAX; nodes as usize];
                    for (at, &node) in order.iter().enumerate() {
                        place[node as usize] = at;
                    }
                    prop_assert_eq!(order.len(), nodes as usize);
                    prop_assert!(edges.iter().all(|&(a, b)| place[a as usize] < place[b as usize]));
                    let levels = graph.levels_on_one().unwrap();
                    prop_assert_eq!(&levels, &graph.levels_on_all_cores().unwrap());
                    let mut flat: Vec<u32> = levels.concat();
                    flat.sort_unstable();
                    prop_assert_eq!(flat, (0..nodes).collect::<Vec<_>>());
                }
                Err(GraphError::Cycle(cycle)) => {
                    let next = cycle.iter().skip(1).chain(cycle.first());
                    for (&from, &to) in cycle.iter().zip(next) {
                        prop_assert!(edges.contains(&(from, to)));
                    }
                    prop_assert!(graph.levels_on_one().is_err());
                    prop_assert!(graph.levels_on_all_cores().is_err());
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
