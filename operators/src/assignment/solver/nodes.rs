//! The nodes of one side, by slot.

use std::ops::{Index, IndexMut};

use smallvec::SmallVec;

use super::edges::Edges;
use super::{NONE, OUT};

/// With whom a node is matched, and how often.
pub(super) type Flow = SmallVec<[(u32, i64); 1]>;

/// One side. Indexed by slot, it gives the node.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    /// The duals stand apart from all else of a node, for scans read those of many. `OUT` for a slot that takes no part.
    pub dual: Vec<i64>,
    /// The least each dual may be: the node's term with the sign turned.
    pub floor: Vec<i64>,
    /// The duals from which the keys of lists are taken.
    pub reference: Vec<i64>,
    pub edges: Vec<Edges>,
    pub key: Vec<Box<[u8]>>,
    /// What each slot adds to the sums of its component.
    pub counted: Vec<Counted>,
    /// The slots whose price or flow may differ from what was last reported, each once.
    pub touched: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Node {
    /// 0 for a slot that takes no part.
    pub capacity: i64,
    pub used: i64,
    pub flow: Flow,
    /// How many of its edges lead to nodes that take part.
    pub degree: u32,
    /// What keeps a right price from being lower (a left node), or a left price from being higher (a right node).
    pub support: u32,
    /// Of a right node: the weight of the edge to its support.
    pub support_weight: i64,
    /// The right nodes a left node supports.
    pub supports: SmallVec<[u32; 2]>,
    pub component: u32,
    /// Where it stands among the members of its component.
    pub place: u32,
    /// Whether it is in `touched`, and whether its dual, flow or capacity did change.
    pub is_touched: bool,
    pub is_moved: bool,
    /// Whether its flow did.
    pub is_rematched: bool,
    /// Of a left node: whether it may have a tight edge that no support needs, or is matched for nothing.
    pub is_suspect: bool,
    // Scratch. At rest between uses: all but `via…` and `cursor`, which are set before they are read.
    pub dist: i64,
    pub via: u32,
    pub via_weight: i64,
    pub cursor: u32,
    pub mark: bool,
    pub order: u32,
    pub churn: u32,
}

/// What a node adds to the sums of its component.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub primal: i128,
    pub dual: i128,
    pub edges: u64,
}

impl Counted {
    pub fn add(&mut self, other: &Counted) {
        self.primal += other.primal;
        self.dual += other.dual;
        self.edges += other.edges;
    }

    pub fn subtract(&mut self, other: &Counted) {
        self.primal -= other.primal;
        self.dual -= other.dual;
        self.edges -= other.edges;
    }
}

impl Default for Node {
    fn default() -> Node {
        Node {
            capacity: 0,
            used: 0,
            flow: Flow::new(),
            degree: 0,
            support: NONE,
            support_weight: 0,
            supports: SmallVec::new(),
            component: NONE,
            place: NONE,
            is_touched: false,
            is_moved: false,
            is_rematched: false,
            is_suspect: false,
            dist: i64::MAX,
            via: NONE,
            via_weight: 0,
            cursor: 0,
            mark: false,
            order: NONE,
            churn: 0,
        }
    }
}

impl Node {
    pub fn is_active(&self) -> bool {
        self.capacity > 0
    }

    pub fn has_room(&self) -> bool {
        self.used < self.capacity
    }

    pub fn flow_to(&self, other: u32) -> i64 {
        self.flow.iter().find(|(o, _)| *o == other).map_or(0, |(_, x)| *x)
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, slot: u32) -> &Node {
        &self.nodes[slot as usize]
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, slot: u32) -> &mut Node {
        &mut self.nodes[slot as usize]
    }
}

impl Nodes {
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn get(&self, slot: u32) -> Option<&Node> {
        self.nodes.get(slot as usize)
    }

    pub fn grow(&mut self, slot: u32) {
        let n = slot as usize + 1;
        if self.nodes.len() < n {
            self.nodes.resize_with(n, Node::default);
            self.dual.resize(n, OUT);
            self.floor.resize(n, 0);
            self.reference.resize(n, OUT);
            self.edges.resize_with(n, Edges::default);
            self.key.resize_with(n, Box::default);
            self.counted.resize(n, Counted::default());
        }
    }

    pub fn dual(&self, slot: u32) -> i64 {
        self.dual[slot as usize]
    }

    /// How far the dual of a node is above its floor: what the node is worth.
    pub fn price(&self, slot: u32) -> i64 {
        self.dual[slot as usize] - self.floor[slot as usize]
    }

    pub fn key(&self, slot: u32) -> &[u8] {
        &self.key[slot as usize]
    }

    /// How far the dual of a node is below its reference.
    pub fn below(&self, slot: u32) -> i64 {
        self.reference[slot as usize] - self.dual[slot as usize]
    }

    pub fn edges(&self, slot: u32) -> &Edges {
        &self.edges[slot as usize]
    }

    /// Reads a little of every piece of memory that a node takes.
    pub fn glance(&self, slot: u32) -> i64 {
        let node = &self.nodes[slot as usize];
        let at = slot as usize;
        node.capacity
            ^ i64::from(node.component)
            ^ i64::from(node.churn)
            ^ self.dual[at]
            ^ self.floor[at]
            ^ self.counted[at].edges as i64
            ^ self.edges[at].glance()
    }

    /// Notes that what is reported of a node may differ.
    pub fn touch(&mut self, slot: u32) {
        let node = &mut self.nodes[slot as usize];
        if !node.is_touched {
            node.is_touched = true;
            self.touched.push(slot);
        }
    }

    /// Notes that the dual, the flow or the capacity of a node changed.
    pub fn moved(&mut self, slot: u32) {
        self.nodes[slot as usize].is_moved = true;
        self.touch(slot);
    }

    pub fn add_flow(&mut self, slot: u32, other: u32, amount: i64) {
        let node = &mut self.nodes[slot as usize];
        node.used += amount;
        node.is_rematched = true;
        match node.flow.iter().position(|(o, _)| *o == other) {
            Some(at) => {
                node.flow[at].1 += amount;
                if node.flow[at].1 == 0 {
                    node.flow.swap_remove(at);
                }
            }
            None => node.flow.push((other, amount)),
        }
        self.moved(slot);
    }
}
