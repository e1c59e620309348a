//! Which nodes run once for an epoch, and which once for each item of a map.

use super::graph::{Graph, GraphError};

/// The scope of nodes outside of every map.
pub const NO_SCOPE: u32 = u32::MAX;

/// Most maps around a node.
pub const MAX_DEPTH: usize = 64;

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
    /// The map around each node, or `NO_SCOPE`, and its place among the nodes of that scope.
    places: Vec<(u32, u32)>,
    /// The nodes of each map's scope, by the map's number; the last entry is of no map.
    members: Vec<Vec<u32>>,
    /// For each map: (node outside, node inside) of edges that come into its scope, directly.
    pub(super) incoming: Vec<Vec<(u32, u32)>>,
    /// For each map: nodes outside that wait for one inside, once an edge.
    pub(super) outgoing: Vec<Vec<u32>>,
    /// Whether there are maps at all.
    pub(super) any: bool,
}

impl Scopes {
    /// Sort the nodes of a graph into scopes.
    ///
    /// # Errors
    /// A scope is no node of the graph, lies around itself, or is in more than `MAX_DEPTH` others, or an edge leaves more than one map
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
        let any = of.iter().any(|&map| map != NO_SCOPE);
        let mut made = Self {
            any,
            places: of.into_iter().map(|map| (map, 0)).collect(),
            members: vec![Vec::new(); size + 1],
            incoming: vec![Vec::new(); size],
            outgoing: vec![Vec::new(); size],
        };
        for node in 0..nodes {
            made.check_ends(node)?;
            let scope = slot(made.of(node), size);
            let members = &mut made.members[scope];
            made.places[node as usize].1 = u32::try_from(members.len()).unwrap_or(u32::MAX);
            members.push(node);
        }
        for from in 0..nodes {
            for &to in graph.successors(from) {
                match made.way(from, to) {
                    Some(Way::Same) => {}
                    Some(Way::Inwards) => {
                        made.incoming[made.places[to as usize].0 as usize].push((from, to));
                    }
                    Some(Way::Outwards) => {
                        made.outgoing[made.places[from as usize].0 as usize].push(to);
                    }
                    None => return Err(GraphError::Sideways { from, to }),
                }
            }
        }
        Ok(made)
    }

    /// The map around a node, or `NO_SCOPE`.
    #[must_use]
    pub fn of(&self, node: u32) -> u32 {
        self.places[node as usize].0
    }

    /// A node's place among those of a map's scope; None if it is not one of them.
    #[inline]
    pub(super) fn local(&self, map: u32, node: u32) -> Option<u32> {
        let &(of, local) = self.places.get(node as usize)?;
        (of == map).then_some(local)
    }

    /// The nodes that run for each item of a map (`NO_SCOPE`: once an epoch).
    #[must_use]
    pub fn members(&self, map: u32) -> &[u32] {
        &self.members[slot(map, self.places.len())]
    }

    /// Whether nodes run for the items of this one.
    pub(super) fn is_map(&self, node: u32) -> bool {
        self.members
            .get(node as usize)
            .is_some_and(|members| (node as usize) < self.places.len() && !members.is_empty())
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

    /// Refuse a map that waits for what runs for its own items.
    pub(super) fn check_order(&self, graph: &Graph) -> Result<(), GraphError> {
        if !self.any {
            return Ok(());
        }
        let mut edges = Vec::with_capacity(graph.edges() + self.places.len());
        for node in 0..graph.nodes() {
            edges.extend(graph.successors(node).iter().map(|&to| (node, to)));
            edges.extend(self.members[node as usize].iter().map(|&item| (node, item)));
        }
        Graph::new(graph.nodes(), &edges)?.topological_sort()?;
        Ok(())
    }

    fn check_ends(&self, node: u32) -> Result<(), GraphError> {
        let (mut at, mut steps) = (self.of(node), 0);
        while at != NO_SCOPE {
            at = self.of(at);
            steps += 1;
            if steps > MAX_DEPTH {
                return Err(GraphError::AroundItself(node));
            }
        }
        Ok(())
    }
}

fn slot(map: u32, size: usize) -> usize {
    if map == NO_SCOPE { size } else { map as usize }
}
