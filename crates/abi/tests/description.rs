//! The program's interface as data for other languages: `clients/typescript/interface.json`, from
//! which its IDL and its client are made.

use serde_json::{Value, json};
use worldline_abi::instruction::{AccountSpec, INSTRUCTIONS, InstructionSpec};
use worldline_abi::{
    Fault, FrameAccount, InputAccount, InputBuffer, InputSignature, Layout, MatchResult,
    ModelManifest, Pad, PadSlot, PlayerState, ReplayAccount, ResultAccount, ScoreAccount, Session,
    SessionAccount, SessionState, WeightShard, WorldAccount,
};

/// Set `BLESS=1` to write it anew.
#[test]
fn the_described_interface_is_this_one() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../clients/typescript/interface.json"
    );
    let described = interface();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, format!("{described:#}\n")).unwrap();
    }
    // Values, not text: another crate's features of `serde_json` decide the order of the keys.
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        kept == described,
        "run this test with BLESS=1, then `npm run generate` in clients/typescript"
    );
}

fn interface() -> Value {
    json!({
        "instructions": INSTRUCTIONS.iter().map(instruction).collect::<Vec<_>>(),
        "layouts": [
            layout::<Pad>(),
            layout::<PadSlot>(),
            layout::<InputBuffer>(),
            layout::<InputSignature>(),
            layout::<PlayerState>(),
            layout::<SessionState>(),
            layout::<Session>(),
            layout::<MatchResult>(),
            layout::<ModelManifest>(),
            layout::<WorldAccount>(),
            layout::<WeightShard>(),
            layout::<SessionAccount>(),
            layout::<InputAccount>(),
            layout::<FrameAccount>(),
            layout::<ResultAccount>(),
            layout::<ReplayAccount>(),
            layout::<ScoreAccount>(),
        ],
        "faults": Fault::ALL.iter().map(|fault| json!({
            "code": fault.code(),
            "name": fault.name(),
            "words": fault.to_string(),
        })).collect::<Vec<_>>(),
    })
}

fn instruction(spec: &InstructionSpec) -> Value {
    let fields = spec
        .fields
        .iter()
        .map(|field| json!({"name": field.name, "kind": field.kind, "docs": field.docs.trim()}));
    json!({
        "name": spec.name,
        "docs": spec.docs.trim(),
        "tag": spec.tag,
        "accounts": spec.accounts.iter().map(account).collect::<Vec<_>>(),
        "rest": spec.rest.iter().map(account).collect::<Vec<_>>(),
        "fields": fields.collect::<Vec<_>>(),
        "tail": spec.tail,
    })
}

fn account(spec: &AccountSpec) -> Value {
    json!({"name": spec.name, "signer": spec.signer, "writable": spec.writable})
}

fn layout<T: Layout>() -> Value {
    let mut fields = Vec::new();
    T::describe(&mut |field| {
        // Without the crate's paths: `worldline_abi::pad::Pad` is `Pad`.
        let kind = field.kind.replace("worldline_abi::", "");
        let kind: String = match kind.rsplit_once("::") {
            None => kind,
            Some((path, name)) if path.starts_with('[') => format!("[{name}"),
            Some((_, name)) => name.into(),
        };
        fields.push(json!({"name": field.name, "offset": field.offset, "kind": kind}));
    });
    json!({
        "name": T::NAME,
        "bytes": size_of::<T>(),
        "discriminator": T::DISCRIMINATOR,
        "fields": fields,
    })
}
