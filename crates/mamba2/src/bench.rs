//! Timings of the step on random weights: the speed of a frame does not depend on what
//! the weights say. Beside each stands a plain vector read of the same weights in the
//! same run, the least that any kernel could take.

use crate::sample::{Model, Random, Size, activations};
use crate::{Contiguous, Kernels, Layer, Native, Work, embed, head, layer_step};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Least, median and 99th percentile of repeated runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// No run took less.
    pub least: Duration,
    /// Half of the runs took at most this.
    pub median: Duration,
    /// 99 of 100 runs took at most this.
    pub p99: Duration,
    /// How many runs.
    pub runs: usize,
}

impl Timing {
    /// Sorts the runs' durations; there must be at least one.
    pub fn of(mut runs: Vec<Duration>) -> Self {
        runs.sort_unstable();
        let at = |share: usize| runs[(runs.len() - 1) * share / 100];
        Self {
            least: runs[0],
            median: at(50),
            p99: at(99),
            runs: runs.len(),
        }
    }
}

/// One frame of one session.
#[derive(Debug, Clone)]
pub struct FrameReport {
    /// What was run.
    pub size: Size,
    /// Bytes of all matrices.
    pub weight_bytes: usize,
    /// Reading those bytes once with the machine's widest vectors.
    pub read: Timing,
    /// A frame by each kernel of this machine, slowest kernel first.
    pub frames: Vec<(&'static str, Timing)>,
}

/// Where a frame's time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The matrices, per frame and session.
    pub matrices: Duration,
    /// Convolution, tables, scan, gate and norms, per frame and session.
    pub scan: Duration,
    /// Both, per frame and session.
    pub total: Duration,
}

/// One frame of many sessions.
#[derive(Debug, Clone, Copy)]
pub struct BatchReport {
    /// What was run.
    pub size: Size,
    /// How many sessions.
    pub sessions: usize,
    /// One session after the other.
    pub single: Parts,
    /// All over one pass of the weights.
    pub batch: Parts,
}

impl BatchReport {
    /// How many times the frames per second of single steps.
    pub fn speedup(&self) -> f64 {
        self.single.total.as_secs_f64() / self.batch.total.as_secs_f64()
    }
}

/// Times a frame of `size` by every kernel of this machine, the reads in between.
pub fn frame(size: Size, runs: usize) -> FrameReport {
    let model = Model::random(size, 1);
    let inputs = activations(size.inputs, &mut Random(2));
    let layers: Vec<Layer<'_>> = model.layers().collect();
    let mut matrices = vec![model.input().weights, model.output().linear.weights];
    for layer in &layers {
        matrices.extend([layer.params.in_proj.weights, layer.params.out_proj.weights]);
    }
    let reader = Native::detect();
    let mut reads = Vec::new();
    let mut frames = Vec::new();
    for kernels in Native::available() {
        let mut session = Session::new(&model);
        let mut times = Vec::new();
        for _ in 0..runs {
            let start = Instant::now();
            session.frame(&kernels, &model, &layers, &inputs);
            times.push(start.elapsed());
        }
        for _ in 0..runs {
            let start = Instant::now();
            for weights in &matrices {
                black_box(reader.read(weights));
            }
            reads.push(start.elapsed());
        }
        frames.push((kernels.name(), Timing::of(times)));
    }
    let weight_bytes = matrices.iter().map(|weights| weights.len()).sum();
    FrameReport {
        size,
        weight_bytes,
        read: Timing::of(reads),
        frames,
    }
}

/// Times frames of many sessions with the fastest kernels, single and in a batch.
pub fn batch(size: Size, sessions: usize, runs: usize) -> BatchReport {
    let model = Model::random(size, 1);
    let layers: Vec<Layer<'_>> = model.layers().collect();
    let kernels = Native::detect();
    let random = &mut Random(2);
    let mut all: Vec<Session> = (0..sessions).map(|_| Session::new(&model)).collect();
    for session in &mut all {
        embed(
            &kernels,
            &model.input(),
            &activations(size.inputs, random),
            &mut session.work,
        );
    }
    let mut single = Vec::new();
    let mut batch = Vec::new();
    for _ in 0..runs {
        let mut clock = Clock::default();
        for session in &mut all {
            for (index, layer) in layers.iter().enumerate() {
                let one = core::slice::from_mut(session);
                clock.layer(&kernels, layer, index, one);
            }
        }
        single.push(clock);
        let mut clock = Clock::default();
        for (index, layer) in layers.iter().enumerate() {
            clock.layer(&kernels, layer, index, &mut all);
        }
        batch.push(clock);
    }
    let parts = |clocks: &[Clock]| {
        let median = |part: fn(&Clock) -> Duration| {
            Timing::of(clocks.iter().map(part).collect()).median / sessions as u32
        };
        Parts {
            matrices: median(|clock| clock.matrices),
            scan: median(|clock| clock.scan),
            total: median(|clock| clock.matrices + clock.scan),
        }
    };
    BatchReport {
        size,
        sessions,
        single: parts(&single),
        batch: parts(&batch),
    }
}

/// A session that owns its memory.
struct Session {
    state: Vec<Contiguous<Vec<i16>>>,
    work: Box<Work>,
}

impl Session {
    fn new(model: &Model) -> Self {
        Self {
            state: model.state(),
            work: Work::boxed(),
        }
    }

    fn frame(&mut self, kernels: &Native, model: &Model, layers: &[Layer<'_>], inputs: &[i16]) {
        embed(kernels, &model.input(), inputs, &mut self.work);
        for (layer, state) in layers.iter().zip(&mut self.state) {
            layer_step(kernels, layer, state, &mut self.work);
        }
        black_box(head(
            kernels,
            &model.output(),
            &model.tables(),
            &mut self.work,
        ));
    }
}

/// Time spent by part.
#[derive(Default)]
struct Clock {
    matrices: Duration,
    scan: Duration,
}

impl Clock {
    /// One block of all `sessions`, as [`crate::batch_layer_step`] steps it.
    fn layer(
        &mut self,
        kernels: &Native,
        layer: &Layer<'_>,
        index: usize,
        sessions: &mut [Session],
    ) {
        let mut last = Instant::now();
        let mut lap = |part: &mut Duration| {
            let now = Instant::now();
            *part += now - core::mem::replace(&mut last, now);
        };
        sessions
            .iter_mut()
            .for_each(|session| kernels.prepare(layer, &mut session.work));
        lap(&mut self.scan);
        linear(kernels, &layer.params.in_proj, sessions);
        lap(&mut self.matrices);
        for session in &mut *sessions {
            kernels.mix(layer, &mut session.state[index], &mut session.work);
        }
        lap(&mut self.scan);
        linear(kernels, &layer.params.out_proj, sessions);
        lap(&mut self.matrices);
        let width = layer.dims.d_model;
        sessions
            .iter_mut()
            .for_each(|session| kernels.accumulate(width, &mut session.work));
        lap(&mut self.scan);
    }
}

fn linear(kernels: &Native, linear: &crate::Linear<'_>, sessions: &mut [Session]) {
    match sessions {
        [session] => kernels.linear(linear, &mut session.work),
        sessions => {
            let mut works: Vec<&mut Work> = sessions.iter_mut().map(|s| &mut *s.work).collect();
            kernels.linear_batch(linear, &mut works);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_every_kernel_and_both_ways() {
        let report = frame(Size::MICRO, 3);
        assert_eq!(report.frames.len(), Native::available().len());
        assert!(report.weight_bytes > 100_000 && report.read.runs == 3 * report.frames.len());
        let report = batch(Size::MICRO, 3, 2);
        assert!(report.speedup() > 0.0 && report.batch.total >= report.batch.scan);
    }
}
