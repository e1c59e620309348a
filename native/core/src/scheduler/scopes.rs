//! Which nodes run once for an epoch, and which once for each item of a map.

use super::graph::{Graph, GraphError};

/// The scope of nodes outside of every map.
pub const NO_SCOPE: u32 = u32::MAX;

/// How a node's end reaches one that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Both run in the same (sub)epoch.
    Same,
    /// The other runs in subepochs of this one.
    Inwards,
    /// The other gathers this one's subepochs.
    Outwards,
}

/// The maps of a graph: the scope of a node is the map whose items it runs for.
#[derive(Clone, Debug)]
pub struct Scopes {
    /// The map node around each node, or `NO_SCOPE`.
    of: Vec<u32>,
    /// Place of each node among those of its scope.
    pub(super) local: Vec<u32>,
    /// The nodes of each map's scope, by the map's number; the last entry is of no map.
    members: Vec<Vec<u32>>,
    /// For each map: (node outside, node inside) of edges that come into its scope, directly.
    pub(super) incoming: Vec<Vec<(u32, u32)>>,
    /// For each map: nodes outside that wait for one inside, once an edge.
    pub(super) outgoing: Vec<Vec<u32>>,
}

impl Scopes {
    /// Sort the nodes of a graph into scopes.
    ///
    /// # Errors
    /// A scope is no node of the graph, or lies around itself, or an edge leaves more than one map
    /// at once or goes sideways into another map.
    pub fn new(graph: &Graph, of: Vec<u32>) -> Result<Self, GraphError> {
        let nodes = graph.nodes();
        let size = nodes as usize;
        if of.len() != size {
            return Err(GraphError::NoSuchNode {
                node: u32::try_from(of.len()).unwrap_or(u32::MAX),
                nodes,
            });
        }
        if let Some(&map) = of.iter().find(|&&map| map != NO_SCOPE && map >= nodes) {
            return Err(GraphError::NoSuchNode { node: map, nodes });
        }
        let mut made = Self {
            of,
            local: vec![0; size],
            members: vec![Vec::new(); size + 1],
            incoming: vec![Vec::new(); size],
            outgoing: vec![Vec::new(); size],
        };
        for node in 0..nodes {
            made.check_ends(node)?;
            let members = &mut made.members[slot(made.of[node as usize], size)];
            made.local[node as usize] = u32::try_from(members.len()).unwrap_or(u32::MAX);
            members.push(node);
        }
        for from in 0..nodes {
            for &to in graph.successors(from) {
                match made.way(from, to) {
                    Some(Way::Same) => {}
                    Some(Way::Inwards) => {
                        made.incoming[made.of[to as usize] as usize].push((from, to));
                    }
                    Some(Way::Outwards) => made.outgoing[made.of[from as usize] as usize].push(to),
                    None => return Err(GraphError::Cycle(vec![from, to])),
                }
            }
        }
        Ok(made)
    }

    /// The map around a node, or `NO_SCOPE`.
    #[must_use]
    pub fn of(&self, node: u32) -> u32 {
        self.of[node as usize]
    }

    /// Whether there are no maps.
    pub(super) fn flat(&self) -> bool {
        self.members
            .last()
            .is_none_or(|outside| outside.len() == self.of.len())
    }

    /// The nodes that run for each item of a map (`NO_SCOPE`: once an epoch).
    #[must_use]
    pub fn members(&self, map: u32) -> &[u32] {
        &self.members[slot(map, self.of.len())]
    }

    /// How the end of `from` reaches `to`; None if it cannot.
    pub(super) fn way(&self, from: u32, to: u32) -> Option<Way> {
        let (inner, outer) = (self.of(from), self.of(to));
        if inner == outer {
            return Some(Way::Same);
        }
        if inner != NO_SCOPE && self.of(inner) == outer {
            return Some(Way::Outwards);
        }
        let mut around = outer;
        while around != NO_SCOPE {
            around = self.of(around);
            if around == inner {
                return Some(Way::Inwards);
            }
        }
        None
    }

    fn check_ends(&self, node: u32) -> Result<(), GraphError> {
        let (mut at, mut steps) = (self.of(node), 0);
        while at != NO_SCOPE {
            at = self.of(at);
            steps += 1;
            if steps > self.of.len() {
                return Err(GraphError::Cycle(vec![node]));
            }
        }
        Ok(())
    }
}

fn slot(map: u32, size: usize) -> usize {
    if map == NO_SCOPE { size } else { map as usize }
}
