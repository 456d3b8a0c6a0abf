//! The selective scan of Mamba2 (Dao and Gu, 2024) in its recurrent form, forward
//! and backward, for one sequence and one head of 64 channels:
//! `S ← a·S + (dt·x) ⊗ B`, `y = S·C + D·x`.

use crate::math::lanes_sum;
use crate::params::HEAD_DIM as P;
use multiversion::multiversion;

/// State elements per channel that this code is compiled for.
pub(crate) const N: usize = 16;
/// Elements of one head's state, `[n][p]`.
pub(crate) const STATE: usize = N * P;

type Row = [f32; P];

fn row(values: &[f32]) -> &Row {
    values.try_into().expect("64 channels")
}

fn rows(state: &[f32]) -> &[Row; N] {
    bytemuck::cast_slice::<f32, Row>(state)
        .try_into()
        .expect("16 rows")
}

fn rows_mut(state: &mut [f32]) -> &mut [Row; N] {
    bytemuck::cast_slice_mut::<f32, Row>(state)
        .try_into()
        .expect("16 rows")
}

/// What a head reads: `u` is `[t][conv]` with x, B, C after their convolution;
/// `dt` and `a` are `[t][heads]`.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) u: &'a [f32],
    pub(crate) dt: &'a [f32],
    pub(crate) a: &'a [f32],
    pub(crate) d: f32,
    pub(crate) head: usize,
    pub(crate) heads: usize,
}

impl Head<'_> {
    fn conv(&self) -> usize {
        self.heads * P + 2 * N
    }
    fn steps(&self) -> usize {
        self.u.len() / self.conv()
    }
}

/// Moves a head's state over one step, from `before` or in place, and returns its outputs.
#[inline(always)]
fn advance(input: &Head<'_>, t: usize, before: Option<&[Row; N]>, after: &mut [Row; N]) -> Row {
    let (conv, inner) = (input.conv(), input.heads * P);
    let u = &input.u[t * conv..(t + 1) * conv];
    let x = row(&u[input.head * P..][..P]);
    let (b, c) = (&u[inner..inner + N], &u[inner + N..inner + 2 * N]);
    let (dt, a) = (
        input.dt[t * input.heads + input.head],
        input.a[t * input.heads + input.head],
    );
    let (mut dtx, mut sum) = ([0.0f32; P], [0.0f32; P]);
    for p in 0..P {
        dtx[p] = x[p] * dt;
        sum[p] = x[p] * input.d;
    }
    for n in 0..N {
        for p in 0..P {
            let old = before.map_or(after[n][p], |before| before[n][p]);
            let next = old.mul_add(a, dtx[p] * b[n]);
            after[n][p] = next;
            sum[p] = next.mul_add(c[n], sum[p]);
        }
    }
    sum
}

/// Runs the head over all steps: `state` moves on, `y` `[t][inner]` gets this head's channels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub(crate) fn forward(input: Head<'_>, state: &mut [f32], y: &mut [f32]) {
    let inner = input.heads * P;
    let s = rows_mut(state);
    for t in 0..input.steps() {
        y[t * inner + input.head * P..][..P].copy_from_slice(&advance(&input, t, None, s));
    }
}

/// The state after each step, `[t][n][p]`, from `start` on.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub(crate) fn replay(input: Head<'_>, start: &[f32], trajectory: &mut [f32]) {
    for t in 0..input.steps() {
        let (past, rest) = trajectory.split_at_mut(t * STATE);
        let before = rows(if t == 0 {
            start
        } else {
            &past[(t - 1) * STATE..]
        });
        advance(&input, t, Some(before), rows_mut(&mut rest[..STATE]));
    }
}

/// Gradients that a head adds to.
pub(crate) struct HeadGradient<'a> {
    /// `[t][conv]`: x (set by this head alone), B and C (added up over heads).
    pub(crate) du: &'a mut [f32],
    /// `[t][heads]`: gradient of dt, both as factor of x and inside the decay.
    pub(crate) ddt: &'a mut [f32],
    /// Gradient of `A_log` and of `D` of this head.
    pub(crate) da_log: &'a mut f32,
    /// See `da_log`.
    pub(crate) dd: &'a mut f32,
}

/// The reverse of [`forward`]; `a_rate` is A (positive), `start` the state before
/// the first step, `trajectory` the states that [`replay`] left.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma", "x86_64+avx2+fma"))]
pub(crate) fn backward(
    input: Head<'_>,
    a_rate: f32,
    (start, trajectory): (&[f32], &[f32]),
    dy: &[f32],
    out: &mut HeadGradient<'_>,
) {
    let (conv, inner) = (input.conv(), input.heads * P);
    let mut ds = [[0.0f32; P]; N];
    for t in (0..input.steps()).rev() {
        let u = &input.u[t * conv..(t + 1) * conv];
        let x = row(&u[input.head * P..][..P]);
        let (b, c) = (&u[inner..inner + N], &u[inner + N..inner + 2 * N]);
        let (dt, a) = (
            input.dt[t * input.heads + input.head],
            input.a[t * input.heads + input.head],
        );
        let g = row(&dy[t * inner + input.head * P..][..P]);
        let after = rows(&trajectory[t * STATE..(t + 1) * STATE]);
        let before = rows(if t == 0 {
            start
        } else {
            &trajectory[(t - 1) * STATE..t * STATE]
        });
        let (mut dtx, mut ddtx) = ([0.0f32; P], [0.0f32; P]);
        for p in 0..P {
            dtx[p] = x[p] * dt;
        }
        let mut decay = [0.0f32; 16];
        let (mut db, mut dc) = ([0.0f32; N], [0.0f32; N]);
        for n in 0..N {
            let (mut for_b, mut for_c) = ([0.0f32; 16], [0.0f32; 16]);
            for q in 0..P / 16 {
                for lane in 0..16 {
                    let p = q * 16 + lane;
                    let d = g[p].mul_add(c[n], ds[n][p]);
                    for_c[lane] = after[n][p].mul_add(g[p], for_c[lane]);
                    for_b[lane] = d.mul_add(dtx[p], for_b[lane]);
                    decay[lane] = d.mul_add(before[n][p], decay[lane]);
                    ddtx[p] = d.mul_add(b[n], ddtx[p]);
                    ds[n][p] = d * a;
                }
            }
            db[n] = lanes_sum(for_b);
            dc[n] = lanes_sum(for_c);
        }
        let du = &mut out.du[t * conv..(t + 1) * conv];
        let (mut for_dt, mut for_d) = ([0.0f32; 16], [0.0f32; 16]);
        for q in 0..P / 16 {
            for lane in 0..16 {
                let p = q * 16 + lane;
                du[input.head * P + p] = ddtx[p].mul_add(dt, g[p] * input.d);
                for_dt[lane] = ddtx[p].mul_add(x[p], for_dt[lane]);
                for_d[lane] = g[p].mul_add(x[p], for_d[lane]);
            }
        }
        for n in 0..N {
            du[inner + n] += db[n];
            du[inner + N + n] += dc[n];
        }
        let da = lanes_sum(decay) * a;
        out.ddt[t * input.heads + input.head] = lanes_sum(for_dt) - da * a_rate;
        *out.da_log -= da * dt * a_rate;
        *out.dd += lanes_sum(for_d);
    }
}
