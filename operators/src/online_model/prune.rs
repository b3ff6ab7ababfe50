//! Which blocks of four weights are kept: those of the greatest magnitude, and a few that the gradient asks for.

use super::adam::Adam;
use super::layer::Matrix;
use super::network::Network;

/// Prunes every matrix to a sparsity: blocks of the smallest sum of squares go, and for a share of those kept the blocks
/// with the greatest gradient come in their place, from zero (magnitude pruning, Zhu and Gupta 2017; regrowth by
/// gradient, Evci et al. 2020, "RigL"). Of equal ones the first stays, or comes. At least one block stays.
pub fn prune(network: &mut Network, adam: &mut Adam, gradient: &[f32], sparsity: f64, regrow: f64) {
    let matrices: Vec<Matrix> = network.layout.matrices().copied().collect();
    for matrix in matrices {
        let total = matrix.blocks();
        let keep = (((1.0 - sparsity) * total as f64 + 0.5) as usize).clamp(1, total);
        let squares =
            |values: &[f32], b: usize| -> f32 { values[matrix.block(b)].iter().fold(0.0, |sum, v| sum + v * v) };
        let is_kept = |network: &Network, b: usize| network.kept[matrix.first + b];
        let (mut old, mut out): (Vec<usize>, Vec<usize>) = (0..total).partition(|b| is_kept(network, *b));
        let come = ((regrow * keep as f64) as usize).min(out.len()).min(keep - 1);
        let stay = (keep - come).min(old.len());
        old.sort_by(|a, b| {
            squares(&network.parameters, *b).total_cmp(&squares(&network.parameters, *a)).then(a.cmp(b))
        });
        for b in old.drain(stay..) {
            network.kept[matrix.first + b] = false;
            for at in matrix.block(b) {
                network.parameters[at] = 0.0;
                adam.forget(at);
            }
        }
        out.sort_by(|a, b| squares(gradient, *b).total_cmp(&squares(gradient, *a)).then(a.cmp(b)));
        for b in out.into_iter().take(keep - stay) {
            network.kept[matrix.first + b] = true;
        }
    }
}

/// Sets the gradient of pruned blocks to zero: they do not move, and do not count in the gradient's norm.
pub fn mask(network: &Network, gradient: &mut [f32]) {
    for matrix in network.layout.matrices() {
        for b in (0..matrix.blocks()).filter(|b| !network.kept[matrix.first + b]) {
            gradient[matrix.block(b)].fill(0.0);
        }
    }
}
