//! Peer graphs: who keeps copies for whom, or is a neighbour in a placement. A regular graph whose second
//! eigenvalue is small mixes fast and has no bottleneck; the best that there can be in the long run are
//! those of Ramanujan (Lubotzky, Phillips and Sarnak, 1988): |λ| ≤ 2√(d−1) for every λ but ±d.
//!
//! Not the tree of worlds, which is no peer graph: a tree has a bottleneck at every edge.

use serde::Serialize;
use thiserror::Error;
use worldline_sandbox::child_seed;

use crate::limits::MAX_PEERS;

/// Random graphs that are begun before a degree is given up.
const ATTEMPTS: u64 = 1000;
/// Turns over the whole matrix after which eigenvalues are exact to the last digits.
const SWEEPS: usize = 40;
/// What eigenvalues may be off by.
const CLOSE: f64 = 1e-9;

/// There is no such graph, or none that can be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GraphError {
    /// Too many peers or too few.
    #[error("{0} peers: from 2 to {MAX_PEERS} make a graph")]
    Peers(usize),
    /// No regular graph has this degree.
    #[error(
        "no graph of {peers} peers has {degree} neighbours each: the degree is below the number of peers, and their product is even"
    )]
    Degree {
        /// Peers.
        peers: usize,
        /// Neighbours of each.
        degree: usize,
    },
    /// A line is no edge.
    #[error("`{0}` is no edge: write two different names in a line, each pair once")]
    Edge(String),
    /// Not every peer has as many neighbours.
    #[error(
        "{name} has {found} neighbours and {other} has {expected}: the test is of regular graphs"
    )]
    Irregular {
        /// A peer.
        name: String,
        /// Its neighbours.
        found: usize,
        /// The first peer.
        other: String,
        /// That one's.
        expected: usize,
    },
}

/// Peers, and which are neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    names: Vec<String>,
    edges: Vec<(usize, usize)>,
}

/// What the eigenvalues of a regular graph say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spectrum {
    /// Peers.
    pub peers: usize,
    /// Neighbours of each.
    pub degree: usize,
    /// Whether every peer reaches every other.
    pub connected: bool,
    /// Whether the peers are two sides without edges within.
    pub bipartite: bool,
    /// The second eigenvalue.
    pub second: f64,
    /// The degree less the second eigenvalue: 0 where the graph falls apart.
    pub gap: f64,
    /// The largest |λ| but for those that every such graph has.
    pub lambda: f64,
    /// 2√(d−1).
    pub bound: f64,
    /// Whether it is connected and the bound holds.
    pub ramanujan: bool,
}

impl Graph {
    /// A random regular graph: free ends are joined at random, and one that gets stuck begins anew
    /// (Steger and Wormald, 1999). The same seed gives the same graph.
    pub fn regular(names: Vec<String>, degree: usize, seed: u64) -> Result<Self, GraphError> {
        let peers = names.len();
        check_peers(peers)?;
        if degree == 0 || degree >= peers || !(peers * degree).is_multiple_of(2) {
            return Err(GraphError::Degree { peers, degree });
        }
        let edges =
            (0..ATTEMPTS).find_map(|attempt| join(peers, degree, child_seed(seed, attempt)));
        let edges = edges.ok_or(GraphError::Degree { peers, degree })?;
        Ok(Self { names, edges })
    }

    /// Reads edges: a line for each, two names in it.
    pub fn read(text: &str) -> Result<Self, GraphError> {
        let (mut names, mut edges) = (Vec::<String>::new(), Vec::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let wrong = || GraphError::Edge(line.trim().into());
            let words: Vec<&str> = line.split_whitespace().collect();
            let [a, b] = words[..] else {
                return Err(wrong());
            };
            let mut at = |name: &str| {
                names.iter().position(|one| one == name).unwrap_or_else(|| {
                    names.push(name.into());
                    names.len() - 1
                })
            };
            let edge = pair(at(a), at(b));
            if edge.0 == edge.1 || edges.contains(&edge) {
                return Err(wrong());
            }
            check_peers(names.len())?;
            edges.push(edge);
        }
        check_peers(names.len())?;
        Ok(Self { names, edges })
    }

    /// The edges, by names.
    pub fn edges(&self) -> impl Iterator<Item = (&str, &str)> {
        let name = |at: usize| self.names[at].as_str();
        self.edges.iter().map(move |&(a, b)| (name(a), name(b)))
    }

    /// Its eigenvalues, and whether it is Ramanujan.
    pub fn spectrum(&self) -> Result<Spectrum, GraphError> {
        let (peers, degree) = (self.names.len(), self.degree()?);
        let values = eigenvalues(self.matrix());
        let d = degree as f64;
        let times = |value: f64| {
            values
                .iter()
                .filter(|one| (*one - value).abs() < CLOSE)
                .count()
        };
        let (connected, bipartite) = (times(d) == 1, times(-d) > 0);
        let second = values.get(1).copied().unwrap_or(d);
        let rest = values.iter().map(|value| value.abs());
        let lambda = rest
            .filter(|size| (size - d).abs() >= CLOSE)
            .fold(0.0, f64::max);
        let bound = 2.0 * (d - 1.0).sqrt();
        Ok(Spectrum {
            peers,
            degree,
            connected,
            bipartite,
            second,
            gap: (d - second).max(0.0),
            lambda,
            bound,
            ramanujan: connected && lambda <= bound + CLOSE,
        })
    }

    fn degree(&self) -> Result<usize, GraphError> {
        let mut degrees = vec![0; self.names.len()];
        for &(a, b) in &self.edges {
            degrees[a] += 1;
            degrees[b] += 1;
        }
        let expected = degrees[0];
        match degrees.iter().position(|found| *found != expected) {
            None => Ok(expected),
            Some(at) => Err(GraphError::Irregular {
                name: self.names[at].clone(),
                found: degrees[at],
                other: self.names[0].clone(),
                expected,
            }),
        }
    }

    fn matrix(&self) -> Vec<Vec<f64>> {
        let peers = self.names.len();
        let mut matrix = vec![vec![0.0; peers]; peers];
        for &(a, b) in &self.edges {
            matrix[a][b] = 1.0;
            matrix[b][a] = 1.0;
        }
        matrix
    }
}

fn check_peers(peers: usize) -> Result<(), GraphError> {
    if (2..=MAX_PEERS).contains(&peers) {
        Ok(())
    } else {
        Err(GraphError::Peers(peers))
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// Joins free ends until none is left; `None` where those that are left are neighbours already.
fn join(peers: usize, degree: usize, seed: u64) -> Option<Vec<(usize, usize)>> {
    let mut free: Vec<usize> = (0..peers * degree).map(|end| end / degree).collect();
    let mut edges = Vec::with_capacity(free.len() / 2);
    let mut draws = 0;
    while !free.is_empty() {
        let fits =
            |edges: &[(usize, usize)], a: usize, b: usize| a != b && !edges.contains(&pair(a, b));
        let open = |(at, a): (usize, &usize)| free[at + 1..].iter().any(|b| fits(&edges, *a, *b));
        if !free.iter().enumerate().any(open) {
            return None;
        }
        let mut draw = |end: usize| {
            draws += 1;
            ((u128::from(child_seed(seed, draws)) * end as u128) >> 64) as usize
        };
        let (one, other) = (draw(free.len()), draw(free.len()));
        let (a, b) = (free[one], free[other]);
        if fits(&edges, a, b) {
            edges.push(pair(a, b));
            free.swap_remove(one.max(other));
            free.swap_remove(one.min(other));
        }
    }
    edges.sort_unstable();
    Some(edges)
}

/// The eigenvalues of a symmetric matrix, the largest first (Jacobi, 1846).
fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let size = a.len();
    for _ in 0..SWEEPS {
        let off: f64 = (0..size)
            .flat_map(|p| (0..p).map(move |q| (p, q)))
            .map(|(p, q)| a[p][q].powi(2))
            .sum();
        if off < CLOSE * CLOSE {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                turn(&mut a, p, q);
            }
        }
    }
    let mut values: Vec<f64> = (0..size).map(|at| a[at][at]).collect();
    values.sort_unstable_by(|one, other| other.total_cmp(one));
    values
}

/// Turns two axes so that their entry becomes zero.
fn turn(a: &mut [Vec<f64>], p: usize, q: usize) {
    let entry = a[p][q];
    if entry == 0.0 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * entry);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for row in a.iter_mut() {
        let (x, y) = (row[p], row[q]);
        (row[p], row[q]) = (cosine * x - sine * y, sine * x + cosine * y);
    }
    let (above, below) = a.split_at_mut(q);
    for (x, y) in above[p].iter_mut().zip(&mut below[0]) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("peer{at}")).collect()
    }

    fn of(edges: impl IntoIterator<Item = (usize, usize)>) -> Spectrum {
        let lines: Vec<String> = edges.into_iter().map(|(a, b)| format!("{a} {b}")).collect();
        Graph::read(&lines.join("\n")).unwrap().spectrum().unwrap()
    }

    /// Petersen's graph has the eigenvalues 3, 1 (five times) and -2 (four times).
    #[test]
    fn the_graph_of_petersen_is_ramanujan() {
        let outer = (0..5).map(|at| (at, (at + 1) % 5));
        let spokes = (0..5).map(|at| (at, at + 5));
        let star = (0..5).map(|at| (at + 5, (at + 2) % 5 + 5));
        let told = of(outer.chain(spokes).chain(star));
        assert!((told.second - 1.0).abs() < 1e-9 && (told.lambda - 2.0).abs() < 1e-9);
        assert!((told.gap - 2.0).abs() < 1e-9);
        assert_eq!(
            (
                told.peers,
                told.degree,
                told.connected,
                told.bipartite,
                told.ramanujan
            ),
            (10, 3, true, false, true)
        );
    }

    /// The second eigenvalue of a prism over a cycle of n is 2cos(2π/n) + 1, near 3 for a long one.
    #[test]
    fn a_long_prism_is_not() {
        let ring = |first: usize| (0..20).map(move |at| (first + at, first + (at + 1) % 20));
        let told = of(ring(0)
            .chain(ring(20))
            .chain((0..20).map(|at| (at, at + 20))));
        let second = 2.0 * (std::f64::consts::TAU / 20.0).cos() + 1.0;
        assert!((told.second - second).abs() < 1e-9, "{told:?}");
        assert!(told.connected && !told.ramanujan);
    }

    #[test]
    fn the_sides_of_a_bipartite_graph_do_not_count_against_it() {
        let told = of((0..3).flat_map(|a| (3..6).map(move |b| (a, b))));
        assert!(
            told.bipartite && told.ramanujan && told.lambda < 1e-9,
            "{told:?}"
        );
    }

    #[test]
    fn a_graph_that_falls_apart_has_no_gap() {
        let four =
            |first: usize| (0..4).flat_map(move |a| (0..a).map(move |b| (first + a, first + b)));
        let told = of(four(0).chain(four(4)));
        assert!(
            !told.connected && !told.ramanujan && told.gap < 1e-9,
            "{told:?}"
        );
    }

    #[test]
    fn random_regular_graphs_are_regular_and_the_same_from_the_same_seed() {
        for (peers, degree) in [(2, 1), (4, 3), (10, 3), (9, 4), (50, 3), (64, 8), (6, 5)] {
            let graph = Graph::regular(names(peers), degree, 1069).unwrap();
            assert_eq!(graph.edges().count(), peers * degree / 2);
            assert_eq!(graph.degree(), Ok(degree));
            assert_eq!(graph, Graph::regular(names(peers), degree, 1069).unwrap());
        }
        assert_ne!(
            Graph::regular(names(50), 3, 1),
            Graph::regular(names(50), 3, 2)
        );
    }

    #[test]
    fn what_is_no_regular_graph_is_refused_in_words() {
        for (peers, degree) in [(5, 3), (4, 4), (4, 0)] {
            assert_eq!(
                Graph::regular(names(peers), degree, 1),
                Err(GraphError::Degree { peers, degree })
            );
        }
        assert_eq!(
            Graph::regular(names(MAX_PEERS + 1), 2, 1),
            Err(GraphError::Peers(MAX_PEERS + 1))
        );
        for wrong in ["a a", "a b\nb a", "a", "a b c"] {
            assert!(
                matches!(Graph::read(wrong), Err(GraphError::Edge(_))),
                "{wrong}"
            );
        }
        assert_eq!(Graph::read("\n"), Err(GraphError::Peers(0)));
        let path = Graph::read("a b\nb c").unwrap().spectrum();
        assert!(matches!(
            path,
            Err(GraphError::Irregular {
                found: 2,
                expected: 1,
                ..
            })
        ));
    }
}
