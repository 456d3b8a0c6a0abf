//! Any bytes as an instruction's data and as an account: read in place or refused, and what is read
//! is written back as the same bytes. The program decodes nothing in another way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use worldline_abi::instruction::{self as is, Instruction, decode, encode};
use worldline_abi::*;

fn instruction<I: Instruction>(data: &[u8]) {
    let Some((body, tail)) = decode::<I>(&data[1..]) else {
        return;
    };
    let mut written = Vec::new();
    encode(body, tail, &mut written);
    assert_eq!(written[0], I::TAG);
    assert_eq!(written[1..], data[1..]);
}

fn account<T: Layout>(data: &[u8]) {
    let Ok(layout) = copy::<T>(data) else { return };
    assert_eq!(bytemuck::bytes_of(&layout), data);
    assert!(T::DISCRIMINATOR.is_none_or(|discriminator| data.starts_with(&discriminator)));
}

macro_rules! each {
    ($call:ident, $data:expr, $($type:ty),*) => { $($call::<$type>($data);)* };
}

fuzz_target!(|data: &[u8]| {
    if data.is_empty() {
        return;
    }
    each!(
        instruction, data, is::CreateWorld, is::ForkWorld, is::CreateShard, is::WriteShard,
        is::CopyShard, is::CheckWorld, is::ReopenWorld, is::RetireWorld, is::CreateSession,
        is::CreatePages, is::CreateFrame, is::JoinSession, is::PickCharacter, is::Ready,
        is::SubmitInput, is::SignInputs, is::RunInference, is::BeginFrame, is::RunLayers,
        is::FinishFrame, is::EndSession, is::Delegate, is::Commit, is::RecordResult,
        is::UpdateScore, is::CreateReplay, is::GrowReplay, is::WriteReplay, is::FinishReplay,
        is::CloseReplay, is::CloseSession
    );
    each!(
        account, data, WorldAccount, WeightShard, SessionAccount, SessionState, InputAccount,
        FrameAccount, Page, ResultAccount, ReplayAccount, ReplayHeader, ScoreAccount
    );
});
