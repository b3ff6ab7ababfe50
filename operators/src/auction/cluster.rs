//! Clusters of like resources: Ward's hierarchical clustering, cut where the asked number is left.
//!
//! Each resource begins as a cluster of its own; the two whose union adds least to the squared distances from the means
//! become one, until enough are (Ward 1963), found by chains of nearest neighbours (Murtagh 1983) in time of the square
//! of their number and memory of the number. Resources stand in the order of their keys and ties go to the first, so
//! the clusters are a function of the table.

/// The cluster of every point, numbered in the order of their first members. Points are features, all of one length.
pub fn ward(points: &[Vec<f64>], clusters: usize) -> Vec<u32> {
    let n = points.len();
    let merges = merges(points);
    // The cheapest unions first; of equals the one found first.
    let mut order: Vec<usize> = (0..merges.len()).collect();
    order.sort_by(|a, b| merges[*a].cost.total_cmp(&merges[*b].cost).then(a.cmp(b)));
    let mut parent: Vec<usize> = (0..n).collect();
    for at in order.into_iter().take(n.saturating_sub(clusters.max(1))) {
        let (a, b) = (root(&mut parent, merges[at].a), root(&mut parent, merges[at].b));
        parent[a.max(b)] = a.min(b);
    }
    let mut number = vec![u32::MAX; n];
    let mut next = 0;
    (0..n)
        .map(|point| {
            let root = root(&mut parent, point);
            if number[root] == u32::MAX {
                number[root] = next;
                next += 1;
            }
            number[root]
        })
        .collect()
}

/// The union of the clusters of two points.
struct Merge {
    a: usize,
    b: usize,
    cost: f64,
}

/// All unions up to one cluster, in the order in which the chains find them.
fn merges(points: &[Vec<f64>]) -> Vec<Merge> {
    let mut centre: Vec<Vec<f64>> = points.to_vec();
    let mut size = vec![1.0f64; points.len()];
    let mut alive: Vec<usize> = (0..points.len()).collect();
    let mut chain: Vec<usize> = Vec::new();
    let mut merges = Vec::new();
    while alive.len() > 1 {
        let top = match chain.last() {
            Some(top) => *top,
            None => {
                chain.push(alive[0]);
                alive[0]
            }
        };
        let before = (chain.len() > 1).then(|| chain[chain.len() - 2]);
        // The nearest; of equals the one before in the chain, so that it ends, then the first.
        let mut nearest: Option<(f64, usize)> = before.map(|b| (cost(&centre, &size, top, b), b));
        for other in alive.iter().copied().filter(|other| *other != top) {
            let cost = cost(&centre, &size, top, other);
            if nearest.is_none_or(|(least, _)| cost < least) {
                nearest = Some((cost, other));
            }
        }
        let (cost, nearest) = nearest.expect("there are two");
        if Some(nearest) != before {
            chain.push(nearest);
            continue;
        }
        chain.truncate(chain.len() - 2);
        let (a, b) = (top.min(nearest), top.max(nearest));
        merges.push(Merge { a, b, cost });
        let sum = size[a] + size[b];
        for d in 0..centre[a].len() {
            centre[a][d] = (size[a] * centre[a][d] + size[b] * centre[b][d]) / sum;
        }
        size[a] = sum;
        alive.retain(|cluster| *cluster != b);
    }
    merges
}

/// What the union of two clusters adds to the squared distances from the means.
fn cost(centre: &[Vec<f64>], size: &[f64], a: usize, b: usize) -> f64 {
    let squared: f64 = centre[a].iter().zip(&centre[b]).map(|(x, y)| (x - y) * (x - y)).sum();
    size[a] * size[b] / (size[a] + size[b]) * squared
}

fn root(parent: &mut [usize], mut point: usize) -> usize {
    while parent[point] != point {
        parent[point] = parent[parent[point]];
        point = parent[point];
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same without chains: always the cheapest union of all.
    fn obvious(points: &[Vec<f64>], clusters: usize) -> Vec<u32> {
        let mut groups: Vec<Vec<usize>> = (0..points.len()).map(|p| vec![p]).collect();
        let mean = |group: &[usize]| -> Vec<f64> {
            (0..points[0].len()).map(|d| group.iter().map(|p| points[*p][d]).sum::<f64>() / group.len() as f64).collect()
        };
        while groups.len() > clusters {
            let mut best = (f64::INFINITY, 0, 0);
            for a in 0..groups.len() {
                for b in a + 1..groups.len() {
                    let (m, n) = (groups[a].len() as f64, groups[b].len() as f64);
                    let squared: f64 =
                        mean(&groups[a]).iter().zip(mean(&groups[b])).map(|(x, y)| (x - y) * (x - y)).sum();
                    let cost = m * n / (m + n) * squared;
                    if cost < best.0 {
                        best = (cost, a, b);
                    }
                }
            }
            let gone = groups.remove(best.2);
            groups[best.1].extend(gone);
        }
        groups.iter_mut().for_each(|g| g.sort_unstable());
        groups.sort();
        let mut out = vec![0; points.len()];
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|p| out[*p] = number as u32);
        }
        out
    }

    #[test]
    fn chains_find_the_cheapest_unions() {
        let mut state = 3u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for round in 0..200 {
            let points: Vec<Vec<f64>> = (0..1 + round % 30).map(|_| vec![draw(), draw(), draw()]).collect();
            for clusters in [1, 2, 5, 40] {
                assert_eq!(ward(&points, clusters), obvious(&points, clusters), "round {round}, {clusters} clusters");
            }
        }
    }

    #[test]
    fn equal_points_are_no_trouble() {
        let points = vec![vec![1.0, 2.0]; 9];
        let found = ward(&points, 4);
        assert_eq!(found, ward(&points, 4));
        assert_eq!(*found.iter().max().unwrap(), 3);
        assert_eq!(ward(&[], 3), Vec::<u32>::new());
    }
}
