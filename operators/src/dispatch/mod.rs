//! The kernels of dispatch: what a place is worth, who may serve whom, what that is worth, who does, and where to wait.
//!
//! Plain functions and plain data, which know neither records nor the engine: operators wrap them, and the simulated city
//! runs them as they are. One value function, shared by the whole fleet, drives both the matching and the waiting
//! (V1D3: Tang et al., "Value Function is All You Need", 2021, arXiv 2105.08791); the predecessors it is compared with
//! are configurations of the same parts.

pub mod candidates;
pub mod matching;
pub mod offline;
pub mod policy;
pub mod random;
pub mod reposition;
pub mod tiles;
pub mod value;
