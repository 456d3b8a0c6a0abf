//! One Mamba2 block over a micro-batch, forward and backward.
//!
//! Tokens lie sequence by sequence: token `s·steps + t`. A block keeps what its
//! backward pass needs in `Saved` and carries its recurrent state in [`Carry`].

use crate::gemm::{Gemm, padded};
use crate::math::{dot, exp, sigmoid, softplus};
use crate::params::{BlockTensors, Sizes, TAPS};
use crate::scan::{self, Head, HeadGradient, STATE};
use multiversion::multiversion;
use std::ops::Range;

const EPSILON: f32 = 1e-5;

/// How many sequences of how many steps a micro-batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences side by side.
    pub sequences: usize,
    /// Frames each.
    pub steps: usize,
}

impl Shape {
    /// Tokens in all.
    pub fn tokens(&self) -> usize {
        self.sequences * self.steps
    }
}

/// Recurrent state of one block for the sequences of a micro-batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Carry {
    /// `[sequence][3][conv]`: the convolution's last inputs, oldest first.
    pub conv: Vec<f32>,
    /// `[sequence][head][n][p]`.
    pub state: Vec<f32>,
}

impl Carry {
    /// The state at a match's start.
    pub fn zero(sizes: &Sizes, sequences: usize) -> Self {
        Self {
            conv: vec![0.0; sequences * (TAPS - 1) * sizes.conv()],
            state: vec![0.0; sequences * sizes.heads() * STATE],
        }
    }

    /// Zeroes one sequence of `sequences`.
    pub fn reset(&mut self, sequence: usize, sequences: usize) {
        let (c, s) = (self.conv.len() / sequences, self.state.len() / sequences);
        self.conv[sequence * c..(sequence + 1) * c].fill(0.0);
        self.state[sequence * s..(sequence + 1) * s].fill(0.0);
    }
}

/// Values of the forward pass that the backward pass reads.
#[derive(Default)]
pub(crate) struct Saved {
    start: Vec<f32>,
    start_conv: Vec<f32>,
    normed: Vec<f32>,
    scale: Vec<f32>,
    projected: Vec<f32>,
    pre: Vec<f32>,
    u: Vec<f32>,
    dt: Vec<f32>,
    a: Vec<f32>,
    y: Vec<f32>,
}

/// Buffers that one thread reuses for every block.
#[derive(Default)]
pub(crate) struct Scratch {
    wide: Vec<f32>,
    scale: Vec<f32>,
    narrow: Vec<f32>,
    inner: Vec<f32>,
    inner2: Vec<f32>,
    du: Vec<f32>,
    ddt: Vec<f32>,
    dprojected: Vec<f32>,
    trajectory: Vec<f32>,
    taps: Vec<f32>,
    dtaps: Vec<f32>,
}

fn sized(v: &mut Vec<f32>, n: usize) -> &mut Vec<f32> {
    v.resize(n, 0.0);
    v
}

/// x̂ = x / rms(x), with the factor of each row kept.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub(crate) fn normalize(x: &[f32], width: usize, normed: &mut [f32], scale: &mut [f32]) {
    for ((x, out), scale) in x
        .chunks_exact(width)
        .zip(normed.chunks_exact_mut(width))
        .zip(scale)
    {
        *scale = 1.0 / (dot(x, x) / width as f32 + EPSILON).sqrt();
        for (out, x) in out.iter_mut().zip(x) {
            *out = x * *scale;
        }
    }
}

/// Each row times a vector.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub(crate) fn weigh(x: &[f32], w: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks_exact(w.len()).zip(out.chunks_exact_mut(w.len())) {
        for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
            *out = x * w;
        }
    }
}

/// Back through `normalize` and `weigh`: `dy` is the gradient of `x̂·w`; `dx` is
/// added to, or set where `add` is false.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub(crate) fn normalize_backward(
    (normed, scale): (&[f32], &[f32]),
    w: &[f32],
    dy: &mut [f32],
    dw: &mut [f32],
    dx: &mut [f32],
) {
    let width = w.len();
    let rows = normed
        .chunks_exact(width)
        .zip(dy.chunks_exact_mut(width))
        .zip(dx.chunks_exact_mut(width))
        .zip(scale);
    for (((normed, dy), dx), scale) in rows {
        for i in 0..width {
            dw[i] = dy[i].mul_add(normed[i], dw[i]);
            dy[i] *= w[i];
        }
        let mean = dot(dy, normed) / width as f32;
        for i in 0..width {
            dx[i] = scale.mul_add(dy[i] - normed[i] * mean, dx[i]);
        }
    }
}

/// The taps by tap, then channel: vectors run over channels. `back` undoes it.
fn by_tap(taps: &[f32], out: &mut Vec<f32>, back: bool) {
    let conv = taps.len() / TAPS;
    sized(out, taps.len());
    for c in 0..conv {
        for k in 0..TAPS {
            let (channel_first, tap_first) = (c * TAPS + k, k * conv + c);
            if back {
                out[channel_first] = taps[tap_first]
            } else {
                out[tap_first] = taps[channel_first]
            }
        }
    }
}

/// Causal convolution and SiLU over one sequence. `projected` is `[t][stride]`, its
/// convolved channels from `offset`; `taps` `[tap][channel]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
fn convolve(
    (projected, stride, offset): (&[f32], usize, usize),
    taps: &[f32],
    bias: &[f32],
    history: &mut [f32],
    (pre, u): (&mut [f32], &mut [f32]),
) {
    let conv = bias.len();
    let (tap0, rest) = taps.split_at(conv);
    let (tap1, rest) = rest.split_at(conv);
    let (tap2, tap3) = rest.split_at(conv);
    for (t, (pre, u)) in pre
        .chunks_exact_mut(conv)
        .zip(u.chunks_exact_mut(conv))
        .enumerate()
    {
        let newest = &projected[t * stride + offset..][..conv];
        let (h0, rest) = history.split_at_mut(conv);
        let (h1, h2) = rest.split_at_mut(conv);
        for c in 0..conv {
            pre[c] = tap0[c].mul_add(
                h0[c],
                tap1[c].mul_add(
                    h1[c],
                    tap2[c].mul_add(h2[c], tap3[c].mul_add(newest[c], bias[c])),
                ),
            );
            h0[c] = h1[c];
            h1[c] = h2[c];
            h2[c] = newest[c];
        }
        for c in 0..conv {
            u[c] = pre[c] * sigmoid(pre[c]);
        }
    }
}

/// Back through SiLU and convolution of one sequence; `du` becomes the gradient of `pre`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
fn convolve_backward(
    (projected, stride, offset): (&[f32], usize, usize),
    (taps, history, pre): (&[f32], &[f32], &[f32]),
    du: &mut [f32],
    (dtaps, dbias): (&mut [f32], &mut [f32]),
    dprojected: &mut [f32],
) {
    let conv = dbias.len();
    let steps = pre.len() / conv;
    for (du, pre) in du.iter_mut().zip(pre) {
        let s = sigmoid(*pre);
        *du *= s * (1.0 + pre * (1.0 - s));
    }
    for t in 0..steps {
        let d = &du[t * conv..(t + 1) * conv];
        for (bias, d) in dbias.iter_mut().zip(d) {
            *bias += d;
        }
        for k in 0..TAPS {
            // pre[t] reads the input of step t + k - 3 with tap k.
            let from = t + k;
            let x = if from < TAPS - 1 {
                &history[from * conv..][..conv]
            } else {
                &projected[(from + 1 - TAPS) * stride + offset..][..conv]
            };
            let dtaps = &mut dtaps[k * conv..(k + 1) * conv];
            for c in 0..conv {
                dtaps[c] = d[c].mul_add(x[c], dtaps[c]);
            }
        }
        let out = &mut dprojected[t * stride + offset..][..conv];
        out.fill(0.0);
        for k in 0..TAPS {
            let later = t + TAPS - 1 - k;
            if later < steps {
                let (d, taps) = (&du[later * conv..][..conv], &taps[k * conv..][..conv]);
                for c in 0..conv {
                    out[c] = taps[c].mul_add(d[c], out[c]);
                }
            }
        }
    }
}

/// g = y·silu(z), normalized: what `out_proj` reads before its weight.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
fn gate((projected, stride): (&[f32], usize), y: &[f32], width: usize, gated: &mut [f32]) {
    for ((p, y), g) in projected
        .chunks_exact(stride)
        .zip(y.chunks_exact(width))
        .zip(gated.chunks_exact_mut(width))
    {
        for i in 0..width {
            g[i] = y[i] * p[i] * sigmoid(p[i]);
        }
    }
}

/// Back through the gate: `dg` becomes dy, the first columns of `dprojected` dz.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
fn gate_backward(
    (projected, stride): (&[f32], usize),
    y: &[f32],
    width: usize,
    dg: &mut [f32],
    dprojected: &mut [f32],
) {
    let rows = projected
        .chunks_exact(stride)
        .zip(dprojected.chunks_exact_mut(stride));
    for (((p, dp), y), dg) in rows
        .zip(y.chunks_exact(width))
        .zip(dg.chunks_exact_mut(width))
    {
        for i in 0..width {
            let s = sigmoid(p[i]);
            dp[i] = dg[i] * y[i] * s * (1.0 + p[i] * (1.0 - s));
            dg[i] *= p[i] * s;
        }
    }
}

/// The input of one head's scan over one sequence.
fn head_input<'a>(
    saved: &'a Saved,
    d: f32,
    tokens: &Range<usize>,
    (head, heads, conv): (usize, usize, usize),
) -> Head<'a> {
    Head {
        u: &saved.u[tokens.start * conv..tokens.end * conv],
        dt: &saved.dt[tokens.start * heads..tokens.end * heads],
        a: &saved.a[tokens.start * heads..tokens.end * heads],
        d,
        head,
        heads,
    }
}

/// One block: its sizes, where its tensors lie, and the parameters themselves.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) sizes: &'a Sizes,
    pub(crate) tensors: &'a BlockTensors,
    pub(crate) flat: &'a [f32],
    /// Whether a backward pass follows.
    pub(crate) keep: bool,
}

impl Block<'_> {
    /// Advances `x` `[tokens][d]` through the block; `saved` is filled for
    /// [`Block::backward`] (unless it will not run: `keep` is false), `carry` moves
    /// to the end of the sequences.
    pub(crate) fn forward(
        self,
        shape: Shape,
        x: &mut [f32],
        carry: &mut Carry,
        saved: &mut Saved,
        (scratch, gemm): (&mut Scratch, &mut Gemm),
    ) {
        let Self {
            sizes,
            tensors: t,
            flat,
            keep,
        } = self;
        let (d, inner, conv, heads) = (sizes.d_model, sizes.inner(), sizes.conv(), sizes.heads());
        let (m, rows, steps) = (shape.tokens(), padded(sizes.projected()), shape.steps);
        if keep {
            saved.start.clone_from(&carry.state);
            saved.start_conv.clone_from(&carry.conv);
        }
        normalize(
            x,
            d,
            sized(&mut saved.normed, m * d),
            sized(&mut saved.scale, m),
        );
        weigh(
            &saved.normed,
            t.norm.of(flat),
            sized(&mut scratch.narrow, m * d),
        );
        gemm.forward(
            &scratch.narrow,
            t.in_proj.of(flat),
            sized(&mut saved.projected, m * rows),
            (m, rows, d),
        );
        self.decays(m, saved);
        sized(&mut saved.pre, m * conv);
        sized(&mut saved.u, m * conv);
        by_tap(t.conv_weight.of(flat), &mut scratch.taps, false);
        let mut y = std::mem::take(&mut saved.y);
        sized(&mut y, m * inner);
        for s in 0..shape.sequences {
            let tokens = s * steps..(s + 1) * steps;
            convolve(
                (
                    &saved.projected[tokens.start * rows..tokens.end * rows],
                    rows,
                    inner,
                ),
                &scratch.taps,
                t.conv_bias.of(flat),
                &mut carry.conv[s * (TAPS - 1) * conv..(s + 1) * (TAPS - 1) * conv],
                (
                    &mut saved.pre[tokens.start * conv..tokens.end * conv],
                    &mut saved.u[tokens.start * conv..tokens.end * conv],
                ),
            );
            for head in 0..heads {
                let at = (s * heads + head) * STATE;
                let input = head_input(saved, t.d.of(flat)[head], &tokens, (head, heads, conv));
                scan::forward(
                    input,
                    &mut carry.state[at..at + STATE],
                    &mut y[tokens.start * inner..tokens.end * inner],
                );
            }
        }
        saved.y = y;
        self.gated(m, saved, scratch);
        gemm.forward(
            &scratch.inner,
            t.out_proj.of(flat),
            sized(&mut scratch.narrow, m * d),
            (m, d, inner),
        );
        for (x, add) in x.iter_mut().zip(&scratch.narrow) {
            *x += add;
        }
    }

    /// dt and the decay of every token and head.
    fn decays(self, tokens: usize, saved: &mut Saved) {
        let Self {
            sizes,
            tensors: t,
            flat,
            ..
        } = self;
        let (heads, rows) = (sizes.heads(), padded(sizes.projected()));
        let (dt_bias, a_log) = (t.dt_bias.of(flat), t.a_log.of(flat));
        sized(&mut saved.dt, tokens * heads);
        sized(&mut saved.a, tokens * heads);
        for token in 0..tokens {
            let raw = &saved.projected[token * rows + sizes.inner() + sizes.conv()..][..heads];
            for h in 0..heads {
                let dt = softplus(raw[h] + dt_bias[h]);
                saved.dt[token * heads + h] = dt;
                saved.a[token * heads + h] = exp(-dt * a_log[h].exp());
            }
        }
    }

    /// `scratch.inner` = what `out_proj` reads; `scratch.inner2` and `scratch.scale`
    /// = the same before the norm's weight, and the norm's factors.
    fn gated(self, tokens: usize, saved: &Saved, scratch: &mut Scratch) {
        let (inner, rows) = (self.sizes.inner(), padded(self.sizes.projected()));
        let gated = sized(&mut scratch.inner, tokens * inner);
        gate((&saved.projected, rows), &saved.y, inner, gated);
        normalize(
            gated,
            inner,
            sized(&mut scratch.inner2, tokens * inner),
            sized(&mut scratch.scale, tokens),
        );
        weigh(
            &scratch.inner2,
            self.tensors.gated_norm.of(self.flat),
            gated,
        );
    }

    /// Turns `dx`, the gradient of the block's output, into that of its input, and
    /// adds the parameters' gradients to `grads`. Gradients stop at the sequences' start.
    pub(crate) fn backward(
        self,
        shape: Shape,
        dx: &mut [f32],
        saved: &mut Saved,
        grads: &mut [f32],
        (scratch, gemm): (&mut Scratch, &mut Gemm),
    ) {
        let Self {
            sizes,
            tensors: t,
            flat,
            ..
        } = self;
        let (d, inner, conv, heads) = (sizes.d_model, sizes.inner(), sizes.conv(), sizes.heads());
        let (m, rows, steps) = (shape.tokens(), padded(sizes.projected()), shape.steps);
        self.gated(m, saved, scratch);
        gemm.weight_gradient(dx, &scratch.inner, t.out_proj.of_mut(grads), (m, d, inner));
        let mut dg = std::mem::take(&mut scratch.wide);
        gemm.input_gradient(
            dx,
            t.out_proj.of(flat),
            sized(&mut dg, m * inner),
            (m, d, inner),
        );
        let dy = sized(&mut scratch.inner, m * inner);
        dy.fill(0.0);
        normalize_backward(
            (&scratch.inner2, &scratch.scale),
            t.gated_norm.of(flat),
            &mut dg,
            t.gated_norm.of_mut(grads),
            dy,
        );
        sized(&mut scratch.dprojected, m * rows).fill(0.0);
        gate_backward(
            (&saved.projected, rows),
            &saved.y,
            inner,
            dy,
            &mut scratch.dprojected,
        );
        sized(&mut scratch.du, m * conv).fill(0.0);
        sized(&mut scratch.ddt, m * heads);
        sized(&mut scratch.trajectory, steps * STATE);
        by_tap(t.conv_weight.of(flat), &mut scratch.taps, false);
        sized(&mut scratch.dtaps, conv * TAPS).fill(0.0);
        for s in 0..shape.sequences {
            let tokens = s * steps..(s + 1) * steps;
            for head in 0..heads {
                self.scan_backward(steps, s, head, saved, grads, scratch);
            }
            let at = s * (TAPS - 1) * conv;
            convolve_backward(
                (
                    &saved.projected[tokens.start * rows..tokens.end * rows],
                    rows,
                    inner,
                ),
                (
                    &scratch.taps,
                    &saved.start_conv[at..at + (TAPS - 1) * conv],
                    &saved.pre[tokens.start * conv..tokens.end * conv],
                ),
                &mut scratch.du[tokens.start * conv..tokens.end * conv],
                (&mut scratch.dtaps, t.conv_bias.of_mut(grads)),
                &mut scratch.dprojected[tokens.start * rows..tokens.end * rows],
            );
        }
        by_tap(&scratch.dtaps, &mut scratch.taps, true);
        for (g, v) in t.conv_weight.of_mut(grads).iter_mut().zip(&scratch.taps) {
            *g += v;
        }
        for token in 0..m {
            for (h, bias) in t.dt_bias.of(flat).iter().enumerate() {
                let at = token * rows + inner + conv + h;
                let raw = scratch.ddt[token * heads + h] * sigmoid(saved.projected[at] + bias);
                scratch.dprojected[at] = raw;
                t.dt_bias.of_mut(grads)[h] += raw;
            }
        }
        weigh(
            &saved.normed,
            t.norm.of(flat),
            sized(&mut scratch.narrow, m * d),
        );
        gemm.weight_gradient(
            &scratch.dprojected,
            &scratch.narrow,
            t.in_proj.of_mut(grads),
            (m, rows, d),
        );
        let dn = sized(&mut dg, m * d);
        gemm.input_gradient(&scratch.dprojected, t.in_proj.of(flat), dn, (m, rows, d));
        normalize_backward(
            (&saved.normed, &saved.scale),
            t.norm.of(flat),
            dn,
            t.norm.of_mut(grads),
            dx,
        );
        scratch.wide = dg;
    }

    /// Replays one head's scan for its states, then runs it backward.
    fn scan_backward(
        self,
        steps: usize,
        sequence: usize,
        head: usize,
        saved: &Saved,
        grads: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Self {
            sizes,
            tensors: t,
            flat,
            ..
        } = self;
        let (inner, conv, heads) = (sizes.inner(), sizes.conv(), sizes.heads());
        let tokens = sequence * steps..(sequence + 1) * steps;
        let start = &saved.start[(sequence * heads + head) * STATE..][..STATE];
        let input = head_input(saved, t.d.of(flat)[head], &tokens, (head, heads, conv));
        scan::replay(input, start, &mut scratch.trajectory);
        let (mut da_log, mut dd) = (0.0, 0.0);
        let mut out = HeadGradient {
            du: &mut scratch.du[tokens.start * conv..tokens.end * conv],
            ddt: &mut scratch.ddt[tokens.start * heads..tokens.end * heads],
            da_log: &mut da_log,
            dd: &mut dd,
        };
        let dy = &scratch.inner[tokens.start * inner..tokens.end * inner];
        scan::backward(
            input,
            t.a_log.of(flat)[head].exp(),
            (start, &scratch.trajectory),
            dy,
            &mut out,
        );
        t.a_log.of_mut(grads)[head] += da_log;
        t.d.of_mut(grads)[head] += dd;
    }
}
