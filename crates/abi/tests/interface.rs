//! The program's interface: its bytes, and the tables in `docs/chain.md` made from it.

use bytemuck::bytes_of;
use worldline_abi::instruction::{
    AccountSpec, INSTRUCTIONS, JoinSession, SubmitInput, UNDELEGATE_CALLBACK, WriteShard, decode,
    encode,
};
use worldline_abi::{Fault, Pad, address, button};

#[test]
fn an_instruction_is_its_tag_its_body_and_its_tail() {
    let mut data = Vec::new();
    encode(
        &WriteShard {
            offset: 0x0102_0304,
        },
        &[9, 8],
        &mut data,
    );
    assert_eq!(data, [3, 4, 3, 2, 1, 9, 8]);
    let (body, tail) = decode::<WriteShard>(&data[1..]).unwrap();
    assert_eq!(({ body.offset }, tail), (0x0102_0304, &[9, 8][..]));

    data.clear();
    let pad = Pad {
        stick: [1, -1],
        buttons: button::A,
        ..Pad::default()
    };
    let input = SubmitInput {
        seat: 1,
        sequence: 0x0203,
        pad,
    };
    encode(&input, &[], &mut data);
    assert_eq!(
        data,
        [14, 1, 3, 2, 1, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1]
    );
    assert_eq!(decode::<SubmitInput>(&data[1..]).unwrap().0, &input);
    assert!(decode::<SubmitInput>(&data[2..]).is_none(), "too short");
    data.push(0);
    assert!(decode::<SubmitInput>(&data[1..]).is_none(), "too long");
    assert_eq!(bytes_of(&JoinSession::default()).len(), 34);
}

#[test]
fn tags_are_places_and_no_tag_is_the_callbacks() {
    for (place, spec) in INSTRUCTIONS.iter().enumerate() {
        assert_eq!(usize::from(spec.tag), place);
        assert_ne!(spec.tag, UNDELEGATE_CALLBACK[0]);
        let bytes: usize = 1 + spec.body_bytes;
        assert!(bytes < 900, "{}: {bytes} bytes leave no room", spec.name);
    }
    for (place, fault) in Fault::ALL.iter().enumerate() {
        assert_eq!(fault.code() as usize, place + 1);
        assert_eq!(Fault::from_code(fault.code()), Some(*fault));
    }
    assert_eq!(Fault::from_code(0), None);
}

#[test]
fn addresses_are_what_their_text_says() {
    let hex = |address: &[u8; 32]| -> String {
        address.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(
        hex(&address::PROGRAM_ID),
        "07a2cfb08615608d43a428b22e14ac9c77d79d583a830b02575b06cc00000000"
    );
    assert_eq!(
        hex(&address::DELEGATION_PROGRAM),
        "b5b700e1f2573ac0cc062201344acf97b83506eb8ce51998cc627e189380a73e"
    );
    assert_eq!(
        address::shard_seed(0x0123_4567_89ab_cdef, 7),
        *b"0123456789abcdef7"
    );
}

/// Set `BLESS=1` to write the tables anew.
#[test]
fn the_documented_tables_are_the_interface() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/chain.md");
    let mut text = std::fs::read_to_string(path).unwrap();
    for (name, table) in [("instructions", instructions()), ("faults", faults())] {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let from = text.find(&open).expect("the opening mark") + open.len();
        let to = text.find(&close).expect("the closing mark");
        if std::env::var_os("BLESS").is_some() {
            text.replace_range(from..to, &table);
        } else {
            assert_eq!(&text[from..to], table, "run this test with BLESS=1");
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, text).unwrap();
    }
}

fn instructions() -> String {
    let mut table = String::from("| # | instruction | accounts | body |\n|---|---|---|---|\n");
    for spec in INSTRUCTIONS {
        let mut accounts: Vec<String> = spec.accounts.iter().map(account).collect();
        accounts.extend(spec.rest.iter().map(|kind| format!("{} …", account(kind))));
        let mut body: Vec<String> = spec
            .fields
            .iter()
            .map(|field| format!("{} {}", field.name, field.kind))
            .collect();
        if spec.tail {
            body.push("bytes".into());
        }
        table += &format!(
            "| {} | **{}**: {} | {} | {} |\n",
            spec.tag,
            spec.name,
            spec.docs.trim(),
            accounts.join(", "),
            body.join(", ")
        );
    }
    table
}

fn account(spec: &AccountSpec) -> String {
    let flags = match (spec.signer, spec.writable) {
        (true, true) => " *sw*",
        (true, false) => " *s*",
        (false, true) => " *w*",
        (false, false) => "",
    };
    format!("{}{flags}", spec.name)
}

fn faults() -> String {
    let mut table = String::from("| code | name | meaning |\n|---|---|---|\n");
    for fault in Fault::ALL {
        table += &format!("| {} | {} | {fault} |\n", fault.code(), fault.name());
    }
    table
}
