//! The network over a running window: one new column an event.
//!
//! Of each block's input only what its taps still reach is kept, and of the last block's output the columns of the window
//! with their sum. The sum is exact (see [`Network::mix`]), so everything here is a function of the newest columns and
//! the parameters, and the same bytes come out when the window is computed anew.

use super::design::Design;
use super::network::Network;

/// The newest columns of something; a power of two of them.
#[derive(Clone, Debug)]
struct Ring {
    data: Vec<f32>,
    lanes: usize,
    mask: usize,
}

impl Ring {
    fn new(columns: usize, lanes: usize) -> Ring {
        let columns = columns.next_power_of_two();
        Ring { data: vec![0.0; columns * lanes], lanes, mask: columns - 1 }
    }

    #[inline]
    fn column(&self, at: usize) -> &[f32] {
        &self.data[(at & self.mask) * self.lanes..][..self.lanes]
    }

    #[inline]
    fn column_mut(&mut self, at: usize) -> &mut [f32] {
        &mut self.data[(at & self.mask) * self.lanes..][..self.lanes]
    }
}

/// What is kept from one event to the next.
#[derive(Clone, Debug)]
pub struct Window {
    len: usize,
    /// The inputs of each block, and last the outputs of the last.
    rings: Vec<Ring>,
    sum: Vec<f64>,
    /// Columns so far, and one window more, so that no place before the first is below 0.
    at: usize,
    tapped: Vec<f32>,
    z: Vec<f32>,
}

impl Window {
    /// Before the first column: all that came before is 0.
    pub fn new(design: &Design) -> Window {
        let mut rings: Vec<Ring> =
            (0..design.blocks).map(|b| Ring::new(design.reach(b) + 1, design.input_lanes(b))).collect();
        rings.push(Ring::new(design.window + 1, design.channels));
        let widest = (0..design.blocks).map(|b| design.input_lanes(b)).max().expect("a block");
        Window {
            len: design.window,
            sum: vec![0.0; design.channels],
            at: design.span(),
            tapped: vec![0.0; widest],
            z: vec![0.0; design.head_inputs()],
            rings,
        }
    }

    /// Forgets every column.
    pub fn clear(&mut self) {
        self.rings.iter_mut().for_each(|r| r.data.fill(0.0));
        self.sum.fill(0.0);
    }

    /// The place of the next input column, to be filled before [`Window::advance`].
    pub fn next(&mut self) -> &mut [f32] {
        let at = self.at;
        self.rings[0].column_mut(at)
    }

    /// Takes in the column that was filled.
    pub fn advance(&mut self, network: &Network) {
        let at = self.at;
        let blocks = self.rings.len() - 1;
        for b in 0..blocks {
            let (before, after) = self.rings.split_at_mut(b + 1);
            let input = &before[b];
            let tapped = &mut self.tapped[..input.lanes];
            network.taps(b, |back| input.column(at - back), tapped);
            network.mix(b, tapped, after[0].column_mut(at));
        }
        let pooled = &self.rings[blocks];
        let (new, old) = (pooled.column(at), pooled.column(at - self.len));
        for ((sum, new), old) in self.sum.iter_mut().zip(new).zip(old) {
            *sum += f64::from(*new) - f64::from(*old);
        }
        self.at += 1;
    }

    /// The logits after the newest column.
    pub fn logits(&mut self, network: &Network, out: &mut [f32]) {
        let share = 1.0 / self.len as f64;
        let (average, newest) = self.z.split_at_mut(self.sum.len());
        for (z, sum) in average.iter_mut().zip(&self.sum) {
            *z = (sum * share) as f32;
        }
        let (newest, inputs) = newest.split_at_mut(self.sum.len());
        newest.copy_from_slice(self.rings[self.rings.len() - 1].column(self.at - 1));
        inputs.copy_from_slice(&self.rings[0].column(self.at - 1)[..inputs.len()]);
        network.logits(&self.z, out);
    }
}
